"""What is wrong with arguments beside the model or the data that they are for, said before any work.

What no model can be trained with is refused by the arguments themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback

from ..data.labels import are_multi_hot
from ..messages import get_logger
from ..task_metrics import problem_type
from ..tasks import gives_values, is_sentence_encoder, task_of
from .arguments import DynaBertTrainingArguments
from .teacher_facts import parameters_of

logger = get_logger(__name__)

FEW_STEPS, ENOUGH_STEPS = 200, 400
"""Where more steps gained much, and how many these were (docs/training.md, "Few rows")."""


def check_callables(**given: Any) -> None:
    """Whether the functions that a trainer is given can be called; None is left out.

    Raises:
        TypeError: If one cannot.
    """
    for name, value in given.items():
        if value is not None and not callable(value):
            raise TypeError(f"{name}={value!r} cannot be called. Give a function, or leave it out.")


def check_callbacks(callbacks: Any) -> None:
    """Whether a trainer can call the callbacks that it is given, instances or classes; None is none.

    Raises:
        TypeError: If they are no list, or one of them is no callback.
    """
    if callbacks is not None and not isinstance(callbacks, list):
        raise TypeError(f"callbacks={callbacks!r} is no list. Give a list of them, or leave it out.")
    for each in callbacks or ():
        if not issubclass(each if isinstance(each, type) else type(each), TrainerCallback):
            raise TypeError(f"callbacks has {each!r}, which is no TrainerCallback. Give instances or classes of it.")


def check_precision(model: PreTrainedModel, args: DynaBertTrainingArguments) -> None:
    """Warn of weights in half precision, which transformers keeps where a file has them."""
    if model.dtype in (torch.bfloat16, torch.float16):
        logger.warning(
            f"The model to train is in {model.dtype}. Most steps of learning_rate={args.learning_rate:g} are too small "
            "to change such weights, and are lost. Load it with dtype=torch.float32; bf16=True then computes in half "
            "precision."
        )


def check_smoothing(model: PreTrainedModel, args: DynaBertTrainingArguments, datasets: Iterable[Any] = ()) -> None:
    """Check that labels have classes over which they can be smoothed.

    Args:
        model: The model.
        args: The arguments.
        datasets: The data, whose labels may tell what the model leaves unsaid.

    Raises:
        ValueError: If they are values, several yes-or-no answers or places in a text.
    """
    if not args.label_smoothing_factor:
        return
    is_value, kind = gives_values(model), problem_type(model.config)
    is_several = task_of(model).predicts == "text" and (
        kind == "multi_label_classification" or any(are_multi_hot(each, model) for each in datasets if each is not None)
    )
    if is_value or is_several or task_of(model).predicts in ("span", "vector", "state"):
        raise ValueError(
            f"label_smoothing_factor={args.label_smoothing_factor} was given, but the labels of a "
            f"{type(model).__name__}{' of values' * is_value}{' of several labels' * is_several} are no classes, "
            "between which they could be smoothed. Leave it out."
        )


def check_learns(args: DynaBertTrainingArguments, *, instead: str) -> None:
    """Check that a training has a step, and that a step changes something.

    Raises:
        ValueError: If that is not so.
    """
    usual = {"learning_rate": 1e-4, **({"num_train_epochs": 0.5} if args.max_steps < 0 else {"max_steps": 100})}
    for name, value in usual.items():
        if not 0 < getattr(args, name) < float("inf"):
            raise ValueError(
                f"{name}={getattr(args, name)!r} trains nothing. Possible is a number above 0, such as {value:g}; "
                f"{instead}."
            )


def warn_of_few_steps(dataset: Any, args: DynaBertTrainingArguments) -> None:
    """Say so where rows and epochs make so few steps that small sizes learn little."""
    if args.stage == "finetune" or args.max_steps > 0 or not hasattr(dataset, "__len__"):
        return
    in_an_epoch = math.ceil(len(dataset) / args.rows_in_a_batch / args.gradient_accumulation_steps)
    steps = math.ceil(in_an_epoch * args.num_train_epochs)
    if steps < FEW_STEPS:
        logger.warning(
            f"Stage {args.stage!r} has {steps} steps: {len(dataset)} rows, num_train_epochs={args.num_train_epochs:g}. "
            f"Small sizes learn in hundreds of steps. num_train_epochs={math.ceil(ENOUGH_STEPS / in_an_epoch)} gives "
            f"about {ENOUGH_STEPS}. If few are enough, say how many by max_steps={steps}."
        )


def warn_of_unused_loss(loss: str | None, model: PreTrainedModel, stages: Sequence[DynaBertTrainingArguments]) -> None:
    """Say so where a loss on labels is given, or smoothed labels, but no stage learns from labels.

    Args:
        loss: What it was given as, such as `compute_loss_func`; None: there is none.
        model: The model.
        stages: The arguments of all stages that may use it.
    """
    is_smoothed = any(args.label_smoothing_factor for args in stages)
    given = f"{loss} is" if loss else "label_smoothing_factor changes" if is_smoothed else None
    if given is None or any(args.learns_labels for args in stages):
        return
    reason = "with label_weight=0 training learns from the teacher alone, so that only evaluation calls it"
    advice = "Give a label_weight above 0, such as 0.5, train stage 'finetune', or leave it out"
    if is_sentence_encoder(model):
        reason = "a sentence encoder learns from its teacher alone, so that nothing calls it"
        advice = "Leave it out"
    logger.warning(f"{given} the loss on labels, but {reason}. {advice}.")


def check_taught(model: PreTrainedModel, args: DynaBertTrainingArguments) -> None:
    """Check that a stage with a teacher learns something from it; warn of settings that nothing in it heeds.

    Raises:
        ValueError: If the weights of all losses that the model has with a teacher are 0.
    """
    names = ["logit_weight", "hidden_weight", *(["similarity_weight"] if is_sentence_encoder(model) else [])]
    if args.stage != "finetune" and not any(getattr(args, name) for name in names):
        raise ValueError(
            f"{' and '.join(names)} are 0, so nothing would be learned from the teacher. Possible is any number above "
            "0. Give one of them, or train on labels alone, in stage 'finetune'."
        )
    if args.stage != "finetune":
        _warn_of_idle(model, args)


def _warn_of_idle(model: PreTrainedModel, args: DynaBertTrainingArguments) -> None:
    """Say which settings of a stage with a teacher were changed, although nothing in it heeds them."""
    has_no_vectors = "" if is_sentence_encoder(model) else "only sentence encoders learn vectors. Leave it out"
    idle = {
        "num_random_subnetworks": args.strategy == "grid"
        and "strategy='grid' trains every size in every step. Give strategy='sandwich', or leave it out",
        "view_probability": args.views is None and "there are no views. Give some, such as ['mask'], or leave it out",
        "vector_loss": has_no_vectors,
        "similarity_weight": has_no_vectors,
    }
    defaults = {each.name: each.default for each in fields(args)}
    for name, reason in idle.items():
        if reason and getattr(args, name) != defaults[name]:
            logger.warning_once(f"{name}={getattr(args, name)!r} has no effect: {reason}.")


def check_label_names(model: PreTrainedModel, args: DynaBertTrainingArguments) -> None:
    """Check that the labels are named as the model takes them: without them there are no metrics.

    Raises:
        ValueError: If a name is none of its arguments.
    """
    taken = {*parameters_of(model), *task_of(model).label_names}
    unknown = [name for name in args.label_names or () if name not in taken]
    if unknown:
        raise ValueError(
            f"label_names={args.label_names} was given, but a {type(model).__name__} takes no {unknown[0]!r}, so that "
            f"nothing would be measured. Its labels are called {list(task_of(model).label_names)} in a batch, whatever "
            "the column is called. Leave label_names out."
        )
