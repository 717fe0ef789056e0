"""The vocabulary of elastic encoders: one value for a size, one for a layer, and the rules between them.

Everything else speaks these values. Nothing here knows a model, a configuration or torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral, Real
from operator import index
from typing import Any

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?"


class SubNetworkError(ValueError):
    """Raised for a sub-network that cannot exist, or that this model does not hold."""


def number_text(number: float) -> str:
    """The shortest text that reads back as the same number."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def _check_multiplier(name: str, multiplier: float) -> float:
    is_number = isinstance(multiplier, Real) and not isinstance(multiplier, bool)
    if not is_number or math.isnan(multiplier) or not 0 < multiplier <= 1:
        raise SubNetworkError(
            f"{name}={multiplier!r} is not a multiplier. Possible is a number in (0, 1], the share of the full "
            f"{name} to keep; give for instance {name}=0.5."
        )
    return float(multiplier)


@dataclass(frozen=True)
class LayerShape:
    """The heads and neurons that one layer keeps.

    Args:
        index: Position of the layer in the full-size network, from 0.
        heads: Number of attention heads kept, the first ones.
        neurons: Number of feed-forward neurons kept, the first ones.

    Raises:
        SubNetworkError: If a count is not an integer, `index` is negative, or no head or neuron is left.
    """

    index: int
    heads: int
    neurons: int

    def __post_init__(self) -> None:
        for name, least in (("index", 0), ("heads", 1), ("neurons", 1)):
            count = getattr(self, name)
            if not isinstance(count, Integral) or isinstance(count, bool) or count < least:
                raise SubNetworkError(f"LayerShape {name}={count!r} is not possible. Give an integer from {least} up.")
            object.__setattr__(self, name, int(count))  # of numpy, too

    def fits_in(self, other: LayerShape) -> bool:
        """Whether this shape is part of `other`: the same layer, no more heads, no more neurons."""
        return self.index == other.index and self.heads <= other.heads and self.neurons <= other.neurons


@dataclass(frozen=True)
class SubNetwork:
    """One size of an elastic encoder: the share of its width and of its depth that is kept (section 2.1).

    Args:
        width: Share of attention heads and feed-forward neurons kept in every layer, in (0, 1].
        depth: Share of layers kept, in (0, 1].

    Raises:
        SubNetworkError: If a multiplier is not a number in (0, 1].

    Example:
        >>> SubNetwork.parse(str(SubNetwork(0.5, 0.75)))
        SubNetwork(width=0.5, depth=0.75)
    """

    width: float = 1.0
    depth: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", _check_multiplier("width", self.width))
        object.__setattr__(self, "depth", _check_multiplier("depth", self.depth))

    def __str__(self) -> str:
        return f"w{number_text(self.width)}-d{number_text(self.depth)}"

    @classmethod
    def parse(cls, text: str) -> SubNetwork:
        """The sub-network that `text` names, the inverse of `str`.

        Raises:
            SubNetworkError: If `text` is not of the form `w0.5-d0.75`, or a multiplier is not in (0, 1].
        """
        if isinstance(text, str) and (match := re.fullmatch(f"w({_NUMBER})-d({_NUMBER})", text)):
            return cls(float(match[1]), float(match[2]))
        raise SubNetworkError(
            f"{text!r} does not name a sub-network. Possible is the form w<width>-d<depth>, for instance 'w0.5-d0.75'."
        )

    def layers(
        self, *, num_layers: int, num_heads: int, num_neurons: int, kept_layers: Sequence[int] | None = None
    ) -> tuple[LayerShape, ...]:
        """The kept layers of a network of the given full size, by the rules of the published implementation.

        Heads are `max(1, round(width * num_heads))`, neurons `int(heads / num_heads * num_neurons)`, and kept layer
        `i` is `floor(i / depth)` for `round(depth * num_layers)` layers.

        Args:
            num_layers: Layers of the full network.
            num_heads: Attention heads of a full layer.
            num_neurons: Feed-forward neurons of a full layer.
            kept_layers: Indices to keep instead of the depth rule, increasing.

        Raises:
            SubNetworkError: If less than half a head, no neuron or no layer would be left.
        """
        if self.width * num_heads < 0.5:
            raise SubNetworkError(
                f"width={self.width:g} leaves no attention head of {num_heads} with keys of its own. The smallest "
                f"possible width is {number_text(0.5 / num_heads)}, which keeps one; give at least that, in widths too."
            )
        heads = max(1, round(self.width * num_heads))
        neurons = int(heads / num_heads * num_neurons)
        if neurons < 1:
            raise SubNetworkError(f"width={self.width:g} leaves none of {num_neurons} neurons. Give a larger width.")
        by_rule = [math.floor(i / self.depth) for i in range(round(self.depth * num_layers))]
        kept = by_rule if kept_layers is None else kept_layers
        if not kept:
            raise SubNetworkError(
                f"depth={self.depth:g} leaves no layer of {num_layers}. A depth of {number_text(1 / num_layers)} keeps "
                "one; give at least that, in depths too."
            )
        return tuple(LayerShape(index, heads, neurons) for index in kept)


