"""Costs that are measured: of every size, runtime and number format, and what cannot be measured is refused."""

import csv
import json
import os
import re
import sys
import time
from contextlib import nullcontext

import pytest
import torch
from helpers.backbones import make_backbone
from helpers.tiny import make_batch, make_model
from torch.utils.flop_counter import FlopCounterMode

from dynabert_hf import (
    LayerShape,
    ProfileTable,
    SizeRecord,
    SubNetwork,
    SubNetworkError,
    calibrate,
    count_flops,
    measure_latency,
    profile,
    recommend,
)
from dynabert_hf.sizes import profiling
from dynabert_hf.sizes.profiling import event_ms, time_in_turns
from dynabert_hf.sizes.runtimes import DTYPES, RUNTIMES, peak_allocation, prepared, why_not

SIZES = ["w0.25-d0.5", "w1-d1"]
IRREGULAR = (LayerShape(0, 4, 48), LayerShape(2, 1, 7), LayerShape(5, 3, 20))


COUNTS = {"parameters": 10, "embedding_parameters": 4, "encoder_parameters": 5, "flops": 7}
SETTING = {"runtime": "torch", "dtype": "float32", "device": "cpu", "batch_size": 1, "sequence_length": 8}
TABLE = ProfileTable(
    (
        SizeRecord(
            SubNetwork(0.5, 0.5),
            {},
            {**COUNTS, "latency_ms": 1.5, "latency_spread_ms": 0.25, "memory_mb": 0.5},
            {**SETTING, "threads": 1, "runs": 3},
        ),
        SizeRecord(
            IRREGULAR,
            {},
            {**COUNTS, "latency_ms": 2.5, "latency_spread_ms": 0.0},
            {**SETTING, "dtype": "int8", "runtime": "onnxruntime"},
        ),
    ),
    {"torch int8": "no"},
    {"processor": "a processor"},
)


def test_latency_is_measured_for_every_size_in_the_order_given():
    sizes = ["w1-d1", "w0.25-d0.5", "w1-d1"]
    profiles = measure_latency(make_model(), sizes, batch_size=2, sequence_length=5, rounds=3)
    assert [profile.name for profile in profiles] == sizes
    assert all(each.latency_ms > 0 and each.costs["latency_spread_ms"] >= 0 for each in profiles)
    for each in profiles:
        assert each.setting == {
            "runs": 3,
            "batch_size": 2,
            "sequence_length": 5,
            "threads": torch.get_num_threads(),
            "dtype": "float32",
            "runtime": "torch",
            "device": "cpu",
        }
    assert profiles[0].flops == count_flops(make_model(), "w1-d1", batch_size=2, sequence_length=5)


def test_latency_is_measured_for_every_head(family, head):
    model = make_model(family, head, stock={"num_labels": 2})
    inputs = profiling._inputs(model, 3, 5)
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs)
    assert counter.get_total_flops() == count_flops(model, batch_size=3, sequence_length=5)
    (profile,) = measure_latency(model, ["w0.5-d0.5"], sequence_length=5, rounds=1, dtype="bfloat16")
    assert profile.setting["dtype"] == "bfloat16"


def test_a_head_that_takes_the_mean_of_choices_by_their_mask_is_measured():
    model = make_backbone("ModernBert", "ForMultipleChoice", classifier_pooling="mean")
    choices = make_batch(choices=1)["input_ids"]
    with prepared(model, ["w0.5-d0.5"], runtime="torch", dtype="float32") as [runner]:
        measured = runner(choices).logits
    with torch.no_grad(), model.subnetwork("w0.5-d0.5"):
        expected = model(input_ids=choices, attention_mask=torch.ones_like(choices)).logits
    torch.testing.assert_close(measured, expected, rtol=0, atol=1e-4)  # the rounding of a large residual
    [record] = measure_latency(model, ["w0.5-d0.5"], sequence_length=9, rounds=1)
    assert record.latency_ms > 0


