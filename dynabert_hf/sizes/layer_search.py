"""The best heads and neurons of every layer for a budget, which no one width and depth describe.

A search begins with shapes that an exact dynamic programme makes of the importance of heads and neurons, and with even
ones, and goes on from the best of them by small changes that stay within the budget. Every shape is judged by how far
its predictions are from those of the full size, on validation text. What is returned was measured, and not estimated.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from tqdm.auto import tqdm

from ..data.labelled_text import NEVER, LabelledText, check_labelled, joined
from ..families import check_elastic
from ..messages import check_counts
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import AnySize, LayerShape, SubNetwork, size_name
from ..task_metrics import IGNORED, correlation, problem_type
from ..tasks import task_of
from .calibration import predict_sizes
from .choosing import pareto_front
from .evaluation import measured_fields, with_sizes
from .layer_costs import LayerCosts, count_costs, measure_costs
from .metrics import is_number
from .profiling import measure_latency
from .records import SizeRecord, as_arguments, format_cost
from .shapes import ShapeSpace, possible_counts

_POPULATION = 12
"""Shapes that a search goes on from."""

_FINALISTS = 5
"""The best shapes of a latency budget, which are measured, since the table may be wrong about one."""


class HasImportance(Protocol):
    """What `measure_importance` returns: `(layers, heads)` and `(layers, neurons)`."""

    @property
    def heads(self) -> torch.Tensor: ...
    @property
    def neurons(self) -> torch.Tensor: ...


@dataclass(frozen=True)
class SearchResult:
    """What a search found, with metrics measured on the whole text.

    Attributes:
        found: For each budget the best shape within it, from the smallest budget to the largest. Of a latency budget
            it is the best that keeps the budget when it is measured, give or take the spread of its own times; where
            none of the best does, the quickest of them, which `missed` names. A trained size that is the best has its
            own name.
        grid: The sizes that the network was trained for, and cost at most the largest budget.
        cost: What the budgets are of.
        budgets: The budgets, in the order of `found`.
        divergences: For the text of each size how far its predictions are from those of the full size, on the rows that
            shapes were compared on, at most `max_rows`.
        costs: The table that told what shapes cost.
        num_evaluated: How many shapes were run.
        seconds: How long the search took.
    """

    found: tuple[SizeRecord, ...]
    grid: tuple[SizeRecord, ...]
    cost: str
    budgets: tuple[float, ...]
    divergences: Mapping[str, float]
    costs: LayerCosts
    num_evaluated: int
    seconds: float

    @property
    def missed(self) -> dict[float, float]:
        """By budget, by how much its shape is above it, where that is more than noise."""
        told = zip(self.budgets, self.found, strict=True)
        return {budget: one.costs[self.cost] - budget for budget, one in told if not _is_kept(one, self.cost, budget)}

    def front(self, metric: str = "accuracy", **told: Any) -> tuple[SizeRecord, ...]:
        """Of what was found and the grid, the sizes that no other beats; takes what `pareto_front` takes."""
        return pareto_front((*self.found, *self.grid), metric=metric, cost=self.cost, **told)

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The metrics of all that was measured, by the text of its size."""
        return {one.name: dict(one.metrics) for one in (*self.grid, *self.found)}

    def store(self, model: ElasticModelMixin) -> None:
        """Name what was found in the configuration of the model, in place, with the metrics of all that was measured.

        From then on it is among `model.config.subnetworks`, and travels with the checkpoint.
        """
        config = model.config
        config.sizes = with_sizes(config.sizes, (one.name for one in self.found)) or None
        fields = measured_fields(vars(config), self.metrics, "the text that search_layers was given")
        for name, value in fields.items():
            setattr(config, name, value or None)