def grid(widths: Iterable[float], depths: Iterable[float]) -> tuple[SubNetwork, ...]:
    """Every combination of the given widths and depths, from small to large, each once."""
    return tuple(SubNetwork(w, d) for w, d in product(_multipliers("width", widths), _multipliers("depth", depths)))


def _multipliers(name: str, given: Iterable[float]) -> list[float]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise SubNetworkError(f"{name}s={given!r} is not possible. Give a list of multipliers, such as [0.5, 1.0].")
    return sorted({_check_multiplier(name, multiplier) for multiplier in given})


AnySize = SubNetwork | tuple[LayerShape, ...]
"""A size as models, trainers and records hold it."""

Size = SubNetwork | str | Sequence[LayerShape]
"""What names a size to a model: a sub-network, its text form, or the shape of every kept layer."""


def size_name(size: SubNetwork | Sequence[LayerShape]) -> str:
    """The text form of any size: `w0.5-d0.75`, or `l0h4n1024-l2h3n768` for layers that no width and depth describe."""
    if isinstance(size, SubNetwork):
        return str(size)
    return "-".join(f"l{layer.index}h{layer.heads}n{layer.neurons}" for layer in size)


def parse_size(text: str) -> AnySize:
    """The size that `text` names, the inverse of `size_name`.

    Raises:
        SubNetworkError: If `text` has neither form.
    """
    if isinstance(text, str) and re.fullmatch(r"l\d+h\d+n\d+(-l\d+h\d+n\d+)*", text):
        return tuple(LayerShape(*map(int, re.findall(r"\d+", part))) for part in text.split("-"))
    return SubNetwork.parse(text)


def as_size(given: Any) -> AnySize:
    """A size as a value, whether a value or its text was given; what is neither is refused."""
    if isinstance(given, str):
        return parse_size(given)
    if isinstance(given, SubNetwork):
        return given
    if isinstance(given, Sequence) and given and all(isinstance(layer, LayerShape) for layer in given):
        return tuple(given)
    raise SubNetworkError(
        f"{given!r} is not a size. Give a SubNetwork, its text such as 'w0.5-d0.75', or a sequence of LayerShapes."
    )


def by_depth(given: Any) -> dict[str, list[int]] | None:
    """The layers to keep by depth, as JSON can hold them and with one text for a depth."""
    if given is None:
        return None
    try:
        kept = {number_text(_check_multiplier("depth", float(d))): list(map(index, own)) for d, own in given.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise SubNetworkError(
            f"kept_layers={given!r} is not possible. Give for each depth the layers to keep, such as "
            "{'0.5': [1, 3, 5, 7, 9, 11]}."
        ) from error
    if len(kept) < len(given):
        raise SubNetworkError(f"kept_layers has the keys {list(given)}, and two name one depth. Give each depth once.")
    return kept
