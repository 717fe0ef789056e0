"""Labels of the kind that a head takes: cast where that is safe, and refused before any work where it is not."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import PreTrainedModel

from ..task_metrics import IGNORED, problem_type
from ..tasks import Collator, task_of
from .columns import LABEL_COLUMNS, LABELS, column, column_names, has_all_rows, is_missing, label_column, short
from .inputs import check_equal_lengths, depth_of, first_outside, first_where, innermost, read_column

SPAN = ("start_positions", "end_positions")

PAST_THE_END = 1_000_000
"""A token that no row has, whose loss transformers leaves out."""


def check_labels(
    name: str, dataset: Any, model: PreTrainedModel, *, may_be_missing: bool = False, is_part: bool = False
) -> None:
    """Check the labels of a data set against what the head of a model can predict.

    Args:
        name: What to call the data set in errors.
        dataset: Data with labels; without them nothing is checked.
        model: The model that is to learn or predict them.
        may_be_missing: Whether rows may have none.
        is_part: Whether these are a part of the rows, in which no token need have a label that counts.

    Raises:
        ValueError: If a label is missing, is not a finite number, is none of the model's classes, or a row has more or
            fewer labels than the head takes.
    """
    predicts = task_of(model).predicts
    if predicts == "span":
        _check_spans(name, dataset, may_be_missing=may_be_missing)
        return
    check_class_names(model)
    columns: dict[str, pa.Array] = {}
    for of in LABELS:
        values = read_column(name, dataset, of) if of in column_names(dataset) else None
        if values is None or predicts == "state":
            continue
        columns[of] = values
        if may_be_missing and values.null_count:
            values = _without_missing(name, dataset, values, model)
            if not len(values):
                continue
        _check_numbers(name, of, values, model)
        if predicts == "text":
            _check_texts(name, values, model)
        elif predicts == "token":
            _check_tokens(name, of, values, dataset, model, is_part=is_part or not has_all_rows(dataset))
        elif predicts == "choice":
            _check_choices(name, values, dataset)
    if any(values.to_pylist() != next(iter(columns.values())).to_pylist() for values in list(columns.values())[1:]):
        raise ValueError(
            f"{name} has different labels in the columns {list(columns)}, of which batches take one. Leave the others "
            "out: dataset.remove_columns([...])."
        )


def check_class_names(model: PreTrainedModel) -> None:
    """Check that a model has a name for each of its outputs.

    Raises:
        ValueError: If its `id2label` leaves out numbers.
    """
    names: Any = model.config.id2label or {}
    if task_of(model).label_names == ("labels",) and sorted(names) != list(range(len(names))):
        raise ValueError(
            f"config.id2label of the model is {short(names)}, but its outputs are numbered from 0 to {len(names) - 1}. "
            "Name them so, and number the labels of the data alike: config.id2label = dict(enumerate(names))."
        )


def collator_of(model: PreTrainedModel, tokenizer: Any, data_collator: Collator | None = None) -> CastLabels:
    """What makes batches for a model: the given collator, else that of its task, with labels as its loss takes them."""
    return CastLabels(data_collator or task_of(model).collator(tokenizer), model)


class CastLabels:
    """A collator whose labels have the type that the loss of a head takes: whole numbers for classes, else floats.

    Labels whose values do not allow it are refused before, by `check_labels`.

    Args:
        collator: What makes a batch of examples.
        model: The model that takes the batches.
    """

    def __init__(self, collator: Collator, model: PreTrainedModel):
        self.collator: Collator = collator.collator if isinstance(collator, CastLabels) else collator
        self.predicts, self.config = task_of(model).predicts, model.config

    def __call__(self, examples: list[Any]) -> Mapping[str, Any]:
        made = self.collator(self._of_one_type(self._with_all_labels(examples)))
        batch: Any = made
        if not isinstance(made, Mapping):
            raise TypeError(
                f"data_collator returned a {type(made).__name__}. Possible is a mapping from the names of a model's "
                "inputs to tensors. Return such a batch."
            )
        own = next((name for name in ("label", "label_ids") if name in batch), None)
        if own is not None and "labels" not in batch:  # transformers' collator of tokens leaves the name of the column
            batch = {**{name: value for name, value in batch.items() if name != own}, "labels": batch[own]}
        for name in ("labels", *SPAN):
            if torch.is_tensor(batch.get(name)):
                batch[name] = self._cast(batch[name])
        return batch

    def _with_all_labels(self, examples: list[Any]) -> list[Any]:
        """Examples that all have a label where one has such a column: what no loss counts, where it is missing."""
        if not examples or not isinstance(examples[0], Mapping):
            return examples
        for name in (*LABEL_COLUMNS, SPAN[1]):
            has_label = [not is_missing(example.get(name)) for example in examples]
            if all(has_label) or not any(name in example for example in examples):
                continue
            known = next((example[name] for example, own in zip(examples, has_label, strict=True) if own), None)
            examples = [
                example if own else {**example, name: self._uncounted(example, known)}
                for example, own in zip(examples, has_label, strict=True)
            ]
        return examples

    def _of_one_type(self, examples: list[Any]) -> list[Any]:
        """Examples whose labels are all floats where one is: transformers' collator goes by the first of a batch."""
        if self.predicts != "text" or not examples or not isinstance(examples[0], Mapping):
            return examples
        for name in ("label", "label_ids"):
            if name in examples[0] and np.asarray([example[name] for example in examples]).dtype.kind == "f":
                examples = [{**example, name: np.asarray(example[name], float).tolist()} for example in examples]
        return examples

    def _uncounted(self, example: Mapping[str, Any], known: Any) -> Any:
        """A label that no loss counts, of the form of one that is known, if one is."""
        if self.predicts == "span":
            return PAST_THE_END
        if self.predicts == "token":
            return [IGNORED] * len(example["input_ids"])
        is_class, count = problem_type(self.config) == "single_label_classification", self.config.num_labels or 1
        shape = np.shape(known) if known is not None or is_class or count == 1 else (count,)
        blank = IGNORED if self.predicts == "choice" or (is_class and not shape) else math.nan
        return np.full(shape, blank).tolist()

    def _cast(self, labels: torch.Tensor) -> torch.Tensor:
        if self.predicts == "vector":
            return labels
        if self.predicts != "text":
            return labels.long()
        if problem_type(self.config) != "single_label_classification" or _is_multi_hot(self.config, labels.shape[1:]):
            return labels.float()
        return labels.long().reshape(-1)


