"""A size that was never trained, mended in closed form: from one pass over text without labels.

What the heads and neurons that are cut say in the mean goes into the bias of the linear that they led into (FLAP, AAAI
2024). Nothing is trained; `specialise` does that. A regression of what is cut on what is kept, into the weights (ZipLM,
arXiv 2302.04089), was tried and left out: see `docs/search.md`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from ..families import anatomy_of, check_elastic
from ..model.anatomy import HIDDEN
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import AnySize, LayerShape, Size, SubNetworkError, size_name
from ..tasks import evaluating, on_device, without_labels
from .checks import check_batches


def repair(model: ElasticModelMixin, size: Size, batches: Iterable[Mapping[str, Any]]) -> ElasticModelMixin:
    """A new, stand-alone model of an untrained size, whose biases hold the mean of what was cut.

    What was cut is told from the smallest trained size that keeps the same layers and holds the size; where there is
    none, from these layers at full width. The bias of each linear that leads out of heads or neurons grows by the
    removed columns of its weight times the mean of their inputs, over the real tokens of the text.

    Args:
        model: The elastic model, trained or only rewired; it stays as it is.
        size: The size to extract, as for `extract`.
        batches: Batches as dictionaries of tensors, for instance `LabelledText.batches`; labels are passed over. Some
            hundred texts are enough. Passed over once.

    Returns:
        The small model, in the mode and on the device of `model`.

    Raises:
        SubNetworkError: If the model does not hold the size, or was trained for it.
        TypeError: If the layers of its family have no biases, or `batches` are none.
        ValueError: If there is no batch.

    Example:
        >>> small = repair(model, "w0.6-d0.5", dev.batches)  # doctest: +SKIP
        >>> small.save_pretrained("small")  # doctest: +SKIP
    """
    check_elastic(model)
    check_batches(batches, "the batches")
    layers = model.config.resolve(size)
    reference = _reference(model, layers)
    kept = {layer.index for layer in layers}
    wide = _linears_out(model, kept)
    if any(linear.bias is None for linear in wide):
        raise TypeError(
            f"A repair changes biases, and the layers of a {type(model).__name__} have none. Possible are families "
            "whose layers have them, such as BERT, RoBERTa and MPNet. Distil this size further by specialise()."
        )
    means = _measure(model, reference, batches, wide)
    small = model.extract(size)
    small.config.forget_measured()
    with torch.no_grad():
        for own, whole, mean in zip(_linears_out(small, kept), wide, means, strict=True):
            removed = whole.weight[:, own.in_features : len(mean)].cpu().double()  # as not every device has it
            own.bias.add_((removed @ mean[own.in_features :]).to(own.bias))
    return small


def _reference(model: ElasticModelMixin, layers: Sequence[LayerShape]) -> AnySize:
    """The size that tells what was cut."""
    config = model.config
    trained = {size: config.resolve(size) for size in config.subnetworks}
    same = [size_name(size) for size, own in trained.items() if own == tuple(layers)]
    if same:
        raise SubNetworkError(
            f"This model was trained for {same[0]}, so there is nothing to repair. Possible are sizes beside "
            f"{', '.join(map(size_name, trained))}; take this one by extract()."
        )
    holding = [
        size
        for size, own in trained.items()
        if len(own) == len(layers) and all(one.fits_in(other) for one, other in zip(layers, own, strict=True))
    ]
    if holding:
        return min(holding, key=config.share_of)
    stored = {layer.index: layer for layer in config.stored_layers}
    return tuple(stored[layer.index] for layer in layers)


def _linears_out(model: ElasticModelMixin, kept: Iterable[int]) -> list[nn.Linear]:
    """The linears that lead from heads or neurons back to the hidden states, of some layers, in order."""
    anatomy, wanted = anatomy_of(model), set(kept)
    layers = zip(model.config.stored_layers, anatomy.stored_layers(model.base_model), strict=True)
    return [
        linear
        for shape, layer in layers
        if shape.index in wanted
        for _, role, linear in anatomy.linears_of(layer)
        if role.outputs == HIDDEN
    ]


class _Mean:
    """The mean over real tokens of what goes into a linear."""

    def __init__(self) -> None:
        self.count, self.total = 0, torch.zeros(())

    def add(self, states: torch.Tensor, mask: torch.Tensor | None) -> None:
        """Count the real tokens of `(batch, seq, inputs)`, or of `(tokens, inputs)` without padding."""
        real = states[mask.bool()] if mask is not None and states.ndim == 3 else states.flatten(0, -2)
        self.count += len(real)
        self.total = self.total + real.detach().float().sum(0).cpu().double()


def _measure(
    model: ElasticModelMixin, size: AnySize, batches: Iterable[Mapping[str, Any]], linears: Sequence[nn.Linear]
) -> list[torch.Tensor]:
    """For each linear the mean `(inputs,)` of what goes into it at a size, in all passes of the encoder."""
    means = [_Mean() for _ in linears]
    mask: torch.Tensor | None = None
    reads = inspect.signature(model.base_model.forward)

    def note_mask(encoder: nn.Module, args: Any, kwargs: Any) -> None:
        nonlocal mask
        mask = reads.bind(*args, **kwargs).arguments.get("attention_mask")

    def watching(mean: _Mean) -> Any:
        return lambda linear, inputs: mean.add(inputs[0], mask)

    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(evaluating(model))
        stack.enter_context(model.subnetwork(size))
        stack.callback(model.base_model.register_forward_pre_hook(note_mask, with_kwargs=True).remove)
        for linear, mean in zip(linears, means, strict=True):
            stack.callback(linear.register_forward_pre_hook(watching(mean)).remove)
        for batch in batches:
            model(**on_device(without_labels(batch), model.device))
    if not means[0].count:
        raise ValueError("There was no text to repair by. Give at least one batch of inputs of the model.")
    return [mean.total / mean.count for mean in means]