def test_memory_holds_the_weights_and_the_states_of_a_pass():
    model = make_model()
    small, large = measure_latency(model, ["w0.25-d0.5", "w1-d1"], sequence_length=7, rounds=1)
    longer = measure_latency(model, ["w1-d1"], batch_size=32, sequence_length=18, rounds=1)[0]
    weights = large.parameters * 4 / 2**20
    assert small.memory_mb < large.memory_mb < longer.memory_mb
    assert weights < large.memory_mb < weights + 0.1
    # Intermediate states of one layer, (batch, seq, neurons) in float32, are alive at least twice at a time.
    assert longer.memory_mb - weights > 2 * 32 * 18 * 48 * 4 / 2**20


@pytest.mark.parametrize("chosen", [None, "3"])
def test_measuring_memory_leaves_the_environment_as_it_was(monkeypatch, chosen):
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    if chosen is not None:
        monkeypatch.setenv("KINETO_LOG_LEVEL", chosen)
    assert peak_allocation(lambda: torch.ones(256), torch.device("cpu")) >= 1024
    assert os.environ.get("KINETO_LOG_LEVEL") == chosen


def test_a_profile_covers_every_size_and_setting_and_says_what_it_left_out(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # elsewhere no bar is drawn
    model = make_model().set_active(width=0.5)
    table = profile(model, batch_sizes=(1, 2), sequence_lengths=(5, 9), dtypes=("float32", "int8"), rounds=1, warmup=0)
    assert [(one.name, one.setting["batch_size"], one.setting["sequence_length"]) for one in table] == [
        (str(size), batch, length) for batch in (1, 2) for length in (5, 9) for size in model.config.subnetworks
    ]
    assert list(table.left_out) == ["torch int8"]
    assert "deprecated" in table.left_out["torch int8"]
    assert table.machine["torch"] == torch.__version__
    assert str(model.active) == "w0.5-d1"
    bar = capsys.readouterr().err
    assert "torch float32, 2 x 9 tokens: 100%" in bar


def test_one_value_of_a_setting_may_be_given_alone():
    given = {"batch_sizes": 2, "sequence_lengths": 5, "runtimes": "torch", "dtypes": "float32"}
    table = profile(make_model(), SIZES, **given, rounds=1, progress=False)
    setting = {"batch_size": 2, "sequence_length": 5, "runtime": "torch", "dtype": "float32"}
    assert [one.name for one in table.select(**setting)] == [one.name for one in table] == SIZES


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_onnx_runtime_is_measured_in_float32_and_int8(dtype, traced_once):
    pytest.importorskip("onnxruntime")
    model, sizes = make_model(stock={"num_hidden_layers": 2, "vocab_size": 400_000}), ["w0.5-d0.5"]
    profiles = measure_latency(
        model, sizes, batch_size=2, sequence_length=5, runtime="onnxruntime", dtype=dtype, rounds=2
    )
    assert [one.name for one in profiles] == sizes
    assert {(one.setting["runtime"], one.setting["dtype"]) for one in profiles} == {("onnxruntime", dtype)}
    assert all(one.latency_ms > 0 for one in profiles)
    if sys.platform == "linux":
        weights = profiles[0].parameters * {"float32": 4, "int8": 1}[dtype] / 2**20
        assert weights < profiles[0].memory_mb < weights + 50  # also the rows of tokens that the texts do not have


def test_sizes_run_in_the_number_format_that_was_asked_for(traced_once):
    pytest.importorskip("onnxruntime")
    model = make_model(stock={"num_hidden_layers": 2})
    for dtype in ("float32", "bfloat16"):
        with prepared(model, [SubNetwork(0.5, 0.5)], runtime="torch", dtype=dtype) as [runner]:
            assert runner.model.dtype == getattr(torch, dtype)
    for dtype in ("float32", "int8"):
        with prepared(model, [SubNetwork(0.5, 0.5)], runtime="onnxruntime", dtype=dtype) as [runner]:
            assert (b"MatMulInteger" in runner.path.read_bytes()) == (dtype == "int8")


def test_runtimes_run_the_sizes_that_they_are_said_to(traced_once):
    pytest.importorskip("onnxruntime")
    model = make_model(stock={"num_hidden_layers": 2})
    inputs = torch.full((2, 6), 7)
    with (
        prepared(model, [SubNetwork(0.5, 0.5)], runtime="torch", dtype="float32") as (in_torch,),
        prepared(model, [SubNetwork(0.5, 0.5)], runtime="onnxruntime", dtype="float32") as (in_onnx,),
        model.subnetwork("w0.5-d0.5"),
    ):
        expected = model(inputs).logits
        assert torch.equal(in_torch(inputs).logits, expected)
        torch.testing.assert_close(torch.tensor(in_onnx(inputs)["logits"]), expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_compiled_sizes_are_really_compiled_past_the_limit_of_recompilations(monkeypatch):
    compiled = []

    def backend(graph, inputs):
        compiled.append(len(list(graph.graph.nodes)))
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **kwargs: compile_(model, backend=backend, **kwargs))
    table = profile(make_model(), runtimes=("torch.compile",), sequence_lengths=(5, 7), rounds=1)
    assert len(table) == 24
    assert len(compiled) >= 24
    torch._dynamo.reset()


def test_calls_take_turns_and_the_first_rounds_do_not_count():
    made, rounds = [], []

    def slow():
        made.append("slow")
        time.sleep(0.02)

    times = time_in_turns([slow, lambda: made.append("fast")], rounds=2, warmup=1, step=lambda: rounds.append(1))
    assert made == ["slow", "fast"] * 3
    assert [len(taken) for taken in times] == [2, 2]
    assert min(times[0]) >= 20
    assert len(rounds) == 3


def test_a_latency_is_the_median_of_its_passes_and_its_spread_lies_between_the_quartiles(monkeypatch):
    taken = iter([90.0, 4.0, 1.0, 3.0, 20.0, 2.0])  # the first does not count
    monkeypatch.setattr(profiling, "wall_ms", lambda call: next(taken))
    [record] = measure_latency(make_model(), ["w0.25-d0.5"], sequence_length=5, rounds=5, warmup=1)
    assert (record.latency_ms, record.costs["latency_spread_ms"]) == (3.0, 2.0)


def test_a_pass_on_a_card_is_timed_by_its_events(monkeypatch):
    """From an event before the call to one after it, once that has happened; the card is told of all in this order."""
    told = []

    class Event:
        def __init__(self, *, enable_timing):
            assert enable_timing

        def record(self):
            told.append("record")

        def synchronize(self):
            told.append("wait")

        def elapsed_time(self, end):
            return 1.25 if end is not self else 0.0

    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "Event", Event)
    assert event_ms(lambda: told.append("call")) == 1.25
    assert told == ["record", "call", "record", "wait"]
    assert time_in_turns([lambda: None] * 2, rounds=2, timer=event_ms) == [[1.25, 1.25]] * 2


