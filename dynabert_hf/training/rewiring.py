"""Network rewiring: how important each head and neuron is, and reordering them so that the important come first.

A sub-network keeps the first heads and neurons of a layer, so after rewiring the important ones are shared by more
sub-networks (DynaBERT, section 2.1). The full network computes the same function before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..families import anatomy_of
from ..model.anatomy import HEADS, HIDDEN, KEYS, NEURONS, Role, head_group, head_size
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import SubNetwork
from ..tasks import on_device
from .checks import check_batches
from .ordered_evaluation import unchanged


@dataclass(frozen=True)
class Importance:
    """How much the loss changes without each head and each neuron, to first order; unnormalised.

    Args:
        heads: Importance of the attention heads, `(layers, heads)`.
        neurons: Importance of the feed-forward neurons, `(layers, neurons)`.
    """

    heads: torch.Tensor
    neurons: torch.Tensor

    def save(self, path: str | Path) -> None:
        """Save as a safetensors file."""
        save_file({"heads": self.heads.contiguous(), "neurons": self.neurons.contiguous()}, path)

    @classmethod
    def load(cls, path: str | Path) -> Importance:
        """Load what `save` wrote.

        Raises:
            ValueError: If it is a safetensors file of something else.
        """
        tensors = load_file(path)
        if set(tensors) != {"heads", "neurons"}:
            raise ValueError(
                f"{path} holds {sorted(tensors)}, not 'heads' and 'neurons'. Give a file of Importance.save."
            )
        return cls(**tensors)


def measure_importance(
    model: PreTrainedModel,
    batches: Iterable[Mapping[str, Any]],
    *,
    progress: bool = True,
    compute_loss: Callable[[PreTrainedModel, Mapping[str, torch.Tensor]], torch.Tensor] | None = None,
) -> Importance:
    """The importance of every head and neuron of a fine-tuned model, measured on labelled data.

    Following the paper's section 2.1 and its published code: a head's importance is the absolute derivative of the
    loss with respect to a mask of one on its output, a neuron's the absolute first-order change of the loss when its
    incoming weights are removed plus the same for its outgoing weights; each per batch, summed over batches.

    The model runs at its full size in evaluation mode; its modes, active size, gradients, `requires_grad` flags and
    configuration are as before when the function returns or raises.

    Args:
        model: An elastic or stock model of a supported family, with a task head.
        batches: Batches as dictionaries of tensors with `labels`, for instance a data loader. Passed over once.
        progress: Whether to show a progress bar.
        compute_loss: Makes the loss of a batch, which then needs no labels; None: the loss of the head.

    Raises:
        ValueError: If a batch has no labels, there is no batch, or the model was cut by extraction.
        TypeError: If `batches` are none.
    """
    check_batches(batches, "the labelled_batches()")
    layers = _full_layers(model)
    heads_out = [next(linear for role, linear in layer if role.inputs == HEADS) for layer in layers]
    neuron_weights = [_neuron_weights(layer) for layer in layers]
    weights = [parameter for layer in neuron_weights for _, parameter in layer]
    size = head_size(model.config)
    head_scores, neuron_scores = None, None
    with ExitStack() as stack:
        if isinstance(model, ElasticModelMixin):
            stack.enter_context(model.subnetwork(SubNetwork()))
        stack.enter_context(unchanged(model))
        for parameter in weights:
            stack.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_()
        contexts = [_RecordedInput() for _ in heads_out]
        for linear, context in zip(heads_out, contexts, strict=True):
            stack.callback(linear.register_forward_pre_hook(context.record).remove)
        model.eval()
        for batch in tqdm(batches, desc="Measuring importance", disable=None if progress else True):
            for context in contexts:
                context.states = []
            with torch.enable_grad():
                loss = (compute_loss or _loss)(model, on_device(batch, model.device))
            states = [each for context in contexts for each in context.states]
            gradients = torch.autograd.grad(loss, states + weights)
            heads = _head_importance(contexts, gradients[: len(states)], size)
            neurons = _neuron_importance(neuron_weights, gradients[len(states) :])
            head_scores = heads if head_scores is None else head_scores + heads
            neuron_scores = neurons if neuron_scores is None else neuron_scores + neurons
    if head_scores is None or neuron_scores is None:
        raise ValueError("There was no batch to measure importance on. Give at least one batch with labels.")
    return Importance(head_scores.cpu(), neuron_scores.cpu())


class _RecordedInput:
    """The inputs of a linear layer, of each of its runs. They have a gradient also where all before is frozen."""

    def __init__(self) -> None:
        self.states: list[torch.Tensor] = []

    def record(self, module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        """A hook that keeps them."""
        if not torch.is_grad_enabled():  # in a pass of which nothing is learned
            return inputs
        states = inputs[0] if inputs[0].requires_grad else inputs[0].detach().requires_grad_()
        self.states.append(states)
        return (states,)


Layer = list[tuple[Role, nn.Linear]]
"""The linears of a layer, each with its role."""


def _full_layers(model: PreTrainedModel) -> list[Layer]:
    if isinstance(model, ElasticModelMixin) and model.config.stored_shape is not None:
        raise ValueError(
            "This model was cut by extraction. Importance and rewiring are of a full network: use the model that it "
            "was extracted from."
        )
    anatomy, layers = anatomy_of(model), []
    for number, layer in enumerate(anatomy.stored_layers(model.base_model)):
        linears = list(anatomy.linears_of(layer))
        for path, _, _ in linears:
            _check_plain(layer, path, nn.Linear, where=f"In layer {number}")
        layers.append([(role, linear) for _, role, linear in linears])
    if isinstance(model, ElasticModelMixin):  # a copy of a part runs by a configuration of its own
        elastic, positions = model.elastic_layers, range(len(layers))
        elastic.check_place(model.base_model.get_submodule(anatomy.layers), positions)
        elastic.elastic_linears(positions)
    return layers


def _check_plain(whole: nn.Module, path: str, kind: type[nn.Linear] | type[nn.Embedding], *, where: str) -> None:
    """Check that what stands at a path in a module, and not in a wrapper on the way, has weights of its own."""
    parent, _, name = path.rpartition(".")
    place = whole.get_submodule(parent)
    found: Any = place._modules.get(name, place)
    if not isinstance(found, kind) or not found.weight.is_floating_point():
        raise ValueError(
            f"{where} a {type(found).__module__}.{type(found).__name__} stands for {path}. Importance and rewiring are "
            "of plain weights: merge adapters first (merge_and_unload), and quantise afterwards."
        )
    if not isinstance(found._parameters.get("weight"), nn.Parameter):
        raise ValueError(
            f"{where} the weight of {path} is computed from other tensors, by pruning or another parametrisation, "
            "which would not be reordered with it. Importance and rewiring are of plain weights: make it one first "
            "(torch.nn.utils.prune.remove, parametrize.remove_parametrizations)."
        )


def _neuron_weights(layer: Layer) -> list[tuple[Role, torch.Tensor]]:
    """The parameters into the neurons of a layer, and the weights out of them."""
    into = [(role, each) for role, linear in layer if role.outputs == NEURONS for each in linear.parameters()]
    return into + [(role, linear.weight) for role, linear in layer if role.inputs == NEURONS]


def _loss(model: PreTrainedModel, batch: Mapping[str, Any]) -> torch.Tensor:
    loss = model(**{**batch, "return_dict": True}).get("loss")
    if loss is None:
        raise ValueError(
            f"A batch has the columns {sorted(batch)} and gives no loss. Importance needs labelled data: add `labels` "
            "(or `start_positions` and `end_positions`), and use a model with a task head."
        )
    return loss


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in float32 at least: sums over batches would lose most of what half precision adds to them."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _head_importance(
    contexts: list[_RecordedInput], gradients: tuple[torch.Tensor, ...], head_size: int
) -> torch.Tensor:
    """`(layers, heads)`: the derivative with respect to a head's mask is the sum of context times gradient over it."""
    left, scores = iter(gradients), []
    for context in contexts:
        products = [(_wide(states.detach()) * _wide(next(left))).flatten(0, -2).sum(0) for states in context.states]
        scores.append(reduce(torch.add, products).view(-1, head_size).sum(1).abs())
    return torch.stack(scores)


