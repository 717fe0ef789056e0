"""Choose among measured sizes: the Pareto front, and the best size under a budget.

Pure functions on `SizeRecord` values; nothing here runs a model. Metrics come from `evaluate()`, from the table that a
checkpoint stores, or from any callable; costs from `profile` or from anything else that measured them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..model.configuration import REFERENCES
from ..model.subnetwork import AnySize, parse_size
from .evaluation import stored_metrics
from .metrics import LOWER, SUMMARIES, direction_of, in_telling_order, is_number, parse_metric_name
from .records import COSTS, SizeRecord, as_arguments, cost_of, format_cost, metric_of, of_one_setting


@dataclass(frozen=True)
class Recommendation:
    """The answer of `recommend`.

    Attributes:
        choice: The best size within every budget; None if no size is.
        reason: Why, in one or two sentences for people.
        runner_up: The second best within every budget, if there is one.
        nearest_miss: Where nothing fits, the size that exceeds its budgets least.
        missed_by: By how much `nearest_miss` exceeds each budget that it breaks, in the unit of that budget.
    """

    choice: SizeRecord | None
    reason: str
    runner_up: SizeRecord | None = None
    nearest_miss: SizeRecord | None = None
    missed_by: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Quality:
    """A metric with its direction."""

    metric: str
    is_lower_better: bool

    @classmethod
    def named(cls, metric: str, greater_is_better: bool | None) -> _Quality:
        """Of a direction that is told, or else known from the name; it is never guessed."""
        if greater_is_better is not None:
            return cls(metric, not greater_is_better)
        direction = direction_of(metric)
        if direction is None:
            raise ValueError(
                f"The direction of the metric {metric!r} is not known: its name says neither that higher nor that "
                "lower is better. Give greater_is_better=True or False; on the command line --higher-is-better or "
                "--lower-is-better."
            )
        return cls(metric, direction == LOWER)

    def goodness(self, record: SizeRecord) -> float:
        """The metric of a size so that more is better; to compare by, never to show."""
        return self.signed(metric_of(record, self.metric))

    def signed(self, value: float) -> float:
        return -value if self.is_lower_better else value


def pareto_front(
    records: Iterable[SizeRecord],
    *,
    metric: str = "accuracy",
    cost: str = "flops",
    greater_is_better: bool | None = None,
) -> tuple[SizeRecord, ...]:
    """The sizes that no other beats: none is as good for less, or better for as little.

    Args:
        records: What to choose from.
        metric: Name of the metric.
        cost: Name of the cost: `latency_ms`, `flops`, `parameters` or `memory_mb`.
        greater_is_better: The direction of the metric; None: as its name says.

    Returns:
        The front, from cheap to costly and from worse to better.

    Raises:
        ValueError: If there is no record, they are of several settings, the cost is unknown, some size was not measured
            in metric or cost, or the direction of the metric is not known.
    """
    records, quality = _checked(records), _Quality.named(metric, greater_is_better)
    ordered = sorted(records, key=lambda one: (cost_of(one, cost), -quality.goodness(one)))
    front = ordered[:1]
    for record in ordered[1:]:
        last = front[-1]
        is_tie = quality.goodness(record) == quality.goodness(last) and cost_of(record, cost) == cost_of(last, cost)
        if quality.goodness(record) > quality.goodness(last) or is_tie:
            front.append(record)
    return tuple(front)


def recommend(
    records: Iterable[SizeRecord],
    *,
    metric: str = "accuracy",
    latency_ms: float | None = None,
    parameters: float | None = None,
    flops: float | None = None,
    memory_mb: float | None = None,
    max_drop: float | None = None,
    reference: float | None = None,
    greater_is_better: bool | None = None,
    max_accuracy_drop: float | None = None,
) -> Recommendation:
    """The best size under all given budgets, with the reason.

    With budgets for costs alone, the choice is the best size within them, and the cheaper one of equally good sizes.
    With `max_drop`, it is the cheapest size within all budgets: in the first given cost of latency, FLOPs, parameters
    and memory, or else in the first one that was measured for every size. Sizes that were not measured in a budgeted
    cost are left out.

    Args:
        records: What to choose from.
        metric: Name of the metric to choose by.
        latency_ms: Largest latency in milliseconds.
        parameters: Largest number of parameters.
        flops: Largest number of floating-point operations.
        memory_mb: Largest peak memory in megabytes.
        max_drop: By how much the metric may be worse than `reference`, in units of the metric.
        reference: The value from which a drop counts, for instance the teacher's; None: that of the best size.
        greater_is_better: The direction of the metric; None: as its name says.
        max_accuracy_drop: `max_drop`, under its former name.

    Returns:
        The choice and its runner-up, or where nothing fits the nearest miss and by how much it misses.

    Raises:
        ValueError: If there is no record, no budget, a budget that is no possible amount, one for a cost that no size
            was measured in, a size without the metric, a metric whose direction is not known, or records are of several
            settings.

    Example:
        >>> small = SizeRecord("w0.5-d0.5", {"mse": 0.16}, {"latency_ms": 4.0})
        >>> large = SizeRecord("w1-d1", {"mse": 0.12}, {"latency_ms": 20.0})
        >>> print(recommend([small, large], metric="mse", latency_ms=10).choice)
        w0.5-d0.5
    """
    records, quality = _checked(records), _Quality.named(metric, greater_is_better)
    given = {"latency_ms": latency_ms, "flops": flops, "parameters": parameters, "memory_mb": memory_mb}
    budgets = {cost: budget for cost, budget in given.items() if budget is not None}
    max_drop = max_accuracy_drop if max_drop is None else max_drop
    check_budgets(budgets, max_drop, reference)
    best = max(quality.goodness(one) for one in records)
    measured = [one for one in records if all(cost in one.costs for cost in budgets)]
    if not measured:
        raise ValueError(_unmeasured(records, budgets))
    floor = None
    if max_drop is not None:
        floor = (best if reference is None else quality.signed(reference)) - max_drop
    limits = _Limits(budgets, floor, quality)
    ranked = sorted(measured, key=limits.rank(measured))
    fitting = [one for one in ranked if not limits.excess(one)]
    if not fitting:
        return _nothing_fits(measured, limits)
    runner_up = fitting[1] if len(fitting) > 1 else None
    cheap_in = limits.cheapness(measured)
    return Recommendation(fitting[0], _reason(fitting, records, limits, cheap_in), runner_up)


def best_of(metric: str, values: Iterable[float], *, greater_is_better: bool | None = None) -> float:
    """The best of some values of a metric.

    Raises:
        ValueError: If its direction is not known.
    """
    return max(values, key=_Quality.named(metric, greater_is_better).signed)


def read_metrics(metrics: Mapping[str, Any], *, metric: str = "accuracy") -> dict[AnySize, float]:
    """One metric of every size, from what `evaluate()` returns (`eval_w0.5-d0.75_accuracy`).

    Args:
        metrics: Names to values; names that carry no size, and values that are no numbers, are passed over. Any prefix
            before the size is accepted.
        metric: Which metric to read; of one of several evaluation sets with the name of the set, `matched_accuracy`.

    Raises:
        ValueError: If no size has that metric, or several evaluation sets have it.
    """
    parsed = [(one, value) for name, value in metrics.items() if (one := parse_metric_name(name)) is not None]
    sized = [(one, float(value)) for one, value in parsed if one.size not in SUMMARIES and is_number(value)]
    splits = {one.split for one, _ in sized if one.metric == metric}
    if len(splits) > 1:
        possible = sorted(f"{split}_{metric}" for split in splits if split)
        raise ValueError(f"Several evaluations have the metric {metric!r}. Give metric= one of {possible}.")
    found = {
        parse_size(one.size): value
        for one, value in sized
        if metric in (one.metric, f"{one.split}_{one.metric}", f"{one.split}_{one.metric}".removeprefix("eval_"))
    }
    if not found:
        possible = sorted({one.metric for one, _ in sized})
        raise ValueError(
            f"No sub-network has the metric {metric!r}. Possible is one of {possible}, read from names such as "
            f"'eval_w0.5-d0.75_accuracy' among {len(metrics)} metrics; give metric= one of them."
        )
    return found


def read_stored_metrics(config: Any, *, metric: str = "accuracy") -> dict[AnySize, float]:
    """One metric of every size, from the table that a checkpoint stores in its configuration, `config.metrics`.

    Raises:
        ValueError: If nothing is stored, or no size has that metric.
    """
    stored = stored_by_size(config)
    found = {parse_size(name): float(own[metric]) for name, own in stored.items() if metric in own}
    if not found:
        known = sorted({name for own in stored.values() for name in own}) or "no metrics"
        raise ValueError(
            f"The checkpoint stores no {metric!r} of any size. It stores {known}; give metric= one of them, or "
            "evaluate the model."
        )
    return found


def leading_metric(config: Any) -> str:
    """The most telling metric of those that a checkpoint stores.

    Raises:
        ValueError: If it stores none.
    """
    names = [name for own in stored_by_size(config).values() for name in own]
    if not names:
        raise ValueError(
            "The model stores no metrics to choose by. Measure them with `dynabert evaluate MODEL --file FILE --store`."
        )
    return in_telling_order(names)[0]


def stored_by_size(config: Any) -> dict[str, Mapping[str, float]]:
    """The metrics that a checkpoint stores of its sizes, by their texts."""
    return {name: own for name, own in stored_metrics(config).items() if name not in REFERENCES}


@dataclass(frozen=True)
class _Limits:
    """Budgets for costs, and the least goodness in a metric."""

    budgets: Mapping[str, float]
    floor: float | None
    quality: _Quality

    def excess(self, record: SizeRecord) -> dict[str, float]:
        """By how much a record breaks each limit that it breaks, in the unit of that limit."""
        broken = {cost: record.costs[cost] - budget for cost, budget in self.budgets.items()}
        if self.floor is not None:
            broken["max_drop"] = self.floor - self.quality.goodness(record)
        slack = 1e-9  # a drop such as 0.88 - 0.87 is not exactly 0.01
        return {name: over for name, over in broken.items() if over > (slack if name == "max_drop" else 0)}

    def relative_excess(self, record: SizeRecord) -> float:
        """The largest excess as a share of the limit it breaks."""
        limits = {**self.budgets, "max_drop": abs(self.floor or 0)}
        return max(over / max(limits[name], 1e-12) for name, over in self.excess(record).items())

    def rank(self, records: Sequence[SizeRecord]) -> Callable[[SizeRecord], tuple[float, float]]:
        """Sorting key, best first: by the metric, or by cost where the metric is a budget."""
        cost = self.cheapness(records)
        if cost is None:
            return lambda one: (-self.quality.goodness(one), 0)
        if self.floor is None:
            return lambda one: (-self.quality.goodness(one), one.costs[cost])
        return lambda one: (one.costs[cost], -self.quality.goodness(one))

    def cheapness(self, records: Sequence[SizeRecord]) -> str | None:
        """The cost that tells the cheaper of two records."""
        for cost in (*self.budgets, *COSTS):
            if all(cost in one.costs for one in records):
                return cost
        return None

    def describe(self) -> str:
        parts = [f"{_budgeted(cost)}at most {format_cost(cost, budget)}" for cost, budget in self.budgets.items()]
        if self.floor is not None:
            bound = "most" if self.quality.is_lower_better else "least"
            parts.append(f"{self.quality.metric} at {bound} {self.quality.signed(self.floor):.4g}")
        return " and ".join(parts)


def _budgeted(cost: str) -> str:
    """What stands before an amount that its unit does not tell; nothing where the unit tells it."""
    return {"latency_ms": "latency ", "memory_mb": "memory "}.get(cost, "")


def describe(record: SizeRecord, metric: str) -> str:
    """A size in words: what it is, what it achieves and every cost that was measured."""
    amounts = [format_cost(cost, record.costs[cost]) for cost in COSTS if cost in record.costs]
    return ", ".join([f"{record} ({metric} {record.metrics[metric]:.4g}", *amounts]) + ")"


def _noun(records: Sequence[SizeRecord]) -> str:
    """What records are called together."""
    nouns = {one.noun for one in records}
    return nouns.pop() if len(nouns) == 1 else "choice"


def _reason(fitting: Sequence[SizeRecord], records: Sequence[SizeRecord], limits: _Limits, cost: str | None) -> str:
    """Why the first of those that fit is the choice; `cost` is what they were ranked by, if they were by any."""
    metric = limits.quality.metric
    best = "most accurate" if metric == "accuracy" else f"best (in {metric})"
    what = best if limits.floor is None or cost is None else f"cheapest (in {_budgeted(cost).strip() or COSTS[cost]})"
    choice = describe(fitting[0], metric)
    noun = _noun(records)
    text = f"{choice} is the {what} of {len(fitting)} {noun}s with {limits.describe()}."
    if len(fitting) == 1:
        text = f"{choice} is the only {noun} with {limits.describe()}."
    unmeasured = sum(any(cost not in one.costs for cost in limits.budgets) for one in records)
    left_out = f"1 {noun} was" if unmeasured == 1 else f"{unmeasured} {noun}s were"
    return text + (f" {left_out} left out because a budgeted cost was not measured." if unmeasured else "")


def _nothing_fits(records: Sequence[SizeRecord], limits: _Limits) -> Recommendation:
    nearest = min(records, key=lambda one: (limits.relative_excess(one), -limits.quality.goodness(one)))
    missed_by = limits.excess(nearest)
    amounts = [
        f"{limits.quality.metric} by {over:.3g}"
        if name == "max_drop"
        else f"{_budgeted(name)}by {format_cost(name, over)}"
        for name, over in missed_by.items()
    ]
    text = f"None of {len(records)} {_noun(records)}s has {limits.describe()}. "
    names = [*limits.budgets, *([] if limits.floor is None else ["max_drop"])]
    if len(names) > 1 and all(_possible_alone(name, records, limits) for name in names):
        text += "The budgets contradict each other: each one can be met, but not together. "
    text += f"Nearest is {describe(nearest, limits.quality.metric)}, which misses {' and '.join(amounts)}."
    return Recommendation(None, text, nearest_miss=nearest, missed_by=missed_by)


def _possible_alone(name: str, records: Sequence[SizeRecord], limits: _Limits) -> bool:
    budgets = {cost: budget for cost, budget in limits.budgets.items() if cost == name}
    alone = replace(limits, budgets=budgets, floor=limits.floor if name == "max_drop" else None)
    return any(not alone.excess(one) for one in records)


def check_budgets(
    budgets: Mapping[str, float],
    max_drop: float | None = None,
    reference: float | None = None,
    *,
    possible: Iterable[str] = COSTS,
) -> None:
    """Whether `recommend` takes these budgets, to be known before anything is measured for them.

    Args:
        budgets: The budgets by the names of their costs.
        max_drop: The budget of the metric, if there is one.
        reference: What the drop is from.
        possible: The costs that a budget may be of.

    Raises:
        ValueError: If there is none, or one is no possible amount.
    """
    if not budgets and max_drop is None:
        raise ValueError(
            f"No budget was given. Possible are {as_arguments([*possible, 'max_drop'])}; give at least one."
        )
    for cost, budget in budgets.items():
        if not _is_finite(budget) or budget <= 0:
            raise ValueError(f"{cost}={budget!r} is not a budget. Give a finite number above 0, in {COSTS[cost]}.")
    if max_drop is not None and (not _is_finite(max_drop) or max_drop < 0):
        raise ValueError(
            f"max_drop={max_drop!r} is not a drop. Give a finite number of at least 0, in units of "
            "the metric, for instance 0.01."
        )
    if reference is not None and max_drop is None:
        raise ValueError(
            f"reference={reference!r} was given without a drop from it. Give max_drop= too, or leave it out."
        )
    if reference is not None and not _is_finite(reference):
        raise ValueError(f"reference={reference!r} is no value of a metric. Give a finite number.")


def _unmeasured(records: Sequence[SizeRecord], budgets: Mapping[str, float]) -> str:
    measured = [cost for cost in COSTS if any(cost in one.costs for one in records)]
    lacking = [cost for cost in budgets if cost not in measured] or list(budgets)
    return (
        f"There is a budget for {' and '.join(lacking)}, but no size was measured in "
        f"{'it' if len(lacking) == 1 else 'all of them'}. Measured are {measured or 'no costs'}; give budgets for "
        "these, or profile the sizes first."
    )


def _checked(records: Iterable[SizeRecord]) -> list[SizeRecord]:
    checked = of_one_setting(records)
    if not checked:
        raise ValueError("No records were given. Give at least one, for instance from make_records.")
    return checked


def _is_finite(number: Any) -> bool:
    return is_number(number) and math.isfinite(number)
