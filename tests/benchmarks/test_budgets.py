"""What a budget buys: the cascade and the tables by value, and a tiny comparison as a whole."""

import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from benchmarks import budgets
from benchmarks.glue_study.data import Rows
from benchmarks.glue_study.jobs import Job, Results
from benchmarks.glue_study.metrics import METRICS
from benchmarks.glue_study.plan import PLAN
from benchmarks.glue_study.statistics import bootstrap
from benchmarks.glue_study.tables import View
from dynabert_hf import DynaBertForSequenceClassification

ROOT = Path(__file__).parents[2]

LABELS = np.array([1, 0, 1, 1])


def test_a_cascade_asks_again_where_the_small_size_is_least_sure():
    small = np.array([[0, 9], [1, 0], [5, 0], [0, 2]], np.float32)
    logits = budgets.cascade(small, 10 + small, share=0.5)
    np.testing.assert_array_equal(logits - small, [[0, 0], [10, 10], [0, 0], [10, 10]])


def test_widths_between_the_trained_ones_are_those_of_the_other_heads():
    assert budgets.widths(12, trained=True) == [0.25, 0.5, 0.75]
    assert budgets.widths(12, trained=False) == [4 / 12, 5 / 12, 7 / 12, 8 / 12]
    assert budgets.names([0.5]) == ["w0.5-d0.5", "w0.5-d1"]


@pytest.fixture
def view(tmp_path):
    study = budgets.BudgetStudy(PLAN, tmp_path, Results(tmp_path), {}, {"sst2": 10})
    return View(study, ["sst2", "mrpc"], ["minilm"], [0, 1])


def record(view, seed, name, answers, **numbers):
    """A part of SST-2 from what each size answers."""
    sizes = {size: {"metric": float(np.mean(own == LABELS)), "divergence": 0.5} for size, own in answers.items()}
    arrays = {f"{size}.prediction": own for size, own in answers.items()}
    job = Job("sst2", "minilm", "choice-10", seed, name)
    view.study.results.record(job, {"sizes": sizes, **numbers}, {**arrays, "labels": LABELS})


def right(count):
    """Answers of which so many are right."""
    return np.where(np.arange(4) < count, LABELS, 1 - LABELS)


def cells(table, start):
    return next(line for line in table.splitlines() if line.startswith(start)).strip("| ").split(" | ")


def test_the_table_of_budgets_is_of_the_seeds_that_have_both(view):
    trained = {"1/8": "w0.25-d0.5", "1/4": "w0.25-d1", "3/8": "w0.25-d1"}
    for seed, counts in ((0, (2, 3, 1)), (1, (4, 1, 4))):
        grid, found, cascade = map(right, counts)
        record(view, seed, "teacher", {"model": grid})
        record(view, seed, "grid", dict.fromkeys(budgets.BUDGETS, grid) | {"w1-d1": right(3)} | {
            f"cascade-{budget}": cascade for budget in budgets.BUDGETS}, trained=trained)  # fmt: skip
        if seed == 0:
            record(view, seed, "found", dict.fromkeys(budgets.BUDGETS, found))
    row = cells(budgets.of_budgets(view), "| sst2 | 1/4 |")
    assert row[2:5] == ["`w0.25-d1`", "50.0", "75.0"]
    assert row[5].startswith("+25.0 [")
    assert row[6] == "25.0"
    record(view, 1, "found", {budget: right(1) for budget in budgets.BUDGETS})
    table = budgets.of_budgets(view)
    row = cells(table, "| sst2 | 1/4 |")
    assert row[3:5] == ["75.0 (50.0, 100.0)", "50.0 (75.0, 25.0)"]
    assert row[5].startswith("-25.0 [")  # (75 - 50 + 25 - 100) / 2
    assert row[7].startswith("-12.5 [")  # (25 - 50 + 100 - 100) / 2
    assert cells(table, "| sst2 | mean |")[5].startswith("-25.0 [")
    assert cells(table, "| sst2 | 1 |")[2:4] == ["`w1-d1`", "75.0 (75.0, 75.0)"]


