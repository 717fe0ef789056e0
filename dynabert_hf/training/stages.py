"""The stages of the recipe as values, each with its folder and its own arguments, made once before any work.

Here what a caller gave becomes arguments: the recipe's defaults, then prepared `args`, then single arguments, then
those of a stage alone. Nothing that was given is changed.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, TrainingArguments

from ..data.columns import column_names
from ..messages import get_logger
from ..sizes.metrics import LOWER, direction_of
from .arguments import DynaBertTrainingArguments, uses_fsdp
from .distillation import STAGES

logger = get_logger(__name__)

FOLDERS = {"width": "2-width", "depth": "3-depth", "finetune": "4-finetune"}
"""Where in the folder of a run a stage leaves what it makes."""

ARGUMENTS = tuple(field.name for field in fields(DynaBertTrainingArguments) if field.init)

PUBLISHING = tuple(name for name in ARGUMENTS if name.startswith(("push_to_hub", "hub_")))
"""The training arguments that say where a result is pushed to, which is here that of the whole run."""

OF_THE_RUN = ("stage", "output_dir")
"""The training arguments that the recipe itself sets for each stage."""

OF_THE_PROCESS = ("bf16", "fp16")
"""Those that accelerate takes once for all that a process runs."""

NEW_NAMES = {
    "tokenizer": "processing_class",
    "evaluation_strategy": "eval_strategy",
    "group_by_length": "train_sampling_strategy='group_by_length'",
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
}
"""What people also call an argument."""

REFUSED = {
    "model_init": "The recipe trains the one model that it is given. Give that, and call train_dynabert once a trial",
    "optimizers": "An optimiser belongs to one model, and each stage has its own. Give optimizer_cls_and_kwargs",
    "stage": "The recipe runs several. Name them by stages and finetune, and arguments of one by stage_arguments",
}
"""What a trainer takes and the recipe cannot, with the reason and the way out."""

NOT_IN_EVALUATION = {
    "save_strategy": "no",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "metric_for_best_model": None,
    "greater_is_better": None,
    "lr_scheduler_type": "linear",
    "report_to": "none",
    "views": None,
    "gradient_accumulation_steps": 1,  # beside which transformers takes no settings of accelerate's that it has read
}
"""What has no meaning outside of training, some of it only together."""


@dataclass(frozen=True)
class Stage:
    """A stage of training.

    Args:
        name: `"width"`, `"depth"` or `"finetune"`.
        folder: Where it leaves checkpoints, logs and its model.
        arguments: How it trains.
    """

    name: str
    folder: Path
    arguments: DynaBertTrainingArguments


def stage_defaults() -> dict[str, Any]:
    """The training arguments in which the recipe differs from `DynaBertTrainingArguments`, for all stages."""
    return {
        "strategy": "sandwich",
        "learning_rate": 1e-4,
        "warmup_steps": 0.1,
        "train_sampling_strategy": "group_by_length",
        "logging_steps": 25,
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "report_to": "none",
        "dataloader_pin_memory": torch.accelerator.is_available(),
    }


def order_of(dataset: Any) -> dict[str, Any]:
    """The default that holds for training data whose lengths only their batches tell: their order is random."""
    return {} if "input_ids" in column_names(dataset) else {"train_sampling_strategy": "random"}


def distillation_rate(config: PreTrainedConfig) -> float:
    """The learning rate at which all sizes of a model are distilled, where nobody says otherwise.

    3e-4 up to a hidden size of 384, where it was measured to be better, else 1e-4 (docs/training.md, "The learning
    rate").

    Args:
        config: Configuration of the model.
    """
    return 3e-4 if config.hidden_size <= 384 else 1e-4


def check_names(given: Iterable[str], *, of: Callable | None = None) -> None:
    """Check that arguments are known.

    Args:
        given: Names that are no parameters of `train_dynabert`.
        of: That function, one of whose parameters may have been meant; None: only arguments of training may.

    Raises:
        TypeError: If one is unknown, or is one of a trainer that the recipe cannot take.
    """
    for name in given:
        if name in REFUSED:
            raise TypeError(f"{name} is not possible. {REFUSED[name]}, or train the stages by DynaBertTrainer.")
        if name not in ARGUMENTS:
            raise TypeError(
                f"{name} is no argument of train_dynabert. Possible are its parameters, which are also those of "
                "DynaBertTrainer but for the teacher, and the fields of DynaBertTrainingArguments. "
                f"{what_to_give(name, of=of)}"
            )


def what_to_give(name: str, *, of: Callable | None = None) -> str:
    """What to do about an unknown argument: give the nearest one, of a function's own or of training, or none."""
    parameters = () if of is None else inspect.signature(of).parameters.values()
    own = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]  # whose name no caller can give
    near = NEW_NAMES.get(name) or next(iter(get_close_matches(name, [*own, *ARGUMENTS], 1)), None)
    return f"Give {near} instead, if that was meant." if near else "Leave it out."


