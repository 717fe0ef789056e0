"""Labelled text from files, and how well any size does on it, in torch and ONNX Runtime on the very same batches.

Evaluation during training is that of `training.trainer`; this is for a finished model of sentences or sentence pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction
from transformers.utils import logging

from ..families import longest_input
from ..model.elastic_model import ElasticModelMixin
from ..tasks import IGNORED, has_generic_names, problem_type, task_of
from .labels import CastLabels, check_labels
from .text_files import read_rows

logger = logging.get_logger(__name__)

COLUMNS = {"text": (("text",), "label"), "token": (("tokens",), "tags")}
"""For what has a prediction of its own the columns that are read by default, and that of its labels."""


@dataclass(frozen=True)
class LabelledText:
    """Labelled sentences, tokenised and in batches.

    Args:
        batches: Inputs of the model by name, each `(batch, seq)`, padded.
        labels: The labels in the order of the batches: of every sentence, or of every token, -100 where none counts.
        metrics: What to make of predictions and labels.
    """

    batches: tuple[Mapping[str, torch.Tensor], ...]
    labels: np.ndarray
    metrics: Any

    @classmethod
    def from_file(
        cls,
        path: str | PathLike,
        model: ElasticModelMixin,
        tokenizer: Any,
        *,
        text_columns: Sequence[str] | None = None,
        label_column: str | None = None,
        label_order: Sequence[str] | None = None,
        batch_size: int = 32,
    ) -> LabelledText:
        """Read a csv, json, jsonl or parquet file; where a row holds lists, one of the last three.

        Args:
            path: The file.
            model: The model to evaluate, for sequences or tokens. It knows its labels and how much text it takes.
            tokenizer: Its tokenizer.
            text_columns: The column of the sentence, or the two of a pair; None: `text`, for tokens `tokens`, which
                holds a list of words.
            label_column: The column of the labels: their names (1.0 also names "1"), or else their numbers; the value
                of a regression, or the list of its values; the list of all labels of a text with several; or a list
                with the label of every word. None: `label`, for tokens `tags`.
            label_order: Names of the classes in the order of the model's outputs, where it calls them `LABEL_0` and
                so on; None: those of the model.
            batch_size: Sentences a batch.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file has another suffix, cannot be read, has no rows, not these columns, a row without
                text or label, or labels that the model does not know, or the model has another head.
        """
        task = task_of(model)
        if task.predicts not in COLUMNS:
            raise ValueError(
                f"A {type(model).__name__} does not give labels to a text or its words, which is what a file of "
                "labelled text holds. Possible are models ForSequenceClassification and ForTokenClassification; "
                "evaluate this one with DynaBertTrainer(...).evaluate()."
            )
        default_texts, default_label = COLUMNS[task.predicts]
        text_columns, label_column = text_columns or default_texts, label_column or default_label
        names = _names(model.config, label_order)
        rows = read_rows(path, needed=[*text_columns, label_column], as_text=True)
        given = list(rows[label_column])
        if task.predicts == "token":
            encoded, labels = _tagged(list(rows[text_columns[0]]), given, label_column, names, model, tokenizer)
        else:
            encoded = _tokenised(rows, model, tokenizer, text_columns)
            labels = _labels(given, label_column, model, names)
        examples = [
            {**{name: encoded[name][row] for name in encoded}, "labels": label} for row, label in enumerate(labels)
        ]
        check_labels(repr(str(path)), examples, model)
        examples.sort(key=lambda example: -len(example["input_ids"]))
        collate = CastLabels(task.collator(tokenizer), model)
        batches = [dict(collate(examples[start : start + batch_size])) for start in range(0, len(examples), batch_size)]
        return cls(tuple(batches), _joined([batch.pop("labels").numpy() for batch in batches]), task.metrics(model))

    def predict(self, model: ElasticModelMixin) -> np.ndarray:
        """The logits of the active size of a model, in the order of `labels`; it is left in evaluation mode."""
        model.eval()
        with torch.inference_mode():
            return _joined([model(**_on(batch, model.device)).logits.float().cpu().numpy() for batch in self.batches])

    def labelled_batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """The batches with their labels, as a model takes them to tell its loss."""
        start = 0
        for batch in self.batches:
            length = batch["input_ids"].shape[-1]
            labels = torch.as_tensor(self.labels[start : start + len(batch["input_ids"])])
            start += len(labels)
            yield {**batch, "labels": labels[:, :length] if self.has_labelled_tokens else labels}

    @property
    def has_labelled_tokens(self) -> bool:
        """Whether every token has a label, and not every text."""
        longest = max(batch["input_ids"].shape[-1] for batch in self.batches)
        return self.labels.ndim == 2 and self.labels.dtype.kind == "i" and self.labels.shape[1] == longest

    def score(self, logits: np.ndarray) -> dict[str, float]:
        """Metrics of logits in the order of `labels`."""
        return self.metrics(EvalPrediction(logits, self.labels))

    def evaluate(self, model: ElasticModelMixin) -> dict[str, float]:
        """Metrics of the active size of a model, in evaluation mode, which it is left in."""
        return self.score(self.predict(model))

    def evaluate_onnx(self, runner: Any) -> dict[str, float]:
        """Metrics of a size in ONNX Runtime."""
        return self.score(_joined([runner(**batch)["logits"] for batch in self.batches]))


def tokenised_texts(
    path: str | PathLike, model: ElasticModelMixin, tokenizer: Any, *, text_columns: Sequence[str] = ("text",)
) -> list[dict[str, list[int]]]:
    """The texts of a csv, json, jsonl or parquet file as inputs of a model, to learn on without labels.

    Args:
        path: The file.
        model: The model, which knows how much text it takes.
        tokenizer: Its tokenizer.
        text_columns: The column of the text, or the two of a pair.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has another suffix, cannot be read, has no rows, not these columns, or a row without
            text.
    """
    encoded = _tokenised(read_rows(path, needed=list(text_columns), as_text=True), model, tokenizer, text_columns)
    return [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]


def read_texts(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The texts of a csv, json, jsonl or parquet file, a row each, from these columns.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, has no rows, not these columns, or a row without text.
    """
    rows = read_rows(path, needed=list(columns), as_text=True)
    return list(zip(*(_texts(list(rows[column]), column) for column in columns), strict=True))


