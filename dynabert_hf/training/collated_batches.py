"""The batches of an evaluation, collated once and dealt out to all processes, and which of their rows count."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list, find_batch_size, gather, gather_object, recursively_apply
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainingArguments


@dataclass(frozen=True)
class CollatedBatches:
    """The batches of a data set, collated, as many on each process.

    Args:
        loader: The batches of this process, which it moves to the device.
        own_rows: How many rows of each batch are to be counted here; 0 of one that is there to make as many.
        rows: How many rows all processes have in each round of batches.
        fill_to: How many rows the largest batch of any process has.
    """

    loader: DataLoader
    own_rows: tuple[int, ...]
    rows: tuple[int, ...]
    fill_to: int

    @classmethod
    def of(cls, dataloader: Any, args: TrainingArguments) -> CollatedBatches:
        batches = list(dataloader)
        own = [find_batch_size(batch) or 0 for batch in batches]
        of_all: list[list[int]] = gather_object([own]) if args.world_size > 1 else [own]
        num_rounds = max(map(len, of_all))
        if min(map(len, of_all)) < num_rounds:
            [spare] = broadcast_object_list([batches[0] if batches else None])  # the first process has one
            batches += [spare] * (num_rounds - len(batches))
        per_process = [counts + [0] * (num_rounds - len(counts)) for counts in of_all]
        return cls(
            loader=_prepared(batches, args),
            own_rows=tuple(own + [0] * (num_rounds - len(own))),
            rows=tuple(map(sum, zip(*per_process, strict=True))),
            fill_to=max(map(max, per_process)),
        )


class CountedRows(TrainerCallback):
    """Which rows of the batches of one pass count, and the losses of these batches."""

    def __init__(self, batches: CollatedBatches, num_processes: int):
        self.batches, self.num_processes, self.round = batches, num_processes, 0
        self.losses: list[tuple[torch.Tensor, Any]] = []
        self.has_losses = False

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on to the next batch."""
        self.round += 1

    def add(self, loss: torch.Tensor, items: Any) -> None:
        """Keep the loss of a batch, which is the mean over its items."""
        self.has_losses = True
        if self.batches.own_rows[self.round]:
            self.losses.append((loss, torch.as_tensor(items, device=loss.device)))

    def mean_loss(self) -> float:
        """The mean over the items of all processes, for which the device is waited for once."""
        losses, items = [], []
        if self.losses:
            losses, items = (torch.stack(each).tolist() for each in zip(*self.losses, strict=True))
        own = [math.fsum(loss * number for loss, number in zip(losses, items, strict=True)), sum(items)]
        of_all = gather_object([own]) if self.num_processes > 1 else [own]
        total, count = (math.fsum(each) for each in zip(*of_all, strict=True))
        return total / count if count else math.nan

    def gather(self, tensors: Any) -> Any:
        """The rows of all processes in the order of the data, from tensors with a row for each example."""
        if self.num_processes > 1:
            tensors = gather(recursively_apply(self._filled_up, tensors))
        return recursively_apply(lambda tensor: tensor[: self.batches.rows[self.round]], tensors)

    def _filled_up(self, tensor: torch.Tensor) -> torch.Tensor:
        missing = self.batches.fill_to - len(tensor)
        return torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])]) if missing > 0 else tensor


def _prepared(batches: list[Any], args: TrainingArguments) -> DataLoader:
    """A loader of what is collated, which tells accelerate where it ends, and copies while the device computes."""
    is_pinned = args.dataloader_pin_memory and args.device.type == "cuda"
    loader: DataLoader[Any] = DataLoader(
        batches,  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=lambda batch: batch,
        pin_memory=is_pinned,
        generator=torch.Generator(),  # no draw of training depends on the evaluations between
    )
    return prepare_data_loader(
        loader, args.device, num_processes=1, process_index=0, put_on_device=True, non_blocking=is_pinned
    )
