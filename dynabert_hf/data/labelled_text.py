"""Labelled text from files, and how well any size does on it, in torch and ONNX Runtime on the very same batches.

Evaluation during training is that of `training.size_evaluation`; this is for a finished model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from ..messages import check_counts
from ..model.elastic_model import ElasticModelMixin
from ..task_metrics import IGNORED
from ..tasks import evaluating, is_sentence_encoder, on_device, task_of
from .class_names import check_label_order
from .encoding import (
    as_texts,
    check_words,
    encoded,
    most_tokens,
    read_by_number,
    rows_of_texts,
    tokenised,
    warn_of_other_labels,
)
from .labels import SPAN, check_labels, collator_of
from .masking import SEED, MaskedOnce
from .questions import ANSWERS, WINDOW, Questions, read_questions
from .questions import COLUMNS as QUESTION_COLUMNS
from .sentences import texts_to_learn
from .text_columns import TextColumns, named_texts
from .text_files import names_of_columns, read_rows
from .tokens import check_knows_words

COLUMNS: Mapping[str, TextColumns] = {
    "ForSequenceClassification": TextColumns(("text",), "label"),
    "ForTokenClassification": TextColumns(("tokens",), "tags"),
    "ForMultipleChoice": TextColumns(("text", "choices"), "label"),
    "ForMaskedLM": TextColumns(("text",), None),
    "ForQuestionAnswering": TextColumns(QUESTION_COLUMNS, ANSWERS),
}
"""For each head the columns that are read by default."""

NEVER = -1e9
"""The logit of a choice or a place that a row does not have: 0 as a probability, whatever the temperature."""

Arrays = Any
"""An array with a row for each example, or a tuple of such, where a head has several outputs."""


@dataclass(frozen=True)
class LabelledText:
    """Labelled text, tokenised and in batches.

    Args:
        batches: Inputs of the model by name, each `(batch, seq)`, padded.
        labels: The labels in the order of the data: of every text, or of every token, -100 where none counts; for
            questions the first and the last token of each answer.
        metrics: What to make of predictions and labels.
        outputs: The outputs of the model that are its predictions.
        preprocess_logits: What to keep of the logits of a batch; None: all.
        num_rows: Rows of the file; None: as many as labels.
        order: For each row of the batches, one after the other, its number in the data; None: they are in that order.

    Raises:
        ValueError: If there is no batch.
    """

    batches: tuple[Mapping[str, torch.Tensor], ...]
    labels: Arrays
    metrics: Any
    outputs: tuple[str, ...] = ("logits",)
    preprocess_logits: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = field(default=None, repr=False)
    num_rows: int | None = None
    order: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.batches:
            raise ValueError(
                "This labelled text has no batches, so nothing can be measured on it. Give at least one batch with its "
                "labels, or read a file by LabelledText.from_file."
            )

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
        """Read labelled text from a csv, tsv, json, jsonl, parquet or txt file; lists need json, jsonl or parquet.

        Args:
            path: The file. Of questions it may have SQuAD's own form. Of a data set in memory `to_parquet` writes one.
            model: The model to evaluate. It knows its labels and how much text it takes.
            tokenizer: Its tokenizer.
            text_columns: The column of the text, or the two of a pair; None: `text`, for tokens `tokens`, which holds
                a list of words, for questions `question` and `context`, for choices `text` and `choices`, or where
                these are missing other usual names, as `train_dynabert` reads them, such as those of GLUE.
            label_column: The column of the labels: their names (1.0 also names "1"), or else their numbers; the value
                of a regression, or the list of its values; the list of all labels of a text with several; or a list
                with the label of every word. None: `label`, for tokens `tags` or `ner_tags`, for questions `answers`.
                A masked language model has none: its masks are drawn once, as a training with the default seed does it.
            label_order: Names of the classes in the order of the model's outputs, where it calls them `LABEL_0` and
                so on; None: those of the model.
            batch_size: Rows a batch.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file has another suffix, cannot be read, has no rows, not these columns, a row without
                text or label, or labels that the model does not know, or the model has no head, or no
                classes to be in the order of `label_order`, the tokenizer knows no words, or `batch_size` is below one.
        """
        task = task_of(model)
        check_counts(batch_size=batch_size)
        check_knows_words(tokenizer)
        check_label_order(label_order, model)
        if task.head not in COLUMNS:
            raise ValueError(
                f"A {type(model).__name__} has no head, so its outputs cannot be compared with labels. Possible are "
                f"models {', '.join(COLUMNS)}. Give one of these, or evaluate what you compute from its outputs."
            )
        usual = COLUMNS[task.head]
        if label_column and usual.labels is None:
            raise ValueError(
                f"label_column={label_column!r} was given for a {type(model).__name__}, whose labels are the words "
                "under its masks. Leave it out."
            )
        columns = TextColumns(tuple(named_texts(text_columns, model) or usual.texts), label_column or usual.labels)
        if task.predicts == "span":
            return cls._of_questions(path, columns, model, tokenizer, batch_size)
        found = columns.or_usual(names_of_columns(path), model)
        columns = TextColumns(columns.texts if text_columns else found.texts, label_column or found.labels)
        needed = [*columns.texts, *([] if columns.labels is None else [columns.labels])]
        rows = read_rows(path, needed=needed, as_text=True)
        examples: Any = encoded(rows, columns, model, tokenizer, label_order=label_order, needs_labels=True)
        if columns.labels is not None:
            read_by_number({repr(str(path)): rows}, columns.labels, model)
        if label_column is None:
            warn_of_other_labels(examples, rows, columns, model, tokenizer, label_order=label_order)
        if task.head == "ForMaskedLM":
            examples = MaskedOnce(examples, task.collator(tokenizer), seed=SEED).rows()
        check_labels(repr(str(path)), examples, model)
        order = np.argsort([-len(example["input_ids"]) for example in examples], kind="stable")
        told: dict[str, Any] = {"metrics": task.metrics(model), "num_rows": len(rows), "order": order}
        return cls._batched([examples[row] for row in order], model, tokenizer, batch_size, **told)

    @classmethod
    def _of_questions(
        cls, path: str | PathLike, columns: TextColumns, model: ElasticModelMixin, tokenizer: Any, batch_size: int
    ) -> LabelledText:
        rows = read_questions(path, columns=columns.texts, needed=[str(columns.labels)])
        window = most_tokens(model, tokenizer, WINDOW)
        asked: dict[str, Any] = {"columns": columns.texts, "answer_column": columns.labels, "max_length": window}
        questions = Questions.from_rows(rows, tokenizer, name=repr(str(path)), **asked)
        told: dict[str, Any] = {"metrics": questions.metrics, "num_rows": len(rows)}
        return cls._batched([dict(each) for each in questions.windows], model, tokenizer, batch_size, **told)

    @classmethod
    def _batched(
        cls,
        examples: list[dict[str, Any]],
        model: Any,
        tokenizer: Any,
        batch_size: int,
        *,
        order: np.ndarray | None = None,
        **told: Any,
    ) -> LabelledText:
        """Examples in batches, in their order, which is that of the data or the `order` of their numbers there."""
        task = task_of(model)
        collate = collator_of(model, tokenizer)
        batches = [dict(collate(examples[at : at + batch_size])) for at in range(0, len(examples), batch_size)]
        by_batch = [joined([batch.pop(name).numpy() for batch in batches]) for name in task.label_names]
        labels = [_as_in_data(each, order) for each in by_batch]
        told = {"outputs": task.outputs, "preprocess_logits": task.preprocess_logits, **told}
        return cls(tuple(batches), _alone(labels), order=order, **told)

    def __len__(self) -> int:
        """Rows of the file."""
        labels = self.labels[0] if isinstance(self.labels, tuple) else self.labels
        return len(labels) if self.num_rows is None else self.num_rows

    def predict(self, model: ElasticModelMixin) -> Arrays:
        """The logits of the active size of a model, in the order of the data; the mode of the model does not change."""
        with evaluating(model), torch.inference_mode():
            return self._of_all(lambda **batch: model(**on_device(batch, model.device), return_dict=True))

    def _of_all(self, run: Callable[..., Any]) -> Arrays:
        """What metrics need of the outputs of something that runs a batch, in the order of the data."""
        found: list[list[np.ndarray]] = [[] for _ in self.outputs]
        at = 0
        for batch in self.batches:
            outputs = run(**batch)
            for name, arrays in zip(self.outputs, found, strict=True):
                arrays.append(self._kept(torch.as_tensor(outputs[name]).float().cpu(), at))
            at += len(batch["input_ids"])
        return _alone([_as_in_data(joined(arrays), self.order) for arrays in found])

    def labelled_batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """The batches with their labels, from which a model computes its loss."""
        start = 0
        for batch in self.batches:
            length, own = batch["input_ids"].shape[-1], slice(start, start + len(batch["input_ids"]))
            start = own.stop
            if isinstance(self.labels, tuple):
                spans = (torch.as_tensor(each[own]) for each in self.labels)
                yield {**batch, **dict(zip(SPAN, spans, strict=True))}
                continue
            labels = torch.as_tensor(self._labels_in_batches(own))
            yield {**batch, "labels": labels[:, :length].contiguous() if self.has_labelled_tokens else labels}

    @property
    def has_labelled_tokens(self) -> bool:
        """Whether labels belong to tokens, and not to whole texts."""
        longest = max(batch["input_ids"].shape[-1] for batch in self.batches)
        return self.labels.ndim == 2 and self.labels.dtype.kind == "i" and self.labels.shape[1] == longest

    def _labels_in_batches(self, rows: slice) -> Any:
        """The labels of some rows of the batches."""
        return self.labels[rows if self.order is None else self.order[rows]]

    def score(self, logits: Arrays) -> dict[str, float]:
        """Metrics of logits in the order of the data."""
        return self.metrics(EvalPrediction(logits, self.labels))

    def evaluate(self, model: ElasticModelMixin) -> dict[str, float]:
        """Metrics of the active size of a model, in evaluation mode."""
        return self.score(self.predict(model))

    def evaluate_onnx(self, runner: Any) -> dict[str, float]:
        """Metrics of a size in ONNX Runtime."""
        return self.score(self._of_all(runner))

    def _kept(self, logits: torch.Tensor, at: int) -> np.ndarray:
        """What metrics need of the logits of a batch, whose first row has this number."""
        if self.preprocess_logits is None:
            return logits.numpy()
        labels = torch.from_numpy(self._labels_in_batches(slice(at, at + len(logits)))[:, : logits.shape[1]])
        return self.preprocess_logits(logits, labels).numpy()


def check_labelled(text: Any) -> None:
    """Check that what sizes are to be measured on is labelled text.

    Raises:
        TypeError: If it is something else, such as the name of a file or a data set.
    """
    if not isinstance(text, LabelledText):
        raise TypeError(
            f"The text is a {type(text).__name__}. Possible is a LabelledText; give LabelledText.from_file(file, "
            "model, tokenizer). Of a data set in memory dataset.to_parquet(file) makes a file."
        )


def tokenised_texts(
    path: str | PathLike, model: Any, tokenizer: Any, *, text_columns: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """The texts of a csv, json, jsonl or parquet file as inputs of a model, to learn on without labels.

    Of questions that are windows of their texts, of a masked language model all parts of a text that is too long. Words
    in lists are read as such, as in training.

    Args:
        path: The file. Of questions it may have SQuAD's own form.
        model: The model, which knows how much text it takes.
        tokenizer: Its tokenizer.
        text_columns: The column of the text, or the two of a pair, or of a text and its choices; None: those of usual
            names. A sentence encoder reads each text alone, and each once.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has another suffix, cannot be read, has no rows, not these columns, or a row without
            text.
    """
    task, limit = task_of(model), most_tokens(model, tokenizer)
    if task.predicts == "span":
        asked = list(named_texts(text_columns, model) or QUESTION_COLUMNS)
        told: dict[str, Any] = {"columns": asked, "answer_column": None, "max_length": min(WINDOW, limit)}
        questions = Questions.from_rows(read_questions(path, columns=asked), tokenizer, name=repr(str(path)), **told)
        return list(questions.windows)
    names = list(named_texts(text_columns, model) or usual_texts(path, model))
    if task.predicts == "choice":
        rows = read_rows(path, needed=names, as_text=True)
        return encoded(rows, TextColumns(tuple(names), None), model, tokenizer)
    if task.head == "ForTokenClassification":
        given = read_words(Path(path), names[0])
        if isinstance(given[0], list):
            return encoded([{names[0]: words} for words in given], TextColumns(tuple(names), None), model, tokenizer)
        inputs = tokenised([given], tokenizer, limit)
        return [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    texts = [dict(zip(names, row, strict=True)) for row in read_texts(Path(path), names)]
    if is_sentence_encoder(model):
        return list(texts_to_learn(repr(str(path)), texts, model, tokenizer, text_columns=names))
    return encoded(texts, TextColumns(tuple(names), None), model, tokenizer)


def usual_texts(path: str | PathLike, model: Any) -> tuple[str, ...]:
    """The columns of text that a file has by the usual names for a model, else `text` or `sentence`."""
    names = names_of_columns(path)
    other = "sentence" if "sentence" in names and "text" not in names else "text"
    return TextColumns((other,), None).or_usual(names, model).texts


def read_texts(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The texts of a csv, json, jsonl or parquet file, a row each, from these columns.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, has no rows, not these columns, or a row without text or with several.
    """
    return rows_of_texts(read_rows(path, needed=list(columns), as_text=True), columns)


