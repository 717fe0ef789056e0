"""Masks of text that are drawn once, so that all sizes and the teacher are asked for the same words at any time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import DataCollatorForLanguageModeling

from .columns import as_plain

SEED = 42
"""The seed of masks where no training says another: that of transformers' arguments by default."""


@contextmanager
def drawn_by(seed: int) -> Iterator[None]:
    """Inside, draws on the CPU depend on this seed alone; all draws afterwards are as if nothing had been drawn.

    `torch.manual_seed` seeds accelerators, too, whose dropout would repeat itself from then on.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def as_at_first(collator: Any) -> Iterator[None]:
    """Inside, a collator of transformers that masks by a seed of its own begins anew; afterwards it goes on."""
    if not isinstance(collator, DataCollatorForLanguageModeling):
        yield
        return
    generator, collator.generator = collator.generator, None  # it makes one of its seed when it masks
    try:
        yield
    finally:
        collator.generator = generator


class MaskedOnce(Dataset):
    """The rows of a data set with masks that depend on nothing but the seed and the number of the row.

    Not on batches, processes or what was drawn before. Rows with labels were masked before, and stay as they are.

    Args:
        dataset: Tokenised rows.
        collator: The collator that masks, as the head of masked language models has it.
        seed: Seed of the masks.
    """

    def __init__(self, dataset: Any, collator: Any, *, seed: int):
        self.dataset, self.collator, self.seed = dataset, collator, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def rows(self) -> list[dict[str, Any]]:
        """All rows, with their masks."""
        return [self[row] for row in range(len(self))]

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not 0 <= row < len(self.dataset):
            raise IndexError(row)
        example = {name: as_plain(value) for name, value in self.dataset[row].items()}
        if example.get("labels") is not None:
            return example
        tokens = {name: values for name, values in example.items() if name in ("input_ids", "special_tokens_mask")}
        with drawn_by(self.seed * 1_000_003 + row):
            masked = self.collator.mask([tokens])
        return {**example, **{name: masked[name][0].tolist() for name in ("input_ids", "labels")}}
