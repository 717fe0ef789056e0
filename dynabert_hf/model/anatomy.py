"""What a layer of an encoder is made of, as data: where its linears are, and what each maps to what.

A family describes itself by one `Anatomy`. Everything that touches a layer asks it: slicing, extraction, reading of
checkpoints, counting, rewiring, training with shared prefixes, and ONNX. Nothing here knows a model class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, cat, nn

from .subnetwork import LayerShape

HIDDEN, HEADS, KEYS, NEURONS = range(4)
"""The axes of a layer. KEYS are the heads of keys and values, fewer than HEADS where several queries share one."""


@dataclass(frozen=True)
class Role:
    """What a linear maps to what.

    Args:
        inputs: Axis of its inputs.
        outputs: Axis of its outputs.
        blocks: Number of equal blocks side by side in its outputs, each of which is cut and reordered alike: 3 for
            fused queries, keys and values, 2 for a fused pair of gate and values.
        is_optional: Whether some configurations of the family lack it.
    """

    inputs: int
    outputs: int
    blocks: int = 1
    is_optional: bool = False


@dataclass(frozen=True)
class Anatomy:
    """Where the parts of an encoder are.

    Args:
        layers: Path in the base model of the list of layers.
        linears: The role of each linear of a layer, by its path in the layer.
        attention: Path in a layer of the attention, where that remembers how many heads it has.
        attention_class: What that attention becomes: its stock class with `CountsHeads` in front.
        head_table: Path in the base model of an embedding with a column per head that all layers share.
        skips_padding_positions: Whether the positions of tokens begin after the padding token's, as RoBERTa's do.
        has_own_first_layer: Whether stock builds the first layer otherwise, so that there no other can stand first.
        passes_gradients_beside: Whether a layer is given, beside its states, tensors that gradients flow through.
    """

    layers: str
    linears: Mapping[str, Role]
    attention: str = ""
    attention_class: type[nn.Module] | None = None
    head_table: str = ""
    skips_padding_positions: bool = False
    has_own_first_layer: bool = False
    passes_gradients_beside: bool = False

    def linears_of(self, layer: nn.Module) -> Iterator[tuple[str, Role, Any]]:
        """Path, role and module of each linear that a layer has, stock or elastic."""
        for path, role in self.linears.items():
            parent, _, name = path.rpartition(".")
            module = getattr(layer.get_submodule(parent), name, None)
            if module is not None or not role.is_optional:
                yield path, role, module

    def stored_layers(self, base: nn.Module) -> list[nn.Module]:
        """All layers of a base model, stock or elastic, whether they are switched on or not."""
        return list(base.get_submodule(self.layers).children())


def separate_linears(attention: Sequence[str], feed_forward: Sequence[str], *, keys: int = HEADS) -> dict[str, Role]:
    """Roles of the usual linears, each on its own.

    Args:
        attention: Paths of the projections of queries, keys, values and outputs.
        feed_forward: Paths of those into the neurons, and last of the one back.
        keys: Axis of keys and values.
    """
    query, key, value, output = attention
    *into, back = feed_forward
    return {
        query: Role(HIDDEN, HEADS),
        key: Role(HIDDEN, keys),
        value: Role(HIDDEN, keys),
        output: Role(HEADS, HIDDEN),
        **{path: Role(HIDDEN, NEURONS) for path in into},
        back: Role(NEURONS, HIDDEN),
    }


BERT_LINEARS = separate_linears(
    ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"],
    ["intermediate.dense", "output.dense"],
)
"""Of BERT and the families whose layers have the same names."""


def head_group(config: Any) -> int:
    """How many attention heads share keys and values, and are kept or cut together."""
    heads = config.num_attention_heads
    return heads // (config.num_key_value_heads or heads) if hasattr(type(config), "num_key_value_heads") else 1


def head_size(config: Any) -> int:
    """Size of one attention head. Fields that a family does not declare are the user's own, and stock ignores them."""
    own = config.head_dim if hasattr(type(config), "head_dim") else None
    return own or config.hidden_size // config.num_attention_heads


def layer_axes(config: Any, layer: LayerShape) -> tuple[int, int, int, int]:
    """Size of a layer on each axis."""
    size = head_size(config)
    return config.hidden_size, layer.heads * size, layer.heads // head_group(config) * size, layer.neurons


def linear_shape(role: Role, axes: Sequence[int]) -> tuple[int, int]:
    """Outputs and inputs of a linear in a layer with these sizes on its axes."""
    return role.blocks * axes[role.outputs], axes[role.inputs]


def leading_part(tensor: Any, shape: Sequence[int], *, blocks: int = 1) -> Tensor:
    """The first rows of every block, and the first columns, of a weight or bias; `shape` is that of the part.

    Asks for slices alone, which quantised tensors and those in files have, too.
    """
    if blocks == 1 or shape[0] == tensor.shape[0]:
        return tensor[tuple(map(slice, shape))]
    rows, starts = shape[0] // blocks, range(0, tensor.shape[0], tensor.shape[0] // blocks)
    return cat([tensor[(slice(start, start + rows), *map(slice, shape[1:]))] for start in starts])