def _tokenised(rows: Any, model: ElasticModelMixin, tokenizer: Any, text_columns: Sequence[str]) -> dict[str, list]:
    texts = [_texts(list(rows[column]), column) for column in text_columns]
    return _inputs(tokenizer(*texts, truncation=True, max_length=_most_tokens(model, tokenizer)))


def _most_tokens(model: ElasticModelMixin, tokenizer: Any) -> int:
    return min(longest_input(model.config), tokenizer.model_max_length)


def _inputs(encoded: Mapping[str, list]) -> dict[str, list]:
    return {name: encoded[name] for name in encoded if name in ("input_ids", "attention_mask", "token_type_ids")}


def _on(batch: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """Batches as one, with -100 where the rows of one are shorter."""
    if arrays[0].ndim < 2:
        return np.concatenate(arrays)
    longest = max(array.shape[1] for array in arrays)
    widths = [[(0, 0), (0, longest - array.shape[1]), *[(0, 0)] * (array.ndim - 2)] for array in arrays]
    padded = [np.pad(array, width, constant_values=IGNORED) for array, width in zip(arrays, widths, strict=True)]
    return np.concatenate(padded)


def _names(config: Any, label_order: Sequence[str] | None) -> dict[int, str]:
    if label_order is None:
        return dict(config.id2label)
    if len(label_order) != config.num_labels or not has_generic_names(config):
        raise ValueError(
            f"label_order={list(label_order)} was given for the classes {config.id2label}. Give as many names, and "
            "only to a model that calls its classes LABEL_0, LABEL_1 and so on."
        )
    return dict(enumerate(label_order))


def _labels(given: list[Any], column: str, model: ElasticModelMixin, names: Mapping[int, str]) -> list[Any]:
    """A label or value for every text, or a list of them where the model gives several."""
    config: Any = model.config
    kind, has_several = problem_type(config), config.num_labels > 1
    if kind == "single_label_classification" or not has_several:
        return _label_ids(given, column, config, names).tolist()
    for row, label in enumerate(given, 1):
        if not isinstance(label, list):
            raise ValueError(
                f"Column {column!r} has {label!r} in row {row}. The model gives a text several labels or values. Give "
                "a list in every row, in a json, jsonl or parquet file."
            )
    if kind == "regression" or not all(isinstance(label, str) for row in given for label in row):
        return given
    ids = {name: number for number, name in names.items()}
    for row, own in enumerate(given, 1):
        unknown = [label for label in own if label not in ids]
        if unknown:
            raise ValueError(
                f"Column {column!r} has the label {unknown[0]!r} in row {row}. The model knows {_short(names)}; give "
                "those that a text has."
            )
    return [[float(names[number] in own) for number in sorted(names)] for own in given]


def _tagged(
    words: list[Any], tags: list[Any], column: str, names: Mapping[int, str], model: Any, tokenizer: Any
) -> tuple[dict[str, list], list[list[int]]]:
    """Words as tokens, and for each token the label of its word if it is the first of it, else -100."""
    for row, (own, labels) in enumerate(zip(words, tags, strict=True), 1):
        if not isinstance(own, list) or not isinstance(labels, list) or len(own) != len(labels) or not own:
            raise ValueError(
                f"Row {row} has the words {_short(own)} and the labels {_short(labels)} in column {column!r}. Give two "
                "lists of the same length, in a json, jsonl or parquet file."
            )
    flat = [label for row in tags for label in row]
    ids = iter(_ids_of(flat, names))
    numbers = [[next(ids) for _ in row] for row in tags]
    if None in (number for row in numbers for number in row):
        unknown = next(label for label, number in zip(flat, _ids_of(flat, names), strict=True) if number is None)
        row = next(number for number, own in enumerate(tags, 1) if unknown in own)
        raise ValueError(
            f"Column {column!r} has the label {unknown!r} in row {row}. The model knows {_short(names)}; give the "
            "names of all labels, or the numbers of all."
        )
    length = _most_tokens(model, tokenizer)
    encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=length)
    labels, cut = [], 0
    for row, own in enumerate(numbers):
        places = encoded.word_ids(row)
        is_first = [place is not None and place not in places[:number] for number, place in enumerate(places)]
        labels.append([own[place] if first else IGNORED for place, first in zip(places, is_first, strict=True)])
        cut += len(own) - sum(is_first)
    if cut:
        logger.warning(f"{cut} of {len(flat)} words stand after token {length} of their row, and are not measured.")
    return _inputs(encoded), labels


