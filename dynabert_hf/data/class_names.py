"""The names that a data set has for its classes, beside those of a model: the same number may stand for two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
from transformers import PreTrainedModel

from ..messages import get_logger
from ..task_metrics import has_generic_names
from ..tasks import gives_values, task_of
from .columns import label_column

logger = get_logger(__name__)


def class_names(dataset: Any, column: str | None) -> list[str] | None:
    """The names of the classes in a column, by their numbers; None if it has none."""
    kind = dataset.features.get(column) if isinstance(dataset, datasets.Dataset) else None
    kind = getattr(kind, "feature", kind)  # of a list of labels
    return list(kind.names) if isinstance(kind, datasets.ClassLabel) else None


def model_names_of(names: Sequence[str] | None, known: Mapping[int, str]) -> list[str] | None:
    """What a model calls these classes, small and capital letters aside; None if it does not know all of them."""
    if names is None:
        return None
    exact = {str(name): str(name) for name in known.values()}
    lower = {name.lower(): name for name in exact}
    if set(names) <= set(exact):
        return list(names)
    if len(lower) < len(exact) or len({name.lower() for name in names}) < len(names):
        return None
    called = [lower.get(name.lower()) for name in names]
    return None if None in called else [str(name) for name in called]


def check_label_order(given: Sequence[str] | None, model: PreTrainedModel) -> None:
    """Check names for the classes of a model, in the order of its outputs; None: those that it has.

    Raises:
        ValueError: If it gives no classes, others in number, or has names for them.
    """
    if given is None:
        return
    task, config = task_of(model), model.config
    if task.head not in ("ForSequenceClassification", "ForTokenClassification") or gives_values(model):
        raise ValueError(
            f"label_order={list(given)} was given for a {type(model).__name__}{' of values' * gives_values(model)}, "
            "which gives no classes. Possible are models that give classes to texts or words. Leave it out."
        )
    if len(given) != config.num_labels or not has_generic_names(config):
        raise ValueError(
            f"label_order={list(given)} was given for the classes {config.id2label}. Give as many names, and only to a "
            "model that calls its classes LABEL_0, LABEL_1 and so on."
        )


def warn_of_other_order(named: Mapping[str, Any], model: PreTrainedModel, *, column: str | None = None) -> None:
    """Say so where numbers are taken as labels and a data set gives them other names than the model or another one.

    Args:
        named: Data sets by what to call them; None where there is none.
        model: The model that learns or predicts them.
        column: The column of the labels; None: the usual one.
    """
    if task_of(model).predicts not in ("text", "token"):
        return
    id2label: Any = model.config.id2label
    known: list[str] | None = (
        None if has_generic_names(model.config) else [str(id2label[number]) for number in sorted(id2label)]
    )
    whose = f"the {type(model).__name__}"
    for name, dataset in named.items():
        own = None if dataset is None else class_names(dataset, column or label_column(dataset))
        if own is None:
            continue
        if known is None:
            known, whose = own, name
        if model_names_of(own, dict(enumerate(known))) != known:
            logger.warning_once(
                f"{name} calls its classes {own}, in this order, and {whose} {known}. Their numbers are taken as they "
                "are. If a number means another class there, call "
                "dataset.align_labels_with_mapping(model.config.label2id, column). If only the names differ, give the "
                "model those of the data in config.id2label."
            )
