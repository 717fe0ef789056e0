"""What belongs to each head: how its predictions are scored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from transformers import EvalPrediction, PreTrainedModel

Metrics = Callable[[EvalPrediction], dict[str, float]]


def default_metrics(model: PreTrainedModel) -> Metrics | None:
    """What suits the head and its `problem_type`; None for heads without an obvious choice.

    For one label a text the accuracy; for several the accuracy of all yes-or-no answers, one for each text and label;
    for a regression the mean squared error and, of a single output, Pearson's correlation.
    """
    config = model.config
    if not type(model).__name__.endswith("ForSequenceClassification"):
        return None
    if config.problem_type == "multi_label_classification":
        return _accuracy_of_answers
    if config.num_labels == 1:
        return _regression_metrics
    return _squared_error if config.problem_type == "regression" else _accuracy


def _accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def _accuracy_of_answers(prediction: EvalPrediction) -> dict[str, float]:
    """Logits and labels `(texts, labels)`; a logit above 0 is a yes."""
    yes = np.asarray(prediction.predictions) > 0
    return {"accuracy": float((yes == (np.asarray(prediction.label_ids) > 0.5)).mean())}


def _squared_error(prediction: EvalPrediction) -> dict[str, float]:
    difference = prediction.predictions.reshape(-1) - prediction.label_ids.reshape(-1)
    return {"mse": float(np.square(difference).mean())}


def _regression_metrics(prediction: EvalPrediction) -> dict[str, float]:
    predicted, labels = prediction.predictions.reshape(-1), prediction.label_ids.reshape(-1)
    says_nothing = np.ptp(predicted) == 0 or np.ptp(labels) == 0  # the correlation with a constant is undefined
    return {
        **_squared_error(prediction),
        "pearson": 0.0 if says_nothing else float(np.corrcoef(predicted, labels)[0, 1]),
    }
