"""The benchmark of a training step runs through at a tiny shape, and its step ends as a step of training does."""

import pytest
import torch

from benchmarks import training

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32, "vocab_size": 40}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setitem(training.SHAPES, "tiny", TINY)
    batch = {
        "input_ids": torch.randint(1, 40, (2, 8)),
        "attention_mask": torch.ones(2, 8),
        "labels": torch.tensor([0, 1]),
    }
    monkeypatch.setattr(training, "random_batch", lambda batch_size, length: dict(batch))
    return str(tmp_path)


def test_every_kind_of_step_is_measured(folder):
    found = training.measure("tiny", 2, 8, rounds=1, folder=folder)
    for stage, strategy in training.CASES:
        case = found[f"{stage}, {strategy}"]
        assert case["step_over_limit"] == pytest.approx(case["step_cpu_seconds"] / case["limit_cpu_seconds"])
        assert case["peak_over_plain"] == pytest.approx(case["peak_mb"] / found["plain_peak_mb"])


def test_a_step_waits_for_its_losses(folder):
    bench = training.Bench("tiny", 2, 8, folder)
    bench.step(training.CASES[0])
    bench.elastic.classifier.bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        bench.step(training.CASES[0])
