"""The benchmark of GPUs, in its smoke form on a CPU."""

import importlib
import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that calls the benchmark with arguments, and gives what it prints."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    for name in ("gpu", "training", "card_compiling", "card_time"):  # its modules, whatever else goes by such names
        monkeypatch.delitem(sys.modules, name, raising=False)
    benchmark = importlib.import_module("gpu")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, arguments)])
        benchmark.main()
        return capsys.readouterr().out

    return call


def test_jobs_are_kept_and_not_done_twice(run, tmp_path):
    output = tmp_path / "results" / "gpu.json"
    smoke = ("--output", output, "--smoke")
    run(*smoke, "--only", "sandwich eager")
    before = json.loads(output.read_text())
    step = before["jobs"]["step sandwich eager_and_parts"]
    assert step["sizes"] == ["w0.5-d0.5", "w0.5-d1", "w1-d0.5", "w1-d1"]
    assert step["step_over_parts"] == pytest.approx(step["step_ms"] / step["parts_ms"], rel=1e-6)  # of one round
    assert 0 < step["share_card_computes"] <= 1
    assert set(step["optimizer_ms"]) == {"for-loop", "foreach", "fused"}
    run(*smoke, "--only", "inference 1 eager")
    after = json.loads(output.read_text())
    assert after["jobs"].items() >= before["jobs"].items()
    rows = after["jobs"]["inference 1 eager"]
    assert list(rows) == step["sizes"]
    for row in rows.values():
        assert row["stock_sequences_per_second"] == pytest.approx(1e3 / row["stock_ms"])
        assert row["elastic_over_stock"] > 0
    assert "- inference 1 eager w1-d1: elastic_ms " in run("--output", output, "--table")
    assert "Time is up before 'inference 2 eager'" in run(*smoke, "--part", "inference", "--minutes", 0)


@pytest.mark.slow
def test_the_study_is_kept_when_it_lacks_nothing(run, tmp_path):
    output = tmp_path / "gpu.json"
    options = ("--output", output, "--smoke", "--part", "study", "--source", f"unused={tmp_path}")
    run(*options, "--minutes", 0.001)
    assert not output.exists()
    run(*options)
    tables = json.loads(output.read_text())["jobs"]["study"]["tables"]
    assert tables.startswith("## All sizes, on validation and labelled test")
    assert "| distilled alone | w0.5-d0.5 |" in tables
    assert run(*options).count("study") == 1  # in the table, and not trained again


@pytest.mark.slow
def test_a_compiled_step_has_the_gradients_of_an_eager_one(run, tmp_path):
    output = tmp_path / "gpu.json"
    run("--output", output, "--smoke", "--only", "sandwich compiled")
    compiled = json.loads(output.read_text())["jobs"]["step sandwich compiled"]
    assert compiled["gradients_differ_by"] < 1e-3  # the same operations, in the same order on a CPU
    assert compiled["graphs"] > 0


def test_what_was_measured_is_printed_without_a_card(run):
    lines = run("--table").splitlines()
    assert "NVIDIA H100" in lines[0]
    assert "- step sandwich eager_and_parts : step_ms 194.3, " in "\n".join(lines)


def test_a_smoke_run_leaves_out_the_tests(run, tmp_path):
    output = tmp_path / "gpu.json"
    assert "Time is up before 'step sandwich eager_and_parts'" in run("--output", output, "--smoke", "--minutes", 0)
    assert "Time is up before 'tests'" in run("--output", output, "--smoke", "--minutes", 0, "--part", "tests")


def test_without_a_card_it_says_what_is_possible(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run()
    assert "sees no CUDA device. Run it where there is one, or give --smoke" in capsys.readouterr().err