def _is_multi_hot(config: Any, shape: tuple[int, ...]) -> bool:
    """Whether labels of this shape a text are several yes-or-no answers, where the configuration leaves it unsaid."""
    return config.problem_type is None and config.num_labels > 1 and tuple(shape) == (config.num_labels,)


def are_multi_hot(dataset: Any, model: PreTrainedModel) -> bool:
    """Whether labels are yes-or-no answers, several a text, where the configuration leaves it unsaid."""
    name = label_column(dataset) if task_of(model).predicts == "text" else None
    values = None if name is None else column(dataset, name)
    known = None if values is None else values.drop_null()
    if known is None or not len(known) or depth_of(known.type) != 1:
        return False
    return _is_multi_hot(model.config, (len(known[0].as_py()),))


def _check_numbers(name: str, of: str, values: pa.Array, model: PreTrainedModel) -> None:
    """No label is missing, and all are finite numbers."""
    leaves = values
    while depth_of(leaves.type):
        if leaves.null_count:
            break
        leaves = leaves.flatten()
    kind = leaves.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if is_number and not leaves.null_count and (not pa.types.is_floating(kind) or pc.all(pc.is_finite(leaves)).as_py()):
        return
    found = first_where(values, lambda value: not isinstance(value, int | float) or not abs(value) < float("inf"))
    if found is None:
        return
    row, label = found
    if label is None:
        raise ValueError(f"{name} has no label in {of!r} of row {row}. Give every row one, or leave the row out.")
    what = f"the label {short(label)} in row {row}, which is not a finite number"
    raise ValueError(f"{name} has {what}. {_numbering(of, label, model, depth_of(values.type))}.")