def read_words(path: Path, column: str) -> list[str] | list[list[str]]:
    """The texts of a column of a file, or the words of each.

    Raises:
        ValueError: As `read_texts` does, or if a row of words has none or other than texts among them.
    """
    cells = list(read_rows(path, needed=[column], as_text=True)[column])
    if not any(isinstance(cell, list) for cell in cells):
        return as_texts(cells, column)
    check_words(cells, None, column)
    return cells


def joined(arrays: list[np.ndarray]) -> np.ndarray:
    """Batches as one, with -100 where the rows of one are shorter; of logits among choices or places with `NEVER`."""
    if arrays[0].ndim < 2:
        return np.concatenate(arrays)
    longest = max(array.shape[1] for array in arrays)
    widths = [[(0, 0), (0, longest - array.shape[1]), *[(0, 0)] * (array.ndim - 2)] for array in arrays]
    filling = NEVER if arrays[0].ndim == 2 and arrays[0].dtype.kind == "f" else IGNORED
    padded = [np.pad(array, width, constant_values=filling) for array, width in zip(arrays, widths, strict=True)]
    return np.concatenate(padded)


def _as_in_data(rows: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Rows of batches in the order of the data."""
    return rows if order is None else rows[np.argsort(order)]


def _alone(arrays: list[np.ndarray]) -> Arrays:
    return arrays[0] if len(arrays) == 1 else tuple(arrays)
