"""Names of metrics are read as they were made, and the direction of a metric is told or known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from transformers import EvalPrediction

from dynabert_hf import read_metrics
from dynabert_hf.model.subnetwork import parse_size
from dynabert_hf.sizes.metrics import (
    MetricName,
    check_asked,
    did_not_come,
    direction_of,
    is_lower_better,
    metrics_by_size,
    parse_metric_name,
    told_directions,
    with_summary,
)
from dynabert_hf.sizes.named_metrics import named_metrics

SIZES = ["w0.5-d1", "w1-d1"]
MEANS = ("macro", "micro", "weighted")
OWN_NAMES = ["accuracy", "mean_reciprocal_rank", "worst_class_recall", "w1-d1_score", "top_5_accuracy", "eval_f1"]


@pytest.mark.parametrize("split", ["eval", "eval_matched", "my_own_test"])
@pytest.mark.parametrize("size", ["w0.5-d0.75", "l0h4n1024-l2h3n768", "mean", "worst"])
@pytest.mark.parametrize("metric", OWN_NAMES)
def test_a_name_is_read_as_it_was_made(split, size, metric):
    name = MetricName(split, size, metric)
    assert parse_metric_name(str(name)) == name
    assert parse_metric_name(str(name), [split, "eval"]) == name


def test_a_known_beginning_may_contain_what_looks_like_a_size():
    name = MetricName("eval_mean_w1-d1_set", "worst", "accuracy")
    assert parse_metric_name(str(name), ["eval", "eval_mean_w1-d1_set"]) == name


@pytest.mark.parametrize("name", ["eval_accuracy", "mean_accuracy", "w2-d3_score", "w0.5-d1", "eval_w0.5_loss", "loss"])
def test_a_name_without_a_size_says_nothing_of_one(name):
    assert parse_metric_name(name) is None


@pytest.mark.parametrize("metric", OWN_NAMES)
def test_the_mean_and_the_worst_stand_beside_the_sizes(metric):
    by_size = {"w0.5-d1": {metric: np.float32(0.25)}, "w1-d1": {metric: 0.75, "report": {"f1": 1}}}
    merged = with_summary(by_size, "eval")
    assert merged == {
        f"eval_w0.5-d1_{metric}": 0.25,
        f"eval_w1-d1_{metric}": 0.75,
        "eval_w1-d1_report": {"f1": 1},
        f"eval_mean_{metric}": 0.5,
        f"eval_worst_{metric}": 0.25,
    }
    assert metrics_by_size(merged) == {"w0.5-d1": {metric: 0.25}, "w1-d1": {metric: 0.75}}


@pytest.mark.parametrize(
    ("asked", "split", "value"),
    [
        ("accuracy", "eval", 0.5),
        ("eval_accuracy", "eval", 0.5),
        ("mean_accuracy", "eval", 0.5),
        ("worst_accuracy", "eval", 0.25),
        ("w1-d1_accuracy", "eval", 0.75),
        ("matched_accuracy", "eval_matched", 0.5),
        ("eval_matched_worst_accuracy", "eval_matched", 0.25),
    ],
)
def test_the_metric_asked_for_stands_under_the_name_where_transformers_looks(asked, split, value):
    by_size = {"w0.5-d1": {"accuracy": 0.25}, "w1-d1": {"accuracy": 0.75}}
    assert with_summary(by_size, split, asked=asked)["eval_" + asked.removeprefix("eval_")] == value


@pytest.mark.parametrize("metric", OWN_NAMES)
def test_a_metric_of_the_users_own_name_is_its_mean_over_the_sizes(metric):
    merged = with_summary({"w0.5-d1": {metric: 0.25}, "w0.25-d1": {metric: 0.75}}, "eval", asked=metric)
    assert merged["eval_" + metric.removeprefix("eval_")] == 0.5


def test_a_metric_that_the_users_function_gives_its_full_name_is_found_without_the_prefix():
    merged = with_summary({"w0.5-d1": {"eval_f1": 0.25}, "w1-d1": {"eval_f1": 0.75}}, "eval", asked="f1")
    assert merged["eval_f1"] == 0.5


@pytest.mark.parametrize("values", [(math.nan, 0.5), (0.5, math.nan)])
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_the_mean_and_the_worst_tell_of_a_size_that_has_no_number(metric, values):
    merged = with_summary({"w0.5-d1": {metric: values[0]}, "w1-d1": {metric: values[1]}}, "eval")
    assert math.isnan(merged[f"eval_mean_{metric}"])
    assert math.isnan(merged[f"eval_worst_{metric}"])


def test_the_metric_of_another_evaluation_set_is_not_made_up():
    merged = with_summary({"w1-d1": {"accuracy": 0.75}}, "eval_matched", asked="mismatched_accuracy")
    assert list(merged) == ["eval_matched_w1-d1_accuracy", "eval_matched_mean_accuracy", "eval_matched_worst_accuracy"]


def test_how_long_an_evaluation_took_is_no_metric():
    by_size = {"w1-d1": {"eval_w1-d1_loss": 0.5, "eval_w1-d1_model_preparation_time": 0.1}}
    merged = with_summary(by_size, "eval")
    assert merged["eval_model_preparation_time"] == 0.1
    assert metrics_by_size({**merged, "eval_w1-d1_runtime": 3.0}) == {"w1-d1": {"loss": 0.5}}


def test_metrics_of_several_evaluation_sets_keep_their_names():
    metrics = {"eval_a_w1-d1_accuracy": 0.5, "eval_b_w1-d1_accuracy": 0.25, "eval_a_mean_accuracy": 0.5}
    assert metrics_by_size(metrics) == {"w1-d1": {"a_accuracy": 0.5, "b_accuracy": 0.25}}
    assert read_metrics(metrics, metric="b_accuracy") == {parse_size("w1-d1"): 0.25}
    with pytest.raises(ValueError, match=r"Several evaluations have the metric 'accuracy'. Give metric= one of"):
        read_metrics(metrics)


def test_layer_shapes_are_read_as_sizes():
    assert read_metrics({"eval_l0h1n12-l3h2n24_f1": 0.5}, metric="f1") == {parse_size("l0h1n12-l3h2n24"): 0.5}


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("loss", "lower"),
        ("eval_worst_brier_score", "lower"),
        ("word_error_rate", "lower"),
        ("expected_calibration_error", "lower"),
        ("rmse", "lower"),
        ("neg_mean_squared_error", "higher"),
        ("eval_matched_neg_mean_squared_error", "higher"),
        ("neg_log_likelihood", "lower"),
        ("negative_log_likelihood", "lower"),
        ("neg_f1", "higher"),
        ("eval_worst_neg_recall", "higher"),
        ("loss_neg", "lower"),
        ("f1_macro", "higher"),
        ("mean_reciprocal_rank", "higher"),
        ("matthews_correlation", "higher"),
        ("recall_at_10", "higher"),
        ("combined_score", "higher"),
        ("mean_rank", None),
        ("usefulness", None),
    ],
)
def test_the_direction_is_read_from_a_name_that_says_it(metric, direction):
    assert direction_of(metric) == direction
    assert is_lower_better(metric) == (direction == "lower")


def test_what_was_told_of_a_direction_comes_before_the_name():
    assert direction_of("usefulness", {"usefulness": "lower"}) == "lower"
    assert is_lower_better("accuracy", greater_is_better=False)
    merged = with_summary({"a": {"hurt": 0.1}, "b": {"hurt": 0.3}}, "eval", directions={"hurt": "lower"})
    assert merged["eval_worst_hurt"] == 0.3


@pytest.mark.parametrize("asked", ["hurt", "eval_hurt", "worst_hurt", "eval_w1-d1_hurt", "first_mean_hurt"])
def test_training_arguments_tell_the_direction_of_a_metric(asked):
    args = SimpleNamespace(metric_for_best_model=asked, greater_is_better=False)
    assert told_directions(args, ["first"])["hurt"] == "lower"
    assert told_directions(SimpleNamespace(metric_for_best_model="mean_loss", greater_is_better=False)) == {}


@pytest.mark.parametrize(
    ("asked", "settings", "said"),
    [
        ("f1", {"known": ["loss"]}, r"metrics of a size are \['loss'\]. Give one of them, with 'mean_'"),
        ("mean_f1", {"known": ["loss"]}, r"'mean_f1' will not come from an evaluation: metrics of a size are"),
        ("eval_w0.3-d1_f1", {}, r"w0.3-d1 is none of the sizes that are evaluated, w0.5-d1, w1-d1\. Give"),
        ("w2-d3_f1", {}, r"w2-d3 is none of the sizes that are evaluated, "),
        ("f1", {"sets": ["a", "b"]}, r"names none of the evaluation sets \['a', 'b'\]. Possible are such as 'a_loss'"),
        ("eval_mean_loss", {"sets": ["a", "b"], "known": ["loss"]}, r"names none of the evaluation sets"),
        ("a_w0.3-d1_loss", {"sets": ["a"], "known": ["loss"]}, r"w0.3-d1 is none of the sizes that are evaluated, "),
    ],
)
def test_a_metric_that_cannot_come_is_refused_with_what_can(asked, settings, said):
    with pytest.raises(ValueError, match=said):
        check_asked(asked, **{"sets": [], "sizes": SIZES, "known": None, **settings})


@pytest.mark.parametrize("asked", [None, "loss", "eval_mean_loss", "worst_loss", "w1-d1_loss"])
def test_a_metric_that_can_come_is_taken(asked):
    check_asked(asked, sets=[], sizes=SIZES, known=["loss"])
    check_asked(None if asked is None else f"a_{asked.removeprefix('eval_')}", sets=["a"], sizes=SIZES, known=["loss"])
    check_asked("mean_of_my_own", sets=[], sizes=SIZES, known=None)


def test_a_metric_that_did_not_come_is_told_with_what_came():
    metrics = {"eval_w1-d1_f1": 0.5, "eval_mean_f1": 0.5, "eval_runtime": 1.0, "eval_w1-d1_report": "a text"}
    said = str(did_not_come("recall", metrics, saved="here"))
    assert "'recall' did not come from" in said
    assert "of them ['eval_mean_f1']. " in said
    assert said.endswith("checkpoint='here'.")


def named(own, expected, predicted, labels):
    """The metrics with these names, beside the head's own."""
    return named_metrics(lambda _: own, list(expected))(EvalPrediction(predicted, labels))