def _neuron_importance(
    layers: list[list[tuple[Role, torch.Tensor]]], gradients: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    """`(layers, neurons)`, from incoming weights with their bias, and outgoing weights, of each layer in turn."""
    left, scores = iter(gradients), []
    for layer in layers:
        incoming: list[torch.Tensor] = []
        outgoing: list[torch.Tensor] = []
        for role, parameter in layer:
            product = _wide(parameter.detach()) * _wide(next(left))
            if role.outputs == NEURONS:
                rows = product.sum(1) if product.ndim == 2 else product
                incoming += rows.unflatten(0, (role.blocks, -1)).unbind()
            else:
                outgoing.append(product.sum(0))
        scores.append(reduce(torch.add, incoming).abs() + reduce(torch.add, outgoing).abs())
    return torch.stack(scores)


@torch.no_grad()
def rewire(model: PreTrainedModel, importance: Importance) -> PreTrainedModel:
    """Reorder heads and neurons of every layer in place, the most important first, and return the model.

    The outputs of the full network do not change beyond rounding; those of its sub-networks do, so that an elastic
    configuration forgets what was measured of them. Make an optimiser after rewiring, not before: its states would
    belong to other neurons. Adapters of the model name no base model, since the one that was loaded has another order.
    Where all layers share a table with a column per head, as in MPNet, the configuration notes which column each head
    reads then. A stock configuration cannot: there all layers get one order of heads, by the sum of the importance over
    layers.

    Args:
        model: An elastic or stock model of a supported family.
        importance: What `measure_importance` returned for it.

    Raises:
        ValueError: If the importance is of a network of another shape, or is not finite; or the model was cut.
    """
    layers = _full_layers(model)
    config = model.config
    num_neurons = next(linear.in_features for role, linear in layers[0] if role.inputs == NEURONS)
    expected = (len(layers), config.num_attention_heads), (len(layers), num_neurons)
    given = tuple(importance.heads.shape), tuple(importance.neurons.shape)
    if given != expected:
        raise ValueError(
            f"The importance has shapes {given[0]} and {given[1]}; this model needs {expected[0]} for heads and "
            f"{expected[1]} for neurons. Measure it on this model."
        )
    if not (importance.heads.isfinite().all() and importance.neurons.isfinite().all()):
        raise ValueError("The importance holds NaN or infinity. Check the loss of the batches that it was measured on.")
    group, size = head_group(config), head_size(config)
    head_scores = importance.heads.unflatten(1, (-1, group)).sum(2)
    table, notes_orders = anatomy_of(model).head_table, hasattr(config, "head_orders")
    if table and not notes_orders:  # its columns are the heads of every layer, so there is one order of heads for all
        head_scores = head_scores.sum(0).expand_as(head_scores)
    head_orders = head_scores.argsort(descending=True, stable=True)
    if notes_orders:
        before = config.head_orders or [list(range(config.num_attention_heads))] * len(layers)
        config.head_orders = [
            [columns[head] for head in order] for columns, order in zip(before, head_orders.tolist(), strict=True)
        ]
    elif table:
        _check_plain(model.base_model, table, nn.Embedding, where="In the model")
        _permute_inputs(model.base_model.get_submodule(table), head_orders[0])
    for layer, order, neurons in zip(layers, head_orders, importance.neurons, strict=True):
        orders = {
            HEADS: _spread(order, group * size),
            KEYS: _spread(order, size),
            NEURONS: neurons.argsort(descending=True, stable=True),
        }
        for role, linear in layer:
            if role.outputs != HIDDEN:
                _permute_outputs(linear, orders[role.outputs], blocks=role.blocks)
            if role.inputs != HIDDEN:
                _permute_inputs(linear, orders[role.inputs])
    if isinstance(model, ElasticModelMixin):
        config.forget_measured()
    model.name_or_path = ""  # by which adapters find their model: what lies there has another order
    return model


def _spread(order: torch.Tensor, unit: int) -> torch.Tensor:
    """The order of rows where each thing that is ordered takes so many of them."""
    return (order[:, None] * unit + torch.arange(unit)).flatten()


def _permute_outputs(linear: nn.Linear, order: torch.Tensor, *, blocks: int) -> None:
    order = order.to(linear.weight.device)
    for parameter in linear.parameters():
        parameter.copy_(parameter.unflatten(0, (blocks, -1))[:, order].flatten(0, 1))


def _permute_inputs(module: Any, order: torch.Tensor) -> None:
    module.weight.copy_(module.weight[:, order.to(module.weight.device)])