def _numbering(of: str, label: Any, model: PreTrainedModel, depth: int) -> str:
    if not isinstance(label, str):
        return "Remove the row, or give it a number"
    if re.fullmatch(r"-?\d+(\.\d+)?", label):
        kind = "datasets.Sequence(" * depth + "datasets.Value('float32')" + ")" * depth
        return f"It is a number as text: dataset.cast_column({of!r}, {kind})"
    names, number = short(model.config.id2label), f"model.config.label2id[row[{of!r}]]"
    if task_of(model).predicts == "token":
        number = f"[model.config.label2id[name] for name in row[{of!r}]]"
    elif problem_type(model.config) == "multi_label_classification":
        number = f"[float(name in row[{of!r}]) for _, name in sorted(model.config.id2label.items())]"
    return f"Number the classes as the model does, {names}: dataset.map(lambda row: {{{of!r}: {number}}})"


def _check_texts(name: str, values: pa.Array, model: PreTrainedModel) -> None:
    config, depth = model.config, depth_of(values.type)
    kind, num_labels = problem_type(config), config.num_labels or 1
    width = num_labels
    if depth == 1 and len(values) and _is_multi_hot(config, (pc.list_value_length(values)[0].as_py(),)):
        kind = "multi_label_classification"
    if kind == "single_label_classification":
        width = 1
    wrong_width = first_where(pc.list_value_length(values), lambda count: count != width) if depth == 1 else None
    if depth > 1 or wrong_width or (depth == 0 and width > 1):
        row = wrong_width[0] if wrong_width else 0
        each = "one number" if width == 1 else f"a list of {width} numbers"
        raise ValueError(
            f"{name} has the label {short(values[row].as_py())} in row {row}. This model, of problem type {kind!r} "
            f"with num_labels={num_labels}, takes {each} in a row. Give labels of that form, or set the "
            "config.problem_type of the model."
        )
    if kind == "multi_label_classification":
        found = first_outside(values, 1, whole=False)
        if found is not None:
            raise ValueError(
                f"{name} has {found[1]!r} among the labels of row {found[0]}. With several labels a row, each is a "
                "no or a yes, from 0 to 1. Give 1 for the labels that a row has, and 0 for all others."
            )
    elif kind == "single_label_classification":
        _check_classes(name, values, num_labels)


def _check_classes(
    name: str, values: pa.Array, count: int, *, since: str = "num_labels", ignored: int | None = None
) -> None:
    """All labels are whole numbers from 0 to below a count, though they may be written as floats or booleans."""
    found = first_outside(values, count - 1, ignored=ignored)
    if found is not None:
        also = "" if ignored is None else f" and {ignored}"
        raise ValueError(
            f"{name} has the label {found[1]} in row {found[0]}. Possible for this model are 0 to {count - 1}{also}, "
            f"since {since}={count}. Remove the row (-1 often marks hidden labels), or fine-tune a model with as many "
            "classes."
        )


def _check_choices(name: str, values: pa.Array, dataset: Any) -> None:
    if depth_of(values.type):
        raise ValueError(
            f"{name} has the label {short(values[0].as_py())} in row 0. Of the choices of a row one is right: give its "
            "number, from 0, and no list."
        )
    ids = read_column(name, dataset, "input_ids")
    if ids is not None and len(ids):
        _check_classes(name, values, pc.list_value_length(ids)[0].as_py(), since="choices")


