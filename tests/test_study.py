"""The study of `benchmarks/study.py`: its configuration, its statistics, its report; and a tiny study as a whole."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_model
from datasets import Dataset

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from evidence.jobs import Job, Study  # noqa: E402
from evidence.scoring import right_answers, score  # noqa: E402
from evidence.statistics import mean_and_deviation, paired_bootstrap  # noqa: E402


def test_a_job_reads_back_from_its_text():
    job = Job.parse("distilled/w0.5-d0.5/2e-4:1500:1")
    assert (job.name, job.num_train, job.seed) == ("distilled/w0.5-d0.5/2e-4", "1500", 1)
    assert Job.parse(str(job)) == job


def test_an_arm_fills_in_those_it_is_like(tmp_path):
    arms = {
        "base": {"dropout": 0.0, "arguments": {"strategy": "grid", "learning_rate": 1e-4}, "stages": []},
        "faster": {"like": "base", "arguments": {"learning_rate": 4e-4}},
    }
    (tmp_path / "study.json").write_text(json.dumps({"arms": arms}))
    arm = Study(tmp_path / "study.json", tmp_path, tmp_path).arm("faster")
    assert arm == {"dropout": 0.0, "arguments": {"strategy": "grid", "learning_rate": 4e-4}, "stages": []}


def test_a_lock_is_held_by_one_worker_at_a_time(tmp_path):
    study = Study(tmp_path / "study.json", tmp_path, tmp_path)
    with study.lock("job", wait=False) as first, study.lock("job", wait=False) as second:
        assert (first, second) == (True, False)
    with study.lock("job", wait=False) as again:
        assert again


@pytest.fixture
def tiny_split():
    """A tiny model, ragged sentences with labels, and what pads them to a batch."""
    random = np.random.default_rng(0)
    rows = [
        {"input_ids": random.integers(5, 99, length).tolist(), "label": int(random.integers(3))}
        for length in random.integers(2, 12, 150)
    ]

    def collate(batch):
        ids = [torch.tensor(row["input_ids"]) for row in batch]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        return {"input_ids": padded, "attention_mask": (padded > 0).long()}

    return make_model(), Dataset.from_list(rows), collate


def test_scores_are_those_of_sentences_one_by_one(tiny_split):
    model, split, collate = tiny_split
    found = score(model, split, collate, model.config.subnetworks)
    for size, summary in found.items():
        with model.subnetwork(size), torch.no_grad():
            logits = torch.cat([model(input_ids=torch.tensor([row["input_ids"]])).logits for row in split])
        labels = torch.tensor([row["label"] for row in split])
        assert summary["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5)
        right = logits.argmax(-1) == labels
        assert summary["accuracy"] == pytest.approx(float(right.float().mean()))
        assert right_answers(summary, len(split)).tolist() == right.tolist()


def test_the_bootstrap_finds_a_difference_that_is_there():
    random = np.random.default_rng(0)
    theirs = random.random((2, 1000)) < 0.8
    ours = theirs | (random.random((2, 1000)) < 0.2)
    found = paired_bootstrap(ours, theirs, num_resamples=500)
    assert found.points == pytest.approx(100 * (ours.mean() - theirs.mean()))
    assert 0 < found.low < found.points < found.high
    assert found.p < 0.01
    assert paired_bootstrap(theirs, ours, num_resamples=500).points == -found.points


def test_the_bootstrap_sees_none_between_equals():
    answers = np.random.default_rng(0).random((2, 1000)) < 0.8
    found = paired_bootstrap(answers, answers, num_resamples=100)
    assert (found.points, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_the_interval_of_the_bootstrap_is_that_of_theory():
    random = np.random.default_rng(1)
    ours, theirs = random.random((2, 1, 4000)) < 0.75
    found = paired_bootstrap(ours, theirs, num_resamples=4000)
    deviation = 100 * np.std(ours[0].astype(float) - theirs[0]) / np.sqrt(4000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.06)  # of 4000 resamples


def test_unpaired_answers_are_refused():
    with pytest.raises(ValueError, match=r"must have one shape; given are \(1, 3\) and \(2, 3\)"):
        paired_bootstrap(np.ones((1, 3)), np.ones((2, 3)))


def test_means_over_seeds_tell_their_deviation():
    assert mean_and_deviation([0.8, 0.81]) == "0.805 ± 0.007"
    assert mean_and_deviation([0.8]) == "0.800"


@pytest.mark.slow
def test_a_tiny_study_runs_resumes_and_reports():
    command = [sys.executable, str(BENCHMARKS / "study.py")]
    for name in ("run", "run", "test", "status"):
        done = subprocess.run([*command, name, "--smoke"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    assert " -" not in done.stdout
