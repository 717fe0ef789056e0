"""One row for each head: how its examples become batches, what it predicts, and how its predictions are scored.

Whatever depends on the head asks here, by `task_of(model)`. How a head learns from a teacher is told by
`training.distillation`, and what its data must look like by `data.inputs` and `data.labels`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    default_data_collator,
)

from .families import ModelTypeError
from .task_metrics import (
    Metrics,
    choice_metrics,
    of_whole_arrays,
    problem_type,
    scores_of_words,
    span_metrics,
    text_metrics,
    token_metrics,
    vector_metrics,
    word_metrics,
)

Collator = Callable[[list[Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Task:
    """What belongs to a head.

    Args:
        head: The suffix of the classes with this head.
        pipeline: The Hub's name of the task.
        predicts: What has a prediction of its own: `"text"`, `"token"`, `"span"` (a start and an end in a text),
            `"choice"` (one of several texts), `"vector"` (a vector of a text) or `"state"` (none: states of tokens).
        label_names: Columns of the labels, as the model calls them; empty for a model without a head.
        outputs: The outputs of the model that are its predictions, by name and in order.
        collator: Makes, of a tokenizer or None, what makes a batch of examples. Without a tokenizer nothing is padded.
        metrics: Makes, of a model, what computes its default metrics, the most telling one first; None where there is
            no obvious choice.
        preprocess_logits: What to keep of the logits of a batch for these metrics, as `Trainer` takes it by
            `preprocess_logits_for_metrics`; None: all.
    """

    head: str
    pipeline: str
    predicts: str
    label_names: tuple[str, ...]
    outputs: tuple[str, ...]
    collator: Callable[[Any], Collator]
    metrics: Callable[[PreTrainedModel], Metrics | None]
    preprocess_logits: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None


def task_of(model: Any) -> Task:
    """The task of a model, a class or the name of a class, by the suffix of its name or of that of a class it extends.

    A model without a head is a sentence encoder if its configuration holds `sentence_encoder`.

    Raises:
        ModelTypeError: If it has a head that has no task here.
    """
    if isinstance(model, str):
        names = [model]
    else:
        names = [each.__name__ for each in (model if isinstance(model, type) else type(model)).__mro__]
    for name in names:
        for head, task in TASKS.items():
            if name.endswith(head) and not name.endswith("PreTrainedModel"):
                return SENTENCE_ENCODER if task.predicts == "state" and _makes_vectors(model) else task
    raise ModelTypeError(
        f"{names[0]} is no class with a head that is known here. Possible are names that end in "
        f"{', '.join(TASKS)}. Give a model of such a class."
    )


def is_sentence_encoder(model: PreTrainedModel) -> bool:
    """Whether a model makes vectors of texts, as `SentenceTransformer` loads it; with a head it predicts other things.

    A model with a head that was made of a sentence encoder still has its configuration.
    """
    return model.base_model is model and _makes_vectors(model)


def _makes_vectors(encoder: Any) -> bool:
    return getattr(getattr(encoder, "config", None), "sentence_encoder", None) is not None


def gives_values(model: PreTrainedModel) -> bool:
    """Whether a model gives a text values, of which there are no classes."""
    return task_of(model).predicts == "text" and problem_type(model.config) == "regression"


def answers_of(logits: np.ndarray, config: Any) -> list[dict[str, Any]]:
    """What a head for sequences says of each text: a label and its score, several labels and all scores, or values.

    Args:
        logits: Its output, `(batch, labels)`.
        config: Its configuration, which names the labels.
    """
    logits, kind = np.asarray(logits, dtype=np.float64), problem_type(config)
    names = [config.id2label[number] for number in range(logits.shape[-1])]
    if kind == "regression":
        rows = logits.tolist()
        return [{"value": row[0]} if len(row) == 1 else {"values": dict(zip(names, row, strict=True))} for row in rows]
    shares = probabilities(logits, kind)
    if kind == "multi_label_classification":
        scores = [dict(zip(names, row, strict=True)) for row in shares.tolist()]
        return [{"labels": [name for name in own if own[name] > 0.5], "scores": own} for own in scores]
    return [{"label": names[int(row.argmax())], "score": float(row.max())} for row in shares]


def probabilities(logits: np.ndarray, kind: str) -> np.ndarray:
    """Of each label its probability, alone or among all, by the problem type; of values the values.

    Args:
        logits: `(batch, labels)`.
        kind: The problem type.
    """
    if kind == "regression":
        return logits
    if kind == "multi_label_classification":
        return 1 / (1 + np.exp(-logits))
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def has_several_texts(ids: Any) -> bool:
    """Whether the ids of a row are those of a pair or of choices: lists, arrays or tensors, each of one text."""
    return len(ids) > 0 and np.ndim(ids[0]) > 0


def _padding_after(kind: Callable[[Any], Collator], tokenizer: Any) -> Collator:
    """What pads after the tokens, wherever the tokenizer does: places of answers and tags count from the first one."""
    right = copy.copy(tokenizer)
    right.padding_side = "right"
    return kind(right)


class ChoiceCollator:
    """Batches `(examples, choices, seq)` of examples with a list of encoded choices each, padded to the longest."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    def __call__(self, examples: list[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        label = next((name for name in ("label", "labels", "label_ids") if name in examples[0]), None)
        num_choices = len(examples[0]["input_ids"])
        counts = sorted({len(example["input_ids"]) for example in examples})
        if len(counts) > 1:
            raise ValueError(
                f"A batch has rows of {counts[0]} to {counts[-1]} choices. The head needs the same number in all rows. "
                "Add wrong choices to rows that have fewer, or leave these rows out."
            )
        flat = [
            {name: values[choice] for name, values in example.items() if name != label}
            for example in examples
            for choice in range(num_choices)
        ]
        padded = self.tokenizer.pad(flat, return_tensors="pt")
        batch = {name: tensor.view(len(examples), num_choices, -1) for name, tensor in padded.items()}
        if label is not None:
            batch["labels"] = torch.tensor([example[label] for example in examples])
        return batch


