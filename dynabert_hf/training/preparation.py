"""A run of the recipe as a value, settled and checked before any work."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from numbers import Integral, Real
from typing import Any

from transformers import PreTrainedModel

from ..data.class_names import warn_of_other_order
from ..data.columns import column_names, draw, label_column, lacks_labels
from ..data.fingerprints import fingerprint_of_rows, fingerprint_of_weights
from ..data.inputs import check_paddable
from ..data.labels import are_multi_hot, check_counted, check_labels
from ..data.pooling import Pooling
from ..families import elastic_class_of
from ..messages import check_one_of, get_logger
from ..model.subnetwork import SubNetwork
from ..task_metrics import problem_type
from ..tasks import gives_values, is_sentence_encoder, task_of
from .argument_checks import (
    check_label_names,
    check_learns,
    check_smoothing,
    check_taught,
    warn_of_few_steps,
    warn_of_unused_loss,
)
from .arguments import DynaBertTrainingArguments, decisive
from .checks import check_enough, check_rows, check_sentence_encoder, how_to_label, warn_of_equal_sizes
from .dropout import dropout_fields
from .run_folder import REWIRED, RunFolder
from .stages import Stage
from .teacher import GRID
from .teacher_checks import check_teachers
from .teacher_facts import parameters_of
from .teaching import Teacher, fingerprint_of_teacher, fresh_views

logger = get_logger(__name__)

EXTRA_OUTPUTS = ("output_hidden_states", "output_attentions")
"""The fields that ask for more outputs, of the teacher, by whoever studied it."""

ONLY_IN_TRAINING = ("train_dataset", "callbacks", "optimizer_cls_and_kwargs")
"""What a trainer that only measures is not given."""


@dataclass(frozen=True)
class ImportanceData:
    """Data to measure importance on.

    Args:
        name: The argument that they were given by.
        dataset: All of them.
        max_samples: Rows to draw; None: all.
        labels: `"data"`, or `"predictions"` of the fine-tuned model.
    """

    name: str
    dataset: Any
    max_samples: int | None
    labels: str

    @classmethod
    def chosen(
        cls, train: Any, own: Any, max_samples: int | None, labels: str | None, model: PreTrainedModel
    ) -> ImportanceData:
        """The data that were named for it, else the training data.

        Where nobody says whose labels to take, the training data have to have all of them to be taken, and a data set
        that was named for this has them.
        """
        name, dataset = ("train_dataset", train) if own is None else ("importance_dataset", own)
        if labels is None:
            task = task_of(model)
            can_lack = own is None and task.label_names and not gives_values(model) and not makes_labels(model)
            labels = "predictions" if can_lack and lacks_labels(train) else "data"
        return cls(name, dataset, max_samples, labels)

    @property
    def are_drawn(self) -> bool:
        """Whether these are only some of the rows, which a seed decides."""
        return self.max_samples is not None and self.max_samples < len(self.dataset)

    def drawn(self, seed: int) -> Any:
        """The rows to measure on."""
        return self.dataset if self.max_samples is None else draw(self.dataset, self.max_samples, seed)


@dataclass(frozen=True)
class Recipe:
    """A run of the recipe.

    Args:
        teacher: The fine-tuned stock model.
        other_teachers: Who teaches the first stage in its place; none: it teaches itself.
        folder: Where everything is left.
        grid: Fields of the elastic configuration that say which sizes there are, and what was cut of the vocabulary of
            the model that was given; the others have its defaults.
        dropout: Dropout while training; None: the teacher's.
        stages: The stages to train, in order.
        evaluation: How to measure.
        importance: What to measure importance on.
        publishing: Where the result is pushed to.
        num_rows: How many rows each data set had as it was given, which may be less than when long texts were cut.
        trainer_kwargs: What a trainer takes beside a model, a teacher and arguments.
        has_own_batches: Whether the collator is the user's own.
    """

    teacher: PreTrainedModel
    other_teachers: Sequence[Teacher]
    folder: RunFolder
    grid: Mapping[str, Any]
    dropout: float | None
    stages: tuple[Stage, ...]
    evaluation: DynaBertTrainingArguments
    importance: ImportanceData
    publishing: Mapping[str, Any]
    num_rows: Mapping[str, int | dict[str, int] | None]
    trainer_kwargs: Mapping[str, Any]
    has_own_batches: bool

    @property
    def has_other_teachers(self) -> bool:
        """Whether others teach the first stage than the fine-tuned model."""
        return any(each is not self.teacher for each in self.other_teachers)

    @property
    def teachers(self) -> Sequence[Teacher]:
        """Who teaches the first stage."""
        return self.other_teachers or (self.teacher,)

    @property
    def elastic_class(self) -> Any:
        """The class of the result."""
        return elastic_class_of(self.teacher)

    @property
    def dropout_of_teacher(self) -> dict[str, Any]:
        """The fields of dropout that the result has in the end."""
        return {name: getattr(self.teacher.config, name) for name in dropout_fields(self.teacher.config)}

    @property
    def names_of_teacher(self) -> dict[str, Any]:
        """The fields with the names of its labels, which may be others than when a step was saved."""
        return {name: dict(getattr(self.teacher.config, name) or {}) for name in ("id2label", "label2id")}

    @cached_property
    def elastic_fields(self) -> dict[str, Any]:
        """What the configuration has while training that the teacher's has not."""
        dropout = {} if self.dropout is None else dict.fromkeys(self.dropout_of_teacher, float(self.dropout))
        labelled = (*(self.trainer_kwargs[name] for name in ("train_dataset", "eval_dataset")), self.importance.dataset)
        has_several = any(are_multi_hot(each, self.teacher) for each in labelled if each is not None)
        kind = {"problem_type": "multi_label_classification"} if has_several else {}
        return {**copy.deepcopy(dict(self.grid)), **dropout, **dict.fromkeys(EXTRA_OUTPUTS, False), **kind}

    @cached_property
    def config(self) -> Any:
        """The configuration of the elastic model while training."""
        return self.elastic_class.config_class.from_backbone(self.teacher.config, **self.elastic_fields)

    @property
    def measuring_kwargs(self) -> dict[str, Any]:
        """What a trainer takes that only measures."""
        return {name: value for name, value in self.trainer_kwargs.items() if name not in ONLY_IN_TRAINING}

    @cached_property
    def settings(self) -> dict[str, dict[str, Any]]:
        """For each step, by its folder, what decides its result beside the steps before it.

        Worked out once, since all rows of the data are read for it.
        """
        settings = {
            REWIRED: {
                "model": fingerprint_of_weights(self.teacher),
                **{name: getattr(self.config, name) for name in (*GRID, *self.dropout_of_teacher)},
                "problem_type": problem_type(self.config),  # stock's forward pass notes it once it sees labels
                "matryoshka_dims": getattr(self.config, "matryoshka_dims", None),
                "pooling": asdict(Pooling.of(self.config)) if is_sentence_encoder(self.teacher) else None,
                "importance_dataset": None,
                self.importance.name: fingerprint_of_rows(self.importance.dataset),
                "max_importance_samples": self.importance.max_samples,
                "seed": self.evaluation.seed if self.importance.are_drawn else None,
                "importance_labels": self.importance.labels,
                "data_collator": _told_of(
                    self.trainer_kwargs["data_collator"].collator if self.has_own_batches else None
                ),
            }
        }
        optimizer, loss = (self.trainer_kwargs[name] for name in ("optimizer_cls_and_kwargs", "compute_loss_func"))
        train = fingerprint_of_rows(self.trainer_kwargs["train_dataset"])
        for number, stage in enumerate(self.stages):
            teachers = [fingerprint_of_teacher(each) for each in self.other_teachers] if number == 0 else []
            settings[stage.folder.name] = {
                "train_dataset": train,
                "teacher": teachers or None,
                "compute_loss_func": _told_of(loss) if stage.arguments.learns_labels else None,
                "optimizer": None if optimizer is None else [optimizer[0].__qualname__, optimizer[1]],
                **decisive(stage.arguments),
            }
        return settings

    def has_labels(self, dataset: Any) -> bool:
        """Whether a data set has a column of labels, or its batches have labels that the collator makes."""
        task = task_of(self.teacher)
        if label_column(dataset) is not None and not lacks_labels(dataset, everywhere=True):
            return True
        if not self.has_own_batches and not makes_labels(self.teacher):
            return False
        args, collate = self.evaluation, copy.copy(self.trainer_kwargs["data_collator"].collator)
        row = dict(dataset[0])
        wanted = tuple(args.label_names or task.label_names)
        if args.remove_unused_columns:
            known = {*parameters_of(self.teacher), *wanted}
            row = {name: value for name, value in row.items() if name in known}
        batch = collate([row])
        return all(batch.get(name) is not None for name in wanted)