class Chosen(budgets.Run):
    """A part whose training gives a model that answers what is said beforehand."""

    def train(self, **sizes):
        self.study.asked.append(sizes)
        return None, {"seconds": 0}


@pytest.fixture
def run(view, monkeypatch):
    """A function that makes a part whose sizes, by name, have so many right answers of four on the rows it predicts."""
    config = BertConfig(hidden_size=24, num_attention_heads=4, num_hidden_layers=6, intermediate_size=48, vocab_size=9)
    model = DynaBertForSequenceClassification.from_backbone(BertForSequenceClassification(config))
    rows = Rows(None, None, 2, LABELS)
    monkeypatch.setattr(Chosen, "choice", rows)
    monkeypatch.setattr(Chosen, "rows", rows)
    monkeypatch.setattr(Chosen, "collator", None)
    monkeypatch.setattr(Chosen, "rewired", lambda self: model)
    monkeypatch.setattr(Chosen, "scored_logits", lambda self, logits, cost: (logits, cost))
    object.__setattr__(view.study, "asked", [])

    def of(seed, name, counts):
        def predict(model, rows, collator, sizes):
            return {size: np.eye(2, dtype=np.float32)[right(counts[size])] for size in sizes}

        monkeypatch.setattr(budgets, "predict", predict)
        return Chosen(view.study, Job("sst2", "minilm", "choice-10", seed, name))

    return of


def test_a_training_takes_own_arguments_before_the_common_ones(view, monkeypatch):
    monkeypatch.setattr(budgets, "train_dynabert", lambda teacher, **given: SimpleNamespace(model=(teacher, given)))
    monkeypatch.setattr(budgets.Run, "rows", Rows(LABELS, None, 2, LABELS))
    monkeypatch.setattr(budgets.Run, "tokenizer", "tokenizer")
    monkeypatch.setattr(budgets.Run, "model_of", lambda self, name: name)
    run = budgets.Run(view.study, Job("sst2", "minilm", "choice-10", 1, "choice"))
    (teacher, given), _ = run.train(sizes=["w0.5-d1"], num_train_epochs=1)
    assert (teacher, given["train_dataset"] is LABELS, given["sizes"]) == ("teacher", True, ["w0.5-d1"])
    assert (given["num_train_epochs"], given["learning_rate"], given["seed"]) == (1, budgets.RATE, 1)
    assert run.train()[0][1]["num_train_epochs"] == PLAN.tasks["sst2"].epochs


def test_held_out_rows_choose_the_best_size_of_the_grid_that_a_budget_can_buy(run):
    counts = {"w0.25-d0.5": 3, "w0.25-d0.75": 1, "w0.25-d1": 2, "w0.5-d0.5": 1, "w0.5-d0.75": 4, "w0.75-d0.5": 0}
    part = run(0, "choice", counts)
    numbers, _ = budgets.choose(part)
    assert numbers["sizes"] == {"1/8": "w0.25-d0.5", "1/4": "w0.25-d0.5", "3/8": "w0.5-d0.75"}
    assert numbers["metrics"] == {size: count / 4 for size, count in counts.items()}
    assert part.study.asked == [{"sizes": list(counts), "strategy": "grid", "num_train_epochs": 1}]


