"""What students and their teachers read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import logging

from ..data.views import FreshViews
from .arguments import DynaBertTrainingArguments

logger = logging.get_logger(__name__)


def fresh_views(
    args: DynaBertTrainingArguments, model: PreTrainedModel, trainer_kwargs: Mapping[str, Any]
) -> FreshViews | None:
    """The views that arguments ask for, of the training data of a trainer that has a teacher.

    Raises:
        ValueError: If one is not possible.
    """
    if args.views is None:
        return None
    if args.stage == "finetune":
        logger.warning("Stage 'finetune' learns from labels, which belong to texts as they are; views have no effect.")
        return None
    return FreshViews(
        args.views,
        trainer_kwargs.get("processing_class"),
        model,
        probability=args.view_probability,
        seed=args.seed if args.data_seed is None else args.data_seed,
        dataset=trainer_kwargs.get("train_dataset"),
    )
