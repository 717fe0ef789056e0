"""The models of all training scripts here: loading and checking them, fine-tuning the teacher, training one stage."""

import copy
import json
import shutil
from contextlib import contextmanager, nullcontext

import torch
from recipe_data import InputError
from transformers import AutoTokenizer
from transformers.utils import logging

from dynabert_hf import ElasticModelMixin, rewire
from dynabert_hf.data.fingerprints import fingerprint_of_rows, fingerprint_of_weights
from dynabert_hf.data.tokens import check_knows_words
from dynabert_hf.families import anatomy_of, elastic_class_of, read_config
from dynabert_hf.files import changed, write_whole
from dynabert_hf.hub.card import RECIPE_FIELDS
from dynabert_hf.training.argument_checks import check_learns
from dynabert_hf.training.arguments import decisive, uses_fsdp
from dynabert_hf.training.callbacks import without_bars_of_files
from dynabert_hf.training.checkpoints import checkpoint_to_resume, last_whole_checkpoint
from dynabert_hf.training.dropout import dropping
from dynabert_hf.training.importance import importance_over_processes
from dynabert_hf.training.stages import distillation_rate


def load_model(name, auto_class, model_args, *, num_labels=None, new_head=False, revision="main", **settings):
    """A model with the head of a task.

    Args:
        name: Folder or Hub id.
        auto_class: The Auto class of the task.
        model_args: `ModelArguments`.
        num_labels: How many labels the task has; None: it has none.
        new_head: Whether a head that does not fit, or is not there, may be made anew.
        revision: Branch, tag or commit.
        **settings: Other fields of the configuration.
    """
    config = config_of(name, model_args, revision=revision)
    head = auto_class.__name__.removeprefix("AutoModel")
    if not new_head and not any(each.endswith(head) for each in config.architectures or []):
        kind = ", ".join(config.architectures or ["no named architecture"])
        raise InputError(
            f"{name!r} ({kind}) has no head that was trained on a task. Give --finetune_teacher to fine-tune it first, "
            "or a model that was fine-tuned on this task."
        )
    if num_labels is not None:
        if not new_head and config.num_labels != num_labels:
            raise InputError(
                f"{name!r} tells {config.num_labels} labels apart, the task has {num_labels}. Give --finetune_teacher "
                "to fine-tune it with a new head, or a model that was fine-tuned on this task."
            )
        settings["num_labels"] = num_labels
    settings |= {"dtype": torch.float32, "revision": revision, **model_args.download}
    if not new_head:
        return auto_class.from_pretrained(name, **settings)
    with a_new_head():
        return auto_class.from_pretrained(name, ignore_mismatched_sizes=True, **settings)


