"""The one record of a size with numbers: what it achieves, what it costs, and under which setting that was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ..messages import check_one_of
from ..model.configuration import REFERENCES
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import AnySize, Size, SubNetwork, SubNetworkError, as_size, size_name
from .counting import count_flops, count_parameters
from .metrics import is_number, of_python, plain_metrics
from .tables import megabytes, quantity, shortened

COSTS = {"latency_ms": "ms", "flops": "FLOPs", "parameters": "parameters", "memory_mb": "MB"}
"""The costs that can have a budget, with units, in the order in which one is preferred to tell the cheaper of two."""

COUNTS = ("flops", "parameters")
"""Those of them that are counted, not measured."""

SETTING = ("runtime", "dtype", "batch_size", "sequence_length", "device", "threads")
"""What tells one setting from another."""


@dataclass(frozen=True)
class SizeRecord:
    """A size with its metrics and costs.

    Args:
        size: A sub-network, layer shapes that no width and depth describe, or the text of either.
        metrics: What it achieves, by the names of the metrics, such as `{"accuracy": 0.87, "loss": 0.4}`.
        costs: What it costs, by name. `latency_ms` is the median time of a forward pass in milliseconds,
            `latency_spread_ms` its interquartile range, `flops` the floating-point operations of one forward pass,
            `parameters` their number with the head, of which `embedding_parameters` and `encoder_parameters`, and
            `memory_mb` the peak memory in units of 2**20 bytes. Costs that are None are left out.
        setting: What the costs were measured or counted under: `runtime`, `dtype`, `device`, `threads`, `batch_size`,
            `sequence_length` and `runs`, as far as they apply.

    Raises:
        SubNetworkError: If the text names no size.
        ValueError: If a metric is no number, or a cost is no finite number of at least 0.

    Example:
        >>> record = SizeRecord("w0.5-d0.75", {"accuracy": 0.87}, {"latency_ms": 4.0})
        >>> print(record, record.metrics["accuracy"], record.latency_ms, record.flops)
        w0.5-d0.75 0.87 4.0 None
    """

    size: AnySize
    metrics: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    setting: Mapping[str, Any] = field(default_factory=dict)
    noun: ClassVar[str] = "size"

    def __post_init__(self) -> None:
        costs = {name: amount for name, amount in self.costs.items() if amount is not None}
        object.__setattr__(self, "size", as_size(self.size))
        for part, values in (("metrics", self.metrics), ("costs", costs), ("setting", self.setting)):
            object.__setattr__(self, part, of_python(values))
        for name, metric in self.metrics.items():
            if not is_number(metric):
                raise ValueError(f"{self} has {name}={metric!r}. A metric is a number; leave out what is not one.")
        for name, amount in self.costs.items():
            if not is_number(amount) or not math.isfinite(amount) or amount < 0:
                raise ValueError(
                    f"{self} has {name}={amount!r}. It must be a finite number of at least 0, or None if not measured."
                )

    def __hash__(self) -> int:
        return hash(self.size)

    def __str__(self) -> str:
        return size_label(self.size)

    @property
    def name(self) -> str:
        """The size as text, `w0.5-d0.75` or `l0h4n1024-l2h3n768`, the inverse of which is given as `size`."""
        return size_name(self.size)

    @property
    def subnetwork(self) -> AnySize:
        """The size, under its former name."""
        return self.size

    @property
    def latency_ms(self) -> float | None:
        """Time of a forward pass in milliseconds; None if it was not measured."""
        return self.costs.get("latency_ms")

    @property
    def outcomes(self) -> tuple[tuple[float, float], ...]:
        """The times in milliseconds that a request may take, each with its share of the requests."""
        return () if self.latency_ms is None else ((self.latency_ms, 1.0),)

    @property
    def flops(self) -> float | None:
        """Floating-point operations of a forward pass; None if they were not counted."""
        return self.costs.get("flops")

    @property
    def parameters(self) -> float | None:
        """Number of parameters; None if they were not counted."""
        return self.costs.get("parameters")

    @property
    def memory_mb(self) -> float | None:
        """Peak memory in units of 2**20 bytes; None if it was not measured."""
        return self.costs.get("memory_mb")

    @classmethod
    def counted(
        cls,
        model: ElasticModelMixin,
        size: Size,
        metrics: Mapping[str, float] | None = None,
        *,
        batch_size: int = 1,
        sequence_length: int = 128,
    ) -> SizeRecord:
        """What can be said of a size of a model without running it, beside metrics that are known.

        Args:
            model: The elastic model.
            size: The size.
            metrics: Its metrics.
            batch_size: Sequences of the forward pass whose operations are counted.
            sequence_length: Tokens of each.
        """
        size = as_size(size)
        count = count_parameters(model, size)
        costs = {
            "parameters": count.total,
            "embedding_parameters": count.embeddings,
            "encoder_parameters": count.encoder,
            "flops": count_flops(model, size, batch_size=batch_size, sequence_length=sequence_length),
        }
        return cls(size, metrics or {}, costs, {"batch_size": batch_size, "sequence_length": sequence_length})


def make_records(
    metrics: Mapping[Any, Any] | Callable[[Any], Any] | None,
    costs: Iterable[SizeRecord] | Mapping[Any, Mapping[str, float]],
    *,
    metric: str = "accuracy",
) -> tuple[SizeRecord, ...]:
    """A record for each size that has both metrics and costs.

    Args:
        metrics: For a size, or its text, its metrics by name, as `config.metrics` holds them, or the value of one. Or a
            function of a size that measures these. What is told of a teacher or the like is passed over. None: a model
            that stores no metrics.
        costs: Records with costs, or for a size, or its text, its costs by name.
        metric: What a metric is called that is given as one value.

    Raises:
        ValueError: If no size has both, the costs are of several settings, or two keys name one size.

    Example:
        >>> make_records({"w1-d1": 0.9}, {"w1-d1": {"flops": 7}})[0].metrics
        {'accuracy': 0.9}
    """
    if isinstance(costs, Mapping):
        costs = [SizeRecord(size, {}, own) for size, own in _by_size("costs", costs).items()]
    costs = of_one_setting(costs)
    if metrics is None or isinstance(metrics, Mapping):
        by_size = _by_size("metrics", {size: own for size, own in (metrics or {}).items() if size not in REFERENCES})
        known = [record for record in costs if record.size in by_size]
        if not known:
            raise ValueError(
                f"No size has both metrics and costs. Metrics are of {list(map(size_label, by_size))}, costs of "
                f"{list(map(str, costs))}; evaluate and profile the same sizes."
            )
    else:
        known, by_size = costs, {record.size: metrics(record.size) for record in costs}
    return tuple(replace(record, metrics=_by_name(by_size[record.size], metric)) for record in known)


def _by_size(name: str, given: Mapping[Any, Any]) -> dict[AnySize, Any]:
    """What is given for sizes or their texts, by the sizes."""
    keys: dict[AnySize, Any] = {}
    for key in given:
        if (size := as_size(key)) in keys:
            raise SubNetworkError(f"{name} has {keys[size]!r} and {key!r}, which are the same. Give one of them.")
        keys[size] = key
    return {size: given[key] for size, key in keys.items()}


def _by_name(given: Any, metric: str) -> Mapping[str, float]:
    return plain_metrics(given) if isinstance(given, Mapping) else {metric: given}


def of_one_setting(records: Iterable[SizeRecord]) -> list[SizeRecord]:
    """The records, if they may be of one setting, since costs of several do not compare.

    What a record does not tell of its setting may be any.

    Raises:
        ValueError: If two of them tell different settings.
    """
    records = list(records)
    told = {name: dict.fromkeys(one.setting.get(name) for one in records) for name in SETTING}
    known = {name: [value for value in values if value is not None] for name, values in told.items()}
    several = {name: values for name, values in known.items() if len(values) > 1}
    if several:
        chosen = ", ".join(f"{name}={values[0]!r}" for name, values in several.items())
        options = " and ".join(f"--{name.replace('_', '-')}" for name in several)
        raise ValueError(
            f"The records are of several settings, {several}, whose costs cannot be compared. Take those of one: "
            f"ProfileTable(tuple(records)).select({chosen}), or on the command line {options}."
        )
    return records


def size_label(size: AnySize) -> str:
    """A short text for a size: `w0.5-d0.75`, or for layer shapes how many layers, heads and neurons they keep."""
    if isinstance(size, SubNetwork):
        return str(size)
    heads, neurons = sum(layer.heads for layer in size), sum(layer.neurons for layer in size)
    return f"{len(size)} layers ({heads} heads, {neurons} neurons)"


def as_arguments(names: Iterable[str]) -> str:
    """Names as what a call sets, for an error: `flops=, parameters=`."""
    return ", ".join(f"{name}=" for name in names)


def format_cost(cost: str, amount: float) -> str:
    """An amount of a cost with its unit, counts shortened: `12.3 ms`, `4.51 GFLOPs`, `22.7 M parameters`."""
    unit = COSTS[cost]
    if cost == "memory_mb":
        return megabytes(amount)
    if cost == "latency_ms":
        return f"{shortened(amount)} {unit}"
    if unit == "parameters":
        return f"{quantity(amount)} {unit}"
    number, _, prefix = quantity(amount).partition(" ")
    return f"{number} {prefix}{unit}"


def cost_of(record: SizeRecord, cost: str) -> float:
    """What a size costs.

    Raises:
        ValueError: If the cost is unknown or the size was not measured in it.
    """
    check_one_of("cost", cost, COSTS)
    if cost not in record.costs:
        have = [name for name in COSTS if name in record.costs]
        raise ValueError(
            f"{record} was not measured in {cost}. It has {have or 'no costs'}; give one of these as cost=, or "
            f"measure {cost} of every size."
        )
    return record.costs[cost]


def metric_of(record: SizeRecord, metric: str) -> float:
    """What a size achieves in a metric.

    Raises:
        ValueError: If it was not measured, or is not finite.
    """
    if metric not in record.metrics:
        have = list(record.metrics) or "no metrics"
        raise ValueError(
            f"{record} was not measured in the metric {metric!r}. It has {have}; give metric= one of these, or leave "
            "out sizes that were not evaluated."
        )
    value = record.metrics[metric]
    if not math.isfinite(value):
        raise ValueError(f"{record} has {metric}={value!r}. It must be a finite number; leave the size out.")
    return value
