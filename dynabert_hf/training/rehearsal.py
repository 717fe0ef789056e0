"""What only a trainer finds out, found out before any work: each stage makes its trainer, optimiser and schedule once.

So a package that is missing, or settings that do not go together, are said before a run rewires and measures anything.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import Any

from transformers import EarlyStoppingCallback, PreTrainedModel, Trainer, TrainerControl, TrainerState

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
        rehearse_stage(recipe.teacher, stage.arguments, **kwargs)
        if getattr(stage.arguments, RECOMPUTE):
            getattr(model, f"{RECOMPUTE}_enable")()
        if stage.arguments.eval_sizes is not None:
            parsed_sizes(stage.arguments.eval_sizes, recipe.config)
        for callback in recipe.trainer_kwargs["callbacks"] or ():
            if callback is EarlyStoppingCallback or isinstance(callback, EarlyStoppingCallback):
                _check_stopping(stage.arguments)


def rehearse_stage(model: PreTrainedModel, args: DynaBertTrainingArguments, **kwargs: Any) -> None:
    """Make the trainer, the optimiser and the schedule of a stage as transformers makes them. Nothing is written.

    Args:
        model: A model of the kind that is trained; it stays as it is.
        args: The arguments of the stage.
        **kwargs: What else the trainer takes.

    Raises:
        ValueError: If transformers or torch cannot make them.
        ImportError: If a package is missing.
    """
    args = copy.deepcopy(args)
    with TemporaryDirectory() as scratch, unchanged(model):
        args.output_dir = scratch
        try:
            trainer = Trainer(model, args, **kwargs)
            trainer.create_optimizer()
            trainer.create_scheduler(STEPS)
        except (ValueError, TypeError, RuntimeError) as error:  # each in its own way
            told = " ".join(str(error).split()).rstrip(".")
            raise ValueError(
                f"Stage {args.stage!r} cannot begin with these arguments: {told}. Change what that names, or leave it "
                "out."
            ) from error


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
    return any(stage.arguments.chooses_best for stage in recipe.stages)


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
        if args.chooses_best:
            sizes = [size_name(size) for size in recipe.config.subnetworks]
            check_asked(args.metric_for_best_model, sets=(), sizes=args.eval_sizes or sizes, known=known)