class SentenceCollator:
    """Batches of texts `(examples, seq)`, or of pairs of texts `(examples, 2, seq)`, padded to the longest."""

    def __init__(self, tokenizer: Any):
        self.texts, self.pairs = DataCollatorWithPadding(tokenizer), ChoiceCollator(tokenizer)

    def __call__(self, examples: list[Any]) -> Mapping[str, Any]:
        return (self.pairs if has_several_texts(examples[0]["input_ids"]) else self.texts)(examples)


class MaskingCollator:
    """Batches of masked text: 15 % of the tokens are to be predicted. Examples with labels were masked before.

    Args:
        tokenizer: A tokenizer with a mask token.
    """

    def __init__(self, tokenizer: Any):
        self.mask = DataCollatorForLanguageModeling(tokenizer)
        self.pad = DataCollatorForTokenClassification(tokenizer)

    def __call__(self, examples: list[Any]) -> Mapping[str, Any]:
        return (self.pad if "labels" in examples[0] else self.mask)(examples)


def stacked(examples: list[Any]) -> Mapping[str, Any]:
    """A batch of examples of one length, as transformers makes it without a tokenizer.

    Raises:
        ValueError: If they are of several lengths.
    """
    rows = [each["input_ids"] for each in examples if isinstance(each, Mapping) and "input_ids" in each]
    flat = [text for row in rows for text in (row if has_several_texts(row) else [row])]
    lengths = sorted({len(text) for text in flat})
    if len(lengths) > 1:
        raise ValueError(
            f"A batch has rows of {lengths[0]} to {lengths[-1]} tokens, and nothing that pads them to one length. Give "
            "the tokenizer as processing_class, or pad when tokenising: padding='max_length'."
        )
    batch: Mapping[str, Any] = default_data_collator(examples)
    return batch


def _collator(kind: Callable[[Any], Collator], tokenizer: Any) -> Collator:
    if tokenizer is None:
        return stacked
    if getattr(tokenizer, "pad_token", "") is None:
        raise ValueError(
            f"The tokenizer, a {type(tokenizer).__name__}, has no padding token, so texts of several lengths make no "
            "batch. Possible is any token that the model knows: tokenizer.pad_token = tokenizer.eos_token. Set one, or "
            "give a data_collator."
        )
    return kind(tokenizer)


def _same(metrics: Metrics | None) -> Callable[[PreTrainedModel], Metrics | None]:
    return lambda model: metrics


_PAD, _LOGITS, _LABELS = partial(_collator, DataCollatorWithPadding), ("logits",), ("labels",)
_PAD_RIGHT = partial(_collator, partial(_padding_after, DataCollatorWithPadding))
_PAD_LABELS = partial(_collator, partial(_padding_after, DataCollatorForTokenClassification))
_POSITIONS, _SPAN_LOGITS = ("start_positions", "end_positions"), ("start_logits", "end_logits")
_ROWS: Sequence[Task] = (
    Task("ForSequenceClassification", "text-classification", "text", _LABELS, _LOGITS, _PAD, text_metrics),
    Task("ForTokenClassification", "token-classification", "token", _LABELS, _LOGITS, _PAD_LABELS, token_metrics),
    Task(
        "ForQuestionAnswering", "question-answering", "span", _POSITIONS, _SPAN_LOGITS, _PAD_RIGHT, _same(span_metrics)
    ),
    Task(
        "ForMultipleChoice",
        "multiple-choice",
        "choice",
        _LABELS,
        _LOGITS,
        partial(_collator, ChoiceCollator),
        _same(choice_metrics),
    ),
    Task(
        "ForMaskedLM",
        "fill-mask",
        "token",
        _LABELS,
        _LOGITS,
        partial(_collator, MaskingCollator),
        _same(word_metrics),
        preprocess_logits=scores_of_words,
    ),
    Task("Model", "feature-extraction", "state", (), ("last_hidden_state",), _PAD, _same(None)),
)
SENTENCE_ENCODER = Task(
    "Model",
    "sentence-similarity",
    "vector",
    _LABELS,
    ("last_hidden_state",),
    partial(_collator, SentenceCollator),
    of_whole_arrays(vector_metrics),
)
"""The task of a model without a head that is a sentence encoder."""

TASKS = {task.head: replace(task, metrics=of_whole_arrays(task.metrics)) for task in _ROWS}
"""The tasks by the suffix of their classes; `Model`, which is a suffix of no other, comes last."""

LABELS = frozenset(("label", "label_ids", *(name for task in TASKS.values() for name in task.label_names)))
"""What the labels of any head are called in a batch, also in one that no collator of transformers made."""


@contextmanager
def same_modes(model: torch.nn.Module) -> Iterator[None]:
    """Inside, a model may be set to any mode; afterwards each of its modules is in the one that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Inside, a model is in evaluation mode; afterwards each of its modules is in the mode that it was in."""
    with same_modes(model):
        model.eval()
        yield


def without_labels(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What a batch holds but labels, so that the model tells no loss."""
    return {name: value for name, value in batch.items() if name not in LABELS}


def on_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A batch whose tensors are on a device."""
    return {name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()}
