"""Labelled text from files, and how well any size does on it, in torch and ONNX Runtime on the very same batches.

Evaluation during training is that of `training.trainer`; this is for a finished model of sentences or sentence pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import load_dataset
from transformers import DataCollatorWithPadding, EvalPrediction

from ..families import longest_input
from ..model.elastic_model import ElasticModelMixin
from ..tasks import problem_type, task_of


@dataclass(frozen=True)
class LabelledText:
    """Labelled sentences, tokenised and in batches.

    Args:
        batches: Inputs of the model by name, each `(batch, seq)`, padded.
        labels: The label of every sentence, in the order of the batches.
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
        text_columns: Sequence[str] = ("text",),
        label_column: str = "label",
        batch_size: int = 32,
    ) -> LabelledText:
        """Read a csv, json, jsonl or parquet file.

        Args:
            path: The file.
            model: The model to evaluate, which knows its labels and how much text it takes.
            tokenizer: Its tokenizer.
            text_columns: The column of the sentence, or the two of a pair.
            label_column: The column of the labels: their names (1.0 also names "1"), or else their numbers; or the
                values of a regression.
            batch_size: Sentences a batch.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file has another suffix, cannot be read, has no rows, not these columns, a row without
                text or label, or labels that the model does not know, or the model does not give one label or value a
                text.
        """
        task, kind = task_of(model), problem_type(model.config)
        one_answer = kind == "single_label_classification" or (kind == "regression" and model.config.num_labels == 1)
        if task.predicts != "text" or not one_answer:
            problem = f" of problem type {model.config.problem_type!r}" if task.predicts == "text" else ""
            raise ValueError(
                f"A {type(model).__name__}{problem} does not give one label a text, and a file has one column of "
                "labels. Possible are models ForSequenceClassification with one label or one value a text; evaluate "
                "this one with DynaBertTrainer(...).evaluate()."
            )
        rows = _read(Path(path), [*text_columns, label_column])
        labels = _label_ids(list(rows[label_column]), label_column, model.config)
        encoded = _tokenised(rows, model, tokenizer, text_columns)
        order = sorted(range(len(labels)), key=lambda row: -len(encoded["input_ids"][row]))
        collate = DataCollatorWithPadding(tokenizer)
        batches = tuple(
            dict(collate([{name: encoded[name][row] for name in encoded} for row in order[start : start + batch_size]]))
            for start in range(0, len(order), batch_size)
        )
        return cls(batches, labels[order], task.metrics(model))

    def evaluate(self, model: ElasticModelMixin) -> dict[str, float]:
        """Metrics of the active size of a model, in evaluation mode, which it is left in."""
        model.eval()
        with torch.inference_mode():
            logits = [model(**_on(batch, model.device)).logits.float().cpu().numpy() for batch in self.batches]
        return self.metrics(EvalPrediction(np.concatenate(logits), self.labels))

    def evaluate_onnx(self, runner: Any) -> dict[str, float]:
        """Metrics of a size in ONNX Runtime."""
        logits = [runner(**batch)["logits"] for batch in self.batches]
        return self.metrics(EvalPrediction(np.concatenate(logits), self.labels))


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
    encoded = _tokenised(_read(Path(path), list(text_columns)), model, tokenizer, text_columns)
    return [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]


def read_texts(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The texts of a csv, json, jsonl or parquet file, a row each, from these columns.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, has no rows, not these columns, or a row without text.
    """
    rows = _read(path, list(columns))
    return list(zip(*(_texts(list(rows[column]), column) for column in columns), strict=True))


def _tokenised(rows: Any, model: ElasticModelMixin, tokenizer: Any, text_columns: Sequence[str]) -> dict[str, list]:
    length = min(longest_input(model.config), tokenizer.model_max_length)
    texts = [_texts(list(rows[column]), column) for column in text_columns]
    encoded = tokenizer(*texts, truncation=True, max_length=length)
    return {name: encoded[name] for name in encoded if name in ("input_ids", "attention_mask", "token_type_ids")}


def _on(batch: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _read(path: Path, columns: list[str]) -> Any:
    as_written = {"keep_default_na": False, "converters": dict.fromkeys(columns, str)}  # "n/a" and 007 are texts
    readers = {".csv": ("csv", as_written), ".json": ("json", {}), ".jsonl": ("json", {}), ".parquet": ("parquet", {})}
    no_rows = f"{str(path)!r} has no rows. Give at least one labelled text."
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Give the file of labelled text.")
    if path.suffix not in readers:
        raise ValueError(f"{str(path)!r} ends in {path.suffix!r}. Possible is one of {list(readers)}.")
    reader, options = readers[path.suffix]
    try:
        rows = load_dataset(reader, data_files=str(path), split="train", **options)
    except Exception as error:  # each reader fails in its own way
        if "corresponds to no data" in str(error):
            raise ValueError(no_rows) from error
        cause = error.__cause__ or error
        text = " ".join(str(cause).split()) or type(cause).__name__
        raise ValueError(
            f"{str(path)!r} cannot be read as {reader}: {text}. Give a file of that form, in UTF-8."
        ) from error
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise ValueError(f"{str(path)!r} has no column {missing}, only {rows.column_names}. Name the right columns.")
    if not len(rows):
        raise ValueError(no_rows)
    return rows


def _texts(texts: list[Any], column: str) -> list[str]:
    if None in texts:
        raise ValueError(
            f"Row {texts.index(None) + 1} has no text in column {column!r}. Fill it, or leave the row out."
        )
    return [str(text) for text in texts]


def _label_ids(labels: list[Any], column: str, config: Any) -> np.ndarray:
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
    by_name = {str(name): number for number, name in config.id2label.items()}
    by_number = {str(number): number for number in config.id2label}
    names, numbers = ([_look_up(label, ids) for label in labels] for ids in (by_name, by_number))
    for ids in (names, numbers):
        if None not in ids:
            return np.array(ids)
    unknown = [row for row, both in enumerate(zip(names, numbers, strict=True)) if both == (None, None)]
    row = unknown[0] if unknown else names.index(None)
    raise ValueError(
        f"Column {column!r} has the label {labels[row]!r} in row {row + 1}. The model knows {config.id2label}; give "
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
