"""What is wrong with a data set, said before any work: empty, not tokenised, without labels, labels that cannot be.

Looks at the columns of a `datasets.Dataset` and at every item of a list; of other data sets, whose items may be made
only when they are asked for, at the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedModel

LABEL_COLUMNS = ("labels", "label", "label_ids", "start_positions")
IGNORED = -100
"""The label of tokens that do not count."""


def check_labelled(name: str, dataset: Any) -> None:
    """Check that a data set can be trained on.

    Raises:
        ValueError: If it is empty, is not tokenised or has no labels.
    """
    check_not_empty(name, dataset)
    columns = set(dataset[0])
    if "input_ids" not in columns:
        raise ValueError(
            f"{name} has the columns {sorted(columns)} but no 'input_ids'. Tokenise it first: "
            "dataset.map(lambda rows: tokenizer(rows['text'], truncation=True), batched=True)."
        )
    if not columns & set(LABEL_COLUMNS):
        raise ValueError(
            f"{name} has the columns {sorted(columns)} but no labels. Rename the column that holds them to 'labels'."
        )


def check_not_empty(name: str, dataset: Any) -> None:
    """Check that a data set of known length has an example.

    Raises:
        ValueError: If it is empty.
    """
    if hasattr(dataset, "__len__") and len(dataset) == 0:
        raise ValueError(f"{name} is empty. Give at least one example.")


def check_labels(name: str, dataset: Any, model: PreTrainedModel) -> None:
    """Check the labels of a data set against what a model for classification can predict.

    Args:
        name: What to call the data set in errors.
        dataset: Data set with a column of labels; without one nothing is checked.
        model: The model that is to learn it, with one of the heads for sequences or tokens.

    Raises:
        ValueError: If a label is not one of the model's classes, or not a finite number.
    """
    head = type(model).__name__
    labels = list(_labels(dataset))
    if not labels or not head.endswith(("ForSequenceClassification", "ForTokenClassification")):
        return
    for row, label in enumerate(labels):
        values = np.asarray(label)
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise ValueError(
                f"{name} has the label {_short(label)} in row {row}, which is not a finite number. Remove the row, or "
                "number the classes: dataset.class_encode_column('labels')."
            )
    num_labels: int = model.config.num_labels or 1
    if num_labels == 1 or model.config.problem_type in ("regression", "multi_label_classification"):
        return
    ignored = (IGNORED,) if head.endswith("ForTokenClassification") else ()
    for row, label in enumerate(labels):
        wrong = [value for value in np.ravel(label).tolist() if not _is_class(value, num_labels, ignored)]
        if wrong:
            raise ValueError(
                f"{name} has the label {wrong[0]} in row {row}. Possible for this model are 0 to {num_labels - 1}"
                f"{' and -100' if ignored else ''}, since num_labels={num_labels}. Remove the row (-1 often marks "
                "hidden labels), or fine-tune a model with as many classes."
            )


def check_enough(dataset: Any, *, batch_size: int, num_processes: int, drop_last: bool) -> None:
    """Check that every process gets something of its own to train on.

    Args:
        dataset: The training data; of unknown length, nothing is checked.
        batch_size: Examples in one batch of all processes together.
        num_processes: Processes that train together.
        drop_last: Whether a last batch that is not full is left out.

    Raises:
        ValueError: If there are fewer examples than processes, or no full batch.
    """
    if batch_size < num_processes:
        raise ValueError(
            f"A batch of {batch_size} cannot be split over {num_processes} processes. Give a per_device_train_batch_"
            f"size of at least {num_processes}, or leave split_batches off."
        )
    if not hasattr(dataset, "__len__"):
        return
    if len(dataset) < num_processes:
        raise ValueError(
            f"train_dataset has {len(dataset)} examples for {num_processes} processes, so that some would have "
            "nothing of their own to learn. Give more examples, or launch fewer processes."
        )
    if drop_last and len(dataset) < batch_size:
        raise ValueError(
            f"train_dataset has {len(dataset)} examples, a batch of all processes {batch_size}, and "
            "dataloader_drop_last leaves out a batch that is not full: there would be no step at all. Give a smaller "
            "per_device_train_batch_size, or dataloader_drop_last=False."
        )


def _labels(dataset: Any) -> Iterable[Any]:
    if isinstance(dataset, datasets.Dataset):
        column = next((column for column in LABEL_COLUMNS if column in dataset.column_names), None)
        return [] if column is None else dataset[column]
    items = dataset if isinstance(dataset, Sequence) else [dataset[0]] if hasattr(dataset, "__getitem__") else []
    return [item[column] for item in items for column in LABEL_COLUMNS if column in item]


def _is_class(value: Any, num_labels: int, ignored: tuple[int, ...]) -> bool:
    return value in ignored or (0 <= value < num_labels and value == int(value))


def _short(label: Any) -> str:
    text = repr(label)
    return text if len(text) <= 40 else f"{text[:40]}…"
