"""The study of `benchmarks/study.py`: its configuration, its statistics, its report; and a tiny study as a whole."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.tiny import make_model
from transformers import BertConfig, BertForSequenceClassification

from dynabert_hf import DynaBertForSequenceClassification

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from evidence.beyond import attention_loss  # noqa: E402
from evidence.dynabert import least_missed_layers  # noqa: E402
from evidence.jobs import Job, Study  # noqa: E402
from evidence.scoring import right_answers, score  # noqa: E402
from evidence.statistics import mean_and_deviation, paired_bootstrap  # noqa: E402
from evidence.tables import Evidence, tuning_table  # noqa: E402


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


def test_learning_rates_are_compared_by_the_seeds_that_they_share(tmp_path):
    (tmp_path / "study.json").write_text(
        json.dumps({"report": {"num_train": "9"}, "rivals": {"kinds": {"labels": {}, "first": {}}}})
    )
    study = Study(tmp_path / "study.json", tmp_path, tmp_path)
    for rate, seed, accuracy in (("1e-4", 0, 0.8), ("1e-4", 1, 0.6), ("2e-4", 0, 0.7)):
        summary = {"validation": {"model": {"accuracy": accuracy, "loss": 1.0}}}
        study.record(Job(f"labels/w0.5-d1/{rate}", "9", seed), summary)
    assert Evidence(study).rival("labels", "w0.5-d1", "9") == "labels/w0.5-d1/1e-4"
    assert Evidence(study).rival("first", "w0.5-d1", "9") is None
    assert "**0.8000** | 0.7000" in tuning_table(Evidence(study), "9")


def test_attention_is_compared_as_distributions_over_real_queries():
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    scores = torch.randn(2, 2, 4, 3, 3).masked_fill(mask[:, None, None] == 0, -torch.inf)  # ours and the teacher's
    ours, theirs = scores.softmax(-1)
    apart = [
        float((theirs[row, head, query] * (theirs[row, head, query] / ours[row, head, query]).log())[real].sum())
        for row, head in np.ndindex(2, 4)
        for real in [mask[row].bool()]
        for query in range(int(mask[row].sum()))
    ]
    assert float(attention_loss([ours, theirs], [theirs, theirs], mask)) == pytest.approx(np.mean(apart) / 2, rel=1e-5)


def test_layers_that_do_nothing_are_left_out_first(tiny_split):
    config = BertConfig(vocab_size=99, hidden_size=24, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32)
    torch.manual_seed(0)
    teacher = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, parameter in teacher.named_parameters():
            if "LayerNorm" not in name:
                parameter.mul_(20 if "classifier" in name else 6)
        for layer in (teacher.bert.encoder.layer[index] for index in (0, 2)):
            for linear in (layer.attention.output.dense, layer.output.dense):
                linear.weight.zero_()
                linear.bias.zero_()
    split = tiny_split[1]
    model = DynaBertForSequenceClassification.from_backbone(teacher)
    ids = split["input_ids"]
    with torch.no_grad():
        answers = [int(model(input_ids=torch.tensor([row])).logits.argmax()) for row in ids]
    labelled = Dataset.from_dict({"input_ids": ids, "label": answers})
    assert least_missed_layers(teacher, labelled)["0.5"] == [1, 3]


@pytest.mark.slow
def test_a_tiny_study_runs_resumes_and_reports():
    command = [sys.executable, str(BENCHMARKS / "study.py")]
    for name in ("run", "run", "test", "status"):
        done = subprocess.run([*command, name, "--smoke"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    assert " -" not in done.stdout
