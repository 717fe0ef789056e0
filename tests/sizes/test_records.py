"""One record for a size with numbers, whatever describes the size."""

import json
import math

import numpy as np
import pytest
import torch
from helpers.texts import make_text
from helpers.tiny import make_model

from dynabert_hf import (
    Cascade,
    Importance,
    LatencyController,
    LayerShape,
    ProfileTable,
    RecipeResult,
    ServingTarget,
    SizeRecord,
    SubNetwork,
    SubNetworkError,
    count_flops,
    count_parameters,
    make_records,
    measure_latency,
    pareto_front,
    recommend,
    search_layers,
)
from dynabert_hf.sizes.plots import plot_grid, plot_pareto
from dynabert_hf.sizes.records import format_cost

NUMPY = {"metrics": {"f1": np.float32(0.5)}, "costs": {"flops": np.int64(7)}, "setting": {"batch_size": np.int64(2)}}
IRREGULAR = (LayerShape(0, 4, 48), LayerShape(2, 1, 7), LayerShape(5, 3, 20))


def test_numbers_of_numpy_become_pythons_which_files_hold():
    record = SizeRecord("w1-d1", **NUMPY)
    assert record == SizeRecord("w1-d1", {"f1": 0.5}, {"flops": 7}, {"batch_size": 2})
    assert ProfileTable.from_json(ProfileTable((record,)).to_json()).rows() == ProfileTable((record,)).rows()
    model = make_model()
    RecipeResult(model, (record,), {}).record()
    assert model.config.from_dict(json.loads(model.config.to_json_string())).metrics == {"w1-d1": {"f1": 0.5}}


def test_numbers_of_numpy_are_amounts_and_counts_too():
    model = make_model()
    assert ServingTarget(np.float32(20), np.int64(2)) == ServingTarget(20, 2)
    assert Cascade(model, "w0.25-d0.5", "w1-d1", threshold=np.float32(0.5)).threshold == 0.5
    assert measure_latency(model, ["w1-d1"], sequence_length=np.int64(5), rounds=np.int64(1))[0].setting["runs"] == 1
    text, importance = make_text(model), Importance(torch.rand(6, 4), torch.rand(6, 48))
    searched = {"min_heads": np.int64(2), "evaluations": np.int64(1), "sequence_length": 7, "progress": False}
    assert search_layers(model, text, importance, flops=np.float32(2e5), **searched).budgets == (2e5,)


@pytest.mark.parametrize(
    ("size", "name", "label"),
    [
        (SubNetwork(0.5, 0.75), "w0.5-d0.75", "w0.5-d0.75"),
        (IRREGULAR, "l0h4n48-l2h1n7-l5h3n20", "3 layers (8 heads, 75 neurons)"),
    ],
)
def test_a_size_is_given_as_a_value_or_as_its_text(size, name, label):
    record = SizeRecord(size, {"f1": 0.5}, {"flops": 7, "memory_mb": None})
    assert (record.name, str(record), record.size) == (name, label, size)
    assert SizeRecord(name, {"f1": 0.5}, {"flops": 7}) == record
    assert hash(record) == hash(SizeRecord(list(size) if isinstance(size, tuple) else size))
    assert (record.flops, record.memory_mb, record.latency_ms, record.parameters) == (7, None, None, None)


@pytest.mark.parametrize("size", ["w0.5-d0.5", IRREGULAR])
def test_what_can_be_counted_is_counted(size):
    model = make_model()
    record = SizeRecord.counted(model, size, {"f1": 0.5}, batch_size=2, sequence_length=9)
    assert record.parameters == count_parameters(model, size).total == model.extract(size).num_parameters()
    assert record.flops == count_flops(model, size, batch_size=2, sequence_length=9)
    assert record.setting == {"batch_size": 2, "sequence_length": 9}
    assert record.metrics == {"f1": 0.5}


@pytest.mark.parametrize(("cost", "amount"), [("flops", -1), ("latency_ms", math.inf), ("parameters", "7")])
def test_an_impossible_cost_is_refused(cost, amount):
    with pytest.raises(ValueError, match=rf"w1-d1 has {cost}=.* It must be a finite number of at least 0"):
        SizeRecord("w1-d1", {}, {cost: amount})


def test_what_is_no_metric_or_no_size_is_refused():
    with pytest.raises(ValueError, match=r"w1-d1 has report=\{\}. A metric is a number; leave out what is not one"):
        SizeRecord("w1-d1", {"report": {}})
    with pytest.raises(SubNetworkError, match="does not name a sub-network"):
        SizeRecord("large")


def test_what_is_given_to_a_record_stays_its_own():
    metrics = {"f1": 0.5}
    record = SizeRecord("w1-d1", metrics)
    metrics["f1"] = 0.1
    assert record.metrics == {"f1": 0.5}


