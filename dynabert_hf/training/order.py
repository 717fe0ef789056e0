"""Orders of the data that are not chance: in training the same after resuming, in evaluation that of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler, Sampler
from transformers import TrainingArguments
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


class OrderedLoader(DataLoader):
    """The batches of a data set in its order, whole; of several processes each gets its own, none of them twice.

    Batch `k` goes to process `k % num_processes`. Nothing is filled up: the last batch may be smaller, and a process
    may have one batch less than another, or none. The batches are on the CPU.

    Args:
        dataset: A data set of known length.
        collate: Makes a batch of rows.
        args: Size of a batch, and the workers that read. What else they say of loaders is about training.
    """

    def __init__(self, dataset: Any, collate: Callable, args: TrainingArguments):
        batch_size, process, num_processes = args.per_device_eval_batch_size, args.process_index, args.world_size
        own = [row for row in range(len(dataset)) if row // batch_size % num_processes == process]
        settings: dict[str, Any] = {"batch_size": batch_size, "collate_fn": collate, "sampler": own}
        settings["generator"] = torch.Generator()  # so that no draw of training depends on evaluations between
        settings["num_workers"] = args.dataloader_num_workers
        if args.dataloader_num_workers > 0:
            settings["prefetch_factor"] = args.dataloader_prefetch_factor
        super().__init__(dataset, **settings)