def _told_of(function: Any) -> Any:
    """What tells a function of the user's own from another: its name, and its settings, such as how much it masks.

    Settings are what a `partial` was given, or what the class of an object, or of a method's object, is made with.
    """
    if function is None:
        return None
    given: Mapping[Any, Any] = {}
    owner = function.__self__ if inspect.ismethod(function) else function
    if isinstance(function, partial):
        given, function = {**dict(enumerate(function.args)), **function.keywords}, function.func
    elif not inspect.isroutine(owner) and not isinstance(owner, type):
        with suppress(ValueError):  # some classes in C have no signature
            given = {name: getattr(owner, name, None) for name in inspect.signature(type(owner)).parameters}
    settings = {str(name): own for name, own in given.items() if own is None or isinstance(own, Real | str)}
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return [name, settings] if settings else name


def makes_labels(model: PreTrainedModel) -> bool:
    """Whether the default collator makes the labels, as that of masked language models does."""
    return task_of(model).head == "ForMaskedLM"


def check(recipe: Recipe) -> None:
    """Check all that can be known before any work. Nothing is written.

    Raises:
        ValueError: If something is not possible, or the folder holds another run.
        SubNetworkError: If a width, depth or kept layer is not possible.
    """
    dropout = recipe.dropout
    if dropout is not None and not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout!r} is not possible. Give a probability in [0, 1), or None.")
    config = recipe.config
    if SubNetwork() not in config.subnetworks:
        raise ValueError(
            f"widths={config.widths} and depths={config.depths} leave out the full size. Possible are multipliers in "
            "(0, 1], and 1.0 has to be among them, since the full size is trained in every step. Add 1.0."
        )
    warn_of_equal_sizes(config)
    _warn_of_unused_layers(config)
    own_loss = None if recipe.trainer_kwargs["compute_loss_func"] is None else "compute_loss_func"
    warn_of_unused_loss(own_loss, recipe.teacher, [stage.arguments for stage in recipe.stages])
    _check_data(recipe, config)
    _check_teaching(recipe)
    recipe.folder.check(recipe.settings)


