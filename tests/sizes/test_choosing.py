"""Choosing among candidates: values in, values out, no model."""

import math

import numpy as np
import pytest

from dynabert_hf import (
    LayerShape,
    SizeRecord,
    SubNetwork,
    grid,
    make_records,
    pareto_front,
    read_metrics,
    recommend,
)
from dynabert_hf.sizes.records import COSTS


def one(size, **numbers):
    """A record of what a size achieves and costs."""
    costs = {name: numbers.pop(name) for name in list(numbers) if name in COSTS}
    return SizeRecord(size, numbers, costs)


SMALL = one(SubNetwork(0.25, 0.5), accuracy=0.81, latency_ms=2.0, flops=10, parameters=100)
MIDDLE = one(SubNetwork(0.5, 0.75), accuracy=0.86, latency_ms=5.0, flops=40, parameters=300)
WASTEFUL = one(SubNetwork(0.5, 1.0), accuracy=0.85, latency_ms=7.0, flops=50, parameters=320)
LARGE = one(SubNetwork(1.0, 1.0), accuracy=0.88, latency_ms=16.0, flops=160, parameters=800)
ALL = (LARGE, SMALL, WASTEFUL, MIDDLE)


def test_the_front_holds_what_nothing_beats_in_order_of_cost():
    assert pareto_front(ALL) == (SMALL, MIDDLE, LARGE)


def test_the_front_equals_the_definition_on_random_candidates():
    rng = np.random.default_rng(0)
    sizes = grid(np.linspace(0.1, 1, 10), np.linspace(0.1, 1, 10))
    random = [
        one(s, accuracy=int(a), flops=int(f)) for s, (a, f) in zip(sizes, rng.integers(0, 20, (100, 2)), strict=True)
    ]

    def beats(a, b):
        as_good = a.metrics["accuracy"] >= b.metrics["accuracy"] and a.flops <= b.flops
        return as_good and (a.metrics["accuracy"] > b.metrics["accuracy"] or a.flops < b.flops)

    expected = {each for each in random if not any(beats(other, each) for other in random)}
    assert set(pareto_front(random)) == expected


def test_the_front_of_another_cost_may_differ():
    odd = one(SubNetwork(0.75, 0.5), accuracy=0.87, latency_ms=1.0, flops=170)
    assert pareto_front([*ALL, odd], cost="latency_ms") == (odd, LARGE)
    assert odd not in pareto_front([*ALL, odd], cost="flops")


def test_the_most_accurate_within_a_budget_is_recommended_with_its_runner_up():
    answer = recommend(ALL, latency_ms=8)
    assert (answer.choice, answer.runner_up) == (MIDDLE, WASTEFUL)
    assert "w0.5-d0.75" in answer.reason
    assert "with latency at most 8 ms" in answer.reason
    assert "most accurate of 3" in answer.reason


def test_a_budget_is_met_by_exactly_its_amount():
    assert recommend(ALL, latency_ms=16.0).choice == LARGE
    assert recommend(ALL, latency_ms=math.nextafter(16.0, 0)).choice == MIDDLE


def test_a_recommendation_is_on_the_front_whatever_the_budget():
    for budget in range(2, 20):
        assert recommend(ALL, latency_ms=budget).choice in pareto_front(ALL, cost="latency_ms")


def test_of_equally_accurate_candidates_the_cheaper_is_recommended():
    cheaper = one(SubNetwork(0.5, 0.5), accuracy=0.86, latency_ms=4.0, flops=30, parameters=300)
    assert recommend([MIDDLE, cheaper], latency_ms=8).choice == cheaper


def test_of_equally_cheap_candidates_within_a_drop_the_better_is_recommended():
    worse = one(SubNetwork(0.75, 0.5), accuracy=0.855, latency_ms=MIDDLE.latency_ms, flops=40, parameters=400)
    for given in ([worse, MIDDLE, LARGE], [LARGE, MIDDLE, worse]):
        answer = recommend(given, max_drop=0.05, latency_ms=100)
        assert (answer.choice, answer.runner_up) == (MIDDLE, worse)


def test_an_allowed_drop_is_spent_on_the_cheapest_size():
    assert recommend(ALL, max_drop=0.02).choice == MIDDLE
    assert recommend(ALL, max_drop=0.0).choice == LARGE
    almost = one(SubNetwork(0.75, 1.0), accuracy=0.82, latency_ms=9.0, flops=90, parameters=500)
    assert 0.88 - 0.06 > 0.82
    assert recommend([LARGE, almost], max_drop=0.06).choice == almost
    assert recommend(ALL, max_drop=0.02, reference=0.83).choice == SMALL


