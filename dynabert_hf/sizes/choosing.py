"""Choose among measured sizes: the Pareto front, and the best size under a budget.

Pure functions on `Candidate` values; nothing here runs a model. Accuracies come from `evaluate()`, from the table that
a checkpoint stores, or from any callable; costs from `profile` or from anything else that measured them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

from ..model.subnetwork import LayerShape, SubNetwork, parse_size
from .metrics import SUMMARIES, is_lower_better, parse_metric_name

COSTS = {"latency_ms": "ms", "flops": "FLOPs", "parameters": "parameters", "memory_mb": "MB"}
"""What a candidate can cost, with its unit, in the order in which a cost is preferred to tell the cheaper of two."""

CandidateSize = SubNetwork | tuple[LayerShape, ...]


def size_label(size: CandidateSize) -> str:
    """A short text for a size: `w0.5-d0.75`, or for layer shapes how many layers, heads and neurons they keep."""
    if isinstance(size, SubNetwork):
        return str(size)
    heads, neurons = sum(layer.heads for layer in size), sum(layer.neurons for layer in size)
    return f"{len(size)} layers ({heads} heads, {neurons} neurons)"


def format_cost(cost: str, amount: float) -> str:
    """An amount of a cost with its unit, counts shortened: `12.3 ms`, `4.51 GFLOPs`, `22.7 M parameters`."""
    unit = COSTS[cost]
    if cost in ("latency_ms", "memory_mb"):
        return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(amount) >= factor:
            return (
                f"{amount / factor:.3g} {prefix}{unit}" if unit == "FLOPs" else f"{amount / factor:.3g} {prefix} {unit}"
            )
    return f"{amount:.0f} {unit}"


def quality_sign(quality: str) -> int:
    """What makes more of a quality better: -1 for an error, of which candidates hold the negative; else 1."""
    return -1 if is_lower_better(quality) else 1


@dataclass(frozen=True)
class Candidate:
    """A size with what it achieves and what it costs.

    Args:
        subnetwork: The size.
        accuracy: What it achieves; higher is better, so give for instance the negative of a loss.
        parameters: Number of parameters.
        flops: Floating-point operations of one forward pass.
        latency_ms: Time of one forward pass in milliseconds.
        memory_mb: Peak memory in megabytes.

    Raises:
        ValueError: If the accuracy is not finite, or a cost is negative or not finite.
    """

    subnetwork: CandidateSize
    accuracy: float
    parameters: int | None = None
    flops: int | None = None
    latency_ms: float | None = None
    memory_mb: float | None = None

    def __post_init__(self) -> None:
        if not _is_finite(self.accuracy):
            raise ValueError(
                f"{self} has accuracy={self.accuracy!r}. It must be a finite number, higher for better; leave out "
                "sizes that were not evaluated."
            )
        for cost in COSTS:
            amount = getattr(self, cost)
            if amount is not None and (not _is_finite(amount) or amount < 0):
                raise ValueError(
                    f"{self} has {cost}={amount!r}. It must be a finite number of at least 0, or None if not measured."
                )

    def __str__(self) -> str:
        return size_label(self.subnetwork)


@dataclass(frozen=True)
class Recommendation:
    """The answer of `recommend`.

    Attributes:
        choice: The best candidate within every budget; None if no candidate is.
        reason: Why, in one or two sentences for people.
        runner_up: The second best within every budget, if there is one.
        nearest_miss: Where nothing fits, the candidate that exceeds its budgets least.
        missed_by: By how much `nearest_miss` exceeds each budget that it breaks, in the unit of that budget.
    """

    choice: Candidate | None
    reason: str
    runner_up: Candidate | None = None
    nearest_miss: Candidate | None = None
    missed_by: Mapping[str, float] = field(default_factory=dict)


def pareto_front(candidates: Iterable[Candidate], *, cost: str = "flops") -> tuple[Candidate, ...]:
    """The candidates that no other beats: none is as accurate for less, or more accurate for as little.

    Args:
        candidates: What to choose from.
        cost: What to set against accuracy: `latency_ms`, `flops`, `parameters` or `memory_mb`.

    Returns:
        The front, from cheap and less accurate to costly and accurate.

    Raises:
        ValueError: If there is no candidate, the cost is unknown, or some candidate was not measured in it.
    """
    candidates = _checked(candidates)
    for candidate in candidates:
        amount_of(candidate, cost)
    ordered = sorted(candidates, key=lambda one: (amount_of(one, cost), -one.accuracy))
    front = ordered[:1]
    for candidate in ordered[1:]:
        last = front[-1]
        is_tie = candidate.accuracy == last.accuracy and amount_of(candidate, cost) == amount_of(last, cost)
        if candidate.accuracy > last.accuracy or is_tie:
            front.append(candidate)
    return tuple(front)


def recommend(
    candidates: Iterable[Candidate],
    *,
    latency_ms: float | None = None,
    parameters: float | None = None,
    flops: float | None = None,
    memory_mb: float | None = None,
    max_accuracy_drop: float | None = None,
    reference_accuracy: float | None = None,
    quality: str = "accuracy",
) -> Recommendation:
    """The best size under all given budgets, with the reason.

    With budgets for costs only, the most accurate candidate within them; of equally accurate ones, the cheaper. With
    `max_accuracy_drop` accuracy is a budget too, so the cheapest candidate within all of them, in the first given cost
    of latency, FLOPs, parameters and memory, else in the first of these that every candidate was measured in.
    Candidates that were not measured in a budgeted cost cannot be shown to fit and are left out.

    Args:
        candidates: What to choose from.
        latency_ms: Largest latency in milliseconds.
        parameters: Largest number of parameters.
        flops: Largest number of floating-point operations.
        memory_mb: Largest peak memory in megabytes.
        max_accuracy_drop: Largest loss of accuracy against `reference_accuracy`, in units of accuracy.
        reference_accuracy: Accuracy that a drop counts from, for instance the teacher's. The best candidate's if None.
        quality: What the accuracy of the candidates is, such as `pearson`, for the reason. Of an error (a name that
            ends as `loss` or `mse` does) candidates and reference hold the negative; the reason shows it as it is.

    Returns:
        The choice and its runner-up, or where nothing fits the nearest miss and by how much it misses.

    Raises:
        ValueError: If there is no candidate, no budget, a budget that is no possible amount, or one for a cost that no
            candidate was measured in.

    Example:
        >>> small = Candidate(SubNetwork(0.5, 0.5), accuracy=0.84, latency_ms=4.0)
        >>> large = Candidate(SubNetwork(1.0, 1.0), accuracy=0.88, latency_ms=20.0)
        >>> print(recommend([small, large], latency_ms=10).choice)
        w0.5-d0.5
    """
    candidates = _checked(candidates)
    given = {"latency_ms": latency_ms, "flops": flops, "parameters": parameters, "memory_mb": memory_mb}
    budgets = {cost: budget for cost, budget in given.items() if budget is not None}
    check_budgets(budgets, max_accuracy_drop, reference_accuracy)
    measured = [one for one in candidates if all(getattr(one, cost) is not None for cost in budgets)]
    if not measured:
        raise ValueError(_unmeasured(candidates, budgets))
    floor = None
    if max_accuracy_drop is not None:
        best = max(one.accuracy for one in candidates)
        floor = (best if reference_accuracy is None else reference_accuracy) - max_accuracy_drop
    limits = _Limits(budgets, floor, quality)
    ranked = sorted(measured, key=limits.rank(measured))
    fitting = [one for one in ranked if not limits.excess(one)]
    if not fitting:
        return _nothing_fits(measured, limits)
    runner_up = fitting[1] if len(fitting) > 1 else None
    return Recommendation(fitting[0], _reason(fitting, candidates, limits), runner_up)


def read_metrics(metrics: Mapping[str, Any], *, metric: str = "accuracy") -> dict[CandidateSize, float]:
    """One metric of every size out of what `evaluate()` returns (`eval_w0.5-d0.75_accuracy`).

    Args:
        metrics: Names to values; names that carry no size are passed over. Any prefix before it is accepted.
        metric: Which metric to read; of one of several evaluation sets with the name of the set, `matched_accuracy`.

    Raises:
        ValueError: If no size has that metric, or several evaluation sets have it.
    """
    parsed = [(one, float(value)) for name, value in metrics.items() if (one := parse_metric_name(name)) is not None]
    sized = [(one, value) for one, value in parsed if one.size not in SUMMARIES]
    splits = {one.split for one, _ in sized if one.metric == metric}
    if len(splits) > 1:
        possible = sorted(f"{split}_{metric}" for split in splits)
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


def read_stored_metrics(config: Any, *, metric: str = "accuracy") -> dict[CandidateSize, float]:
    """One metric of every size out of the table that a checkpoint stores in its configuration, `config.metrics`.

    Raises:
        ValueError: If nothing is stored, or no size has that metric.
    """
    stored = {name: own for name, own in (config.metrics or {}).items() if name != "teacher"}
    found = {parse_size(name): float(own[metric]) for name, own in stored.items() if metric in own}
    if not found:
        known = sorted({name for own in stored.values() for name in own}) or "no metrics"
        raise ValueError(
            f"The checkpoint stores no {metric!r} of any size. It stores {known}; give metric= one of them, or "
            "evaluate the model."
        )
    return found


def make_candidates(
    accuracy: Mapping[CandidateSize, float] | Callable[[CandidateSize], float],
    costs: Mapping[CandidateSize, Mapping[str, float]],
) -> tuple[Candidate, ...]:
    """A candidate for every size that has costs and an accuracy.

    Args:
        accuracy: Accuracy of a size, as a table such as `read_metrics` gives or as a function that measures it.
        costs: Costs of a size by name (`latency_ms`, `flops`, `parameters`, `memory_mb`). Other names are passed over.

    Raises:
        ValueError: If no size has both.
    """
    if isinstance(accuracy, Mapping):
        sizes = [size for size in costs if size in accuracy]
        if not sizes:
            raise ValueError(
                f"No size has both an accuracy and costs. Accuracies are of {_labels(accuracy)}, costs of "
                f"{_labels(costs)}; evaluate and profile the same sizes."
            )
        measured = {size: accuracy[size] for size in sizes}
    else:
        measured = {size: accuracy(size) for size in costs}
    return tuple(Candidate(size, measured[size], **_known_costs(costs[size])) for size in measured)


def _known_costs(costs: Mapping[str, Any]) -> dict[str, Any]:
    return {cost: costs[cost] for cost in COSTS if cost in costs}


def amount_of(candidate: Candidate, cost: str) -> float:
    """What a candidate costs.

    Raises:
        ValueError: If the cost is unknown or the candidate was not measured in it.
    """
    if cost not in COSTS:
        raise ValueError(f"cost={cost!r} is not a cost. Possible is one of {list(COSTS)}; give one of them.")
    amount = getattr(candidate, cost)
    if amount is None:
        have = [name for name in COSTS if getattr(candidate, name) is not None]
        raise ValueError(
            f"{candidate} was not measured in {cost}. It has {have or 'no costs'}; give one of these as cost=, or "
            f"measure {cost} of every candidate."
        )
    return amount


@dataclass(frozen=True)
class _Limits:
    """Budgets for costs and the least accuracy, which is that of a `quality`."""

    budgets: Mapping[str, float]
    floor: float | None
    quality: str

    def excess(self, candidate: Candidate) -> dict[str, float]:
        """By how much a candidate breaks each limit that it breaks, in the unit of that limit."""
        broken = {cost: getattr(candidate, cost) - budget for cost, budget in self.budgets.items()}
        if self.floor is not None:
            broken["max_accuracy_drop"] = self.floor - candidate.accuracy
        slack = 1e-9  # a drop such as 0.88 - 0.87 is not exactly 0.01
        return {name: over for name, over in broken.items() if over > (slack if name == "max_accuracy_drop" else 0)}

    def relative_excess(self, candidate: Candidate) -> float:
        """The largest excess as a share of the limit it breaks."""
        limits = {**self.budgets, "max_accuracy_drop": abs(self.floor or 0)}
        return max(over / max(limits[name], 1e-12) for name, over in self.excess(candidate).items())

    def rank(self, candidates: Sequence[Candidate]) -> Callable[[Candidate], tuple[float, float]]:
        """Sorting key, best first: by accuracy, or by cost where the accuracy is a budget."""
        cost = self.cheapness(candidates)
        if cost is None:
            return lambda one: (-one.accuracy, 0)
        if self.floor is None:
            return lambda one: (-one.accuracy, getattr(one, cost))
        return lambda one: (getattr(one, cost), -one.accuracy)

    def cheapness(self, candidates: Sequence[Candidate]) -> str | None:
        """The cost that tells the cheaper of two candidates."""
        for cost in (*self.budgets, *COSTS):
            if all(getattr(one, cost) is not None for one in candidates):
                return cost
        return None

    def describe(self) -> str:
        parts = [f"{cost} at most {format_cost(cost, budget)}" for cost, budget in self.budgets.items()]
        if self.floor is not None:
            sign = quality_sign(self.quality)
            parts.append(f"{self.quality} at {'least' if sign > 0 else 'most'} {sign * self.floor:.4g}")
        return " and ".join(parts)


def describe(candidate: Candidate, quality: str = "accuracy") -> str:
    """A candidate in words: its size, accuracy and every cost that was measured."""
    amounts = [format_cost(cost, getattr(candidate, cost)) for cost in COSTS if getattr(candidate, cost) is not None]
    achieved = f"{quality} {quality_sign(quality) * candidate.accuracy:.4g}"
    return ", ".join([f"{candidate} ({achieved}", *amounts]) + ")"


def _reason(fitting: Sequence[Candidate], candidates: Sequence[Candidate], limits: _Limits) -> str:
    cost = limits.cheapness(fitting)
    best = "most accurate" if limits.quality == "accuracy" else f"best (in {limits.quality})"
    what = best if limits.floor is None or cost is None else f"cheapest (in {cost})"
    choice = describe(fitting[0], limits.quality)
    text = f"{choice} is the {what} of {len(fitting)} sizes within {limits.describe()}."
    if len(fitting) == 1:
        text = f"{choice} is the only size within {limits.describe()}."
    unmeasured = sum(any(getattr(one, cost) is None for cost in limits.budgets) for one in candidates)
    return text + (f" {unmeasured} sizes were left out because a budgeted cost was not measured." if unmeasured else "")


def _nothing_fits(candidates: Sequence[Candidate], limits: _Limits) -> Recommendation:
    nearest = min(candidates, key=lambda one: (limits.relative_excess(one), -one.accuracy))
    missed_by = limits.excess(nearest)
    amounts = [
        f"{limits.quality} by {over:.3g}" if name == "max_accuracy_drop" else f"{name} by {format_cost(name, over)}"
        for name, over in missed_by.items()
    ]
    text = f"None of {len(candidates)} sizes is within {limits.describe()}. "
    alone = [name for name in (*limits.budgets, "accuracy") if _possible_alone(name, candidates, limits)]
    if len(alone) == len(limits.budgets) + (limits.floor is not None) > 1:
        text += "The budgets contradict each other: each one can be met, but not together. "
    text += f"Nearest is {describe(nearest, limits.quality)}, which misses {' and '.join(amounts)}."
    return Recommendation(None, text, nearest_miss=nearest, missed_by=missed_by)


def _possible_alone(name: str, candidates: Sequence[Candidate], limits: _Limits) -> bool:
    if name == "accuracy":
        alone = replace(limits, budgets={})
        return limits.floor is not None and any(not alone.excess(one) for one in candidates)
    alone = replace(limits, budgets={name: limits.budgets[name]}, floor=None)
    return any(not alone.excess(one) for one in candidates)


def check_budgets(
    budgets: Mapping[str, float], max_accuracy_drop: float | None = None, reference_accuracy: float | None = None
) -> None:
    """Whether `recommend` takes these budgets, to be known before anything is measured for them.

    Raises:
        ValueError: If there is none, or one is no possible amount.
    """
    if not budgets and max_accuracy_drop is None:
        raise ValueError(f"No budget was given. Possible are {[*COSTS, 'max_accuracy_drop']}; give at least one.")
    for cost, budget in budgets.items():
        if not _is_finite(budget) or budget <= 0:
            raise ValueError(f"{cost}={budget!r} is not a budget. Give a finite number above 0, in {COSTS[cost]}.")
    if max_accuracy_drop is not None and (not _is_finite(max_accuracy_drop) or max_accuracy_drop < 0):
        raise ValueError(
            f"max_accuracy_drop={max_accuracy_drop!r} is not a drop. Give a finite number of at least 0, in units of "
            "the accuracy, for instance 0.01."
        )
    if reference_accuracy is not None and max_accuracy_drop is None:
        raise ValueError(
            f"reference_accuracy={reference_accuracy!r} was given without a drop from it. Give max_accuracy_drop= too, "
            "or leave it out."
        )
    if reference_accuracy is not None and not _is_finite(reference_accuracy):
        raise ValueError(f"reference_accuracy={reference_accuracy!r} is not an accuracy. Give a finite number.")


def _unmeasured(candidates: Sequence[Candidate], budgets: Mapping[str, float]) -> str:
    measured = [cost for cost in COSTS if any(getattr(one, cost) is not None for one in candidates)]
    lacking = [cost for cost in budgets if cost not in measured] or list(budgets)
    return (
        f"There is a budget for {' and '.join(lacking)}, but no candidate was measured in "
        f"{'it' if len(lacking) == 1 else 'all of them'}. Measured are {measured or 'no costs'}; give budgets for "
        "these, or profile the sizes first."
    )


def _checked(candidates: Iterable[Candidate]) -> list[Candidate]:
    checked = list(candidates)
    if not checked:
        raise ValueError("No candidates were given. Give at least one, for instance from make_candidates.")
    return checked


def _is_finite(number: Any) -> bool:
    return isinstance(number, Real) and not isinstance(number, bool) and math.isfinite(number)


def _labels(sizes: Iterable[CandidateSize]) -> list[str]:
    return [size_label(size) for size in sizes]