def check_counted(name: str, dataset: Any, model: PreTrainedModel) -> None:
    """Check that labels of tokens are as many as the tokens: what is not -100 counts for a teacher, whatever it is.

    Args:
        name: What to call the data set in errors.
        dataset: Data from which a model learns no labels.
        model: The model.

    Raises:
        ValueError: If a row has more or fewer.
    """
    for of in LABELS if task_of(model).predicts == "token" else ():
        values = read_column(name, dataset, of)
        if values is not None and values.null_count:
            values = _without_missing(name, dataset, values, model)
        if values is not None and len(values):
            _check_as_many(name, of, values, dataset)


def _check_as_many(name: str, of: str, values: pa.Array, dataset: Any) -> None:
    ids = read_column(name, dataset, "input_ids")
    if ids is not None:
        hint = (
            "Give one for every token, -100 where it does not count; word_ids() of the encoded words tells whose it is"
        )
        check_equal_lengths(name, of, values, ids, hint=hint)


def _check_tokens(name: str, of: str, values: pa.Array, dataset: Any, model: PreTrainedModel, *, is_part: bool) -> None:
    _check_as_many(name, of, values, dataset)
    leaves = pc.cast(innermost(values).flatten(), pa.float64(), safe=False)
    is_masked = task_of(model).head == "ForMaskedLM"
    if not is_part and len(values) and not pc.any(pc.not_equal(leaves, float(IGNORED))).as_py():
        hint = "Give more text: few of its tokens are masked" if is_masked else "Give the first token of each word one"
        raise ValueError(
            f"{name} has no label in {of!r} but {IGNORED}, which does not count, so nothing is learned or measured. "
            f"{hint}."
        )
    since = "vocab_size" if is_masked else "num_labels"
    _check_classes(name, values, getattr(model.config, since), since=since, ignored=IGNORED)


def _without_missing(name: str, dataset: Any, values: pa.Array, model: PreTrainedModel) -> pa.Array:
    """Labels with a possible one in the place of each that is missing, so that the others keep the numbers of rows."""
    known = values.drop_null()
    if not len(known):
        return known
    if depth_of(values.type) == 0:
        return pc.fill_null(values, known[0])
    rows = values.to_pylist()
    if task_of(model).predicts == "token":
        ids = read_column(name, dataset, "input_ids")
        lengths = [0] * len(rows) if ids is None else pc.list_value_length(ids).to_pylist()
        return pa.array([[IGNORED] * length if row is None else row for row, length in zip(rows, lengths, strict=True)])
    return pa.array([known[0].as_py() if row is None else row for row in rows])


def _check_spans(name: str, dataset: Any, *, may_be_missing: bool) -> None:
    starts, ends = (read_column(name, dataset, of) if of in column_names(dataset) else None for of in SPAN)
    if starts is None or ends is None:
        if starts is not ends:
            missing = SPAN[0] if starts is None else SPAN[1]
            raise ValueError(f"{name} has no column {missing!r}, only the other end of each answer. Give both.")
        return
    for of, values in zip(SPAN, (starts, ends), strict=True):
        if not pa.types.is_integer(values.type) and not pa.types.is_floating(values.type):
            raise ValueError(
                f"{name} has {of!r} of type {values.type}. An answer has one number of a token there. Give the first "
                "answer of each row."
            )
    ids = read_column(name, dataset, "input_ids")
    lengths = [None] * len(starts) if ids is None else pc.list_value_length(ids).to_pylist()
    for row, (start, end, length) in enumerate(zip(starts.to_pylist(), ends.to_pylist(), lengths, strict=True)):
        if may_be_missing and start is end is None:
            continue
        is_known = start is not None and end is not None and start == int(start) and end == int(end)
        if not is_known or not 0 <= start <= end or (length is not None and end >= length):
            raise ValueError(
                f"{name} has an answer from token {start} to {end} in row {row}, of {length} tokens. Possible are "
                "tokens of the row, the end not before the start. Give 0 and 0, the first token, where a row has no "
                "answer."
            )
