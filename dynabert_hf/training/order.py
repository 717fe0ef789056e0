"""An order of the data that is not chance: the same after resuming, and on all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import RandomSampler, Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


class EpochSampler(Sampler[int]):
    """The order of a random sampler, drawn from nothing but the seed and the number of the epoch.

    Stock samplers that draw from the global generator give another order after resuming within an epoch, and with
    several processes, whose generators drift apart by dropout, examples that are read twice and others never.

    Args:
        sampler: A sampler that draws from its attribute `generator`.
        seed: Seed of the order.
        epoch: Gives the number of the epoch that begins.
    """

    def __init__(self, sampler: RandomSampler | LengthGroupedSampler, *, seed: int, epoch: Callable[[], int]):
        self.sampler, self.seed, self.epoch = sampler, seed, epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        self.sampler.generator = torch.Generator().manual_seed(self.seed + self.epoch())
        return iter(self.sampler)
