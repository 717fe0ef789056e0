"""Metrics of labels and values of texts by name, as scikit-learn and scipy compute them. Needs the extra `metrics`."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from transformers import EvalPrediction

from ..messages import require
from ..task_metrics import Metrics

OF_LABELS: dict[str, tuple[str, dict[str, Any]]] = {
    "accuracy": ("accuracy_score", {}),
    "balanced_accuracy": ("balanced_accuracy_score", {}),
    "f1": ("f1_score", {"average": "binary"}),
    "macro_f1": ("f1_score", {"average": "macro"}),
    "micro_f1": ("f1_score", {"average": "micro"}),
    "weighted_f1": ("f1_score", {"average": "weighted"}),
    "matthews_correlation": ("matthews_corrcoef", {}),
    "cohen_kappa": ("cohen_kappa_score", {}),
}
"""For each metric of labels the function of `sklearn.metrics`, and its arguments."""

OF_VALUES: dict[str, tuple[str, str]] = {
    "pearson": ("scipy.stats", "pearsonr"),
    "spearman": ("scipy.stats", "spearmanr"),
    "kendall": ("scipy.stats", "kendalltau"),
    "mse": ("sklearn.metrics", "mean_squared_error"),
    "rmse": ("sklearn.metrics", "root_mean_squared_error"),
    "mae": ("sklearn.metrics", "mean_absolute_error"),
    "r2": ("sklearn.metrics", "r2_score"),
}
"""For each metric of values its module and function; of several values a text the mean over them."""


def named_metrics(own: Metrics, names: Sequence[str]) -> Metrics:
    """What computes the metrics with these names, which may be those that a head has by itself.

    Args:
        own: The metrics of the head.
        names: Names of these, and of `OF_LABELS` or, where predictions are values, of `OF_VALUES`.

    Returns:
        A function that raises a ValueError for a name that does not fit the predictions.
    """
    return partial(_compute, own, tuple(names))


def _compute(own: Metrics, names: tuple[str, ...], prediction: EvalPrediction) -> dict[str, float]:
    known: dict[str, Callable[[], float]] = {name: partial(float, value) for name, value in own(prediction).items()}
    known = {**_others(prediction, known), **known}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"The metric {unknown[0]!r} is not known for this model. Possible are {list(known)}; give these."
        )
    return {name: known[name]() for name in names}


def _others(prediction: EvalPrediction, own: Container[str]) -> dict[str, Callable[[], float]]:
    """The metrics that scikit-learn and scipy have of a value or a class a text, whichever the head's own are of."""
    predicted, labels = prediction.predictions, prediction.label_ids
    if isinstance(predicted, tuple) or isinstance(labels, tuple) or predicted.ndim != 2:
        return {}
    if "pearson" in own:
        shape = (len(labels), -1)
        columns = list(zip(predicted.reshape(shape).T, labels.reshape(shape).T, strict=True))
        return {name: partial(_of_values, *place, columns) for name, place in OF_VALUES.items()}
    if labels.ndim == 2:  # yes-or-no answers; a logit above 0 is a yes
        answers = (labels > 0.5, predicted > 0)
        return {name: partial(_of_labels, name, *answers) for name in OF_LABELS if name.endswith("f1") and name != "f1"}
    if "accuracy" not in own or labels.ndim != 1 or predicted.shape[1] < 2:
        return {}
    names = [name for name in OF_LABELS if name != "f1" or predicted.shape[1] == 2]
    return {name: partial(_of_labels, name, labels, predicted.argmax(-1)) for name in names}


def _of_labels(name: str, labels: np.ndarray, predicted: np.ndarray) -> float:
    function, arguments = OF_LABELS[name]
    more = {"zero_division": 0.0} if function == "f1_score" else {}
    return float(_function("sklearn.metrics", function)(labels, predicted, **arguments, **more))


def _of_values(module: str, name: str, columns: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    function, found = _function(module, name), []
    for predicted, labels in columns:
        if module == "scipy.stats":  # undefined, and 0 here, for a constant
            found.append(0.0 if np.ptp(predicted) == 0 or np.ptp(labels) == 0 else function(predicted, labels)[0])
        else:
            found.append(function(labels, predicted))
    return float(np.mean(found))


def _function(module: str, name: str) -> Any:
    require(f"The metric {name}", module.partition(".")[0], extra="metrics")
    return getattr(import_module(module), name)
