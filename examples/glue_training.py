"""The models of run_glue.py: loading and checking them, fine-tuning the teacher, training one stage."""

import copy
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from glue_data import InputError, TextData, relabel
from transformers import AutoModelForSequenceClassification

from dynabert_hf import (
    DynaBertTrainer,
    DynaBertTrainingArguments,
    ElasticModelMixin,
    rewire,
)
from dynabert_hf.data.columns import draw
from dynabert_hf.families import anatomy_of, elastic_class_of, read_config
from dynabert_hf.files import write_whole
from dynabert_hf.hub.card import RECIPE_FIELDS
from dynabert_hf.tasks import has_generic_names
from dynabert_hf.training.checkpoints import last_whole_checkpoint
from dynabert_hf.training.importance import importance_over_processes
from dynabert_hf.training.stages import stage_defaults

NOT_OF_A_STAGE = (
    *("output_dir", "stage", "do_train", "do_eval", "do_predict"),
    *("push_to_hub", "hub_model_id", "hub_token", "hub_private_repo"),
)
"""Training arguments that this script heeds itself."""


@dataclass(frozen=True)
class Job:
    """What all steps share: the arguments, the data, and how to batch and score them.

    Attributes:
        model_args: `ModelArguments`.
        data_args: `DataArguments`.
        training_args: `DynaBertTrainingArguments`.
        given: All arguments that were given, by name.
        data: The data, tokenised once `ready`.
        trainer_kwargs: What every trainer is given: tokenizer, collator and metrics.
    """

    model_args: Any
    data_args: Any
    training_args: DynaBertTrainingArguments
    given: dict[str, Any]
    data: TextData
    trainer_kwargs: dict[str, Any]

    @property
    def output_dir(self):
        return Path(self.training_args.output_dir)

    @property
    def importance_data(self):
        """The training examples, drawn by the seed, on which importance is measured."""
        return draw(self.data.splits["train"], self.data_args.max_importance_samples, self.training_args.seed)

    @property
    def is_main(self):
        """Whether this process writes for all."""
        return self.training_args.process_index == 0

    def wait(self):
        """Wait until all processes are here."""
        self.training_args.distributed_state.wait_for_everyone()

    @property
    def given_training(self):
        """The training arguments that were given for all stages."""
        known = {each.name for each in fields(DynaBertTrainingArguments)} - set(NOT_OF_A_STAGE)
        return {name: value for name, value in self.given.items() if name in known}

    def stage_arguments(self, stage, *, output_dir, own=None, **defaults):
        """The training arguments of a stage: the recipe's, then those given, then those given for it alone."""
        own = self.model_args.stage_arguments.get(own or stage, {})
        merged = {**stage_defaults(), **defaults, **self.given_training, **own}
        return DynaBertTrainingArguments(**{**merged, "stage": stage, "output_dir": str(output_dir)})

    def trainer(self, model, teacher, args):
        """A trainer of all sizes of a model on this job's data."""
        splits = self.data.splits
        first = next(iter(self.data.evaluations.values()), None)
        return DynaBertTrainer(
            model, teacher, args, train_dataset=splits["train"], eval_dataset=splits.get(first), **self.trainer_kwargs
        )


def load_model(name, labels, model_args, *, new_head, revision="main"):
    """A sequence classification model for the task.

    Args:
        name: Folder or Hub id.
        labels: Names of the task's labels; None: regression.
        model_args: `ModelArguments`.
        new_head: Whether a head that does not fit, or is not there, may be made anew.
        revision: Branch, tag or commit.
    """
    download = {"cache_dir": model_args.cache_dir, "token": model_args.token, "revision": revision}
    try:
        config = read_config(name, **download)
    except (OSError, ValueError) as error:
        raise InputError(f"The model {name!r} cannot be loaded: {error}") from error
    try:
        anatomy_of(config)
    except TypeError as error:
        raise InputError(f"{name!r} is a model of type {config.model_type!r}. {error}") from error
    num_labels = 1 if labels is None else len(labels)
    has_head = any(each.endswith("ForSequenceClassification") for each in config.architectures or [])
    if not new_head and not has_head:
        kind = ", ".join(config.architectures or ["no named architecture"])
        raise InputError(
            f"{name!r} ({kind}) has no head that was trained on a task. Give --finetune_teacher to fine-tune it first, "
            "or a model that was fine-tuned on this task."
        )
    if not new_head and config.num_labels != num_labels:
        raise InputError(
            f"{name!r} tells {config.num_labels} labels apart, the task has {num_labels}. Give --finetune_teacher to "
            "fine-tune it with a new head, or a model that was fine-tuned on this task."
        )
    settings = {"num_labels": num_labels, "problem_type": "regression" if labels is None else None}
    names = labels if new_head else model_args.label_order if labels is not None else None
    if names is not None:
        if not new_head:
            _check_label_order(name, names, labels, config)
        settings |= {"id2label": dict(enumerate(names)), "label2id": {label: i for i, label in enumerate(names)}}
    return AutoModelForSequenceClassification.from_pretrained(
        name, dtype=torch.float32, ignore_mismatched_sizes=new_head, **settings, **download
    )


def _check_label_order(name, names, labels, config):
    """The names that were given are those of the data, for a model that has none of its own."""
    if sorted(names) != sorted(labels):
        raise InputError(f"--label_order {' '.join(names)} was given, but the labels of the data are {list(labels)}.")
    own = [config.id2label[index] for index in range(config.num_labels)]
    if not has_generic_names(config) and own != list(names):
        raise InputError(
            f"--label_order {' '.join(names)} was given, but {name!r} itself calls its classes {own}. Leave it out."
        )


