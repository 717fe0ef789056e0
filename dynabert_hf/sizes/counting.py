"""What a sub-network costs by its shapes alone: parameters, and floating-point operations of a forward pass.

Running and timing it is left to `profiling`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ..families import elastic_class_of, elastic_classes, has_own_forward, longest_input
from ..messages import check_counts
from ..model.anatomy import layer_axes, linear_shape
from ..model.configuration import ElasticConfigMixin
from ..model.copies import pooler_of
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import LayerShape, Size
from ..tasks import task_of


@dataclass(frozen=True)
class ParameterCount:
    """How many parameters a sub-network has.

    Args:
        total: All of them, the head included; tied weights once.
        embeddings: All of the base model but its layers and its pooler: embeddings, their norm, what layers share.
        encoder: The layers that the sub-network keeps.
    """

    total: int
    embeddings: int
    encoder: int


def count_parameters(
    model_or_config: ElasticModelMixin | ElasticConfigMixin, size: Size | None = None
) -> ParameterCount:
    """How many parameters a sub-network has once extracted.

    Args:
        model_or_config: An elastic model, or its configuration; a configuration knows no head or pooler, so that
            `total` is then embeddings and encoder.
        size: The size to count; None: the active one.

    Raises:
        SubNetworkError: If the model does not hold this size.
        TypeError: If it is not elastic.
    """
    config = _elastic_config(model_or_config)
    layers = config.resolve(config.active if size is None else size)
    is_model = isinstance(model_or_config, nn.Module)
    twin = _twin_of(model_or_config, config)
    base = twin.base_model
    everything, in_base = _count(twin.parameters()), _count(base.parameters())
    pooler = getattr(base, "pooler", None)
    in_pooler = 0 if pooler is None else _count(pooler.parameters())
    stored = dict(zip((layer.index for layer in config.stored_layers), base.elastic_layers.stored, strict=True))
    embeddings = in_base - in_pooler - sum(_count(layer.parameters()) for layer in stored.values())
    encoder = sum(_layer_parameters(config, layer, stored[layer.index]) for layer in layers)
    head = everything - in_base + in_pooler if is_model else 0
    return ParameterCount(total=embeddings + encoder + head, embeddings=embeddings, encoder=encoder)


def count_flops(
    model: ElasticModelMixin, size: Size | None = None, *, batch_size: int = 1, sequence_length: int = 128
) -> int:
    """How many floating-point operations one forward pass of a sub-network takes.

    One FLOP is one multiplication or one addition inside a matrix product: a linear layer of `n` inputs and `m` outputs
    costs `2 * n * m` for each position that it sees, and attention's two products count likewise. Biases, norms,
    activations, softmax and embedding look-ups count nothing. This is the count of
    `torch.utils.flop_counter.FlopCounterMode` with `attn_implementation="eager"` (of sdpa it sees nothing on a CPU). Of
    a subclass with a forward pass of its own, that of the class it extends is counted.

    Args:
        model: An elastic model with its head.
        size: The size to count; None: the active one.
        batch_size: Sequences per forward pass; in multiple choice every choice is a sequence.
        sequence_length: Tokens per sequence, padding included.

    Raises:
        SubNetworkError: If the model does not hold this size.
        TypeError: If it is not elastic.
        ValueError: If a count is not a whole number of at least one.
    """
    config = _elastic_config(model)
    check_counts(batch_size=batch_size, sequence_length=sequence_length)
    layers = config.resolve(config.active if size is None else size)
    changes: dict[str, Any] = {}
    if sequence_length > longest_input(config):
        changes["max_position_embeddings"] = 2 * sequence_length
    twin = _twin_of(model, config, runs=True, **changes)
    distinct = {(layer.heads, layer.neurons): layer for layer in reversed(layers)}  # layers of one shape cost the same
    cost = {shape: _flops(twin, layer, batch_size, sequence_length) for shape, layer in distinct.items()}
    rest, _ = cost[layers[0].heads, layers[0].neurons]
    return rest + sum(cost[layer.heads, layer.neurons][1] for layer in layers)


def _elastic_config(model_or_config: Any) -> Any:
    config = getattr(model_or_config, "config", model_or_config)
    if not isinstance(config, ElasticConfigMixin):
        raise TypeError(
            f"A {type(model_or_config).__name__} has one size only. Sizes are counted of elastic models and their "
            "configurations; make one by from_backbone of the Dyna... class that fits."
        )
    return config


class _ValuesAreZero(TorchDispatchMode):
    """Inside, a tensor without values is 0 where its value is asked for, which no shape depends on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_asked = func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta
        return 0 if is_asked else func(*args, **(kwargs or {}))


