"""What sizes are compared with: who taught them, the model that training began with, the same answer for every row.

A teacher that is hardly better than the last has little to teach, which is said before anything learns from it.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import DistributedType
from transformers import PreTrainedModel

from ..data.columns import are_rows, draw, lacks_labels
from ..messages import get_logger
from ..sizes.baseline import baseline_metrics, weakness
from ..sizes.metrics import in_telling_order, plain_metrics
from ..tasks import task_of
from .ordered_evaluation import evaluate_one_size
from .preparation import Recipe
from .stages import evaluation_arguments, given_arguments
from .teacher import warn_of_untrained_head
from .teaching import Teacher

logger = get_logger(__name__)

MAX_ROWS = 512
"""Of the evaluation data of a single stage, how many rows are drawn to see what its teacher is worth."""

CANNOT_TAKE = (TypeError, ValueError, IndexError, KeyError)
"""What default metrics raise for rows or predictions that are not as they expect."""

ONE_DEVICE_EACH = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
"""How processes run that hold the whole of a teacher."""


def measure_references(recipe: Recipe, *, by_default: bool = False) -> dict[str, dict[str, float]]:
    """The metrics of all of these on the evaluation data, by the fields of a result.

    Of several teachers, and of stored outputs, nothing is measured; the fine-tuned model is, whoever teaches.

    Args:
        recipe: The recipe.
        by_default: Whether to take the default metrics of the head instead of the user's own, which are called for
            the sizes first; empty if they cannot take these data.
    """
    dataset, task = recipe.trainer_kwargs["eval_dataset"], task_of(recipe.teacher)
    if dataset is None or not recipe.has_labels(dataset):
        return {}
    kwargs = recipe.measuring_kwargs
    if by_default:
        kwargs |= {
            "compute_metrics": task.metrics(recipe.teacher),
            "preprocess_logits_for_metrics": task.preprocess_logits,
        }
    try:
        measured = {
            field: plain_metrics(evaluate_one_size(model, copy.deepcopy(recipe.evaluation), **kwargs), "eval_")
            for field, model in _models(recipe).items()
        }
    except CANNOT_TAKE:
        if by_default:
            return {}
        raise
    return {**measured, "baseline_metrics": _baseline(recipe, kwargs)}


def _models(recipe: Recipe) -> dict[str, PreTrainedModel]:
    """The models that sizes are compared with, by the field of their metrics."""
    if not recipe.has_other_teachers:
        return {"teacher_metrics": recipe.teacher}
    known = recipe.teachers[0] if len(recipe.teachers) == 1 else None
    teacher = {"teacher_metrics": known} if isinstance(known, PreTrainedModel) else {}
    return {**teacher, "finetuned_metrics": recipe.teacher}


def _baseline(recipe: Recipe, kwargs: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of predicting the same for every row; none where only `compute_metrics` knows what it is given."""
    own = kwargs["compute_metrics"]
    is_shaped = kwargs["preprocess_logits_for_metrics"] is not task_of(recipe.teacher).preprocess_logits
    args = recipe.evaluation  # which say what else it is given, and in which parts
    if is_shaped or not args.eval_do_concat_batches or args.batch_eval_metrics or args.include_for_metrics:
        return {}
    try:
        return plain_metrics(baseline_metrics(recipe.teacher, recipe.trainer_kwargs["eval_dataset"], own))
    except Exception as error:  # a function of the user's own, which need not take what no model predicts
        logger.warning_once(
            f"There is no baseline in the table: compute_metrics fails for predictions that are always the same "
            f"({type(error).__name__}: {error}). Sizes are measured all the same."
        )
        return {}


def warn_of_weak_teacher(teachers: Sequence[Teacher], references: Mapping[str, Mapping[str, float]]) -> None:
    """Say if a teacher looks untrained, or is hardly better than always predicting the same.

    Args:
        teachers: Who teaches.
        references: What `measure_references` returned, or as much of it as is known.
    """
    for teacher in teachers:
        if isinstance(teacher, PreTrainedModel):
            warn_of_untrained_head(teacher)
    measured = references.get("teacher_metrics", {})
    said = weakness(
        {name: measured[name] for name in in_telling_order(measured)}, references.get("baseline_metrics", {})
    )
    if said:
        logger.warning(said)


def look_at_teachers(trainer: Any, teachers: Sequence[Teacher]) -> None:
    """Say before a single stage if its teacher looks untrained or weak, as far as that is cheap to know.

    One teacher in memory is measured by the default metrics of its head, on some rows of one evaluation set with
    labels. The draws that training makes stay what they would be.

    Args:
        trainer: The `DynaBertTrainer`.
        teachers: Who teaches.
    """
    with same_draws():
        warn_of_weak_teacher(teachers, _cheap_references(trainer, teachers))


def _cheap_references(trainer: Any, teachers: Sequence[Teacher]) -> dict[str, dict[str, float]]:
    dataset, teacher = trainer.eval_dataset, teachers[0] if len(teachers) == 1 else None
    is_plain = trainer.accelerator.distributed_type in ONE_DEVICE_EACH
    has_labels = are_rows(dataset) and not lacks_labels(dataset, everywhere=True)
    if not (is_plain and has_labels and isinstance(teacher, PreTrainedModel)):
        return {}
    task, given = task_of(teacher), given_arguments(trainer.args, {})[0]
    try:
        rows = draw(dataset, MAX_ROWS, trainer.args.seed)
        baseline = baseline_metrics(teacher, rows)
        if not baseline:
            return {}
        measured = evaluate_one_size(
            teacher,
            evaluation_arguments(Path(trainer.args.output_dir), given),
            eval_dataset=rows,
            data_collator=trainer.data_collator,
            processing_class=trainer.processing_class,
            compute_metrics=task.metrics(teacher),
            preprocess_logits_for_metrics=task.preprocess_logits,
        )
    except CANNOT_TAKE:
        return {}
    return {"teacher_metrics": plain_metrics(measured, "eval_"), "baseline_metrics": baseline}


@contextmanager
def same_draws() -> Iterator[None]:
    """Inside, something may draw at random or set a seed; what is drawn afterwards is as if it had not."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