ERRORS = [one(each.size, mse=1 - each.metrics["accuracy"], flops=each.flops) for each in ALL]


def test_an_error_is_named_and_shown_as_it_is():
    reason = recommend(ERRORS, flops=45, max_drop=0.03, metric="mse").reason
    assert reason == "w0.5-d0.75 (mse 0.14, 40 FLOPs) is the only size with at most 45 FLOPs and mse at most 0.15."
    assert "(mse 0.12, 160 FLOPs) is the best (in mse) of 4" in recommend(ERRORS, flops=200, metric="mse").reason
    missed = recommend(ERRORS[1:2], max_drop=0, reference=0.12, metric="mse").reason
    assert "misses mse by 0.07" in missed
    f1 = [one(each.size, f1=each.metrics["accuracy"], flops=each.flops) for each in ALL]
    assert "f1 at least 0.85" in recommend(f1, max_drop=0.03, metric="f1").reason


def test_a_metric_is_chosen_by_in_its_direction():
    """The same numbers, named once as a share and once as an error, and once as what the caller says they are."""
    small, large = (dict.fromkeys(("accuracy", "brier", "hurt"), value) for value in (0.1, 0.3))
    both = [SizeRecord("w0.5-d1", small, {"flops": 1}), SizeRecord("w1-d1", large, {"flops": 2})]
    told = {"accuracy": {}, "brier": {}, "hurt": {"greater_is_better": False}}
    choices = {name: recommend(both, flops=9, metric=name, **given).choice.name for name, given in told.items()}
    assert choices == {"accuracy": "w1-d1", "brier": "w0.5-d1", "hurt": "w0.5-d1"}
    assert pareto_front(both, metric="brier") == (both[0],)
    assert pareto_front(both, metric="hurt", greater_is_better=True) == tuple(both)


@pytest.mark.parametrize("choose", [pareto_front, lambda records, **given: recommend(records, flops=9, **given)])
def test_a_direction_that_nobody_told_is_asked_for(choose):
    with pytest.raises(
        ValueError, match=r"direction of the metric 'hurt' is not known.*Give greater_is_better=True or"
    ):
        choose([SizeRecord("w1-d1", {"hurt": 0.1}, {"flops": 1})], metric="hurt")


@pytest.mark.parametrize(("metrics", "said"), [({"f1": 1}, r"It has \['f1'\]"), ({"accuracy": math.nan}, "=nan")])
def test_a_size_without_the_metric_is_refused(metrics, said):
    with pytest.raises(ValueError, match=said):
        recommend([*ALL, SizeRecord("w1-d1", metrics, {"flops": 1})], flops=9)


def test_every_given_budget_holds_at_once():
    answer = recommend(ALL, latency_ms=8, parameters=310, flops=60, max_drop=0.03)
    assert (answer.choice, answer.runner_up) == (MIDDLE, None)
    assert "only size" in answer.reason


def test_where_nothing_fits_the_nearest_miss_says_by_how_much():
    answer = recommend(ALL, latency_ms=1.5)
    assert answer.choice is None
    assert answer.nearest_miss == SMALL
    assert answer.missed_by == {"latency_ms": 0.5}
    assert "misses latency by 0.5 ms" in answer.reason
    assert "contradict" not in answer.reason


def test_budgets_that_contradict_are_named_as_such():
    answer = recommend(ALL, latency_ms=4.9, max_drop=0.02)
    assert answer.choice is None
    assert "contradict" in answer.reason
    assert answer.nearest_miss == MIDDLE
    assert answer.missed_by == {"latency_ms": pytest.approx(0.1)}


def test_candidates_without_a_budgeted_cost_are_left_out_and_counted():
    unmeasured = one(SubNetwork(0.75, 1.0), accuracy=0.99)
    answer = recommend([*ALL, unmeasured], latency_ms=20)
    assert answer.choice == LARGE
    assert "1 size was left out" in answer.reason


