"""What losses are counted by, so that every loss is the plain mean over its items however the items are dealt out.

A batch is a part of an optimiser step, and a step is split over accumulated batches and over processes: a mean over a
batch counts by the share of the batch in the items of its step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, NamedTuple

import torch
from accelerate.utils import find_batch_size
from transformers import TrainerCallback

from ..data.labels import PAST_THE_END
from ..model.subnetwork import AnySize, size_name
from ..task_metrics import IGNORED

Number = Any
"""An int, or a tensor without dimensions, which may be on a device and is not waited for."""


class Items(NamedTuple):
    """How many items the losses of a batch, or of a step, are means over.

    Args:
        sentences: Rows of the batch, which losses of distillation are means over.
        labelled: Labels that count, which a loss on labels is a mean over: those of tokens that are not ignored, else
            rows.
    """

    sentences: Number
    labelled: Number

    @classmethod
    def of(cls, inputs: Mapping[str, Any]) -> Items:
        sentences = find_batch_size(inputs) or 0
        return cls(sentences, count_labelled(labels_of(inputs), sentences))

    @classmethod
    def of_all(cls, batches: Iterable[dict[str, Any]]) -> Items:
        counted = [cls.of(batch) for batch in batches]
        return cls(*(sum(numbers) for numbers in zip(*counted, strict=True)))


class Shares(NamedTuple):
    """What the means over a batch count for in its step: a factor for each kind of item."""

    sentences: Number = 1.0
    labelled: Number = 1.0

    @classmethod
    def of(cls, batch: Items, step: Items | None) -> Shares:
        return cls() if step is None else cls(*(own / all_ for own, all_ in zip(batch, step, strict=True)))


def labels_of(inputs: Mapping[str, Any]) -> torch.Tensor | None:
    """The labels of a batch; of answers the tokens where they start, -100 where a row has none."""
    starts = inputs.get("start_positions")
    return inputs.get("labels") if starts is None else starts.masked_fill(starts == PAST_THE_END, IGNORED)


def count_labelled(labels: torch.Tensor | None, sentences: Number) -> Number:
    if labels is None:
        return sentences
    if labels.is_floating_point():
        return (~labels.isnan()).sum()
    return labels.ne(IGNORED).sum()


def of_labelled(loss: torch.Tensor, inputs: Mapping[str, Any]) -> torch.Tensor:
    """The loss on the labels of a batch; 0 where no row or token of it has one, of which torch's mean is NaN."""
    labels = labels_of(inputs)
    if labels is None or labels.is_floating_point():
        return loss
    return torch.where(labels.ne(IGNORED).any(), loss, loss.nan_to_num())


def mean_over_batch(compute_loss_func: Callable | None) -> Callable | None:
    """A user's loss function that is told the items of its own batch, so that what it gives is a mean over the batch.

    So functions that divide by `num_items_in_batch`, as transformers documents it, and functions that take a mean give
    one gradient; what the batch counts for in a step is the trainer's business.
    """
    if compute_loss_func is None:
        return None

    @wraps(compute_loss_func)
    def loss_of_batch(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        if torch.is_tensor(labels):
            num_items_in_batch = torch.as_tensor(count_labelled(labels, len(labels))).clamp(min=1)
        loss: torch.Tensor = compute_loss_func(outputs, labels, num_items_in_batch=num_items_in_batch)
        return loss

    return loss_of_batch


class LossLog(TrainerCallback):
    """The losses of all sub-networks since they were last logged, and those of a step that are not yet known finite.

    As a callback of its trainer it begins anew where training does, such as with a smaller batch when memory ran out.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._steps: dict[str, int] = defaultdict(int)
        self._unchecked: list[tuple[AnySize, torch.Tensor, dict[str, Any]]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget what an attempt has left that was broken off."""
        LossLog.__init__(self)

    def add(self, name: str, loss: torch.Tensor, *, ends_step: bool) -> None:
        """Count a part of a loss, as large as its share in the step; a step may have several batches."""
        self._sums[name] = self._sums.get(name, 0) + loss.detach()
        self._steps[name] += ends_step

    def expect_finite(self, size: AnySize, loss: torch.Tensor, inputs: dict[str, Any]) -> None:
        """Note a loss whose value nobody waits for yet."""
        self._unchecked.append((size, loss.detach(), inputs))

    def check_finite(
        self, step: int, norm: torch.Tensor | None, reduce: Callable[[torch.Tensor, str], torch.Tensor]
    ) -> None:
        """Look at all losses that were noted and at their gradients, at once: here a step waits for the device.

        Args:
            step: Number of the step.
            norm: The norm of the gradients, the same on all processes; None where a scaler leaves such a step out.
            reduce: A sum over processes, as accelerate has it.

        Raises:
            FloatingPointError: On all processes, if a loss on one of them is not finite, or the norm.
        """
        noted, self._unchecked = self._unchecked, []
        if not noted:  # by a step of the user's own
            return
        are_finite = torch.stack([loss for _, loss, _ in noted]).isfinite()
        wrong_losses = reduce((~are_finite).sum(), "sum")
        wrong_norm = torch.zeros_like(wrong_losses) if norm is None else ~norm.isfinite().to(wrong_losses.device)
        has_wrong_loss, has_wrong_norm = torch.stack([wrong_losses > 0, wrong_norm > 0]).tolist()
        end = (
            "This step changed no weight. Look for labels or weights that are not finite; a lower learning_rate or "
            "full precision may help."
        )
        if norm is not None and has_wrong_norm and not has_wrong_loss:
            raise FloatingPointError(
                f"The norm of the gradients is {float(norm)} at step {step}, though all losses are finite: look at "
                f"what a loss or a hook of your own does in the backward pass. {end}"
            )
        if not has_wrong_loss:
            return
        wrong = [number for number, is_finite in enumerate(are_finite.tolist()) if not is_finite]
        if not wrong:
            raise FloatingPointError(f"A loss of another process is not finite at step {step}. {end}")
        size, loss, inputs = noted[wrong[0]]
        first = {name: tensor[0].tolist() for name, tensor in inputs.items() if torch.is_tensor(tensor)}
        raise FloatingPointError(
            f"The loss of {size_name(size)} is {loss.item()} at step {step}, on the batch that begins with {first}. "
            f"{end}"
        )

    def pop_means(self, reduce: Callable[[torch.Tensor, str], torch.Tensor]) -> dict[str, float]:
        """The mean of every part over the steps that had it, and over processes, since this was last asked."""
        if not self._sums:
            return {}
        means = torch.stack([self._sums[name] / max(self._steps[name], 1) for name in self._sums]).float()
        named = dict(zip(self._sums, reduce(means, "mean").tolist(), strict=True))
        self._sums.clear()
        self._steps.clear()
        return {name: round(mean, 6) for name, mean in named.items()}
