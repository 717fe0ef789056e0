"""The metrics of GLUE, against scikit-learn and scipy."""

from pathlib import Path

import evaluate
import numpy as np
import pytest
from glue_data import LABELS, TEXT_COLUMNS
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

SCORES = Path(__file__).parents[2] / "examples" / "metrics" / "glue_scores.py"
EXPECTED = {
    "accuracy": lambda predictions, references: accuracy_score(references, predictions),
    "f1": lambda predictions, references: f1_score(references, predictions),
    "matthews_correlation": lambda predictions, references: matthews_corrcoef(references, predictions),
    "pearson": lambda predictions, references: stats.pearsonr(predictions, references).statistic,
    "spearmanr": lambda predictions, references: stats.spearmanr(predictions, references).statistic,
}
NAMES = {
    "cola": ["matthews_correlation"],
    "mrpc": ["accuracy", "f1"],
    "qqp": ["accuracy", "f1"],
    "stsb": ["pearson", "spearmanr"],
}


def compute(task, predictions, references):
    return evaluate.load(str(SCORES), task, keep_in_memory=True).compute(predictions=predictions, references=references)


def drawn(task, seed, size=37):
    """Predictions and labels with ties, related but not equal."""
    draw = np.random.default_rng(seed)
    if task not in LABELS:
        references = draw.integers(0, 11, size) / 2
        return (references + draw.normal(0, 2, size)).round(1), references
    references = draw.integers(0, len(LABELS[task]), size)
    return np.where(draw.random(size) < 0.6, references, draw.integers(0, len(LABELS[task]), size)), references


@pytest.mark.parametrize("task", TEXT_COLUMNS)
def test_every_task_has_its_official_metrics_with_the_values_of_scikit_learn_and_scipy(task):
    for seed in range(5):
        predictions, references = drawn(task, seed)
        scores = compute(task, predictions, references)
        assert list(scores) == NAMES.get(task, ["accuracy"])
        for name, value in scores.items():
            assert value == pytest.approx(EXPECTED[name](predictions, references), abs=1e-9), name


def test_matthews_correlation_of_three_labels_is_that_of_scikit_learn():
    predictions, references = drawn("mnli", 0)
    value = compute("cola", predictions, references)["matthews_correlation"]
    assert value == pytest.approx(matthews_corrcoef(references, predictions), abs=1e-12)


@pytest.mark.parametrize(("task", "alike"), [("cola", 1), ("mrpc", 0), ("stsb", 2.5)])
def test_predictions_that_are_all_alike_score_zero_where_nothing_is_defined(task, alike):
    scores = compute(task, [alike] * 4, [1, 0, 1, 2 if task == "stsb" else 1])
    scores.pop("accuracy", None)
    assert set(scores.values()) == {0.0}


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match=r"'ax' is no GLUE task. Possible is one of cola, sst2"):
        compute("ax", [0], [0])


def test_a_correlation_with_the_mean_of_all_values_is_not_what_rounding_leaves_of_zero():
    references = np.arange(1500) % 26 / 5
    assert np.full(1500, 2.3647).var() > 0
    assert compute("stsb", np.full(1500, 2.3647), references) == {"pearson": 0.0, "spearmanr": 0.0}