def test_a_table_is_the_same_after_json_and_tells_csv_and_markdown(tmp_path):
    assert ProfileTable.from_json(TABLE.to_json()) == TABLE
    for suffix in ("json", "csv", "md"):
        TABLE.save(tmp_path / f"table.{suffix}")
    assert json.loads((tmp_path / "table.json").read_text())["machine"] == {"processor": "a processor"}
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["size"] for row in rows] == ["w0.5-d0.5", "l0h4n48-l2h1n7-l5h3n20"]
    assert (rows[0]["latency_ms"], rows[1]["memory_mb"]) == ("1.5", "")
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2] == "| w0.5-d0.5 | 0.0 M | 7e-09 | torch | float32 | cpu | 1 | 8 | 1.5 | 0.25 | 0.5 |"
    assert len({line.count("|") for line in lines}) == 1
    with pytest.raises(ValueError, match=r"no name for a table. Possible suffixes are \['.json', '.csv', '.md'\]"):
        TABLE.save(tmp_path / "table.xls")
    with pytest.raises(ValueError, match="is not a table of profiles"):
        ProfileTable.from_json('{"rows": []}')


def test_a_table_becomes_a_data_frame():
    frame = TABLE.to_pandas()
    assert list(frame["latency_ms"]) == [1.5, 2.5]
    assert list(frame["size"]) == [one.name for one in TABLE]