def align_labels(data, config, warn):
    """The data with labels in the order of the model's, where both have the same names.

    Args:
        data: `TextData`.
        config: Configuration of the model.
        warn: Told in a few sentences if the model has no names or others.
    """
    if data.labels is None:
        return data
    if has_generic_names(config):
        if list(data.labels) != [str(number) for number in range(config.num_labels)]:
            warn(
                f"The model calls its classes {', '.join(config.id2label.values())}, which does not tell their order. "
                f"They are taken to be {list(data.labels)}. If that is not the order that the model was trained in, "
                "its accuracy is meaningless: give the right one by --label_order."
            )
        return data
    ours = [name.lower() for name in data.labels]
    theirs = [config.id2label[index].lower() for index in range(config.num_labels)]
    if ours == theirs:
        return data
    if sorted(ours) == sorted(theirs):
        return relabel(data, [data.labels[ours.index(name)] for name in theirs])
    warn(
        f"The labels of the data are {list(data.labels)}, those of the model {list(config.id2label.values())}. They "
        "are taken in this order."
    )
    return data


def one_size(model):
    """An elastic copy of a stock model that holds its full size alone."""
    return elastic_class_of(model).from_backbone(model, widths=[1.0], depths=[1.0])


def make_elastic(model, model_args, given):
    """A new elastic model with copies of the weights, or one that is elastic already, as it is."""
    wanted = {"widths": model_args.widths, "depths": model_args.depths}
    if isinstance(model, ElasticModelMixin):
        for name, multipliers in wanted.items():
            have = sorted(getattr(model.config, name))
            if name in given and sorted(multipliers) != have:
                raise InputError(
                    f"--{name} {multipliers} was given, but the model holds {have}. Leave it out, or begin with the "
                    "fine-tuned model."
                )
        return model
    return elastic_class_of(model).from_backbone(model, **wanted)


def finetune_teacher(job, model):
    """Fine-tune a model on the task, or load what an earlier run of the same command made of it.

    It is trained as an elastic model of one size, which computes what the stock model does, so that accumulated
    gradients are right, too.
    """
    if isinstance(model, ElasticModelMixin):
        raise InputError("--finetune_teacher was given, but the model holds its sizes already. Leave it out.")
    folder = job.output_dir / "0-teacher"
    settings = {"model": job.model_args.model_name_or_path, "labels": job.data.labels, "arguments": job.given_training}
    settings |= {"own": job.model_args.stage_arguments.get("teacher", {}), "examples": len(job.data.splits["train"])}
    path = folder / "settings.json"
    if path.exists():
        check_same_settings(path, settings)
    if not (folder / "model").exists():
        student = one_size(model)
        args = job.stage_arguments("finetune", output_dir=folder, own="teacher")
        job.wait()
        if job.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings, indent=2))
        _train(job.trainer(student, None, args))
        if job.is_main:
            (folder / "README.md").unlink()  # a card of an elastic model, which the teacher is not
            write_whole(folder / "model", lambda place: save_stock(job, student, place))
        job.wait()
    return AutoModelForSequenceClassification.from_pretrained(folder / "model")


def save_stock(job, model, folder):
    """Save an elastic model of one size as the stock model that it is, with its tokenizer."""
    model.to_backbone().save_pretrained(folder)
    job.trainer_kwargs["processing_class"].save_pretrained(folder)


def check_same_settings(path, settings):
    """Refuse to take up a teacher that was made with other settings than these, which are JSON values.

    Args:
        path: File that holds the settings it was made with.
        settings: Those that are asked for now.
    """
    before, settings = json.loads(path.read_text()), json.loads(json.dumps(settings))
    changed = [name for name in settings if settings[name] != before.get(name)]
    if changed:
        was, now = ({name: each.get(name) for name in changed} for each in (before, settings))
        raise InputError(
            f"{str(path.parent)!r} holds a teacher made with {was}, now {now} is asked. Give the same settings, or "
            "another output folder."
        )


def train_stage(job, stage, model, teacher):
    """Train one stage and save its result in the output folder; returns it and the settings of the stage by its name.

    Stages `width` and `depth` begin with rewiring, where the model is not elastic yet.

    Args:
        job: The job.
        stage: `width`, `depth` or `finetune`.
        model: The model to train.
        teacher: Who teaches it; None: a copy of the model. Without effect in stage `finetune`.
    """
    is_stock = not isinstance(model, ElasticModelMixin)
    if stage != "finetune":
        teacher = teacher or copy.deepcopy(model)
    student = make_elastic(model, job.model_args, job.given)
    is_narrowed = isinstance(teacher, ElasticModelMixin)
    own = {} if is_narrowed or stage != "depth" else {"teacher_width": "full"}
    args = job.stage_arguments(stage, output_dir=job.output_dir, **own)
    if is_stock and stage != "finetune":
        batching = job.stage_arguments("width", output_dir=job.output_dir)
        rewire(student, importance_over_processes(student, job.importance_data, batching, job.trainer_kwargs))
    if job.model_args.dropout is not None:
        for module in student.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = job.model_args.dropout  # its configuration, which is saved, stays as it is
    trainer = job.trainer(student, None if stage == "finetune" else teacher, args)
    _train(trainer)
    trainer.save_model()
    if job.is_main:
        student.save_code(str(job.output_dir))
    return student, {stage: {name: getattr(args, name) for name in RECIPE_FIELDS}}


def _train(trainer):
    """Train, from the last checkpoint if there is one."""
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(trainer.args.output_dir))
