"""What predictions are worth that look at no text: a teacher that is hardly better has little to teach."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from transformers import EvalPrediction, PreTrainedModel

from ..data.columns import LABELS, column, column_names
from ..task_metrics import IGNORED, Metrics
from ..tasks import gives_values, task_of
from .metrics import is_lower_better
from .tables import metric_text

BASELINE = "the same prediction for every row, the most frequent label or the mean of the values"
"""What the baseline is, in words."""

LEAST_GAIN = 1 / 3
"""Of the way from the baseline to perfect predictions, what a teacher has to go that is not called weak."""


def baseline_metrics(model: PreTrainedModel, dataset: Any, metrics: Metrics | None = None) -> dict[str, float]:
    """The metrics of always predicting the most frequent label of a data set, or the mean of its values.

    Args:
        model: The model that is compared with it, for its head and labels.
        dataset: The data with labels that the model is measured on.
        metrics: What computes metrics; None: the default ones of the head.

    Returns:
        Metrics by name; empty where the head has none, or the labels cannot be read without the rows.
    """
    metrics = metrics or task_of(model).metrics(model)
    labels = _labels(model, dataset)
    return {} if metrics is None or labels is None else baseline_on(model, labels, metrics)


def baseline_on(model: PreTrainedModel, labels: Any, metrics: Metrics) -> dict[str, float]:
    """The same of labels as metrics take them: an array, or of questions the two of starts and ends."""
    if task_of(model).predicts == "vector":  # vectors that are all alike have no order
        return {}
    labels = labels if isinstance(labels, tuple) else (labels,)
    is_span = task_of(model).predicts == "span"
    predictions: Any = _spans(labels) if is_span else _constant(model, labels[0])
    given: Any = labels[0] if len(labels) == 1 else labels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, that nothing correlates with a constant
        return metrics(EvalPrediction(predictions, given))


def weakness(teacher: Mapping[str, float], baseline: Mapping[str, float]) -> str | None:
    """A warning if a teacher is hardly better than the baseline; None if it is, or nothing tells.

    Args:
        teacher: Its metrics by plain names; the first one that the baseline has, too, is compared.
        baseline: What `baseline_metrics` returned on the same data.
    """
    name = next((name for name in teacher if name in baseline), None)
    if name is None:
        return None
    most = 100.0 if max(teacher[name], baseline[name]) > 1 else 1.0  # some count in percent
    perfect = 0.0 if is_lower_better(name) else most
    possible, gained = perfect - baseline[name], teacher[name] - baseline[name]
    if possible == 0 or gained / possible >= LEAST_GAIN:
        return None
    return (
        f"The teacher is weak: {name} {metric_text(teacher[name])}, where always predicting the same has "
        f"{metric_text(baseline[name])}. No size will do much better than its teacher. Fine-tune it longer, with "
        "another learning rate or on more data; if the task is this hard, go on."
    )


def _labels(model: PreTrainedModel, dataset: Any) -> tuple[np.ndarray, ...] | None:
    """The labels of all rows, -100 where a row is shorter than others; None if they cannot be read."""
    names = task_of(model).label_names
    if names == ("labels",):
        names = tuple(name for name in LABELS if name in column_names(dataset))[:1]
    columns = [column(dataset, name) for name in names]
    if not columns or any(values is None or len(values) != len(dataset) for values in columns):
        return None
    return tuple(_padded(values.to_pylist()) for values in columns if values is not None)


def _padded(rows: list[Any]) -> np.ndarray:
    if not isinstance(rows[0], list):
        return np.array(rows)
    longest = max(map(len, rows))
    return np.array([[*row, *[IGNORED] * (longest - len(row))] for row in rows])


def _constant(model: PreTrainedModel, labels: np.ndarray) -> np.ndarray:
    """Logits, or values, that are the same in all rows."""
    task, num_labels = task_of(model), model.config.num_labels or 1
    num_words: Any = model.config.vocab_size
    if gives_values(model):
        return np.broadcast_to(labels.reshape(len(labels), -1).mean(0), (len(labels), num_labels))
    if task.predicts == "text" and labels.ndim == 2 and labels.shape[1] == num_labels > 1:
        return np.broadcast_to(np.where(labels.mean(0) > 0.5, 1.0, -1.0), labels.shape)
    counted = labels[labels != IGNORED].astype(int)
    shares = np.bincount(counted, minlength=2) / max(len(counted), 1)
    best = int(shares.argmax())
    if task.preprocess_logits is not None:  # of each token the best word and the likelihood of the true one
        return np.stack([np.full(labels.shape, float(best)), _likelihoods(counted, labels, num_words)], -1)
    count = max(len(shares), 0 if task.predicts == "choice" else num_labels)
    shape = labels.shape if task.predicts == "token" else (len(labels),)
    return np.broadcast_to(np.eye(count)[best], (*shape, count))


def _likelihoods(counted: np.ndarray, labels: np.ndarray, num_words: int) -> np.ndarray:
    """How likely the other labels make each one, as a logarithm: by their counts, and one more for every word.

    The counts of all labels would know each one in advance: of few, their perplexity is at most their number.
    """
    counts = np.bincount(counted, minlength=num_words)
    return np.log(counts[labels.clip(0)].clip(1) / (len(counted) - 1 + num_words))


def _spans(labels: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Logits of start and end that are always those of the most frequent answer."""
    answers, counts = np.unique(np.stack(labels, 1).astype(int), axis=0, return_counts=True)
    length = int(max(each.max() for each in labels)) + 1
    start, end = (
        np.broadcast_to(np.eye(length)[place], (len(labels[0]), length)) for place in answers[counts.argmax()]
    )
    return start, end