def test_metrics_of_labels_by_their_names_are_those_of_scikit_learn():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(60, 3)), draw.choice(3, 60, p=[0.6, 0.3, 0.1])
    said = logits.argmax(1)
    expected = {
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(labels, said),
        "matthews_correlation": sklearn.metrics.matthews_corrcoef(labels, said),
        "cohen_kappa": sklearn.metrics.cohen_kappa_score(labels, said),
        **{f"{mean}_f1": sklearn.metrics.f1_score(labels, said, average=mean) for mean in MEANS},
    }
    assert named({"accuracy": 0.5}, expected, logits, labels) == pytest.approx(expected)
    of_two = {"f1": sklearn.metrics.f1_score(labels > 0, logits[:, :2].argmax(1))}
    assert named({"accuracy": 0.5}, of_two, logits[:, :2], (labels > 0).astype(int)) == pytest.approx(of_two)
    several = draw.random((60, 3)) < [0.7, 0.4, 0.2]
    expected = {f"{mean}_f1": sklearn.metrics.f1_score(several, logits > 0, average=mean) for mean in MEANS}
    assert named({"accuracy": 0.5}, expected, logits, several.astype(float)) == pytest.approx(expected)


def test_metrics_of_values_by_their_names_are_the_means_over_the_values_of_a_text():
    draw = np.random.default_rng(0)
    labels = draw.normal(size=(60, 2))
    predicted = labels + draw.normal(size=(60, 2)) * [0.5, 3]
    columns = [(predicted[:, column], labels[:, column]) for column in range(2)]
    expected = {
        "spearman": np.mean([scipy.stats.spearmanr(*each).statistic for each in columns]),
        "kendall": np.mean([scipy.stats.kendalltau(*each).statistic for each in columns]),
        "mse": np.mean((predicted - labels) ** 2),
        "rmse": np.mean(np.sqrt(np.mean((predicted - labels) ** 2, axis=0))),
        "mae": np.mean(np.abs(predicted - labels)),
        "r2": np.mean(1 - np.mean((predicted - labels) ** 2, axis=0) / labels.var(axis=0)),
    }
    assert named({"pearson": 0.5}, expected, predicted, labels) == pytest.approx(expected)


def test_a_metric_by_its_name_needs_its_own_package_alone(monkeypatch):
    """Spearman's correlation, which is scipy's, was refused where scikit-learn was not installed."""
    monkeypatch.setattr("dynabert_hf.messages.find_spec", lambda name: None if name == "sklearn" else True)
    prediction = EvalPrediction(np.array([[0.1], [0.4], [0.2]]), np.array([1.0, 3.0, 2.0]))
    own = {"pearson": 0.9, "mse": 0.1}
    assert named_metrics(lambda _: own, ["spearman", "mse"])(prediction) == {"spearman": 1.0, "mse": 0.1}
    with pytest.raises(
        ImportError, match=r"root_mean_squared_error needs sklearn, .* `pip install \"dynabert_hf\[metr"
    ):
        named_metrics(lambda _: own, ["rmse"])(prediction)
