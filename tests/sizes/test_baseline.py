"""What predictions are worth that look at no text, by head, and which teachers are called weak."""

import numpy as np
import pytest
from datasets import Dataset
from helpers.tiny import make_model

from dynabert_hf.sizes.baseline import baseline_metrics, weakness

TAGS = {"num_labels": 3, "id2label": dict(enumerate(["O", "B-X", "I-X"]))}


@pytest.mark.parametrize(
    ("head", "stock", "rows", "expected"),
    [
        ("ForSequenceClassification", {}, [{"labels": label} for label in (2, 2, 0, 1)], {"accuracy": 0.5}),
        ("ForSequenceClassification", {}, [{"label": label} for label in (2.0, 2.0, 0.0)], {"accuracy": 2 / 3}),
        (
            "ForSequenceClassification",
            {"problem_type": "multi_label_classification"},
            [{"labels": [1, 0, 0]}, {"labels": [1, 0, 1]}, {"labels": [0, 0, 1]}],
            {"micro_f1": 2 * 4 / (6 + 4), "accuracy": 7 / 9},
        ),
        ("ForSequenceClassification", {"num_labels": 1}, [{"labels": 1.0}, {"labels": 3.0}], {"pearson": 0, "mse": 1}),
        (
            "ForSequenceClassification",
            {"num_labels": 2, "problem_type": "regression"},
            [{"labels": [1.0, 10.0]}, {"labels": [3.0, 30.0]}],
            {"pearson": 0, "mse": (1 + 100) / 2},
        ),
        ("ForTokenClassification", {}, [{"labels": [-100, 1, 1]}, {"labels": [2]}], {"accuracy": 2 / 3}),
        (
            "ForQuestionAnswering",
            {"num_labels": 2},
            [{"start_positions": 0, "end_positions": end} for end in (0, 0, 2)],
            {"f1": (1 + 1 + 0.5) / 3, "exact_match": 2 / 3},
        ),
        ("ForMultipleChoice", {}, [{"labels": label} for label in (3, 3, 0)], {"accuracy": 2 / 3}),
        (
            "ForMaskedLM",
            {},
            [{"labels": [-100, 7, 7]}, {"labels": [9]}],
            {"accuracy": 2 / 3, "perplexity": np.exp(-(2 * np.log(2 / 101) + np.log(1 / 101)) / 3)},  # of 99 words
        ),
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_the_most_frequent_label_or_the_mean_is_predicted_everywhere(head, stock, rows, expected, as_list):
    data = rows if as_list else Dataset.from_list(rows)
    assert baseline_metrics(make_model(head=head, stock=stock), data) == pytest.approx(expected)


def test_metrics_of_ones_own_see_constant_predictions():
    seen = {}

    def metrics(prediction):
        seen.update(predictions=prediction.predictions, labels=prediction.label_ids)
        return {"mcc": 0.0}

    assert baseline_metrics(make_model(), [{"labels": label} for label in (1, 1, 0)], metrics) == {"mcc": 0.0}
    assert seen["predictions"].argmax(-1).tolist() == [1, 1, 1]
    assert seen["predictions"].shape == (3, 3)
    assert seen["labels"].tolist() == [1, 1, 0]


def test_entities_that_are_never_found_have_an_f1_of_zero():
    pytest.importorskip("seqeval")
    rows = [{"labels": [0, 0, 1]}, {"labels": [0, 0]}]
    found = baseline_metrics(make_model(head="ForTokenClassification", stock=TAGS), rows)
    assert found == {"f1": 0.0, "accuracy": 0.8}


def test_without_labels_there_is_no_baseline():
    assert baseline_metrics(make_model(), [{"input_ids": [5]}]) == {}
    assert baseline_metrics(make_model(head="Model"), [{"input_ids": [5]}]) == {}


@pytest.mark.parametrize(
    ("teacher", "baseline", "is_weak"),
    [
        ({"matthews_correlation": 0.07}, {"matthews_correlation": 0.0}, True),
        ({"accuracy": 0.75, "loss": 0.5}, {"accuracy": 0.684}, True),
        ({"loss": 0.5, "accuracy": 0.855}, {"accuracy": 0.5}, False),
        ({"accuracy": 0.297}, {"accuracy": 1 / 77}, True),
        ({"accuracy": 0.3}, {"accuracy": 0.5}, True),
        ({"mse": 0.9}, {"mse": 1.0}, True),
        ({"mse": 0.5}, {"mse": 1.0}, False),
        ({"accuracy": 1.0}, {"accuracy": 1.0}, False),
        ({"accuracy": 93.0}, {"accuracy": 56.0}, False),
        ({"accuracy": 60.0}, {"accuracy": 56.0}, True),
        ({"accuracy": 40.0}, {"accuracy": 56.0}, True),
        ({"f1": 0.6}, {"f1": 0.0}, False),
        ({"f1": 0.1}, {}, False),
    ],
)
def test_a_teacher_near_the_baseline_is_weak(teacher, baseline, is_weak):
    said = weakness(teacher, baseline)
    assert (said is not None) == is_weak
    if is_weak:
        [value] = baseline.values()
        assert f"where always predicting the same has {value:.4f}" in said
        assert "Fine-tune it longer" in said