def test_the_cheapest_is_told_in_the_cost_that_chose_it():
    """Of all, and not only of those that are good enough: that every size was counted, and only some were timed."""
    quick = SizeRecord("w1-d1", {"accuracy": 0.9}, {"latency_ms": 5, "flops": 10})
    small = SizeRecord("w0.5-d1", {"accuracy": 0.895}, {"latency_ms": 10, "flops": 5})
    poor = SizeRecord("w0.25-d1", {"accuracy": 0.5}, {"flops": 3})
    answer = recommend([quick, small, poor], max_drop=0.02)
    assert answer.choice == small
    assert "is the cheapest (in FLOPs) of 2 sizes" in answer.reason
    poor = SizeRecord("w0.25-d1", {"accuracy": 0.5}, {"parameters": 3})
    answer = recommend([quick, small, poor], max_drop=0.02)  # without a cost of all, none is cheap
    assert answer.choice == quick
    assert "is the most accurate of 2 sizes" in answer.reason


@pytest.mark.parametrize("budget", [-1, 0, math.nan, math.inf, "8", True])
def test_a_budget_that_is_no_amount_is_refused(budget):
    with pytest.raises(ValueError, match=r"latency_ms=.* is not a budget. Give a finite number above 0, in ms"):
        recommend(ALL, latency_ms=budget)


@pytest.mark.parametrize("drop", [-0.01, math.nan, math.inf])
def test_a_drop_that_is_no_drop_is_refused(drop):
    with pytest.raises(ValueError, match=r"max_drop=.* is not a drop"):
        recommend(ALL, max_drop=drop)


def test_a_budget_for_a_cost_that_nobody_measured_is_refused():
    with pytest.raises(ValueError, match=r"budget for memory_mb.*Measured are \['latency_ms', 'flops', 'parameters'\]"):
        recommend(ALL, memory_mb=100)


def test_no_candidates_no_budget_and_a_reference_without_a_drop_are_refused():
    with pytest.raises(ValueError, match="No records were given"):
        recommend([], latency_ms=1)
    with pytest.raises(ValueError, match="No records were given"):
        pareto_front([])
    with pytest.raises(ValueError, match="No budget was given"):
        recommend(ALL)
    with pytest.raises(ValueError, match="without a drop from it"):
        recommend(ALL, latency_ms=3, reference=0.9)
    with pytest.raises(ValueError, match=r"reference=nan is no value of a metric"):
        recommend(ALL, max_drop=0.1, reference=math.nan)


def test_an_unknown_or_unmeasured_cost_of_the_front_is_refused():
    with pytest.raises(ValueError, match=r"cost='speed' is unknown. Possible is one of 'latency_ms'"):
        pareto_front(ALL, cost="speed")
    with pytest.raises(ValueError, match=r"not measured in memory_mb. It has \['latency_ms', 'flops', 'parameters'\]"):
        pareto_front(ALL, cost="memory_mb")


def test_evaluation_metrics_become_accuracies():
    metrics = {
        "eval_w0.25-d0.5_accuracy": 0.81,
        "eval_w1-d1_accuracy": 0.88,
        "eval_w1-d1_loss": 0.3,
        "eval_w1-d1_report": {"positive": {"f1": 0.9}},
        "eval_w1-d1_auc": None,
        "eval_mean_accuracy": 0.85,
        "epoch": 3.0,
    }
    assert read_metrics(metrics) == {SubNetwork(0.25, 0.5): 0.81, SubNetwork(): 0.88}
    assert read_metrics(metrics, metric="loss") == {SubNetwork(): 0.3}
    with pytest.raises(ValueError, match=r"the metric 'f1'. Possible is one of \['accuracy', 'loss'\]"):
        read_metrics(metrics, metric="f1")


def test_records_come_from_a_table_or_from_any_callable():
    layers = (LayerShape(0, 2, 20), LayerShape(3, 1, 48))
    costs = {SubNetwork(): {"flops": 7, "latency_ms_p95": 3.0}, layers: {"parameters": 5}}
    assert make_records({SubNetwork(): 0.9, SubNetwork(0.5): 0.8}, costs) == (
        SizeRecord(SubNetwork(), {"accuracy": 0.9}, {"flops": 7, "latency_ms_p95": 3.0}),
    )
    stored = {"teacher": {"mse": 0.1}, "w1-d1": {"mse": 0.2, "report": {}}, "l0h2n20-l3h1n48": {"mse": 0.3}}
    assert [each.metrics for each in make_records(stored, costs)] == [{"mse": 0.2}, {"mse": 0.3}]
    from_callable = make_records(lambda size: len(str(size)) / 100, costs, metric="length")
    assert [each.size for each in from_callable] == [SubNetwork(), layers]
    assert from_callable[0].metrics == {"length": 0.05}
    with pytest.raises(ValueError, match=r"Metrics are of \['w0.5-d1'\], costs of \['w1-d1', '2 layers"):
        make_records({SubNetwork(0.5): 0.8}, costs)