def test_the_grid_is_trained_in_a_list_of_what_the_first_seed_chose(run):
    sizes = {"1/8": "w0.25-d0.5", "1/4": "w0.25-d1", "3/8": "w0.25-d1"}
    part = run(1, "grid", {"w0.25-d0.5": 0, "w0.25-d1": 2, "w1-d1": 4})
    part.study.results.record(Job("sst2", "minilm", "choice-10", 0, "choice"), {"sizes": sizes}, {})
    logits, numbers = budgets.train_grid(part)
    assert part.study.asked == [{"sizes": ["w0.25-d0.5", "w0.25-d1"], "strategy": "grid"}]
    assert numbers["trained"] == sizes
    score = {name: (own.argmax(1) == LABELS).sum() for name, own in logits.items()}
    # 3/8 - 1/8 of the four rows, one, is asked again, and 1/4 - 1/8 of them is none
    assert score == {"1/8": 0, "1/4": 2, "3/8": 2, "w1-d1": 4, "cascade-1/4": 0, "cascade-3/8": 1}


def test_the_table_of_widths_compares_sizes_with_themselves(view):
    record(view, 0, "teacher", {"model": right(4)})
    usual, between = ("w0.5-d1", "w0.75-d1"), ("w0.3-d1", "w0.6-d1")
    twelve = {usual[0]: right(2), usual[1]: right(4), between[0]: right(1), between[1]: right(2)}
    twelve |= {f"repaired-{between[0]}": right(2), f"repaired-{between[1]}": right(4)}
    twelve |= {"w0.5-d0.5": right(0)}
    record(view, 0, "twelve", twelve)
    record(view, 0, "sampled", dict(zip((*usual, *between, "w0.5-d0.5"), map(right, (3, 1, 3, 4, 1)), strict=True)))
    table = budgets.of_widths(view)
    start = "| sst2 | between | 1 |"
    assert cells(table, f"{start} twelve sizes |")[4:] == ["37.5", "", "0.500"]
    row = cells(table, f"{start} twelve sizes, repaired |")
    assert row[4] == "75.0"
    assert row[5].startswith("+37.5 [")
    assert cells(table, f"{start} all widths |")[4] == "87.5"
    row = cells(table, "| sst2 | usual | 1 | all widths |")
    assert row[4] == "50.0"
    assert row[5].startswith("-25.0 [")
    assert cells(table, "| sst2 | usual | 0.5 | all widths |")[4] == "25.0"


def test_the_page_shows_the_numbers_of_the_files(monkeypatch):
    """All but the intervals, whose resamples take minutes."""
    monkeypatch.setattr(budgets, "bootstrap", partial(bootstrap, num_resamples=2))
    shown = partial(re.sub, r" \[[^]]*\]| +", "")
    page = {shown(line) for line in (ROOT / "docs" / "search.md").read_text().splitlines()}
    view = budgets.make_view(budgets.parse_arguments([]))
    lines = [line for table in (budgets.of_budgets, budgets.of_widths) for line in table(view).splitlines()]
    assert len(lines) > 10
    assert [line for line in lines if not line.startswith("| --- |") and shown(line) not in page] == []


@pytest.mark.slow
def test_a_tiny_comparison_is_made_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dynabert_hf.training.result.draw_pictures", lambda card, folder: {})
    words = ["--smoke", "--rows", "40", "--seeds", "0", "--work", str(tmp_path / "work")]
    budgets.main(words)
    table = capsys.readouterr().out
    view = budgets.make_view(budgets.parse_arguments(words))
    job = Job("classes", "tiny", "choice-40", 0, "found")
    case, results = view.study.at(job), view.study.results
    found = results.get(job.with_name("search"))["sizes"]
    assert results.get(job.with_name("grid"))["trained"] == results.get(job.with_name("choice"))["sizes"]
    model = AutoModelForSequenceClassification.from_pretrained(case.folder / "model")
    for size, shape in found.items():
        logits = case.predict(model, [shape])[shape]
        metric = METRICS["accuracy_and_f1"](logits.argmax(1), case.rows.labels)
        assert results.get(job)["sizes"][size]["metric"] == pytest.approx(metric)
    monkeypatch.setattr(budgets, "PARTS", dict.fromkeys(budgets.PARTS))
    budgets.main(words)
    assert capsys.readouterr().out == table[-len(table.partition("## Budgets")[2]) - len("## Budgets") :]