@contextmanager
def a_new_head():
    """Inside, a model may be loaded whose head is new, since that was asked for: transformers says nothing of it."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def load_tokenizer(model_args):
    """The tokenizer that was named, else that of the model to begin with."""
    name = model_args.tokenizer
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=model_args.model_revision, **model_args.download)
        check_knows_words(tokenizer)
    except (OSError, ValueError) as error:
        raise InputError(f"The tokenizer {name!r} cannot be loaded: {error}") from error
    return tokenizer


def config_of(name, model_args, *, revision="main"):
    """The configuration of a model that can be made elastic."""
    try:
        config = read_config(name, revision=revision, **model_args.download)
    except (OSError, ValueError) as error:
        raise InputError(f"The model {name!r} cannot be loaded: {error}") from error
    try:
        anatomy_of(config)
    except TypeError as error:
        raise InputError(f"{name!r} is a model of type {config.model_type!r}. {error}") from error
    return config


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


def rehearse(job, model, teacher):
    """Make the trainer of each stage once: what it refuses is known before a teacher is fine-tuned.

    Args:
        job: The job.
        model: The model that the teacher is made of.
        teacher: Who else teaches a single stage; None: what is made of the model.
    """
    named, teacher = job.given.get("stage"), teacher or model
    for stage in [named] if named else [*job.model_args.stages, *(["finetune"] if job.model_args.finetune else [])]:
        student = make_elastic(model, job.model_args, job.given)
        args = stage_arguments(job, stage, student, teacher)
        check_learns(args, instead="or leave that stage out")
        job.trainer(student, None if stage == "finetune" else teacher, args)
        teacher = student


def finetune_teacher(job, model, teacher):
    """Fine-tune a model on the task, or load what an earlier run of the same command made of it.

    It is trained as an elastic model of one size, which computes what the stock model does, so that accumulated
    gradients are right, too.

    Args:
        job: The job.
        model: The model.
        teacher: Who else teaches a single stage; None: what is made of the model.
    """
    if isinstance(model, ElasticModelMixin):
        raise InputError("--finetune_teacher was given, but the model holds its sizes already. Leave it out.")
    if uses_fsdp(job.training_args):
        raise InputError(
            "--finetune_teacher was given with FSDP, where no process has a whole teacher to save. Possible are one "
            "process and DDP. Launch by one of them, or give a model that was fine-tuned."
        )
    rehearse(job, model, teacher)
    folder = job.output_dir / "0-teacher"
    args = job.stage_arguments("finetune", output_dir=folder, own="teacher")
    rows = fingerprint_of_rows(job.data.splits["train"])
    own = {"model": job.model_args.model_name_or_path, "weights": fingerprint_of_weights(model.base_model)}
    settings = {**own, "labels": job.data.labels, "rows": rows, **decisive(args)}
    check_begun_with(job, folder, settings)
    if not (folder / "model").exists():
        student = one_size(model)
        _train(job.trainer(student, None, args))
        if job.is_main:
            (folder / "README.md").unlink()  # a card of an elastic model, which the teacher is not
            write_whole(folder / "model", lambda place: save_stock(job, student, place))
            if not job.model_args.keep_stages:
                for checkpoint in folder.glob("checkpoint-*"):  # which only resuming needed
                    shutil.rmtree(checkpoint)
        job.wait()
    return type(model).from_pretrained(folder / "model")


def save_stock(job, model, folder):
    """Save an elastic model of one size as the stock model that it is, with its tokenizer."""
    model.to_backbone().save_pretrained(folder)
    job.trainer_kwargs["processing_class"].save_pretrained(folder)


def check_begun_with(job, folder, settings):
    """Refuse to go on with a training that was begun with other settings than these, which stand in its folder.

    Args:
        job: The job.
        folder: Folder of the training.
        settings: What decides its weights, JSON values.
    """
    path, is_begun = folder / "settings.json", (folder / "model").exists() or last_whole_checkpoint(folder)
    if is_begun and path.exists():
        check_same_settings(path, settings)
    job.wait()  # until all have checked
    if job.is_main and not is_begun:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings, indent=2))


def check_same_settings(path, settings):
    """Refuse to take up what was made with other settings than these, which decide its weights.

    A model of other weights is named. One of the same weights may lie elsewhere, as after its folder was moved.

    Args:
        path: File that holds the settings it was made with.
        settings: Those that are asked for now, JSON values.
    """
    was, now = changed(json.loads(path.read_text()), json.loads(json.dumps(settings)))
    if now.keys() - ({"model"} if "weights" in settings else set()):
        raise InputError(
            f"{str(path.parent)!r} holds a training made with {was}, now {now} is asked. Give the same settings, or "
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
    settings = {"model": fingerprint_of_weights(model), "rows": fingerprint_of_rows(job.data.splits["train"])}
    if stage != "finetune":
        teacher = teacher or copy.deepcopy(model)
        settings["teacher"] = fingerprint_of_weights(teacher)
    check_begun_with(job, job.output_dir, settings)
    student = make_elastic(model, job.model_args, job.given)
    args = stage_arguments(job, stage, student, teacher)
    trainer = job.trainer(student, None if stage == "finetune" else teacher, args)  # refuses what cannot be trained
    if is_stock and stage != "finetune":
        batching = job.stage_arguments("width", output_dir=job.output_dir)
        rewire(student, importance_over_processes(student, job.importance_data, batching, job.trainer_kwargs))
    dropout = job.model_args.dropout
    with nullcontext() if dropout is None else dropping(student, dropout):
        _train(trainer)
    trainer.save_model()
    if job.is_main:
        student.save_code(str(job.output_dir))
    return student, {stage: {name: getattr(args, name) for name in RECIPE_FIELDS}}


def stage_arguments(job, stage, student, teacher):
    """The training arguments of a stage, of which the student and who teaches it decide some, where nobody gave them.

    Args:
        job: The job.
        stage: `width`, `depth` or `finetune`.
        student: The model to train.
        teacher: Who teaches it.
    """
    own = {} if stage == "finetune" else {"learning_rate": distillation_rate(student.config)}
    if stage == "depth" and not isinstance(teacher, ElasticModelMixin):
        own["teacher_width"] = "full"
    return job.stage_arguments(stage, output_dir=job.output_dir, **own)


def _train(trainer):
    """Train, from the last checkpoint if there is one."""
    with without_bars_of_files():
        trainer.train(resume_from_checkpoint=checkpoint_to_resume(trainer.args.output_dir))
