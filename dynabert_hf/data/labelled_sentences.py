"""Pairs of texts with scores, or texts with labels, from files, and how well vectors of any size tell what is alike.

The counterpart of `labelled_text` for sentence encoders, in torch and ONNX Runtime on the very same batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from ..tasks import evaluating, on_device, task_of
from .labelled_text import read_texts
from .pooling import Pooling, sentence_vectors, single_texts
from .sentences import SCORE_COLUMNS, texts_to_measure
from .text_columns import as_names
from .text_files import names_of_columns

PAIR, SCORE, LABEL = ("sentence1", "sentence2"), "score", "label"
"""The columns that are read by default: of a pair, and of what one or two texts have."""


@dataclass(frozen=True)
class LabelledSentences:
    """Texts or pairs of texts, tokenised and in batches.

    Args:
        batches: Inputs of the model by name, each `(texts, seq)` or `(pairs, 2, seq)`, padded.
        labels: The labels or scores in the order of the batches.
        metrics: What to make of vectors and labels.
        pooling: What makes a vector of the states of a text.
    """

    batches: tuple[Mapping[str, torch.Tensor], ...]
    labels: np.ndarray
    metrics: Any
    pooling: Pooling

    def __len__(self) -> int:
        """Rows of the file."""
        return len(self.labels)

    @classmethod
    def from_file(
        cls,
        path: str | PathLike,
        model: Any,
        tokenizer: Any,
        *,
        text_columns: Sequence[str] | None = None,
        label_column: str | None = None,
        batch_size: int = 32,
    ) -> LabelledSentences:
        """Read a csv, json, jsonl or parquet file.

        Args:
            path: The file.
            model: The sentence encoder.
            tokenizer: Its tokenizer.
            text_columns: The two columns of a pair, or the one of single texts; None: `sentence1` and `sentence2`.
            label_column: The score of a pair, a number, or the label of a text; None: `score`, of single texts `label`,
                or where this is missing another usual name, as `train_dynabert` reads them.
            batch_size: Rows a batch.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file cannot be read, has no rows, not these columns, or scores that are no numbers.
        """
        texts = list(as_names(text_columns) or PAIR)
        label = label_column or _usual_label(path, SCORE if len(texts) == 2 else LABEL)
        columns = [*texts, label]
        table = [dict(zip(columns, row, strict=True)) for row in read_texts(Path(path), columns)]
        rows = list(texts_to_measure(repr(str(path)), table, model, tokenizer, label_column=label))
        collate = task_of(model).collator(tokenizer)
        batches = [dict(collate(rows[start : start + batch_size])) for start in range(0, len(rows), batch_size)]
        labels = np.concatenate([batch.pop("labels").numpy() for batch in batches])
        return cls(tuple(batches), labels, task_of(model).metrics(model), Pooling.of(model.config))

    def evaluate(self, model: Any) -> dict[str, float]:
        """Metrics of the active size of a model, in evaluation mode."""
        with evaluating(model), torch.inference_mode():
            batches = (on_device(batch, model.device) for batch in self.batches)
            vectors = [sentence_vectors(model, batch).float().cpu() for batch in batches]
        return self.metrics(EvalPrediction(torch.cat(vectors).numpy(), self.labels))

    def evaluate_onnx(self, runner: Any) -> dict[str, float]:
        """Metrics of a size in ONNX Runtime, which gives states that are pooled here."""
        vectors = []
        for batch in self.batches:
            flat = single_texts(batch)
            states = torch.as_tensor(runner(**flat)["last_hidden_state"])
            pooled = self.pooling(states, flat.get("attention_mask"))
            vectors.append(pooled.unflatten(0, batch["input_ids"].shape[:-1]))
        return self.metrics(EvalPrediction(torch.cat(vectors).numpy(), self.labels))


def _usual_label(path: str | PathLike, usual: str) -> str:
    """The column of this name, or where a file lacks it another one that `train_dynabert` reads labels from."""
    names = names_of_columns(path)
    return next((each for each in (usual, *SCORE_COLUMNS) if each in names), usual)
