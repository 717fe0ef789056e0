"""What a sub-network costs by its shapes alone: parameters, and floating-point operations of a forward pass.

Running and timing it is left to `profiling`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..model.configuration import ElasticConfigMixin
from ..model.elastic import HEADS, HIDDEN, LINEARS, NEURONS
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import LayerShape, Size

_HEADS_ON_EVERY_TOKEN = ("ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM")


@dataclass(frozen=True)
class ParameterCount:
    """How many parameters a sub-network has.

    Args:
        total: All of them, the head included; tied weights once.
        embeddings: Word, position and type embeddings and their norm.
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
    """
    config: Any = getattr(model_or_config, "config", model_or_config)
    embeddings = _embedding_parameters(config)
    encoder = sum(_layer_parameters(config, layer) for layer in _layers(config, size))
    head = _head_parameters(model_or_config) if isinstance(model_or_config, nn.Module) else 0
    return ParameterCount(total=embeddings + encoder + head, embeddings=embeddings, encoder=encoder)


def count_flops(
    model: ElasticModelMixin, size: Size | None = None, *, batch_size: int = 1, sequence_length: int = 128
) -> int:
    """How many floating-point operations one forward pass of a sub-network takes.

    One FLOP is one multiplication or one addition inside a matrix product: a linear layer of `n` inputs and `m` outputs
    costs `2 * n * m` for each position that it sees, and attention's two products count likewise. Biases, norms,
    activations, softmax and embedding look-ups count nothing. This is the count of
    `torch.utils.flop_counter.FlopCounterMode` with `attn_implementation="eager"` (of sdpa it sees nothing on a CPU).

    Args:
        model: An elastic model with its head.
        size: The size to count; None: the active one.
        batch_size: Sequences per forward pass; in multiple choice every choice is a sequence.
        sequence_length: Tokens per sequence, padding included.

    Raises:
        SubNetworkError: If the model does not hold this size.
    """
    layers = _layers(model.config, size)
    positions = batch_size * sequence_length
    linears = sum(rows * columns for layer in layers for rows, columns in _linear_shapes(model.config, layer))
    attention = sum(2 * sequence_length * layer.heads * _head_size(model.config) for layer in layers)
    head_positions = positions if type(model).__name__.endswith(_HEADS_ON_EVERY_TOKEN) else batch_size
    head = sum(
        module.in_features * module.out_features for module in _head_modules(model) if isinstance(module, nn.Linear)
    )
    return 2 * (positions * (linears + attention) + head_positions * head)


def _layers(config: ElasticConfigMixin, size: Size | None) -> tuple[LayerShape, ...]:
    return config.resolve(config.active if size is None else size)


def _head_size(config: ElasticConfigMixin) -> int:
    return config.hidden_size // config.num_attention_heads


def _linear_shapes(config: ElasticConfigMixin, layer: LayerShape) -> list[tuple[int, int]]:
    """Outputs and inputs of the six linears of a layer."""
    sizes = {HIDDEN: config.hidden_size, HEADS: layer.heads * _head_size(config), NEURONS: layer.neurons}
    return [(sizes[output], sizes[input_]) for input_, output in LINEARS.values()]


def _layer_parameters(config: ElasticConfigMixin, layer: LayerShape) -> int:
    two_norms = 4 * config.hidden_size
    return two_norms + sum(rows * columns + rows for rows, columns in _linear_shapes(config, layer))


def _embedding_parameters(config: ElasticConfigMixin) -> int:
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    norm = 2
    return (rows + norm) * config.hidden_size


def _head_modules(model: ElasticModelMixin) -> list[nn.Module]:
    """The modules outside embeddings and encoder: the head and the pooler."""
    base = model.base_model
    backbone = {id(module) for part in (base.embeddings, base.encoder) for module in part.modules()}
    return [module for module in model.modules() if id(module) not in backbone]


def _head_parameters(model: ElasticModelMixin) -> int:
    tied = {id(parameter) for parameter in model.base_model.embeddings.parameters()}
    own = {id(p): p for module in _head_modules(model) for p in module.parameters(recurse=False)}
    return sum(math.prod(parameter.shape) for key, parameter in own.items() if key not in tied)
