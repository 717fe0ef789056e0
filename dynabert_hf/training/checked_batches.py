"""Rows that are not all read before they are used, such as those of a stream, looked at batch by batch as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..data.columns import has_all_rows
from ..data.inputs import check_inputs
from ..data.labels import check_counted, check_labels
from ..tasks import Collator
from .checks import check_tokenised


class CheckedBatches:
    """A collator that first checks the rows of each batch, as those of a data set are checked that can be read whole.

    Args:
        name: What to call the data set in errors.
        collator: What makes a batch of rows.
        model: The model that is to read them.
        uses_labels: Whether labels are learned or measured on; else they tell at most which tokens count.
        may_lack_labels: Whether rows may have none.
        has_own_batches: Whether the collator is a user's own, which may make columns.
    """

    def __init__(
        self,
        name: str,
        collator: Collator,
        model: Any,
        *,
        uses_labels: bool = True,
        may_lack_labels: bool = False,
        has_own_batches: bool = False,
    ):
        self.name, self.collator, self.model = f"A batch of {name}", collator, model
        self.uses_labels, self.may_lack_labels = uses_labels, may_lack_labels
        self.has_own_batches = has_own_batches

    def __call__(self, examples: list[Any]) -> Mapping[str, Any]:
        """A batch.

        Raises:
            ValueError: If a row is not one that the model reads, or its label none that the model can predict.
        """
        if not self.has_own_batches:
            check_tokenised(self.name, examples)
        check_inputs(self.name, examples, self.model)
        if self.uses_labels:
            check_labels(self.name, examples, self.model, may_be_missing=self.may_lack_labels, is_part=True)
        elif not self.has_own_batches:
            check_counted(self.name, examples, self.model)
        return self.collator(examples)


@contextmanager
def checking_batches(trainer: Any) -> Iterator[None]:
    """Inside, a trainer makes a loader of training data that checks its batches, if their rows were not all read."""
    collator = trainer.data_collator
    if trainer.train_dataset is not None and not has_all_rows(trainer.train_dataset):
        trainer.data_collator = CheckedBatches(
            "train_dataset",
            collator,
            trainer.model,
            uses_labels=trainer.args.learns_labels,
            may_lack_labels=trainer.args.stage != "finetune",
            has_own_batches=trainer.has_own_batches,
        )
    try:
        yield
    finally:
        trainer.data_collator = collator
