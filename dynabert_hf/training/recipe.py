"""The whole recipe in one call: rewire, distil into all sizes, optionally fine-tune.

Every step leaves its result in the output folder and is skipped when it is there already, so an interrupted run goes on
where it stopped when it is called again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from ..data.inputs import check_paddable
from ..data.labels import CastLabels
from ..families import backbone_class_of, elastic_classes, how_to_load, read_config
from ..files import check_writable_folder, write_whole
from ..hub.facts import RECIPE_FIELDS
from ..hub.push import push_folder
from ..model.elastic_model import ElasticModelMixin
from ..sizes.metrics import plain_metrics, told_directions
from ..tasks import task_of
from .arguments import STAGES, DynaBertTrainingArguments
from .checkpoints import last_whole_checkpoint
from .checks import check_enough, check_recipe_data
from .ordered_evaluation import OrderedEvaluation, evaluate_one_size
from .result import RecipeResult, count_rows
from .rewiring import Importance, measure_importance, rewire
from .trainer import DynaBertTrainer

logger = logging.get_logger(__name__)


DROPOUT_FIELDS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
"""The fields of a configuration that are probabilities of dropout."""


PUBLISHING = tuple(
    field.name for field in fields(DynaBertTrainingArguments) if field.name.startswith(("push_to_hub", "hub_"))
)
"""The training arguments that say where a result is pushed to, which is here that of the whole run."""


def train_dynabert(
    model: PreTrainedModel | str | Path,
    *,
    train_dataset: Any,
    eval_dataset: Any = None,
    importance_dataset: Any = None,
    processing_class: PreTrainedTokenizerBase | None = None,
    data_collator: Callable | None = None,
    compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0),
    depths: tuple[float, ...] = (0.5, 0.75, 1.0),
    stages: Sequence[str] = ("depth",),
    finetune: bool = False,
    dropout: float | None = 0.0,
    output_dir: str | Path = "dynabert",
    stage_arguments: Mapping[str, Mapping[str, Any]] | None = None,
    **arguments: Any,
) -> RecipeResult:
    """From a fine-tuned BERT or RoBERTa to one model with all its sizes.

    Rewires the model by importance (section 2.1), distils the fine-tuned model into all its sizes and, if asked, fine-
    tunes them on labels. The defaults are what measured best in `docs/results.md`: one stage with the fine-tuned model
    as its teacher, sandwich steps, no dropout. The paper's recipe (sections 2.2 and 3.1) is `stages=("width", "depth"),
    dropout=None, strategy="grid", learning_rate=2e-5`. With few data, `label_weight=0.5` measured better.

    Run again with the same arguments and `output_dir` after an interruption, it goes on where it stopped, at the
    weights that it would have reached without. Launched on several processes, it runs on all of them, and the main one
    writes.

    Args:
        model: The fine-tuned stock model, or the folder or Hub id of one with a sequence classification head. It is the
            first teacher and does not change.
        train_dataset: Tokenised training data. Distillation needs no labels; they are needed for `finetune=True`, a
            `label_weight`, and where importance is measured on these data.
        eval_dataset: Tokenised data with labels to measure every size on; None: the result has no metrics.
        importance_dataset: Data with labels to measure importance on; None: the training data. The paper uses the
            development set.
        processing_class: The tokenizer, used for padding and saved with the model.
        data_collator: Makes a batch of examples; None: that of the head's task, which pads to the longest of a batch.
        compute_metrics: As for transformers' `Trainer`; None: those that `docs/tasks.md` lists for its head.
        widths: Width multipliers to train, 1.0 among them.
        depths: Depth multipliers to train, 1.0 among them.
        stages: Stages of distillation: `("depth",)`, all sizes from the fine-tuned model; or `("width", "depth")`,
            where the second learns from the result of the first, narrowed to each student's width.
        finetune: Whether to fine-tune on labels at the end.
        dropout: Dropout while training; None: that of the fine-tuned model, which the result has in any case.
        output_dir: Folder of the run. The trained model ends in its sub-folder `model`.
        stage_arguments: For a stage, training arguments of that stage alone, such as
            `{"depth": {"num_train_epochs": 2}}`.
        **arguments: Fields of `DynaBertTrainingArguments` for all stages, such as `learning_rate=5e-5`. With
            `push_to_hub=True` the result is pushed at the end, by `push_folder`, to `hub_model_id` or else to a
            repository named as `output_dir`.

    Raises:
        TypeError: If the model is not a BERT or RoBERTa with a task head.
        ValueError: If `stages` or `dropout` is not possible, a data set is empty, has no labels or some that the model
            has not, a stage or an argument is unknown, or `output_dir` holds another run.
        OSError: If `output_dir` cannot be written to. What was saved before is kept.
    """
    _check_stages(stages)
    config = {"widths": list(widths), "depths": list(depths), **_dropout_fields(dropout)}
    teacher = _load_teacher(model)
    elastic_class, task = _elastic_class(teacher), task_of(teacher)
    data = {"train_dataset": train_dataset, "eval_dataset": eval_dataset, "importance_dataset": importance_dataset}
    each_arguments = [arguments, *(stage_arguments or {}).values()]
    learns_labels = finetune or any(own.get("label_weight", 0) > 0 for own in each_arguments)
    labelled = set(data) if learns_labels or importance_dataset is None else set(data) - {"train_dataset"}
    check_recipe_data(teacher, data, labelled=labelled, has_own_batches=data_collator is not None)
    if data_collator is None and processing_class is None:
        for name, dataset in data.items():
            check_paddable(name, dataset)
    publishing = {name: arguments.pop(name) for name in list(arguments) if name in PUBLISHING}
    run = _Run(
        output_dir=Path(output_dir),
        elastic_class=elastic_class,
        arguments={**({} if "width" in stages else {"teacher_width": "full"}), **arguments},
        publishing=publishing,
        stage_arguments={stage: dict(own) for stage, own in (stage_arguments or {}).items()},
        trainer_kwargs={
            "train_dataset": train_dataset,
            "eval_dataset": eval_dataset,
            "processing_class": processing_class,
            "data_collator": CastLabels(data_collator or task.collator(processing_class), teacher),
            "compute_metrics": compute_metrics or (None if eval_dataset is None else task.metrics(teacher)),
            "preprocess_logits_for_metrics": None if compute_metrics else task.preprocess_logits,
        },
    )
    run.check_settings(
        model=_fingerprint(teacher.state_dict()),
        train_dataset=_fingerprint_of_rows(train_dataset),
        **config,
        stages=list(stages),
        finetune=finetune,
        num_examples=len(train_dataset),
    )
    trained = run.once("1-rewired", lambda: run.rewire(teacher, importance_dataset or train_dataset, config))
    source = teacher
    if "width" in stages:
        trained = source = run.once("2-width", lambda: run.train("width", trained, teacher))
    trained = run.once("3-depth", lambda: run.train("depth", copy.deepcopy(trained), source))
    if finetune:
        trained = run.once("4-finetune", lambda: run.train("finetune", trained, None))
    last = run.output_dir / ("4-finetune" if finetune else "3-depth") / "model"
    dropout_of_teacher = {name: getattr(teacher.config, name) for name in DROPOUT_FIELDS}
    return run.finish(elastic_class.from_pretrained(last, **dropout_of_teacher), teacher)


_ELASTIC_CLASSES = {backbone_class_of(elastic): elastic for elastic in elastic_classes()}
"""For each stock class the elastic one."""


def _fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """What tells the weights of one model from those of another."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _fingerprint_of_rows(dataset: Any) -> str | None:
    """What tells training data from others of the same length: its first, middle and last rows.

    None for data whose rows may be made anew whenever they are asked for.
    """
    if isinstance(dataset, datasets.Dataset):
        dataset = dataset.with_format(None)
    elif not isinstance(dataset, Sequence):
        return None
    rows = [dataset[number] for number in (0, len(dataset) // 2, len(dataset) - 1)]
    return hashlib.sha256(json.dumps(rows, default=str, sort_keys=True).encode()).hexdigest()[:16]


def _check_stages(stages: Sequence[str]) -> None:
    possible = (("depth",), ("width", "depth"))
    if isinstance(stages, str) or tuple(stages) not in possible:
        raise ValueError(f"stages={stages!r} is not possible. Give one of {', '.join(map(str, possible))}.")


def _dropout_fields(dropout: float | None) -> dict[str, float]:
    """What to change in a configuration to train with a dropout."""
    if dropout is None:
        return {}
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout!r} is not possible. Give a probability in [0, 1), or None.")
    return dict.fromkeys(DROPOUT_FIELDS, float(dropout))


def _load_teacher(model: PreTrainedModel | str | Path) -> PreTrainedModel:
    """The stock model that was given or named, with the head that its checkpoint was saved with."""
    if isinstance(model, ElasticModelMixin):
        model = model.to_backbone()
    if isinstance(model, PreTrainedModel):
        return model if model.dtype == torch.float32 else copy.deepcopy(model).float()
    if not isinstance(model, str | os.PathLike):
        raise TypeError(
            f"The model is a {type(model).__name__}. {_supported()} Of a model with adapters give what "
            "merge_and_unload() returns."
        )
    architectures = read_config(model).architectures
    if not architectures:
        raise TypeError(f"{str(model)!r} holds no named architecture. {how_to_load(model)}")
    for stock_class in _ELASTIC_CLASSES:
        if stock_class.__name__ in architectures:
            return stock_class.from_pretrained(model, dtype=torch.float32)
    raise TypeError(f"{str(model)!r} holds {architectures}. {_supported()}")


def _elastic_class(teacher: PreTrainedModel) -> Any:
    elastic_class = _ELASTIC_CLASSES.get(type(teacher))
    if elastic_class is None or teacher.base_model is teacher:
        raise TypeError(f"The model is a {type(teacher).__name__}. {_supported()}")
    return elastic_class


def _supported() -> str:
    heads = sorted(stock.__name__ for stock in _ELASTIC_CLASSES if "For" in stock.__name__)
    return f"Possible are fine-tuned models of the classes {', '.join(heads)}. Fine-tune one of these first."


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


def importance_over_processes(
    model: ElasticModelMixin, dataset: Any, args: DynaBertTrainingArguments, trainer_kwargs: Mapping[str, Any]
) -> Importance:
    """Importance over all of the data, of which every process measures its own batches, none of them twice.

    The batches are in the order of the data, as in the published code: importance is a sum over batches of absolute
    values, so other batches have another importance.

    Args:
        model: The elastic model.
        dataset: Tokenised data with labels.
        args: Batch size and device.
        trainer_kwargs: What makes batches of the data: arguments of `Trainer`.
    """
    trainer = OrderedEvaluation(model, args, **trainer_kwargs)
    batches = trainer.get_eval_dataloader(dataset)
    widest = (model.config.num_attention_heads, model.config.intermediate_size)
    scores = [torch.zeros(model.config.num_hidden_layers, each) for each in widest]
    if len(batches):  # with fewer batches than processes, some have none
        own = measure_importance(model, batches, progress=not args.disable_tqdm)
        scores = [own.heads, own.neurons]
    return Importance(*(trainer.accelerator.reduce(each.to(args.device), "sum").cpu() for each in scores))


@dataclass(frozen=True)
class _Run:
    """The folder, arguments and data of one call of the recipe."""

    output_dir: Path
    elastic_class: Any
    arguments: dict[str, Any]
    stage_arguments: dict[str, dict[str, Any]]
    publishing: dict[str, Any]
    trainer_kwargs: dict[str, Any]

    def check_settings(self, *, num_examples: int, **settings: Any) -> None:
        """Make the folder, or check that it holds a run with these very settings; and check what each stage is given.

        Starts the processes: the arguments of a stage say what they run on.
        """
        unknown = sorted(self.stage_arguments.keys() - set(STAGES))
        if unknown:
            raise ValueError(f"stage_arguments names {unknown}. Possible are {list(STAGES)}.")
        for args in map(self.training_arguments, STAGES):
            if args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
                raise ValueError(
                    "fsdp was asked for, but the recipe keeps a whole model on every process. Possible are one process "
                    "and DDP (distributed_type: MULTI_GPU); train each stage by DynaBertTrainer to shard its model."
                )
            check_enough(
                range(num_examples),
                batch_size=args.train_batch_size * args.world_size,
                num_processes=args.world_size,
                drop_last=args.dataloader_drop_last,
            )
        settings |= {"num_examples": num_examples, "arguments": self.arguments, "stage_arguments": self.stage_arguments}
        settings = json.loads(json.dumps(settings, default=str))
        path = self.output_dir / "run.json"
        if path.exists():
            before = json.loads(path.read_text())
            changed = [name for name in settings if settings[name] != before.get(name)]
            if changed:
                was, now = ({name: each.get(name) for name in changed} for each in (before, settings))
                raise ValueError(
                    f"output_dir={str(self.output_dir)!r} holds a run with {was}, now {now} is asked. Give the same "
                    "settings to go on with it, or another output_dir."
                )
        elif PartialState().is_main_process:
            check_writable_folder(self.output_dir)
            write_whole(path, lambda partial: partial.write_text(json.dumps(settings, indent=2)))
        PartialState().wait_for_everyone()

    def once(self, name: str, make: Callable[[], ElasticModelMixin]) -> ElasticModelMixin:
        """The model of a finished step, loaded if it is there and else made and saved, whole or not at all."""
        folder = self.output_dir / name / "model"
        [is_done] = broadcast_object_list([folder.exists()])  # all processes go one way, whatever each of them sees
        if not is_done:
            made = make()
            if PartialState().is_main_process:
                write_whole(folder, made.save_pretrained)
            PartialState().wait_for_everyone()
        return self.elastic_class.from_pretrained(folder)

    def rewire(self, teacher: PreTrainedModel, dataset: Any, config: Mapping[str, Any]) -> ElasticModelMixin:
        """An elastic copy of the teacher, heads and neurons ordered by their importance, which is saved beside it."""
        extra = {
            "output_hidden_states": False,
            "output_attentions": False,
        }  # asked of the teacher, by whoever studied it
        model = self.elastic_class.from_backbone(teacher, **config, **extra)
        importance = importance_over_processes(model, dataset, self.training_arguments("width"), self.trainer_kwargs)
        if PartialState().is_main_process:
            (self.output_dir / "1-rewired").mkdir(exist_ok=True)
            importance.save(self.output_dir / "1-rewired" / "importance.safetensors")
        rewire(model, importance)
        return model

    def training_arguments(self, stage: str) -> DynaBertTrainingArguments:
        folder = self.output_dir / {"width": "2-width", "depth": "3-depth", "finetune": "4-finetune"}[stage]
        own = self.stage_arguments.get(stage, {})
        return DynaBertTrainingArguments(
            **{**stage_defaults(), **self.arguments, **own, "stage": stage, "output_dir": str(folder)}
        )

    def train(self, stage: str, model: ElasticModelMixin, teacher: PreTrainedModel | None) -> ElasticModelMixin:
        """Train a stage in place, from its last checkpoint if there is one."""
        args = self.training_arguments(stage)
        logger.warning_once(f"Stage {stage!r} of the recipe, in {args.output_dir}")
        trainer = DynaBertTrainer(model, teacher, args, **self.trainer_kwargs)
        trainer.train(resume_from_checkpoint=last_whole_checkpoint(str(args.output_dir)))
        return model

    def finish(self, model: ElasticModelMixin, teacher: PreTrainedModel) -> RecipeResult:
        """Measure every size and the teacher; save model, tokenizer, table and card, and show the table."""
        metrics: dict[str, float] = {}
        teacher_metrics: dict[str, float] = {}
        args = self.training_arguments("finetune")
        if self.trainer_kwargs["eval_dataset"] is not None:
            evaluation = {**self.trainer_kwargs, "train_dataset": None}  # whose labels are not looked at here
            metrics = DynaBertTrainer(model, None, args, **evaluation).evaluate(sizes=model.config.subnetworks)
            teacher_metrics = plain_metrics(evaluate_one_size(teacher, args, **evaluation), "eval_")
        result = RecipeResult.from_metrics(
            model,
            metrics,
            teacher_metrics=teacher_metrics,
            stages=self.settings_of_stages(),
            directions=told_directions(args),
            train_rows=count_rows(self.trainer_kwargs["train_dataset"]),
            eval_rows=count_rows(self.trainer_kwargs["eval_dataset"]),
        )
        result.record()
        if PartialState().is_main_process:
            base_model = teacher.name_or_path
            write_whole(self.output_dir / "model", lambda folder: self.write_result(result, folder, base_model))
            if not args.disable_tqdm:
                result.show()
            self.publish()
        PartialState().wait_for_everyone()
        return result

    def publish(self) -> None:
        """Push the result, if that was asked for; nothing is lost where it fails."""
        if self.publishing.get("push_to_hub"):
            push_folder(
                self.output_dir / "model",
                self.publishing.get("hub_model_id") or self.output_dir.resolve().name,
                private=self.publishing.get("hub_private_repo"),
                revision=self.publishing.get("hub_revision"),
                token=self.publishing.get("hub_token"),
            )

    def write_result(self, result: RecipeResult, folder: Path, base_model: str | None) -> None:
        """Put model, tokenizer, table and card into a folder."""
        result.model.save_pretrained(folder, with_code=True)  # the card says that it loads without this package
        if self.trainer_kwargs["processing_class"] is not None:
            self.trainer_kwargs["processing_class"].save_pretrained(folder)
        result.save(folder)
        result.write_card(folder, base_model=base_model, rewired=True)

    def settings_of_stages(self) -> dict[str, dict[str, Any]]:
        """For each stage that was trained its settings, as a card names them."""
        settings = {}
        for stage in ("width", "depth", "finetune"):
            arguments = self.training_arguments(stage)
            if (Path(str(arguments.output_dir)) / "model").exists():
                settings[stage] = {name: getattr(arguments, name) for name in RECIPE_FIELDS}
        return settings
