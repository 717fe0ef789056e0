"""How well any size does on labelled text, in torch and in ONNX Runtime on the very same batches.

Evaluation during training is that of `trainer`; this is for a finished model of sentences or sentence pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import load_dataset
from transformers import DataCollatorWithPadding, EvalPrediction, PreTrainedModel

from .counting import longest_input
from .elastic_model import ElasticModelMixin
from .onnx_model import OnnxModel

Metrics = Callable[[EvalPrediction], dict[str, float]]


def default_metrics(model: PreTrainedModel) -> Metrics | None:
    """Accuracy, or error and correlation of a regression; None for heads without an obvious choice."""
    if not type(model).__name__.endswith("ForSequenceClassification"):
        return None
    return _regression_metrics if model.config.num_labels == 1 else _accuracy


def _accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def _regression_metrics(prediction: EvalPrediction) -> dict[str, float]:
    predicted, labels = prediction.predictions.reshape(-1), prediction.label_ids
    says_nothing = np.ptp(predicted) == 0 or np.ptp(labels) == 0  # the correlation with a constant is undefined
    return {
        "mse": float(np.square(predicted - labels).mean()),
        "pearson": 0.0 if says_nothing else float(np.corrcoef(predicted, labels)[0, 1]),
    }


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
    metrics: Metrics

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
            label_column: The column of the labels: their names, their numbers, or the values of a regression.
            batch_size: Sentences a batch.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file has another suffix, no rows, not these columns, or labels that the model does not
                know, or the model has another head than one of sequence classification.
        """
        metrics = default_metrics(model)
        if metrics is None:
            raise ValueError(
                f"A {type(model).__name__} does not give one label a text. Possible are models "
                "ForSequenceClassification; evaluate this one with DynaBertTrainer(...).evaluate()."
            )
        rows = _read(Path(path), [*text_columns, label_column])
        labels = _label_ids(rows[label_column], label_column, model.config)
        length = min(longest_input(model.config), tokenizer.model_max_length)
        texts = [[str(text) for text in rows[column]] for column in text_columns]
        encoded = tokenizer(*texts, truncation=True, max_length=length)
        order = sorted(range(len(labels)), key=lambda row: -len(encoded["input_ids"][row]))
        collate = DataCollatorWithPadding(tokenizer)
        names = [name for name in encoded if name in ("input_ids", "attention_mask", "token_type_ids")]
        batches = tuple(
            dict(collate([{name: encoded[name][row] for name in names} for row in order[start : start + batch_size]]))
            for start in range(0, len(order), batch_size)
        )
        return cls(batches, labels[order], metrics)

    def evaluate(self, model: ElasticModelMixin) -> dict[str, float]:
        """Metrics of the active size of a model, in evaluation mode, which it is left in."""
        model.eval()
        with torch.inference_mode():
            logits = [model(**_on(batch, model.device)).logits.float().cpu().numpy() for batch in self.batches]
        return self.metrics(EvalPrediction(np.concatenate(logits), self.labels))

    def evaluate_onnx(self, runner: OnnxModel) -> dict[str, float]:
        """Metrics of a size in ONNX Runtime."""
        logits = [runner(**_complete(batch, runner.input_names))["logits"] for batch in self.batches]
        return self.metrics(EvalPrediction(np.concatenate(logits), self.labels))


def _on(batch: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _complete(batch: Mapping[str, torch.Tensor], names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The batch with the token types that a graph wants and some tokenizers leave out: all the first."""
    missing = {"token_type_ids": torch.zeros_like(batch["input_ids"])} if "token_type_ids" in names else {}
    return {**missing, **batch}


def _read(path: Path, columns: list[str]) -> Any:
    kinds = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Give the file of labelled text.")
    if path.suffix not in kinds:
        raise ValueError(f"{str(path)!r} ends in {path.suffix!r}. Possible is one of {list(kinds)}.")
    rows = load_dataset(kinds[path.suffix], data_files=str(path), split="train")
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise ValueError(f"{str(path)!r} has no column {missing}, only {rows.column_names}. Name the right columns.")
    if not len(rows):
        raise ValueError(f"{str(path)!r} has no rows. Give at least one labelled text.")
    return rows


def _label_ids(labels: Sequence[Any], column: str, config: Any) -> np.ndarray:
    if config.num_labels == 1:
        try:
            return np.array([float(label) for label in labels])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Column {column!r} holds values that are no numbers ({error}); the model is one of regression."
            ) from error
    ids: dict[Any, int] = {name: number for number, name in config.id2label.items()}
    if not {str(label) for label in labels} <= set(map(str, ids)):
        ids = {number: number for number in config.id2label}
    try:
        return np.array([ids[label] for label in labels])
    except KeyError as error:
        raise ValueError(
            f"Column {column!r} has the label {error.args[0]!r}. The model knows {config.id2label}; give their names "
            "or their numbers."
        ) from error
