"""How sure a size is of its answers, and the temperature at which that comes true."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch

from ..data.labelled_text import LabelledText, check_labelled
from ..families import ModelTypeError, check_elastic, elastic_class_name, parsed_sizes, sizes_of
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import AnySize, Size, size_name
from ..task_metrics import problem_type
from ..tasks import task_of

_SHARPEST, _FLATTEST = 1 / 20, 20.0
"""Temperatures beyond these say that the validation text is too little, not how sure a size is."""


def kind_of_choice(class_name: str, config: Any) -> str:
    """What a head chooses among: one label, or any number of them.

    Raises:
        ModelTypeError: If it does not choose.
    """
    task = task_of(class_name)
    kind = problem_type(config) if task.predicts == "text" else "single_label_classification"
    if task.predicts not in ("text", "choice") or kind == "regression":
        what = "predicts a value" if kind == "regression" else f"is of the task {task.pipeline}"
        raise ModelTypeError(
            f"A {class_name} that {what} does not say how sure it is of a text. Possible are heads that choose among "
            "labels (ForSequenceClassification) or texts (ForMultipleChoice); serve one size of this model instead."
        )
    return kind


def confidence(logits: torch.Tensor, temperature: float = 1.0, *, kind: str) -> torch.Tensor:
    """How sure a size is of its answers, from 0 to 1: `(batch,)`.

    Args:
        logits: `(batch, labels)`.
        temperature: What to divide them by.
        kind: `"single_label_classification"` or `"multi_label_classification"`.
    """
    scaled = logits.float() / temperature
    if kind == "multi_label_classification":
        return scaled.abs().sigmoid().min(-1).values
    return scaled.softmax(-1).max(-1).values


def fit_temperature(logits: np.ndarray, labels: np.ndarray, *, kind: str) -> float:
    """The temperature at which the labels are likeliest (Guo et al., arXiv 1706.04599), from 1/20 to 20.

    The loss is convex in the inverse of the temperature, so the zero of its derivative is found by halving.

    Args:
        logits: `(rows, labels)`.
        labels: The number of the label of each row, or for each of them 0 or 1, `(rows, labels)`.
        kind: As in `confidence`.
    """
    probabilities: Callable[[torch.Tensor], torch.Tensor] = torch.sigmoid
    scores, low, high = torch.as_tensor(logits).double(), 1 / _FLATTEST, 1 / _SHARPEST
    if kind == "multi_label_classification":
        target = torch.as_tensor(labels).double()
    else:
        numbers = torch.as_tensor(np.asarray(labels).reshape(-1)).long()
        target = torch.nn.functional.one_hot(numbers, scores.shape[-1]).double()
        probabilities = partial(torch.softmax, dim=-1)
    for _ in range(60):
        middle = (low + high) / 2
        if ((probabilities(middle * scores) - target) * scores).sum() < 0:
            low = middle
        else:
            high = middle
    return 2 / (low + high)


def calibrate(model: ElasticModelMixin, text: LabelledText, sizes: Iterable[Size] | None = None) -> dict[str, float]:
    """Fit a temperature for each size on validation text, store them in the configuration of the model, and return all.

    They travel with the checkpoint from then on; all else of the model is as before.

    Args:
        model: The elastic model.
        text: Labelled text that the model was not trained on.
        sizes: The sizes; None: all that `model` was trained for.

    Raises:
        SubNetworkError: If the model does not hold a size.
        TypeError: If the head does not choose among labels, or the text is no `LabelledText`.
    """
    check_elastic(model)
    kind = kind_of_choice(elastic_class_name(model), model.config)
    chosen = sizes_of(model) if sizes is None else parsed_sizes(sizes, model.config)
    fitted = {
        size_name(size): fit_temperature(logits, text.labels, kind=kind)
        for size, logits in zip(chosen, predict_sizes(model, chosen, text), strict=True)
    }
    model.config.temperatures = {**(model.config.temperatures or {}), **fitted}
    return dict(model.config.temperatures)


def predict_sizes(model: ElasticModelMixin, sizes: Iterable[AnySize], text: LabelledText) -> list[np.ndarray]:
    """The logits of several sizes for every row of a text; the model is as before afterwards."""
    check_labelled(text)
    found = []
    for size in sizes:
        with model.subnetwork(size):
            found.append(text.predict(model))
    return found
