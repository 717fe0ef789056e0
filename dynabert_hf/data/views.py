"""Fresh views of training text: tokens masked, deleted or swapped, and parts of other texts spliced in, on the fly.

A teacher is nearly sure of the texts that it was trained on, and its soft targets say little there. It has more to say
about texts that nobody has seen, and in the loop it reads the same changed text as the student.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ..task_metrics import IGNORED
from ..tasks import has_several_texts, task_of
from .columns import are_rows, column_names

VIEWS = ("mask", "delete", "swap", "splice")
"""The views by name."""

RATE = 0.15
"""The share of the tokens of a text that masking, deleting and swapping change; at least one token."""

SPLICED = (0.25, 0.5)
"""From which to which share of a sentence is replaced by a part of another."""

POSSIBLE = {
    "text": VIEWS,
    "state": VIEWS,
    "vector": VIEWS,
    "choice": ("mask", "delete", "swap"),
    "token": ("mask", "delete", "swap"),
    "span": ("mask",),
}
"""The views that keep what a head predicts: no other text has labels for these tokens, and answers keep their place."""


class FreshViews:
    """Changes the texts of a batch, each by a draw from nothing but the seed, the epoch and the tokens of the text.

    So a text has the same view in an epoch whatever the workers, the processes, the order and the batches are, and
    after resuming. Special tokens and padding stay, no token leaves its sentence of a pair, no sentence becomes empty,
    and none becomes longer. The labels of tokens move with their tokens.

    Args:
        names: Some of `VIEWS`; a text that is changed gets one of them.
        tokenizer: The tokenizer that made the texts.
        model: The model that reads them.
        probability: How often a text is changed.
        seed: Seed of all draws.
        dataset: Tokenised rows that `"splice"` takes parts of.

    Raises:
        ValueError: If a view is unknown or not possible for the head, the tokenizer or the data.
    """

    def __init__(
        self,
        names: Sequence[str],
        tokenizer: Any,
        model: PreTrainedModel,
        *,
        probability: float = 0.5,
        seed: int = 0,
        dataset: Any = None,
    ):
        check_views(names, tokenizer, model, dataset)
        self.names, self.probability, self.seed, self.dataset = tuple(names), probability, seed, dataset
        task = task_of(model)
        self.is_left_padded = tokenizer.padding_side == "left" and task.predicts != "token"  # tags are padded after
        special = [token for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id]  # it is a word
        self.special, self.mask_id = np.array(special), tokenizer.mask_token_id
        self.filling = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0}
        self.filling["token_type_ids"] = tokenizer.pad_token_type_id
        if task.predicts == "token":
            self.filling["labels"] = IGNORED
        self.labels = task.label_names

    def __call__(self, batch: Mapping[str, Any], *, epoch: int) -> dict[str, Any]:
        """A new batch, of the same shape and on the same device.

        Args:
            batch: Inputs of the model, `input_ids` `(batch, seq)` or `(batch, choices, seq)`.
            epoch: Number of the epoch.

        Raises:
            ValueError: If the batch holds something beside each token that cannot be moved with it.
        """
        ids = batch["input_ids"]
        batch = {"attention_mask": torch.ones_like(ids), **batch}
        of_tokens = self._of_tokens(batch, ids.shape)
        arrays = {name: value.flatten(0, -2).cpu().numpy().copy() for name, value in of_tokens.items()}
        for row, places in enumerate(map(np.flatnonzero, arrays["attention_mask"])):
            self._change({name: array[row] for name, array in arrays.items()}, places, epoch)
        changed = {
            name: torch.from_numpy(arrays[name]).view(ids.shape).to(value.device) for name, value in of_tokens.items()
        }
        return {**batch, **changed}

    def _of_tokens(self, batch: Mapping[str, Any], shape: torch.Size) -> dict[str, torch.Tensor]:
        """What a batch holds for each token."""
        for name, value in batch.items():
            is_unknown = name not in self.filling and name not in self.labels
            if is_unknown and torch.is_tensor(value) and value.shape[: len(shape)] == shape:
                raise ValueError(
                    f"A batch has {name!r} of shape {tuple(value.shape)} beside input_ids. Views can move "
                    f"{', '.join(self.filling)} with their tokens. Leave {name!r} out of the batches, or give no views."
                )
        return {name: batch[name] for name in self.filling if name in batch}

    def _change(self, columns: Mapping[str, np.ndarray], places: np.ndarray, epoch: int) -> None:
        """Put a view in the place of a text.

        Args:
            columns: What the row of this text holds for each token, with padding; changed in place.
            places: Where its tokens stand.
            epoch: Number of the epoch.
        """
        tokens = columns["input_ids"][places]
        digest = hashlib.blake2b(tokens.astype(np.int64).tobytes(), digest_size=8).digest()
        random = np.random.default_rng([self.seed, epoch, int.from_bytes(digest, "little")])
        sentences = self._sentences(tokens)
        if random.random() >= self.probability or not sentences:
            return
        name = self.names[random.integers(len(self.names))]
        order, changed = np.arange(len(tokens)), tokens
        if name == "mask":
            changed = masked(tokens, sentences, self.mask_id, random)
        elif name == "delete":
            order = without_some(order, sentences, random)
        elif name == "swap":
            order = swapped(order, sentences, random)
        else:
            changed = self._spliced(tokens, sentences, random)
        is_full = len(places) == len(columns["input_ids"])
        is_left_padded = self.is_left_padded if is_full else places[0] > 0
        kept = places[-len(order) :] if is_left_padded else places[: len(order)]
        for column, values in columns.items():
            moved = (changed if column == "input_ids" else values[places])[order]
            values[places] = self.filling[column]
            values[kept] = moved

    def _sentences(self, tokens: np.ndarray) -> list[np.ndarray]:
        """Where the tokens of each sentence stand, which special tokens divide."""
        content = np.flatnonzero(~np.isin(tokens, self.special))
        return [each for each in np.split(content, np.flatnonzero(np.diff(content) > 1) + 1) if len(each)]

    def _spliced(self, tokens: np.ndarray, sentences: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
        """A copy of tokens, where a part of a sentence is one of the same sentence of another row."""
        number = int(random.integers(len(sentences)))
        ids = self.dataset[int(random.integers(len(self.dataset)))]["input_ids"]
        other = np.asarray(ids[0] if has_several_texts(ids) else ids, dtype=np.int64)  # the first of a pair
        theirs = self._sentences(other)
        if not theirs:
            return tokens
        ours, source = sentences[number], theirs[min(number, len(theirs) - 1)]
        count = min(len(source), max(1, round(len(ours) * random.uniform(*SPLICED))))
        to, start = (int(random.integers(len(each) - count + 1)) for each in (ours, source))
        spliced = tokens.copy()
        spliced[ours[to : to + count]] = other[source[start : start + count]]
        return spliced


def masked(
    tokens: np.ndarray, sentences: Sequence[np.ndarray], mask_id: int, random: np.random.Generator
) -> np.ndarray:
    """A copy of tokens, some of them masked."""
    changed = tokens.copy()
    changed[_some(np.concatenate(sentences), random)] = mask_id
    return changed


def without_some(order: np.ndarray, sentences: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """An order of tokens without some of them; the first of a sentence stays where all of it would go."""
    removed = _some(np.concatenate(sentences), random)
    spared = [each[0] for each in sentences if np.isin(each, removed).all()]
    return np.delete(order, np.setdiff1d(removed, spared))


def swapped(order: np.ndarray, sentences: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """An order of tokens with some neighbours of one sentence swapped."""
    lefts = np.concatenate([each[:-1] for each in sentences])
    order = order.copy()
    for left in _some(lefts, random) if len(lefts) else ():
        order[[left, left + 1]] = order[[left + 1, left]]
    return order


def _some(places: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return random.choice(places, max(1, round(RATE * len(places))), replace=False)


def check_views(names: Sequence[str], tokenizer: Any, model: PreTrainedModel, dataset: Any) -> None:
    """Check that views are known, and possible for a head, a tokenizer and data.

    Raises:
        ValueError: If they are not.
    """
    check_names(names)
    task = task_of(model)
    possible = () if task.head == "ForMaskedLM" else POSSIBLE[task.predicts]
    for name in names:
        if name not in possible:
            instead = f"Possible are {', '.join(possible)}" if possible else "Its texts are masked anew in every batch"
            raise ValueError(
                f"The view {name!r} was asked for a {type(model).__name__}, whose labels belong to the tokens as they "
                f"stand. {instead}. Leave {name!r} out."
            )
    if tokenizer is None:
        raise ValueError(
            f"The views {', '.join(names)} were asked for without a tokenizer, which knows the special tokens. Give "
            "it as processing_class."
        )
    if "mask" in names and tokenizer.mask_token_id is None:
        raise ValueError(
            f"The view 'mask' was asked for, but the tokenizer has no mask token, only {tokenizer.all_special_tokens}. "
            "Give another view."
        )
    if "splice" in names and not (are_rows(dataset) and "input_ids" in column_names(dataset)):
        raise ValueError(
            f"The view 'splice' takes parts of other rows by their number, but train_dataset is a "
            f"{type(dataset).__name__} without rows of 'input_ids'. Give a tokenised datasets.Dataset or list, or "
            "leave 'splice' out."
        )


def check_names(names: Sequence[str]) -> None:
    """Check that views are known.

    Raises:
        ValueError: If one is not, or there is none.
    """
    unknown = [names] if isinstance(names, str) else [name for name in names if name not in VIEWS]
    if unknown or not names:
        raise ValueError(
            f"views={names if isinstance(names, str) else list(names)!r} is not possible. Give a list of some of "
            f"{', '.join(map(repr, VIEWS))}, or None."
        )
