"""Rows that are not all read before they are used, such as those of a stream, looked at batch by batch as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..data.columns import has_all_rows
from ..tasks import Collator
from .checks import check_data


class CheckedBatches:
    """A collator that first checks the rows of each batch, as those of a data set are checked that can be read whole.

    Args:
        name: What to call the data set in errors.
        collator: What makes a batch of rows.
        model: The model that is to read them.
        **how: What else `check_data` takes.
    """

    def __init__(self, name: str, collator: Collator, model: Any, **how: Any):
        self.name, self.collator, self.model, self.how = f"A batch of {name}", collator, model, how

    def __call__(self, examples: list[Any]) -> Mapping[str, Any]:
        """A batch.

        Raises:
            ValueError: If a row is not one that the model reads, or its label none that the model can predict.
        """
        check_data(self.name, examples, self.model, is_part=True, **self.how)
        return self.collator(examples)


@contextmanager
def checking_batches(trainer: Any) -> Iterator[None]:
    """Inside, a trainer makes a loader of training data that checks its batches, if their rows were not all read."""
    collator = trainer.data_collator
    if trainer.train_dataset is not None and not has_all_rows(trainer.train_dataset):
        how = {"args": trainer.args, "has_own_batches": trainer.has_own_batches}
        trainer.data_collator = CheckedBatches("train_dataset", collator, trainer.model, **how)
    try:
        yield
    finally:
        trainer.data_collator = collator
