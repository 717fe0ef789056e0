"""The whole recipe in one call: rewire, distil into all sizes, optionally fine-tune, measure, and publish.

Every step leaves its result in the output folder and is skipped when it is there already, so an interrupted run goes on
where it stopped when it is called again. What the folder holds is `run_folder`'s, what a stage is given is `stages`'.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import (
    EvalPrediction,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState

from ..data.columns import without_missing_labels
from ..data.labels import collator_of
from ..data.questions import Questions
from ..data.reading import read_datasets
from ..hub.facts import RECIPE_FIELDS
from ..messages import get_logger
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import Size
from ..sizes.evaluation import keep_measured
from ..sizes.metrics import told_directions
from ..tasks import task_of
from .argument_checks import check_callables, check_callbacks
from .callbacks import without_bars_of_files
from .checkpoints import checkpoint_to_resume
from .importance import MAX_SAMPLES, importance_over_processes
from .ordered_evaluation import unchanged
from .preparation import ImportanceData, Recipe, check
from .publishing import check_repository, publish, push
from .references import measure_references, warn_of_weak_teacher
from .rehearsal import check_best_metric, chooses_best, rehearse
from .result import RecipeResult, count_rows
from .rewiring import rewire
from .run_folder import REWIRED, RunFolder
from .stages import (
    Stage,
    check_names,
    check_stages,
    evaluation_arguments,
    given_arguments,
    make_stages,
    order_of,
    own_arguments,
    warn_of_unheeded,
)
from .teacher import chosen_grid, keep_dimensions, load_teacher
from .teaching import load_teachers
from .token_types import telling_texts_apart
from .trainer import DynaBertTrainer

logger = get_logger(__name__)


def train_dynabert(
    model: Any,
    *,
    train_dataset: Any,
    eval_dataset: Any = None,
    importance_dataset: Any = None,
    max_importance_samples: int | None = MAX_SAMPLES,
    importance_labels: str | None = None,
    processing_class: PreTrainedTokenizerBase | None = None,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    max_length: int | None = None,
    data_collator: Callable | None = None,
    compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
    preprocess_logits_for_metrics: Callable | None = None,
    compute_loss_func: Callable | None = None,
    callbacks: list[TrainerCallback] | None = None,
    optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
    widths: Sequence[float] | None = None,
    depths: Sequence[float] | None = None,
    sizes: Sequence[Size] | None = None,
    kept_layers: Mapping[str, Sequence[int]] | None = None,
    matryoshka_dims: Sequence[int] | None = None,
    teacher: Any = None,
    stages: Sequence[str] = ("depth",),
    finetune: bool = False,
    dropout: float | None = 0.0,
    output_dir: str | Path | None = None,
    keep_stages: bool = False,
    args: TrainingArguments | None = None,
    stage_arguments: Mapping[str, Mapping[str, Any]] | None = None,
    **arguments: Any,
) -> RecipeResult:
    """Turn a fine-tuned encoder into one model with all its sizes.

    Rewires the model by importance (section 2.1), distils the fine-tuned model into all its sizes and, if asked, fine-
    tunes them on labels. The defaults are what measured best in `docs/results.md`: one stage with the fine-tuned model
    as its teacher, sandwich steps, no dropout. The paper's recipe (sections 2.2 and 3.1) is `stages=("width", "depth"),
    dropout=None, strategy="grid", learning_rate=2e-5`. With few data, `label_weight=0.5` measured better.

    After an interruption, make the same call with the same `output_dir`: it continues where it stopped, and ends with
    the weights of an uninterrupted run. A finished run is measured again, and not trained. Launched on several
    processes, it runs on all of them, and the main one writes.

    Args:
        model: The fine-tuned model with a task head, or its folder or Hub id. It is the first teacher and does not
            change. If it is elastic, its full size is the teacher, and its widths, depths and kept layers are trained
            unless others are given. It may also be a sentence encoder, as a `SentenceTransformer`, a folder or a Hub
            id: its sizes learn its vectors of texts, without labels.
        train_dataset: Training data, tokenised or, with a `processing_class`, as text, which is tokenised then: the
            usual columns of each head are in `docs/tasks.md`. Labels are needed by `finetune`. Rows without one (None)
            may stand among others: distillation needs none, and `label_weight` counts those that have one. For a
            sentence encoder a list of texts, or rows with one or two columns of text.
        eval_dataset: Data to measure every size on; None, or without labels: the result has no metrics. For a sentence
            encoder also pairs of texts with a `score`, or texts with a `label`.
        importance_dataset: Data to measure importance on; None: the training data. The paper uses the development set.
        max_importance_samples: How many of these rows are drawn for it, by the seed and with each class in proportion;
            None: all.
        importance_labels: `"data"`; or `"predictions"`, those of the fine-tuned model; None: predictions where the
            training data lack labels, in all rows or some.
        processing_class: The tokenizer, used for text and for padding, and saved with the model; None: that of a
            sentence encoder.
        text_columns: If data are text: the column of the text, or the two of a pair; None: the usual names.
        label_column: If data are text: the column of the labels; None: the usual name.
        max_length: If data are text: the most tokens of a row; None: what the model takes. Contexts of questions are
            split into windows of this length, by default 384.
        data_collator: Makes a batch of examples; None: that of the head's task, which pads to the longest of a batch.
            With `remove_unused_columns=False` it gets text as it is.
        compute_metrics: As for transformers' `Trainer`; None: those that `docs/tasks.md` lists for its head.
        preprocess_logits_for_metrics: As for transformers' `Trainer`.
        compute_loss_func: As for transformers' `Trainer`: the loss on labels.
        callbacks: As for transformers' `Trainer`, for every stage. Those with a state of their own, such as early
            stopping, begin each stage as they were given.
        optimizer_cls_and_kwargs: As for transformers' `Trainer`, for every stage.
        widths: Width multipliers to train, 1.0 among them; None: 0.25, 0.5, 0.75 and 1.0.
        depths: Depth multipliers to train, 1.0 among them; None: 0.5, 0.75 and 1.0.
        sizes: Sizes to train, such as `["w0.6-d0.5"]` or those that `search_layers` found. Without `widths` and
            `depths` they and the full size are all that is trained.
        kept_layers: For a depth, as text (`"0.5"`), the layers to keep instead of those of the paper's rule.
        matryoshka_dims: For sentence encoders: the lengths to which vectors may be cut, such as `[192, 96]`; None:
            whole vectors.
        teacher: Who teaches the first stage in place of the fine-tuned model: a model of any shape that reads the same
            tokens and predicts the same labels, also of another family, or the folder or Hub id of one; `StoredOutputs`
            or their folder; or a list of these, whose mean distribution teaches, with the hidden states of the first.
        stages: Stages of distillation: `("depth",)`, all sizes from the fine-tuned model; or `("width", "depth")`,
            where the second learns from the result of the first, narrowed to each student's width.
        finetune: Whether to fine-tune on labels at the end.
        dropout: Dropout while training; None: that of the fine-tuned model, which the result has in any case.
        output_dir: Folder of the run; None: that of `args`, or `"dynabert"`. The trained model ends in its sub-folder
            `model`.
        keep_stages: Whether a finished run keeps the checkpoints and models of its stages, which only resuming needs.
        args: Prepared arguments for all stages. They replace all defaults of the recipe, except for `stage` and a
            `teacher_width` of `"same"`.
        stage_arguments: For a stage, training arguments of that stage alone, such as
            `{"depth": {"num_train_epochs": 2}}`.
        **arguments: Fields of `DynaBertTrainingArguments` for all stages, such as `learning_rate=5e-5`. With
            `push_to_hub=True` the result is pushed at the end, by `push_folder`, to `hub_model_id` or else to a
            repository named as `output_dir`.

    Raises:
        TypeError: If the model is not of a family and with a head that are supported, or an argument is unknown.
        ValueError: If an argument is not possible, a data set is empty or has not the labels that are needed, or
            `output_dir` holds another run. Nothing is written then.
        OSError: If `output_dir` cannot be written to. What was saved before is kept.
    """
    check_names(arguments, of=train_dynabert)
    check_callables(
        data_collator=data_collator,
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        compute_loss_func=compute_loss_func,
    )
    check_callbacks(callbacks)
    own = own_arguments(stage_arguments)
    check_stages(stages)
    given, publishing = given_arguments(args, arguments)
    warn_of_unheeded(publishing)
    in_its_place = teacher
    teacher, grid, tokenizer = load_teacher(model)
    grid |= chosen_grid(widths=widths, depths=depths, sizes=sizes, kept_layers=kept_layers)
    keep_dimensions(teacher, matryoshka_dims)
    processing_class = processing_class or tokenizer
    folder = Path(output_dir or (args.output_dir if args else None) or "dynabert")
    task = task_of(teacher)
    has_own_metrics = compute_metrics is not None and not isinstance(getattr(compute_metrics, "__self__", 0), Questions)
    named = {"train_dataset": train_dataset, "eval_dataset": eval_dataset, "importance_dataset": importance_dataset}
    datasets, metrics_of_questions = read_datasets(
        named,
        teacher,
        processing_class,
        text_columns=text_columns,
        label_column=label_column,
        max_length=max_length,
        has_own_batches=data_collator is not None and not given.get("remove_unused_columns", True),
    )
    train_dataset, eval_dataset, importance_dataset = datasets.values()
    eval_dataset, given = without_missing_labels(eval_dataset), {**order_of(train_dataset), **given}
    compute_metrics = compute_metrics or metrics_of_questions
    recipe = Recipe(
        teacher=teacher,
        other_teachers=load_teachers(in_its_place, teacher, processing_class),
        folder=RunFolder(folder),
        grid=grid,
        dropout=dropout,
        stages=make_stages(
            (*stages, *(["finetune"] if finetune else [])), folder=folder, config=teacher.config, given=given, own=own
        ),
        evaluation=evaluation_arguments(folder, given),
        importance=ImportanceData.chosen(
            train_dataset, importance_dataset, max_importance_samples, importance_labels, teacher
        ),
        publishing=publishing,
        num_rows={name: count_rows(dataset) for name, dataset in named.items()},
        trainer_kwargs={
            "train_dataset": train_dataset,
            "eval_dataset": eval_dataset,
            "processing_class": processing_class,
            "data_collator": collator_of(teacher, processing_class, data_collator),
            "compute_metrics": compute_metrics or (None if eval_dataset is None else task.metrics(teacher)),
            "preprocess_logits_for_metrics": preprocess_logits_for_metrics
            or (None if compute_metrics else task.preprocess_logits),
            "compute_loss_func": compute_loss_func,
            "callbacks": callbacks,
            "optimizer_cls_and_kwargs": optimizer_cls_and_kwargs,
        },
        has_own_batches=data_collator is not None,
    )
    return run(recipe, has_own_metrics=has_own_metrics, keep_stages=keep_stages)


def run(recipe: Recipe, *, has_own_metrics: bool, keep_stages: bool) -> RecipeResult:
    """Check a recipe, train what is not trained, measure all sizes, and publish them.

    Args:
        recipe: The recipe.
        has_own_metrics: Whether the metrics are the user's own, not `Questions.metrics`, which are called for the sizes
            first, unless a best checkpoint is chosen by one: whether that comes is known before any work then.
        keep_stages: Whether the folder keeps what only resuming needs.
    """
    check(recipe)
    check_repository(recipe)
    if not recipe.folder.is_finished():
        rehearse(recipe)
        recipe.folder.open(recipe.settings)
    tokenizer = recipe.trainer_kwargs["processing_class"]
    told_apart = telling_texts_apart(recipe.other_teachers, recipe.teacher, tokenizer)
    with unchanged(recipe.teacher), told_apart, without_bars_of_files():
        references = measure_references(recipe) if chooses_best(recipe) or not has_own_metrics else None
        if not recipe.folder.is_finished():
            if references is not None:
                check_best_metric(recipe, references)
            known = measure_references(recipe, by_default=True) if has_own_metrics else references
            warn_of_weak_teacher(recipe.teachers, known or {})
        result = measure(recipe, train_stages(recipe), references)
        publish(recipe, result)
    if not keep_stages:
        recipe.folder.remove_what_only_resuming_needs(recipe.settings)
    push(recipe)
    return result


def train_stages(recipe: Recipe) -> ElasticModelMixin:
    """Rewire and train, as far as that is not done, and return the trained model with the teacher's dropout."""
    load, names = recipe.elastic_class.from_pretrained, recipe.names_of_teacher
    if recipe.folder.is_finished():
        return load(recipe.folder.model, **names)
    once = partial(recipe.folder.once, elastic_class=recipe.elastic_class, fields=names)
    trained = once(REWIRED, make=lambda: rewired(recipe))
    source: Any = recipe.other_teachers or recipe.teacher
    for stage in recipe.stages:
        trained = source = once(stage.folder.name, make=partial(train_stage, recipe, stage, trained, source))
    return load(recipe.stages[-1].folder / "model", **recipe.dropout_of_teacher, **names)


def rewired(recipe: Recipe) -> ElasticModelMixin:
    """An elastic copy of the teacher, heads and neurons ordered by their importance, which is saved in the folder."""
    model = recipe.elastic_class.from_backbone(recipe.teacher, **recipe.elastic_fields)
    importance = importance_over_processes(
        model,
        recipe.importance.drawn(recipe.evaluation.seed),
        recipe.evaluation,
        {name: value for name, value in recipe.measuring_kwargs.items() if name != "eval_dataset"},
        from_predictions=recipe.importance.labels == "predictions",
    )
    if PartialState().is_main_process:
        folder = recipe.folder.path / REWIRED
        folder.mkdir(exist_ok=True)
        importance.save(folder / "importance.safetensors")
    rewire(model, importance)
    return model


def train_stage(recipe: Recipe, stage: Stage, start: ElasticModelMixin, source: Any) -> ElasticModelMixin:
    """Train a copy of the model of the step before, from its last checkpoint if there is one.

    Args:
        recipe: The recipe.
        stage: The stage.
        start: What it begins with.
        source: Who teaches, in stages that have a teacher.
    """
    logger.warning_once(f"Stage {stage.name!r} of the recipe, in {stage.folder}")
    model, teacher = copy.deepcopy(start), None if stage.name == "finetune" else source
    callbacks = [
        copy.deepcopy(each) if isinstance(each, ExportableState) else each  # which counts, such as early stopping
        for each in recipe.trainer_kwargs["callbacks"] or []
    ]
    trainer_kwargs = {**recipe.trainer_kwargs, "callbacks": callbacks}
    trainer = DynaBertTrainer(model, teacher, copy.deepcopy(stage.arguments), **trainer_kwargs)
    trainer.looks_at_teachers = False  # which the recipe did before
    trainer.train(resume_from_checkpoint=checkpoint_to_resume(stage.folder))
    return model


def measure(recipe: Recipe, model: ElasticModelMixin, references: Mapping[str, Any] | None) -> RecipeResult:
    """Every size of the trained model, on the evaluation data if there are any with labels, beside the references.

    A finished one keeps the metrics that were stored since under other names.

    Args:
        recipe: The recipe.
        model: The trained model.
        references: What `measure_references` returned; None: it is asked after the sizes.
    """
    metrics: dict[str, float] = {}
    before = copy.copy(model.config)
    dataset = recipe.trainer_kwargs["eval_dataset"]
    if dataset is not None and recipe.has_labels(dataset):
        trainer = DynaBertTrainer(model, None, copy.deepcopy(recipe.evaluation), **recipe.measuring_kwargs)
        metrics = trainer.evaluate(sizes=model.config.subnetworks)
    result = RecipeResult.from_metrics(
        model,
        metrics,
        **(measure_references(recipe) if references is None else references),
        stages={each.name: {name: getattr(each.arguments, name) for name in RECIPE_FIELDS} for each in recipe.stages},
        directions={name: way for stage in recipe.stages for name, way in told_directions(stage.arguments).items()},
        train_rows=recipe.num_rows["train_dataset"],
        eval_rows=recipe.num_rows["eval_dataset"],
    )
    result.record()
    if recipe.folder.is_finished():
        keep_measured(model.config, before)
    return result