@lru_cache(maxsize=256)
def _flops(twin: Any, layer: LayerShape, batch_size: int, sequence_length: int) -> tuple[int, int]:
    """What a forward pass with no layer costs, and what this layer adds; all sizes are made of such sums."""
    choices = (1,) if task_of(twin).predicts == "choice" else ()
    width = twin.get_input_embeddings().weight.shape[1]  # some models look for padding among ids, which have no values
    shape = (batch_size, *choices, sequence_length)
    embeddings, mask = (torch.empty(each, device="meta") for each in ((*shape, width), shape))
    with torch.no_grad(), twin.subnetwork((layer,)), FlopCounterMode(display=False) as counter, _ValuesAreZero():
        twin(inputs_embeds=embeddings, attention_mask=mask)
        (ran,) = twin.elastic_layers
    (name,) = (name for name, module in twin.named_modules(prefix=type(twin).__name__) if module is ran)
    added = sum(counter.get_flop_counts()[name].values())
    return counter.get_total_flops() - added, added


_SHAPELESS = {"_name_or_path", "architectures", "dtype", "finetuning_task", "problem_type", "use_cache"}
"""Fields of a stock configuration that change from run to run, and no shape with them."""


def _twin_of(model_or_config: Any, config: ElasticConfigMixin, *, runs: bool = False, **changes: Any) -> Any:
    """A model without weights, of the shapes of a model or a configuration; one for all of the same shapes.

    Of the elastic fields only the stored layers describe shapes. Sizes, metrics and the like are left out. So are
    chunks of feed-forward layers, which cost as much as the whole and fit texts of some lengths only.
    """
    silent = _SHAPELESS | {field.name for field in fields(ElasticConfigMixin)}
    shapes = {name: value for name, value in config.to_dict().items() if name not in silent}
    stored = {"stored_shape": config.stored_shape, "active_layers": config.stored_shape}
    config_class: Any = type(config)
    model_class: Any = type(model_or_config)
    pooler = pooler_of(model_or_config) if isinstance(model_or_config, nn.Module) else {}
    if model_class is config_class:
        model_class = next(each for each in elastic_classes() if each.config_class is config_class)
    elif runs and has_own_forward(model_class):  # which may take other inputs
        model_class = elastic_class_of(model_class.backbone_class)
    fixed = {"widths": [1.0], "depths": [1.0], "chunk_size_feed_forward": 0}
    described = {**shapes, **stored, **fixed, **changes}
    return _twin(model_class, config_class, json.dumps(described, default=str), **pooler)


@lru_cache(maxsize=32)
def _twin(model_class: Any, config_class: Any, described: str, **pooler: bool) -> Any:
    config = config_class.from_dict(json.loads(described), attn_implementation="eager")
    with torch.device("meta"):
        return model_class(config, **pooler).eval().requires_grad_(False)  # torch's counter hooks what has gradients


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _layer_parameters(config: ElasticConfigMixin, shape: LayerShape, stored: nn.Module) -> int:
    """Parameters of a layer cut to a shape: all that are stored, less what its linears lose."""
    count, axes = _count(stored.parameters()), layer_axes(config, shape)
    for _, role, linear in config.anatomy.linears_of(stored):
        rows, columns = linear_shape(role, axes)
        count += rows * (columns + (linear.bias is not None)) - _count(linear.parameters())
    return count