def search_layers(
    model: ElasticModelMixin,
    text: LabelledText,
    importance: HasImportance | Callable[[], HasImportance],
    *,
    flops: float | Sequence[float] | None = None,
    parameters: float | Sequence[float] | None = None,
    latency_ms: float | Sequence[float] | None = None,
    min_heads: int = 1,
    min_neurons: int = 1,
    neuron_step: int | None = None,
    max_rows: int = 512,
    evaluations: int = 200,
    time_limit_s: float = 900.0,
    seed: int = 0,
    progress: bool = True,
    **setting: Any,
) -> SearchResult:
    """The best heads and neurons of every layer, and the layers to keep, for one or more budgets.

    Args:
        model: The elastic model, rewired or trained; it stays as it is. Without training afterwards only shapes near
            those that it was trained for are any good: see `docs/search.md`.
        text: Validation text, which the model was not trained on.
        importance: What `measure_importance` returned for this model, or what measures it, called once all the rest is
            known to be possible.
        flops: The most floating-point operations of a forward pass, or several such budgets.
        parameters: Instead the most parameters.
        latency_ms: Instead the longest time of a forward pass in milliseconds, by a table measured on this machine.
        min_heads: Heads that a kept layer keeps at least.
        min_neurons: Neurons that it keeps at least.
        neuron_step: By how many neurons shapes differ; None: as many as go with one head.
        max_rows: Rows of the text that shapes are compared on at most, in whole batches, of which one is the least.
        evaluations: Shapes to run for each budget at most. With counted costs, a run that no time limit ends depends on
            the seed alone.
        time_limit_s: Seconds that running them may take in all.
        seed: Of the draws.
        progress: Whether to show a progress bar.
        **setting: What the cost is of: `batch_size`, `sequence_length` and, of latency, what else `measure_latency`
            takes.

    Raises:
        ValueError: If there is not one kind of budget, one is no amount above 0 or less than the smallest shape costs,
            the importance is of another network, a number is not possible, or the text keeps only a part of the logits.
        SubNetworkError: If the model was cut by extraction.
        TypeError: If the text is no `LabelledText`.

    Example:
        >>> importance = measure_importance(model, dev.labelled_batches())  # doctest: +SKIP
        >>> result = search_layers(model, dev, importance, flops=(2e8, 4e8))  # doctest: +SKIP
        >>> model.set_active(result.found[0].size)  # doctest: +SKIP
    """
    started = time.perf_counter()
    check_elastic(model)
    check_judged(text)
    cost, budgets = one_kind_of_budgets(flops=flops, parameters=parameters, latency_ms=latency_ms)
    check_counts(max_rows=max_rows, evaluations=evaluations)
    if not time_limit_s >= 0:
        raise ValueError(f"time_limit_s={time_limit_s!r} is no time. Give a number of seconds, at least 0.")
    floors: Any = {"min_heads": min_heads, "min_neurons": min_neurons, "neuron_step": neuron_step}
    heads, neurons = possible_counts(model.config, **floors)
    costs = measure_costs(model, **setting) if cost == "latency_ms" else count_costs(model, cost, **setting)
    _check_reach((LayerShape(0, heads[0], neurons[0]),), costs, budgets[0])
    space = ShapeSpace.of(model.config, importance() if callable(importance) else importance, **floors)
    judge = _Judge(model, text, max_rows)
    until = time.perf_counter() + time_limit_s
    finalists = _finalists(space, costs, budgets, judge, evaluations, until=until, seed=seed, progress=progress)
    shape_of = model.config.resolve
    grid = [size for size in model.config.subnetworks if costs.of(shape_of(size)) <= budgets[-1]]
    trained = {shape_of(size): size for size in grid}
    candidates = [[trained.get(shape, shape) for shape in ranked] for ranked in finalists]
    records = _with_costs(model, [*chain(*candidates), *grid], cost, setting)
    chosen = [
        _best_kept([records[size] for size in ranked], cost, budget)
        for ranked, budget in zip(candidates, budgets, strict=True)
    ]
    found, others = (_with_metrics(model, text, part) for part in (chosen, [records[size] for size in grid]))
    return SearchResult(
        found=found,
        grid=others,
        cost=cost,
        budgets=budgets,
        divergences={one.name: judge(shape_of(one.size)) for one in (*found, *others)},
        costs=costs,
        num_evaluated=len(judge.cache),
        seconds=time.perf_counter() - started,
    )


def check_judged(text: LabelledText) -> None:
    """Check that predictions on a text tell how far a shape is from the full size.

    Raises:
        TypeError: If it is no `LabelledText`.
        ValueError: If it keeps only a part of the logits, as for masked language models.
    """
    check_labelled(text)
    if text.preprocess_logits is not None:
        raise ValueError(
            "A search compares all logits, and this text keeps only a part of them (preprocess_logits), as for masked "
            "words. Possible are models that give labels or values to a text or its words, or answers to questions. "
            "Search with one of these, or choose a trained size by recommend."
        )