def _warn_of_unused_layers(config: Any) -> None:
    """Say so where layers are kept for a depth that no size has, such as one that was rounded otherwise."""
    depths = sorted({size.depth for size in config.subnetworks if isinstance(size, SubNetwork)})
    unused = [name for name in config.kept_layers or {} if float(name) not in depths]
    if unused:
        logger.warning(
            f"kept_layers has no effect for depth {' and '.join(unused)}: no size has it. Possible are the depths "
            f"{depths}. Name one of these exactly, or leave it out."
        )


def _check_data(recipe: Recipe, config: Any) -> None:
    """Check the rows of all data, and their labels where something is learned or measured from them."""
    train, evaluation = (recipe.trainer_kwargs[name] for name in ("train_dataset", "eval_dataset"))
    named = {"train_dataset": train, "eval_dataset": evaluation, recipe.importance.name: recipe.importance.dataset}
    warn_of_other_order(named, recipe.teacher)
    has_padding = recipe.has_own_batches or recipe.trainer_kwargs["processing_class"] is not None
    for name, dataset in named.items():
        if dataset is not None:
            check_rows(name, dataset, recipe.teacher, has_own_batches=recipe.has_own_batches)
            if not has_padding:
                check_paddable(name, dataset)
    for stage in recipe.stages:
        args = stage.arguments
        check_smoothing(recipe.teacher, args, (train, evaluation))
        check_label_names(recipe.teacher, args)
        rewired = "for sizes that are rewired alone call measure_importance and rewire"
        check_learns(args, instead=rewired)
        check_enough(train, args)
        warn_of_few_steps(train, args)
        if is_sentence_encoder(recipe.teacher):
            check_sentence_encoder(config, args)
            if stage.name == "finetune":
                raise ValueError(
                    "finetune=True was given, but a sentence encoder learns from its teacher alone, not from labels. "
                    "Leave it out."
                )
        if args.learns_labels:
            reason = "stage 'finetune'" if stage.name == "finetune" else f"label_weight={args.label_weight}"
            if not recipe.has_labels(train):
                raise ValueError(
                    f"train_dataset has no labels, but {reason} learns from them. Stages of distillation can do "
                    f"without. {how_to_label(recipe.teacher)}, or leave that out."
                )
            check_labels("train_dataset", train, recipe.teacher, may_be_missing=stage.name != "finetune")
        elif not recipe.has_own_batches:
            check_counted("train_dataset", train, recipe.teacher)
    if evaluation is not None:
        if recipe.has_labels(evaluation):
            check_labels("eval_dataset", evaluation, recipe.teacher)
        else:
            advice = how_to_label(recipe.teacher)
            logger.warning(f"eval_dataset has no labels, so the result has no metrics. {advice} if it has some.")
    _check_importance(recipe)


def _check_teaching(recipe: Recipe) -> None:
    """Check who teaches the first stage, and the views of the text in each."""
    train_dataset = recipe.trainer_kwargs["train_dataset"]
    others = [each for each in recipe.other_teachers if each is not recipe.teacher]
    check_teachers(recipe.teacher, others, recipe.stages[0].arguments, train_dataset)
    for stage in recipe.stages:
        check_taught(recipe.teacher, stage.arguments)
        fresh_views(stage.arguments, recipe.teacher, recipe.trainer_kwargs)


def _check_importance(recipe: Recipe) -> None:
    data = recipe.importance
    check_one_of("importance_labels", data.labels, ("data", "predictions"))
    if data.max_samples is not None and not (isinstance(data.max_samples, Integral) and int(data.max_samples) >= 1):
        raise ValueError(
            f"max_importance_samples={data.max_samples!r} is not possible. Give at least 1, a whole number, or "
            "None for all rows."
        )
    if is_sentence_encoder(recipe.teacher):
        return
    if data.labels == "predictions":
        if gives_values(recipe.teacher):
            raise ValueError(
                "importance_labels='predictions' is not possible for a regression, whose error against its own "
                "predictions is 0. Give importance_dataset with labels."
            )
        return
    if not recipe.has_labels(data.dataset):
        raise ValueError(
            f"{data.name} has the columns {sorted(column_names(data.dataset))} but no labels, by which importance is "
            "measured. Distillation needs none, so a few hundred labelled rows as importance_dataset are enough. "
            f"{how_to_label(recipe.teacher)}, give these, or importance_labels='predictions' to take what the "
            "fine-tuned model says instead."
        )
    check_labels(data.name, data.dataset, recipe.teacher)
