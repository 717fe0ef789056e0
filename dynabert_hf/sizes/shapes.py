"""The shapes that a search goes through: which there are, what they are worth by importance, and small changes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from ..model.anatomy import head_group
from ..model.configuration import ElasticConfigMixin
from ..model.subnetwork import LayerShape, SubNetwork, SubNetworkError
from .allocation import allocate
from .layer_costs import LayerCosts

Shape = tuple[LayerShape, ...]

_BENDS = (1.0, 0.5)
"""Powers that shares of importance are raised to: first-order importance tells too little of what is left."""


@dataclass(frozen=True)
class ShapeSpace:
    """All shapes of a network: in each kept layer some of its first heads and of its first neurons.

    Args:
        heads: The numbers of heads that a kept layer may have.
        neurons: The numbers of neurons.
        head_worths: `(layers, len(heads))`, the share of a layer's importance that so many heads hold, times how
            important the layer is.
        neuron_worths: `(layers, len(neurons))`, likewise.
        depths: For each trained depth the layers that it keeps.
    """

    heads: tuple[int, ...]
    neurons: tuple[int, ...]
    head_worths: np.ndarray
    neuron_worths: np.ndarray
    depths: tuple[tuple[int, ...], ...]

    @classmethod
    def of(
        cls, config: ElasticConfigMixin, importance: Any, *, min_heads: int, min_neurons: int, neuron_step: int | None
    ) -> ShapeSpace:
        """The space of a whole network.

        Raises:
            SubNetworkError: If it was cut by extraction.
            ValueError: If the importance is of another network, or a floor is not possible.
        """
        heads, neurons = possible_counts(config, min_heads=min_heads, min_neurons=min_neurons, neuron_step=neuron_step)
        scores = [np.asarray(each, dtype=float) for each in (importance.heads, importance.neurons)]
        expected = [(config.num_hidden_layers, each[-1]) for each in (heads, neurons)]
        given = [score.shape for score in scores]
        if given != expected:
            raise ValueError(
                f"The importance has shapes {given}, this model needs {expected}. Give what measure_importance "
                "returned for it."
            )
        kept = {tuple(layer.index for layer in config.resolve(SubNetwork(1.0, depth))) for depth in config.depths}
        worths = _worths(scores[0], heads), _worths(scores[1], neurons)
        return cls(heads, neurons, *worths, depths=tuple(sorted(kept, key=len)))

    @property
    def num_layers(self) -> int:
        return len(self.head_worths)

    def smallest(self) -> Shape:
        """The shape that costs least."""
        return (LayerShape(0, self.heads[0], self.neurons[0]),)

    def best(
        self, costs: LayerCosts, budget: float, kept: Sequence[int], *, bend: float, all_kept: bool
    ) -> Shape | None:
        """The shape of most worth within a budget, by the exact dynamic programme; None if none is.

        Args:
            costs: What layers cost.
            budget: The most that the network may cost.
            kept: The layers that may be kept.
            bend: The power that shares of importance are raised to.
            all_kept: Whether all of them have to be kept.
        """
        pairs = [(heads, neurons) for heads in range(len(self.heads)) for neurons in range(len(self.neurons))]
        prices = [costs.of_layer(self.heads[heads], self.neurons[neurons]) for heads, neurons in pairs]
        options = []
        for layer in kept:
            head_worths, neuron_worths = self.head_worths[layer] ** bend, self.neuron_worths[layer] ** bend
            worths = [head_worths[heads] + neuron_worths[neurons] for heads, neurons in pairs]
            own = [price + costs.own.get(layer, 0.0) for price in prices]
            options.append(list(zip(own, worths, strict=True)) + ([] if all_kept else [(0.0, 0.0)]))
        chosen = allocate(options, budget - costs.rest)
        if chosen is None:
            return None
        taken = [(layer, pairs[number]) for layer, number in zip(kept, chosen, strict=True) if number < len(pairs)]
        return self._shape(dict(taken)) or None

    def starts(self, costs: LayerCosts, budget: float) -> Iterator[Shape]:
        """Where a search begins: the even shapes of the trained depths, and the worthiest shapes, within a budget."""
        everything = tuple(range(self.num_layers))
        for kept in reversed(self.depths):
            yield from self._even(costs, budget, kept)
        for kept in dict.fromkeys((everything, *reversed(self.depths))):
            for bend in _BENDS:
                for all_kept in (True, False):
                    shape = self.best(costs, budget, kept, bend=bend, all_kept=all_kept)
                    if shape is not None:
                        yield shape
        yield self.smallest()

    def _even(self, costs: LayerCosts, budget: float, kept: Sequence[int]) -> Iterator[Shape]:
        """The widest even shape of some layers within a budget, if there is one."""
        for heads in reversed(self.heads):
            share = heads / self.heads[-1] * self.neurons[-1]
            neurons = max((each for each in self.neurons if each <= share), default=self.neurons[0])
            shape = tuple(LayerShape(layer, heads, neurons) for layer in kept)
            if costs.of(shape) <= budget:
                yield shape
                return

    def changed(self, shape: Shape, costs: LayerCosts, budget: float, draw: random.Random) -> Shape:
        """A shape that differs a little, within the budget and near to it: a layer less or more, or parts moved."""
        levels = {layer.index: [self.heads.index(layer.heads), self.neurons.index(layer.neurons)] for layer in shape}
        kind = draw.random()
        absent = [layer for layer in range(self.num_layers) if layer not in levels]
        if kind < 0.15 and len(levels) > 1:
            del levels[draw.choice(sorted(levels))]
        elif kind < 0.3 and absent:
            levels[draw.choice(absent)] = [draw.randrange(len(self.heads)), draw.randrange(len(self.neurons))]
        for _ in range(draw.randint(1, 3)):
            layer, part = draw.choice(sorted(levels)), draw.randrange(2)
            levels[layer][part] = max(0, levels[layer][part] - draw.randint(1, 2))
        for _ in range(draw.randint(0, 2)):
            self._grow(levels, draw.choice([(layer, part) for layer in sorted(levels) for part in range(2)]))
        return self._filled(levels, costs, budget, draw)

    def _filled(self, levels: dict[int, list[int]], costs: LayerCosts, budget: float, draw: random.Random) -> Shape:
        """A shape made smaller until it is within the budget, and then larger as long as something fits."""
        while costs.of(self._shape(levels)) > budget:
            possible = [(layer, part) for layer in sorted(levels) for part in range(2) if levels[layer][part] > 0]
            if possible:
                layer, part = draw.choice(possible)
                levels[layer][part] -= 1
            elif len(levels) > 1:
                del levels[draw.choice(sorted(levels))]
            else:
                return self.smallest()
        possible = [(layer, part) for layer in sorted(levels) for part in range(2)]
        while possible:
            place = draw.choice(possible)
            has_grown = self._grow(levels, place)
            if not has_grown or costs.of(self._shape(levels)) > budget:
                levels[place[0]][place[1]] -= has_grown
                possible.remove(place)
        return self._shape(levels)

    def _grow(self, levels: dict[int, list[int]], place: tuple[int, int]) -> bool:
        """Make a part of a layer larger by a step; whether that was possible."""
        layer, part = place
        if levels[layer][part] + 1 == len((self.heads, self.neurons)[part]):
            return False
        levels[layer][part] += 1
        return True

    def _shape(self, levels: Mapping[int, Sequence[int]]) -> Shape:
        return tuple(
            LayerShape(layer, self.heads[heads], self.neurons[neurons])
            for layer, (heads, neurons) in sorted(levels.items())
        )


def possible_counts(
    config: ElasticConfigMixin, *, min_heads: int, min_neurons: int, neuron_step: int | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of heads, and those of neurons, that a kept layer of a whole network may have.

    Raises:
        SubNetworkError: If it was cut by extraction.
        ValueError: If a floor is not possible.
    """
    if config.stored_shape is not None:
        raise SubNetworkError(
            "This model was cut by extraction. Shapes are searched for in a whole network: give the model that it was "
            "extracted from."
        )
    most_heads, most_neurons, group = config.num_attention_heads, config.intermediate_size, head_group(config)
    step = most_neurons * group // most_heads if neuron_step is None else neuron_step
    for name, number, most in (
        ("min_heads", min_heads, most_heads),
        ("min_neurons", min_neurons, most_neurons),
        ("neuron_step", step, most_neurons),
    ):
        if not isinstance(number, Integral) or not 1 <= int(number) <= most:
            raise ValueError(f"{name}={number!r} is not possible. Give a whole number from 1 to {most}.")
    heads = tuple(each for each in range(group, most_heads + 1, group) if each >= min_heads)
    first = most_neurons % step or step
    return heads, tuple(each for each in range(first, most_neurons + 1, step) if each >= min_neurons)


def _worths(scores: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """`(layers, counts)`: the importance that the first heads, or neurons, of each layer hold, of 1 for all layers."""
    sums = np.cumsum(scores, axis=1)
    return sums[:, [count - 1 for count in counts]] / max(float(sums[:, -1].sum()), 1e-12)