def _ids_of(labels: list[Any], names: Mapping[int, str]) -> list[int | None]:
    """The number of every label: by names if all of them are names, else by numbers."""
    by_name = {str(name): number for number, name in names.items()}
    found = [_look_up(label, by_name) for label in labels]
    return (
        found if None not in found else [_look_up(label, {str(number): number for number in names}) for label in labels]
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _texts(texts: list[Any], column: str) -> list[str]:
    for row, text in enumerate(texts, 1):
        if text is None or not str(text).strip():
            raise ValueError(f"Row {row} has no text in column {column!r}. Fill it, or leave the row out.")
    return [str(text) for text in texts]


def _label_ids(labels: list[Any], column: str, config: Any, known: Mapping[int, str]) -> np.ndarray:
    for row, label in enumerate(labels, 1):
        if label is None or label == "" or label != label:
            raise ValueError(f"Row {row} has no label in column {column!r}. Fill it, or leave the row out.")
    if config.num_labels == 1:
        try:
            return np.array([float(label) for label in labels])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Column {column!r} holds values that are no numbers ({error}); the model is one of regression."
            ) from error
    by_name = {str(name): number for number, name in known.items()}
    by_number = {str(number): number for number in known}
    names, numbers = ([_look_up(label, ids) for label in labels] for ids in (by_name, by_number))
    for ids in (names, numbers):
        if None not in ids:
            return np.array(ids)
    unknown = [row for row, both in enumerate(zip(names, numbers, strict=True)) if both == (None, None)]
    row = unknown[0] if unknown else names.index(None)
    raise ValueError(
        f"Column {column!r} has the label {labels[row]!r} in row {row + 1}. The model knows {known}; give "
        "the names of all labels, or the numbers of all."
    )


def _look_up(label: Any, ids: Mapping[str, int]) -> int | None:
    return next((ids[text] for text in _spellings(label) if text in ids), None)


def _spellings(label: Any) -> list[str]:
    """What a label may be called: itself as text, but 1.0 also 1, and true, which JSON has, also True or 1."""
    text = str(label)
    if isinstance(label, bool):
        return [text, text.lower(), str(int(label))]
    try:
        number = float(text)
    except ValueError:
        return [text]
    return [text, str(int(number))] if number.is_integer() else [text]