def check_stages(names: Sequence[str]) -> None:
    """Check the names of stages.

    Raises:
        ValueError: If they are not possible.
    """
    possible = (("depth",), ("width", "depth"))
    if isinstance(names, str) or tuple(names) not in possible:
        raise ValueError(f"stages={names!r} is not possible. Give one of {', '.join(map(str, possible))}.")


def own_arguments(given: Any, *, trained: Sequence[str] = STAGES) -> dict[str, dict[str, Any]]:
    """The arguments of single stages, checked; copies, by name.

    Args:
        given: For a stage its training arguments; None: there are none.
        trained: All that is trained.

    Raises:
        ValueError: If it is no mapping of these to arguments, or has one that all stages have in common.
        TypeError: If an argument is unknown.
    """
    wrong = given
    if isinstance(given, Mapping):
        wrong = {name: own for name, own in given.items() if name not in trained or not isinstance(own, Mapping)}
    if wrong:
        raise ValueError(
            f"stage_arguments={wrong!r} is not possible. Possible are training arguments for each of {list(trained)}. "
            "Give them by name, such as {'depth': {'num_train_epochs': 2}}, or leave it out."
        )
    own = {stage: dict(arguments) for stage, arguments in (given or {}).items()}
    for stage, arguments in own.items():
        check_names(arguments)
        fixed = [name for name in (*OF_THE_RUN, *OF_THE_PROCESS, *PUBLISHING) if name in arguments]
        if fixed:
            raise ValueError(
                f"stage_arguments[{stage!r}] has {fixed[0]}, which is one for all stages. Possible are the other "
                f"fields of DynaBertTrainingArguments. Leave {fixed[0]} out there."
            )
    return own


