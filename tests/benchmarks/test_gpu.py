"""The benchmark of GPUs, in its smoke form on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(output, *arguments):
    command = [sys.executable, str(BENCHMARK), "--output", str(output), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


def test_jobs_are_kept_and_not_done_twice(tmp_path):
    output = tmp_path / "results" / "gpu.json"
    first = run(output, "--smoke", "--only", "sandwich")
    assert first.returncode == 0, first.stderr[-3000:]
    before = json.loads(output.read_text())
    step, compiled = (before["jobs"][f"step sandwich {kind}"] for kind in ("eager_and_parts", "compiled"))
    assert step["sizes"] == ["w0.5-d0.5", "w0.5-d1", "w1-d0.5", "w1-d1"]
    assert step["step_over_parts"] == pytest.approx(step["step_ms"] / step["parts_ms"], rel=1e-6)  # of one round
    assert 0 < step["share_card_computes"] <= 1
    assert set(step["optimizer_ms"]) == {"for-loop", "foreach", "fused"}
    assert compiled["gradients_differ_by"] < 1e-3  # the same operations, in the same order on a CPU
    assert compiled["graphs"] > 0
    assert run(output, "--smoke", "--only", "inference 1 eager").returncode == 0
    after = json.loads(output.read_text())
    assert after["jobs"].items() >= before["jobs"].items()
    rows = after["jobs"]["inference 1 eager"]
    assert list(rows) == step["sizes"]
    for row in rows.values():
        assert row["stock_sequences_per_second"] == pytest.approx(1e3 / row["stock_ms"])
        assert row["elastic_over_stock"] > 0
    told = run(output, "--smoke", "--table").stdout
    assert "- inference 1 eager w1-d1: elastic_ms " in told
    late = run(output, "--smoke", "--part", "inference", "--minutes", "0")
    assert "Time is up before 'inference 2 eager'" in late.stdout


def test_without_a_card_it_says_what_is_possible(tmp_path):
    refused = run(tmp_path / "gpu.json")
    assert refused.returncode == 2
    assert "sees no CUDA device. Run it where there is one, or give --smoke" in refused.stderr
