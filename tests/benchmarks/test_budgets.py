"""What a budget buys: the cascade and the tables by value, and a tiny comparison as a whole."""

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification

from benchmarks import budgets
from benchmarks.glue_study.jobs import Job, Results
from benchmarks.glue_study.metrics import METRICS
from benchmarks.glue_study.plan import PLAN
from benchmarks.glue_study.tables import View

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
    study = budgets.BudgetStudy(PLAN, tmp_path, Results(tmp_path), {})
    return View(study, ["sst2", "mrpc"], ["minilm"], [0, 1], "choice-10")


def record(view, seed, name, answers):
    """A part of SST-2 from what each size answers."""
    sizes = {size: {"metric": float(np.mean(own == LABELS)), "divergence": 0.5} for size, own in answers.items()}
    arrays = {f"{size}.prediction": own for size, own in answers.items()}
    job = Job("sst2", "minilm", "choice-10", seed, name)
    view.study.results.record(job, {"sizes": sizes}, {**arrays, "labels": LABELS})


def right(count):
    """Answers of which so many are right."""
    return np.where(np.arange(4) < count, LABELS, 1 - LABELS)


def cells(table, start):
    return next(line for line in table.splitlines() if line.startswith(start)).strip("| ").split(" | ")


def test_the_table_of_budgets_is_of_the_seeds_that_have_both(view):
    for seed, counts in ((0, (2, 3, 1)), (1, (4, 1, 4))):
        grid, found, cascade = map(right, counts)
        record(view, seed, "teacher", {"model": grid})
        record(view, seed, "grid", dict.fromkeys(budgets.BUDGETS, grid) | {
            f"cascade-{size}": cascade for size in budgets.BUDGETS})  # fmt: skip
        if seed == 0:
            record(view, seed, "found", dict.fromkeys(budgets.BUDGETS, found))
    row = cells(budgets.of_budgets(view), "| sst2 | 1 | 0.250 |")
    assert row[3:6] == ["w0.5-d0.5", "50.0 (50.0)", "75.0 (75.0)"]
    assert row[6].startswith("+25.0 [")
    assert row[7] == "25.0 (25.0)"
    record(view, 1, "found", {size: right(1) for size in budgets.BUDGETS})
    row = cells(budgets.of_budgets(view), "| sst2 | 2 | 0.250 |")
    assert row[4:6] == ["75.0 (50.0, 100.0)", "50.0 (75.0, 25.0)"]
    assert row[6].startswith("-25.0 [")  # (75 - 50 + 25 - 100) / 2
    assert row[8].startswith("-12.5 [")  # (25 - 50 + 100 - 100) / 2


def test_the_table_of_widths_compares_sizes_with_themselves(view):
    record(view, 0, "teacher", {"model": right(4)})
    usual, between = ("w0.5-d1", "w0.75-d1"), ("w0.3-d1", "w0.6-d1")
    twelve = {usual[0]: right(2), usual[1]: right(4), between[0]: right(1), between[1]: right(2)}
    twelve |= {f"repaired-{between[0]}": right(2), f"repaired-{between[1]}": right(4)}
    record(view, 0, "twelve", twelve)
    record(view, 0, "sampled", dict(zip(usual + between, map(right, (3, 1, 3, 4)), strict=True)))
    table = budgets.of_widths(view)
    row = cells(table, "| sst2 | 1 | between, repaired")
    assert row[3:6] == ["2", "37.5 (37.5)", "75.0 (75.0)"]
    assert row[6].startswith("+37.5 [")
    assert cells(table, "| sst2 | 1 | between, trained")[4:6] == ["37.5 (37.5)", "87.5 (87.5)"]
    row = cells(table, "| sst2 | 1 | the usual ones")
    assert row[4:6] == ["75.0 (75.0)", "50.0 (50.0)"]
    assert row[6].startswith("-25.0 [")


@pytest.mark.slow
def test_a_tiny_comparison_is_made_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dynabert_hf.training.result.draw_pictures", lambda card, folder: {})
    words = ["--smoke", "--rows", "40", "--seeds", "0", "--work", str(tmp_path / "work")]
    budgets.main(words)
    table = capsys.readouterr().out
    view = budgets.make_view(budgets.parse_arguments(words))
    job = Job("classes", "tiny", "choice-40", 0, "found")
    case, results = view.study.at(job), view.study.results
    found = results.get(job.with_name("search"))["found"]
    model = AutoModelForSequenceClassification.from_pretrained(case.folder / "model")
    for size, shape in found.items():
        logits = case.predict(model, [shape])[shape]
        metric = METRICS["accuracy_and_f1"](logits.argmax(1), case.rows.labels)
        assert results.get(job)["sizes"][size]["metric"] == pytest.approx(metric)
    teacher, path = job.with_name("teacher"), results.folder / job.folder / "teacher.json"
    before = results.get(teacher)
    path.unlink()
    budgets.main([*words, "--parts", "teacher"])  # scored again, not trained
    assert results.get(teacher) == {"sizes": before["sizes"], "seconds": 0}
    capsys.readouterr()
    monkeypatch.setattr(budgets, "PARTS", dict.fromkeys(budgets.PARTS))
    budgets.main(words)
    assert capsys.readouterr().out == table[-len(table.partition("## Budgets")[2]) - len("## Budgets") :]