def one_kind_of_budgets(**given: float | Sequence[float] | None) -> tuple[str, tuple[float, ...]]:
    """The one kind of budget that was given, and the amounts, each once, from small to large.

    Raises:
        ValueError: If none or several were given, or one is no amount above 0.
    """
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise ValueError(
            f"{as_arguments(named) or 'No budgets'} were given. Possible is one of {as_arguments(given)}; give one "
            "amount of it, or a list of amounts."
        )
    ((cost, value),) = named.items()
    amounts: Any = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not amounts or not all(map(is_number, amounts)) or not all(0 < each < math.inf for each in amounts):
        raise ValueError(f"{cost}={value!r} is not a budget. Give finite numbers above 0.")
    return cost, tuple(sorted(set(map(float, amounts))))


def _check_reach(least: tuple[LayerShape, ...], costs: LayerCosts, budget: float) -> None:
    cost, over = costs.cost, costs.of(least) - budget
    if over > 0:
        raise ValueError(
            f"{cost}={budget:g} is out of reach: the smallest shape, {size_name(least)}, costs "
            f"{format_cost(cost, costs.of(least))}, {format_cost(cost, over)} more. Give a larger budget, or a "
            "smaller model."
        )


class _Judge:
    """How far the predictions of a shape are from those of the full size, run once for each shape.

    Of tokens those with a label count, and of places for an answer those that are no padding.
    """

    def __init__(self, model: ElasticModelMixin, text: LabelledText, max_rows: int):
        batches, self.model = text.batches, model
        most = max(1, max_rows // max(len(batch["input_ids"]) for batch in batches))
        every = math.ceil(len(batches) / most)  # of all lengths, since batches are sorted by length
        self.text = replace(text, batches=batches[::every], order=None)
        self.predicts = task_of(model).predicts
        self.kind = problem_type(model.config) if self.predicts == "text" else "single_label_classification"
        if self.predicts == "token":  # other pieces of words than the first were never trained
            labelled = [*text.labelled_batches()][::every]
            self.counts = joined([(batch["labels"] != IGNORED).int().numpy() for batch in labelled]) == 1
        elif self.predicts == "span":
            self.counts = joined([batch["attention_mask"].int().numpy() for batch in self.text.batches]) == 1
        self.expected = self._predict(model.config.resolve(SubNetwork()))
        self.cache: dict[tuple[LayerShape, ...], float] = {}

    def __call__(self, shape: tuple[LayerShape, ...]) -> float:
        if shape not in self.cache:
            self.cache[shape] = divergence(self.expected, self._predict(shape), kind=self.kind)
        return self.cache[shape]

    def _predict(self, shape: tuple[LayerShape, ...]) -> np.ndarray:
        logits = np.array(predict_sizes(self.model, [shape], self.text)[0])
        if self.predicts == "token":
            logits[~self.counts] = IGNORED
        elif self.predicts == "span":
            logits[:, ~self.counts] = NEVER
        return logits


def divergence(expected: np.ndarray, given: np.ndarray, *, kind: str = "single_label_classification") -> float:
    """How far logits are from those expected: the mean Kullback-Leibler divergence.

    Of values it is the share of the variance of those expected that a rising line through those given leaves, in the
    mean of the columns. The squared error would prefer a shape that gives the same value for every row.

    Args:
        expected: Logits `(rows, labels)`, or `(rows, seq, labels)` in which rows of -100 do not count.
        given: As many others.
        kind: What they predict, as a `problem_type`.
    """
    if kind == "regression":
        columns = zip(*(np.asarray(each, np.float64).T for each in (given, expected)), strict=True)
        return float(np.mean([1 - max(0.0, correlation(*each)) ** 2 for each in columns]))
    target, ours = (torch.as_tensor(np.asarray(each)).double() for each in (expected, given))
    if kind == "multi_label_classification":  # a yes or no each
        target, ours = (torch.stack([each, torch.zeros_like(each)], -1) for each in (target, ours))
    told = (target.softmax(-1) * (target.log_softmax(-1) - ours.log_softmax(-1))).sum(-1)
    return float(told[~(target == -100).all(-1)].mean())


def _finalists(
    space: ShapeSpace,
    costs: LayerCosts,
    budgets: Sequence[float],
    judge: _Judge,
    evaluations: int,
    *,
    until: float,
    seed: int,
    progress: bool,
) -> list[list[tuple[LayerShape, ...]]]:
    """For each budget the best shape, of latency the best few; each search goes on from the best of those before.

    Each budget has an equal share of the time that the ones before left.
    """
    found: list[list[tuple[LayerShape, ...]]] = []
    with tqdm(total=evaluations * len(budgets), desc="Searching shapes", disable=None if progress else True) as bar:
        for number, budget in enumerate(budgets):
            now = time.perf_counter()
            share = now + max(0.0, until - now) / (len(budgets) - number)
            starts = [*space.starts(costs, budget), *(ranked[0] for ranked in found)]
            draw = random.Random(f"{seed}-{number}")
            change = partial(space.changed, costs=costs, budget=budget, draw=draw)
            ranked = _evolve(starts, change, judge, evaluations=evaluations, until=share, draw=draw, bar=bar)
            found.append(ranked[: _FINALISTS if costs.cost == "latency_ms" else 1])
    return found


def _evolve(
    starts: Iterable[tuple[LayerShape, ...]],
    change: Callable[[tuple[LayerShape, ...]], tuple[LayerShape, ...]],
    judge: Callable[[tuple[LayerShape, ...]], float],
    *,
    evaluations: int,
    until: float,
    draw: random.Random,
    bar: Any,
) -> list[tuple[LayerShape, ...]]:
    """The best shapes of some beginnings and what small changes made of them, the best first.

    Of two members that are drawn the better one is changed; what comes of it takes the place of the worst that it
    beats. The first start is always judged, also where the time is over.
    """
    population: list[tuple[LayerShape, ...]] = []
    spent, tries = 0, 0
    waiting = list(dict.fromkeys(starts))[::-1]
    seen: set[tuple[LayerShape, ...]] = set()
    while spent < evaluations and tries < 20 * evaluations:
        tries += 1
        if population and time.perf_counter() > until:
            break
        shape = waiting.pop() if waiting else change(min(draw.choices(population, k=2), key=judge))
        if shape in seen:
            continue
        seen.add(shape)
        judge(shape)
        spent += 1
        bar.update()
        population = sorted([*population, shape], key=judge)[:_POPULATION]
    bar.update(evaluations - spent)
    return population


def _with_costs(
    model: ElasticModelMixin, sizes: Iterable[AnySize], cost: str, setting: Mapping[str, Any]
) -> dict[AnySize, SizeRecord]:
    """Counted costs and, where it is budgeted, measured latency of sizes, each once."""
    once = list(dict.fromkeys(sizes))
    if cost == "latency_ms":
        return dict(zip(once, measure_latency(model, once, **setting), strict=True))
    shape = {name: setting[name] for name in ("batch_size", "sequence_length") if name in setting}
    return {size: SizeRecord.counted(model, size, **shape) for size in once}


def _is_kept(record: SizeRecord, cost: str, budget: float) -> bool:
    """Whether a size is within a budget; a measured time, a median, may be above by the spread of its times."""
    noise = record.costs.get("latency_spread_ms", 0.0) if cost == "latency_ms" else 0.0
    return record.costs[cost] <= budget + noise


def _best_kept(ranked: Sequence[SizeRecord], cost: str, budget: float) -> SizeRecord:
    """The first of some records within a budget, or else the cheapest."""
    kept = (record for record in ranked if _is_kept(record, cost, budget))
    return next(kept, min(ranked, key=lambda record: record.costs[cost]))


def _with_metrics(
    model: ElasticModelMixin, text: LabelledText, records: Sequence[SizeRecord]
) -> tuple[SizeRecord, ...]:
    """Records with metrics on the whole text."""
    logits = predict_sizes(model, [record.size for record in records], text)
    return tuple(replace(one, metrics=text.score(said)) for one, said in zip(records, logits, strict=True))