def test_one_setting_of_a_table_is_chosen_from():
    both = (
        r"of several settings, \{'runtime': \['torch', 'onnxruntime'\], 'dtype': \['float32', 'int8'\]\}, whose costs"
    )
    with pytest.raises(ValueError, match=both):
        TABLE.with_metrics({"w0.5-d0.5": 0.8})
    (one,) = TABLE.select(runtime="torch").with_metrics({"w0.5-d0.5": {"accuracy": 0.8, "f1": 0.7}, "w1-d1": {}})
    assert (one.metrics, one.latency_ms, one.memory_mb, one.flops) == ({"accuracy": 0.8, "f1": 0.7}, 1.5, 0.5, 7)
    (other,) = TABLE.select(dtype="int8").with_metrics(lambda size: len(size) / 10, metric="f1")
    assert (other.size, other.metrics, other.memory_mb) == (IRREGULAR, {"f1": 0.3}, None)
    assert recommend([one], latency_ms=2).choice == one
    with pytest.raises(ValueError, match=r"No size was measured under \{'batch_size': 3\}. Possible are"):
        TABLE.select(batch_size=3)
    with pytest.raises(ValueError, match=r"\['runs'\] are no fields of a setting"):
        TABLE.select(runs=3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"rounds": 0}, "rounds=0 is not possible"),
        ({"warmup": -1}, "warmup=-1 is not possible. Give a whole number of at least 0"),
        ({"batch_size": 1.5}, "batch_size=1.5 is not possible. Give a whole number"),
        ({"sequence_length": 21}, "longer than the 20 tokens that fit"),
        ({"runtime": "tpu"}, r"runtime='tpu' is unknown. Possible is one of 'torch', 'torch.compile', 'onnxruntime'"),
        ({"dtype": "int4"}, r"dtype='int4' is unknown. Possible is one of 'float32'"),
        ({"dtype": "int8"}, r"Nothing is left to measure: \{'torch int8': '.*onnxruntime runs int8"),
        (
            {"device": "cuda:7"},
            r"device='cuda:7' is not in this machine, .* Possible is one of \['cpu'.*give one of these",
        ),
        ({"device": "gpu"}, r"device='gpu' is not in this machine"),
        ({"runtime": "onnxruntime", "dtype": "bfloat16"}, "Nothing is left to measure.*float32, or int8"),
    ],
)
def test_an_impossible_setting_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        measure_latency(make_model(), **{"sequence_length": 5, **setting})


@pytest.mark.parametrize("sizes", [[], "w0.5-d1", SubNetwork(0.5, 1.0)])
def test_what_is_no_list_of_sizes_is_refused(sizes):
    message = rf"sizes={re.escape(repr(sizes))} is no list of sizes\. Possible are lists such as \['w1-d1'\]"
    with pytest.raises(SubNetworkError, match=message):
        measure_latency(make_model(), sizes, sequence_length=5)
    with pytest.raises(SubNetworkError, match=message):
        calibrate(make_model(), None, sizes)


def test_every_runtime_and_number_format_either_runs_or_says_why_not():
    for runtime, dtypes in RUNTIMES.items():
        assert {dtype for dtype in DTYPES if why_not(runtime, dtype) is None} == set(dtypes)
    with (
        pytest.raises(ValueError, match=r"torch cannot run int8: .*It runs \['float32'"),
        prepared(make_model(), [SubNetwork()], runtime="torch", dtype="int8"),
    ):
        pass


def test_a_missing_extra_is_named_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr("dynabert_hf.messages.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "dynabert_hf\[onnx\]"'):
        measure_latency(make_model(), SIZES, runtime="onnxruntime", sequence_length=5)
