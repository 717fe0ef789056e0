"""What only a trainer finds out, found out before any work: each stage makes its trainer, optimiser and schedule once.

So a package that is missing, or settings that do not go together, are said before a run rewires and measures anything.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from tempfile import TemporaryDirectory

from transformers import EarlyStoppingCallback, Trainer, TrainerControl, TrainerState

from ..families import parsed_sizes
from ..model.subnetwork import size_name
from ..sizes.metrics import check_asked
from .arguments import RECOMPUTE, DynaBertTrainingArguments
from .ordered_evaluation import unchanged
from .preparation import Recipe

STEPS = 1000
"""How long the schedule of a rehearsal is, on which nothing depends."""


def rehearse(recipe: Recipe) -> None:
    """Make the model that is trained, and what transformers makes at the beginning of each stage. Nothing is written.

    What they raise is raised.
    """
    model = recipe.elastic_class.from_backbone(recipe.teacher, **recipe.elastic_fields)
    kwargs = {name: value for name, value in recipe.trainer_kwargs.items() if name != "callbacks"}
    for stage in recipe.stages:
        with TemporaryDirectory() as scratch, unchanged(recipe.teacher):
            args = copy.deepcopy(stage.arguments)
            args.output_dir = scratch
            trainer = Trainer(recipe.teacher, args, **kwargs)
            trainer.create_optimizer()
            trainer.create_scheduler(STEPS)
        if getattr(stage.arguments, RECOMPUTE):
            getattr(model, f"{RECOMPUTE}_enable")()
        if stage.arguments.eval_sizes is not None:
            parsed_sizes(stage.arguments.eval_sizes, recipe.config)
        for callback in recipe.trainer_kwargs["callbacks"] or ():
            if callback is EarlyStoppingCallback or isinstance(callback, EarlyStoppingCallback):
                _check_stopping(stage.arguments)


def _check_stopping(args: DynaBertTrainingArguments) -> None:
    """Let early stopping say what it lacks, which it asserts when training begins."""
    try:
        EarlyStoppingCallback().on_train_begin(args, TrainerState(), TrainerControl())
    except AssertionError as error:
        raise ValueError(
            f"Early stopping is not possible with these arguments: {error}. Possible are, for instance, "
            "eval_strategy='epoch' and metric_for_best_model='mean_loss'. Give these, or leave it out."
        ) from error


def chooses_best(recipe: Recipe) -> bool:
    """Whether a stage chooses its best checkpoint by a metric."""
    stages = [stage.arguments for stage in recipe.stages]
    return any(args.eval_strategy != "no" and args.metric_for_best_model is not None for args in stages)


def check_best_metric(recipe: Recipe, references: Mapping[str, Mapping[str, float]]) -> None:
    """Check that the metric to choose the best checkpoint by is one of those that the data give.

    Args:
        recipe: The recipe.
        references: What `measure_references` returned.

    Raises:
        ValueError: If it is not.
    """
    known = list(references.get("finetuned_metrics") or references.get("teacher_metrics") or ())
    for args in (stage.arguments for stage in recipe.stages):
        if args.eval_strategy != "no":
            sizes = [size_name(size) for size in recipe.config.subnetworks]
            check_asked(args.metric_for_best_model, sets=(), sizes=args.eval_sizes or sizes, known=known)