def given_arguments(args: TrainingArguments | None, single: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was given for all stages, and what was given about publishing; copies, by name.

    Args:
        args: Prepared arguments, of transformers or of this package; all that they hold counts as given.
        single: Arguments given one by one, which go before those.

    Raises:
        TypeError: If `args` are no training arguments.
    """
    if args is not None and not isinstance(args, TrainingArguments):
        raise TypeError(
            f"args is a {type(args).__name__}. Possible are TrainingArguments and DynaBertTrainingArguments. Give one "
            "of them, or their fields one by one."
        )
    prepared = {} if args is None else {each.name: getattr(args, each.name) for each in fields(args) if each.init}
    if isinstance(args, DynaBertTrainingArguments):
        if not args.has_own_hidden_weight:
            del prepared["hidden_weight"]  # each stage has the paper's
        if args.teacher_width == "same":
            del prepared["teacher_width"]  # the default, which one stage alone cannot have
    else:
        prepared.pop("restore_callback_states_from_checkpoint", None)  # not in stock's default: a run counts on
        _warn_of_direction(_over(prepared, single), is_told="greater_is_better" in single)
    merged = {name: copy.deepcopy(value) for name, value in _over(prepared, single).items() if name in ARGUMENTS}
    publishing = {name: merged.pop(name) for name in PUBLISHING if name in merged}
    return {name: value for name, value in merged.items() if name not in OF_THE_RUN}, publishing


def _warn_of_direction(given: Mapping[str, Any], *, is_told: bool) -> None:
    """Say so where the higher of two errors counts as the better, as transformers' arguments have it by default.

    Args:
        given: Stock arguments and those beside them.
        is_told: Whether the direction is one of the latter.
    """
    metric, is_greater = given.get("metric_for_best_model"), given.get("greater_is_better")
    if metric is not None and is_greater and not is_told and direction_of(metric) == LOWER:
        logger.warning(
            f"The args have metric_for_best_model={metric!r} and greater_is_better=True, which transformers takes for "
            "every metric but a loss: the checkpoint with the highest would be the best. Give greater_is_better=False, "
            "or True beside args if that is meant."
        )


def _over(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with others that go before them, as epochs do before steps, and a metric before another's direction."""
    before = dict(given)
    for name, beside in (("metric_for_best_model", "greater_is_better"), ("num_train_epochs", "max_steps")):
        if name in own:
            before.pop(beside, None)
    return {**before, **own}


def warn_of_unheeded(publishing: Mapping[str, Any]) -> None:
    """Say which arguments about the Hub have no effect."""
    defaults = {each.name: each.default for each in fields(DynaBertTrainingArguments)}
    unheeded = [
        name
        for name in ("hub_strategy", "hub_always_push")
        if name in publishing and publishing[name] != defaults[name] and publishing[name] is not None
    ]
    if unheeded:
        logger.warning(
            f"{' and '.join(unheeded)} has no effect: with push_to_hub=True train_dynabert pushes the result once, at "
            "its end. Leave it out, or train the stages by DynaBertTrainer to push while training."
        )


def make_stages(
    names: Sequence[str],
    *,
    folder: Path,
    config: PreTrainedConfig,
    given: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]],
) -> tuple[Stage, ...]:
    """The stages of a run, in order. Making their arguments starts the processes.

    Args:
        names: Their names.
        folder: Folder of the run.
        config: Configuration of the model, whose size decides the learning rate of distillation.
        given: Training arguments of all stages, which go before the recipe's.
        own: For a stage arguments of its own, which go before all.

    Raises:
        ValueError: If an argument is not possible.
    """
    unused = [name for name in own if name not in names and own[name]]
    if unused:
        logger.warning(
            f"stage_arguments has arguments for {' and '.join(map(repr, unused))}, but the stages of this run are "
            f"{', '.join(map(repr, names))}, so that they have no effect. Leave them out, or ask for that stage by "
            "stages or finetune."
        )

    stages = []
    for name in names:
        place = folder / FOLDERS[name]
        rate = {} if name == "finetune" else {"learning_rate": distillation_rate(config)}
        stages.append(Stage(name, place, _stage_arguments(name, names, place, {**rate, **given}, own)))
    return tuple(stages)


def _stage_arguments(
    name: str,
    names: Sequence[str],
    folder: Path,
    given: Mapping[str, Any],
    own: Mapping[str, Mapping[str, Any]],
) -> DynaBertTrainingArguments:
    of_run = {"stage": name, "output_dir": str(folder)}
    teacher = {} if "width" in names else {"teacher_width": "full"}
    no_views = {"views": None} if name == "finetune" else {}  # labels belong to the text as it is
    merged = {**stage_defaults(), **teacher, **_over({**given, **no_views}, own.get(name, {})), **of_run}
    args = DynaBertTrainingArguments(**copy.deepcopy(merged))
    if name == "depth" and "width" not in names and args.teacher_width == "same":
        raise ValueError(
            "teacher_width='same' needs the result of stage 'width' as a teacher, but stages=('depth',) has the "
            "fine-tuned model, which has one width. Give stages=('width', 'depth'), or leave teacher_width out."
        )
    if args.resume_from_checkpoint not in (None, True, "True"):
        raise ValueError(
            f"resume_from_checkpoint={args.resume_from_checkpoint!r} is not possible: a run goes on by itself from "
            "what its output_dir holds. Leave it out, and give the output_dir of the run to go on with, or a new one "
            "to begin anew; or train the stages by DynaBertTrainer to choose a checkpoint."
        )
    if uses_fsdp(args):
        raise ValueError(
            "fsdp was asked for, but the recipe keeps a whole model on every process. Possible are one process "
            "and DDP (distributed_type: MULTI_GPU); train each stage by DynaBertTrainer to shard its model."
        )
    return args


def evaluation_arguments(folder: Path, given: Mapping[str, Any]) -> DynaBertTrainingArguments:
    """How the recipe measures importance and sizes: by what was given for all stages, but nothing of training.

    Args:
        folder: Folder of the run; nothing is written there.
        given: Training arguments of all stages.
    """
    no_teacher = {"stage": "finetune", "output_dir": str(folder)}
    merged = {**stage_defaults(), **given, **NOT_IN_EVALUATION, **no_teacher}
    return DynaBertTrainingArguments(**copy.deepcopy(merged))
