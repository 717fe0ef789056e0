"""What a layer costs by its heads and neurons: counted from shapes, or measured on this machine and interpolated.

Attention costs by its heads and the feed-forward part by its neurons, one after the other, so that a table of each is
enough, and the cost of a network is that of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..model.anatomy import head_group
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import LayerShape, SubNetworkError
from .counting import count_flops, count_parameters
from .profiling import measure_latency

_NODES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where between the least and the most of a layer latency is measured."""


@dataclass(frozen=True)
class LayerCosts:
    """A table of the costs of layers, with linear interpolation between its entries.

    Args:
        cost: What is told: `latency_ms`, `flops` or `parameters`.
        rest: What the network costs without its layers.
        heads: For numbers of heads what a layer costs with the fewest neurons of the table.
        neurons: For numbers of neurons what they cost beyond the fewest.
        own: For a layer that is made otherwise than the rest, by its index, what it costs beyond another.
    """

    cost: str
    rest: float
    heads: Mapping[int, float]
    neurons: Mapping[int, float]
    own: Mapping[int, float] = field(default_factory=dict)

    def of_layer(self, heads: int, neurons: int) -> float:
        """What one layer costs, if it is made as the rest."""
        return _interpolated(self.heads, heads) + _interpolated(self.neurons, neurons)

    def of(self, layers: Iterable[LayerShape]) -> float:
        """What the network with these layers costs."""
        return self.rest + sum(
            self.of_layer(layer.heads, layer.neurons) + self.own.get(layer.index, 0.0) for layer in layers
        )


def _interpolated(table: Mapping[int, float], count: int) -> float:
    counts = sorted(table)
    return float(np.interp(count, counts, [table[each] for each in counts]))


def count_costs(model: ElasticModelMixin, cost: str, *, batch_size: int = 1, sequence_length: int = 128) -> LayerCosts:
    """The table of a cost that follows from shapes; exact, except in a model of two layers whose first layer differs.

    Args:
        model: The elastic model.
        cost: `flops` or `parameters`.
        batch_size: Sequences of the forward pass whose operations are counted.
        sequence_length: Tokens of each.

    Raises:
        SubNetworkError: If extraction left the layers of the model unequal.
        ValueError: If the cost is another one.
    """
    if cost not in ("flops", "parameters"):
        raise ValueError(f"cost={cost!r} is not counted. Give 'flops' or 'parameters', or measure_costs for latency.")

    def count(layers: Sequence[LayerShape]) -> float:
        if cost == "parameters":
            return count_parameters(model, layers).total
        return count_flops(model, layers, batch_size=batch_size, sequence_length=sequence_length)

    stored = _stored_alike(model)
    first, alike = stored[0], stored[1:] if len(stored) > 2 else stored  # two tell the cost of one
    table = _table(model, alike, cost, lambda sizes: [count(size) for size in sizes], nodes=(0.0, 1.0))
    beyond = count([first]) - table.of([first])
    return replace(table, own={first.index: beyond} if beyond else {})


def measure_costs(model: ElasticModelMixin, **setting: Any) -> LayerCosts:
    """Measure a table of the latencies of layers, in milliseconds, by networks of equal layers that take turns.

    Args:
        model: The elastic model; it stays as it is.
        **setting: What `measure_latency` takes, such as `sequence_length`, `runtime` and `rounds`.

    Raises:
        SubNetworkError: If extraction left the layers of the model unequal.
    """

    def measure(sizes: Sequence[Sequence[LayerShape]]) -> list[float]:
        return [record.costs["latency_ms"] for record in measure_latency(model, sizes, **setting)]

    return _table(model, _stored_alike(model), "latency_ms", measure, nodes=_NODES)


def _stored_alike(model: ElasticModelMixin) -> tuple[LayerShape, ...]:
    """The layers that a model holds, whose heads and neurons one table describes."""
    stored = model.config.stored_layers
    if len({(layer.heads, layer.neurons) for layer in stored}) > 1:
        raise SubNetworkError(
            "The layers of this extracted model have different numbers of heads or neurons, so one table of costs does "
            "not describe them all. Give the model that it was extracted from; count_flops, count_parameters and "
            "measure_latency tell what this one costs."
        )
    return stored


def _table(
    model: ElasticModelMixin,
    stored: Sequence[LayerShape],
    cost: str,
    measure: Callable[[Sequence[Sequence[LayerShape]]], Sequence[float]],
    *,
    nodes: Sequence[float],
) -> LayerCosts:
    """The table that the costs of networks of equal layers make, of some that are stored or of half as many."""
    group = head_group(model.config)
    most_heads, most_neurons = min(layer.heads for layer in stored), min(layer.neurons for layer in stored)
    heads = _counts(nodes, most_heads, step=group)
    neurons = _counts(nodes, most_neurons, step=1)

    def network(heads: int, neurons: int, layers: Sequence[LayerShape] = stored) -> list[LayerShape]:
        return [LayerShape(layer.index, heads, neurons) for layer in layers]

    half = stored[: max(1, len(stored) // 2)]
    sizes = [network(most_heads, most_neurons, half), network(most_heads, most_neurons)]
    sizes += [network(each, neurons[0]) for each in heads] + [network(heads[-1], each) for each in neurons[1:]]
    of_half, of_all, *costs = measure(sizes)
    of_one = (of_all - of_half) / (len(stored) - len(half)) if len(half) < len(stored) else of_all
    rest = max(0.0, of_all - of_one * len(stored))
    by_heads = _rising([(each - rest) / len(stored) for each in costs[: len(heads)]])
    by_neurons = _rising([by_heads[-1], *((each - rest) / len(stored) for each in costs[len(heads) :])])
    beyond = [each - by_neurons[0] for each in by_neurons]
    return LayerCosts(cost, rest, dict(zip(heads, by_heads, strict=True)), dict(zip(neurons, beyond, strict=True)))


def _counts(nodes: Sequence[float], most: int, *, step: int) -> list[int]:
    """Numbers from the least, `step`, to the most, at shares of the way and in whole steps."""
    return sorted({step * max(1, round(1 + node * (most / step - 1))) for node in nodes})


def _rising(costs: Sequence[float]) -> list[float]:
    """Costs that never fall as a layer grows, as measured ones may by chance."""
    return np.maximum.accumulate(costs).tolist()