SETTING = {
    "runtime": "torch",
    "dtype": "float32",
    "batch_size": 1,
    "sequence_length": 8,
    "device": "cpu",
    "threads": 1,
}
OTHER = {
    "runtime": "torch.compile",
    "dtype": "int8",
    "batch_size": 8,
    "sequence_length": 9,
    "device": "cuda:0",
    "threads": 4,
}


def measured(setting, factor):
    """Two sizes under a setting, which makes both slower by a factor."""
    times = {"w0.5-d0.5": (0.8, 4.0), "w1-d1": (0.9, 10.0)}
    return [SizeRecord(size, {"accuracy": a}, {"latency_ms": factor * ms}, setting) for size, (a, ms) in times.items()]


@pytest.mark.parametrize("name", list(SETTING))
def test_costs_of_several_settings_are_never_mixed(name, tmp_path):
    one, other = measured(SETTING, 1), measured({**SETTING, name: OTHER[name]}, 3)
    both = ProfileTable((*other, *one))
    asks = [
        lambda: both.with_metrics({"w1-d1": 0.9}),
        lambda: make_records({"w1-d1": 0.9}, both),
        lambda: make_records(lambda size: pytest.fail("evaluated before"), both),
        lambda: recommend(both, latency_ms=11),
        lambda: pareto_front(both, cost="latency_ms"),
        lambda: plot_pareto(both, tmp_path / "sizes.png", cost="latency_ms"),
        lambda: plot_grid(both, tmp_path / "grid.png", metric="latency_ms"),
        lambda: LatencyController(make_model(), both, ServingTarget(p95_ms=20)),
    ]
    option = "--" + name.replace("_", "-")
    for ask in asks:
        with pytest.raises(ValueError, match=rf"of several settings, {{'{name}': .*select\({name}=.*{option}\."):
            ask()
    assert list(both.select(**{name: SETTING[name]})) == one
    assert recommend(both.select(**{name: SETTING[name]}), latency_ms=11).choice == one[1]
    assert recommend(both.select(**{name: OTHER[name]}), latency_ms=20).choice == other[0]


def test_what_a_record_does_not_tell_of_its_setting_may_be_any():
    told = measured(SETTING, 1)
    counted = SizeRecord("w1-d0.5", {"accuracy": 0.85}, {"latency_ms": 5.0}, {"batch_size": 1, "runs": 9})
    assert recommend([*told, counted, SizeRecord("w0.5-d1", {"accuracy": 0.1})], latency_ms=6).choice == counted


def test_a_model_without_metrics_is_told_to_be_evaluated():
    table = ProfileTable((SizeRecord("w1-d1", {}, {"flops": 7}),))
    with pytest.raises(ValueError, match=r"No size has both metrics and costs\. Metrics are of \[\], .*; evaluate and"):
        table.with_metrics(make_model().config.metrics)


def test_a_size_that_is_given_twice_is_refused():
    once, twice = {"w0.5-d1": 1.0}, {"w0.5-d1": 1.0, SubNetwork(0.5, 1.0): 2.0}
    with pytest.raises(SubNetworkError, match=r"metrics has 'w0\.5-d1' and SubNetwork\(.*\), which are the same"):
        make_records(twice, {"w0.5-d1": {"flops": 7}})
    with pytest.raises(SubNetworkError, match=r"costs has 'w0\.5-d1' and 'w0\.50-d1\.0', which are the same"):
        make_records(once, {"w0.5-d1": {"flops": 7}, "w0.50-d1.0": {"flops": 8}})


@pytest.mark.parametrize(
    ("cost", "amount", "text"),
    [
        ("latency_ms", 12.34, "12.3 ms"),
        ("latency_ms", 999.7, "1000 ms"),
        ("memory_mb", 1234.5, "1234 MB"),
        ("flops", 999.4, "999 FLOPs"),
        ("flops", 999_700_000, "1 GFLOPs"),
        ("flops", 4.51e15, "4510 TFLOPs"),
        ("parameters", 999_400, "999 k parameters"),
        ("parameters", 999_700, "1 M parameters"),
        ("parameters", 1.25e12, "1.25 T parameters"),
    ],
)
def test_an_amount_has_no_power_of_ten(cost, amount, text):
    assert format_cost(cost, amount) == text


def test_a_table_for_people_has_no_power_of_ten():
    table = ProfileTable((SizeRecord("w1-d1", {}, {"latency_ms": 12345.6, "memory_mb": 20480.0, "flops": 1.43e12}),))
    cells = table.to_markdown().splitlines()[-1].split(" | ")
    assert [cells[2], cells[8], cells[10].removesuffix(" |")] == ["1430", "12346", "20480"]
    assert cells[1] == ""  # parameters that nobody counted are not none
