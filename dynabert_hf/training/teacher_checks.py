"""What is wrong with a teacher for a model, said before any work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow.compute as pc
from transformers import PreTrainedModel

from ..data.inputs import depth_of, innermost, read_column
from ..data.pooling import Pooling
from ..families import longest_input, stock_classes
from ..model.elastic_model import ElasticModelMixin
from ..tasks import TASKS, is_sentence_encoder
from .arguments import DynaBertTrainingArguments
from .stored_outputs import StoredOutputs
from .teacher_facts import TeacherFacts, check_whole
from .teaching import Teacher, facts_of


def check_teachers(
    model: PreTrainedModel, teachers: Sequence[Teacher], args: DynaBertTrainingArguments, train_dataset: Any
) -> None:
    """Check that each of some teachers can teach a model in a stage that has a teacher.

    Raises:
        ValueError: If one shares weights with the model, differs from it in tokens, labels, dtype or device, or in
            shape where that is not possible, or its outputs were not stored for these data.
    """
    ours, learns_states = TeacherFacts.of(model), bool(args.hidden_weight)
    _check_number(ours, teachers)
    for number, teacher in enumerate(teachers):
        facts = facts_of(teacher)
        if isinstance(teacher, StoredOutputs):
            _check_stored(teacher, args, train_dataset, needs_states=learns_states and number == 0)
        else:
            _check_weights(model, teacher)
            _check_pooling(model, teacher)
            _check_lengths(teacher, train_dataset)
        if args.stage == "depth" and args.teacher_width == "same":
            _check_narrowed(ours, teacher, facts)
        _check_predictions(ours, facts)
        if number == 0 and not ours.has_shape_of(facts):
            _check_shape(ours, facts, args)


def check_same_shape(model: ElasticModelMixin, teacher: PreTrainedModel) -> None:
    """Check that a teacher is a model with the shape of another.

    Raises:
        TypeError: If it is no model.
        ValueError: If it has another shape.
    """
    check_whole(teacher)
    ours, theirs = TeacherFacts.of(model), TeacherFacts.of(teacher)
    if not ours.has_shape_of(theirs):
        raise ValueError(
            f"The teacher has {_shape(theirs)}, the model {_shape(ours)}. A single size learns from models of the "
            "full shape. Give the fine-tuned model that train_dynabert began with, or no teacher."
        )


def _check_number(ours: TeacherFacts, teachers: Sequence[Teacher]) -> None:
    if len(teachers) > 1 and TASKS[ours.head].predicts == "state":
        raise ValueError(
            f"{len(teachers)} teachers were given for a model without a head, and states of several models have no "
            "mean. Give one teacher."
        )


def _check_weights(model: PreTrainedModel, teacher: PreTrainedModel) -> None:
    shared = {id(parameter) for parameter in model.parameters()} & {id(parameter) for parameter in teacher.parameters()}
    if shared:
        raise ValueError(
            "The teacher shares weights with the model, so it would change while it teaches. Give a copy: "
            "teacher=copy.deepcopy(model)."
        )
    check_whole(teacher)
    devices = sorted({str(parameter.device) for parameter in teacher.parameters()})
    if devices == ["meta"] or len(devices) > 1:
        raise ValueError(
            f"The teacher is on the devices {devices}. It has to be in memory as a whole, and is then moved to the "
            "device of the model: load it without device_map, and not under torch.device('meta')."
        )
    if teacher.dtype != model.dtype:
        raise ValueError(
            f"The teacher is in {teacher.dtype}, the model in {model.dtype}. Load both with dtype=torch.float32 "
            "(from_pretrained keeps the dtype of the file otherwise); bf16=True then computes in half precision."
        )


def _check_lengths(teacher: PreTrainedModel, train_dataset: Any) -> None:
    """A teacher reads the rows of its student, which may have more positions."""
    ids = None if train_dataset is None else read_column("train_dataset", train_dataset, "input_ids")
    config: Any = teacher.config
    limit = getattr(config, "max_position_embeddings", None) or math.inf
    if type(teacher) in stock_classes() or isinstance(teacher, ElasticModelMixin):
        limit = longest_input(config)
    longest = 0 if ids is None or not depth_of(ids.type) else pc.max(pc.list_value_length(innermost(ids))).as_py() or 0
    if longest > limit:
        raise ValueError(
            f"train_dataset has rows of up to {longest} tokens, but the teacher, a {type(teacher).__name__}, has "
            f"positions for {limit}. Cut the rows when tokenising, or give a teacher that reads as much."
        )


def _check_pooling(model: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """What a sentence encoder learns from another is pooled as the model pools."""
    if not (is_sentence_encoder(model) and is_sentence_encoder(teacher)):
        return
    ours, theirs = Pooling.of(model.config), Pooling.of(teacher.config)
    if ours.mode != theirs.mode:
        raise ValueError(
            f"The teacher pools by {theirs.mode!r}, the model by {ours.mode!r}. Both are pooled as the model is. Give "
            f"a teacher that pools by {ours.mode!r}."
        )


def _check_narrowed(ours: TeacherFacts, teacher: Teacher, facts: TeacherFacts) -> None:
    if not isinstance(teacher, ElasticModelMixin):
        raise ValueError(
            f"Stage 'depth' narrows its teacher to the student's width, but a {type(teacher).__name__} has one size. "
            "Give the elastic result of stage 'width', or teacher_width='full'."
        )
    if not ours.has_shape_of(facts):
        raise ValueError(
            f"Stage 'depth' narrows its teacher to the student's width, but the teacher has {_shape(facts)}, the model "
            f"{_shape(ours)}. Give the elastic result of stage 'width', or teacher_width='full'."
        )


def _check_predictions(ours: TeacherFacts, theirs: TeacherFacts) -> None:
    """Teacher and model read the same tokens and predict the same things."""
    if ours.head != theirs.head:
        raise ValueError(
            f"The teacher has the head {theirs.head}, the model {ours.head}. They must predict the same: give one "
            f"whose class ends in {ours.head}."
        )
    if ours.vocab_size != theirs.vocab_size:
        raise ValueError(
            f"The teacher has vocab_size={theirs.vocab_size}, the model {ours.vocab_size}. They must be equal, since "
            "both read the same tokens. Give a teacher with the tokenizer of the model."
        )
    if TASKS[ours.head].predicts == "state":
        return
    if ours.num_labels != theirs.num_labels:
        raise ValueError(
            f"The teacher has num_labels={theirs.num_labels}, the model {ours.num_labels}. They must be equal: give a "
            "teacher that was fine-tuned on the same task."
        )
    kinds = ours.problem_type, theirs.problem_type
    if None not in kinds and kinds[0] != kinds[1]:
        raise ValueError(
            f"The teacher has problem_type={theirs.problem_type!r}, the model {ours.problem_type!r}, so that their "
            "predictions cannot be compared. Give a teacher that was fine-tuned on the same task."
        )
    have_names = not any(all(name.startswith("LABEL_") for name in each.labels) for each in (ours, theirs))
    if have_names and list(ours.labels) != list(theirs.labels):
        raise ValueError(
            f"The teacher has the labels {list(theirs.labels)}, the model {list(ours.labels)}. They must be the "
            "same in the same order. Give a teacher that was fine-tuned with the labels of the model, or correct the "
            "id2label of one that only calls them otherwise."
        )


def _check_shape(ours: TeacherFacts, theirs: TeacherFacts, args: DynaBertTrainingArguments) -> None:
    if args.hidden_weight and (theirs.hidden_size is None or theirs.num_hidden_layers is None):
        raise ValueError(
            f"The configuration of the teacher, of type {theirs.family!r}, does not tell its hidden_size and "
            "num_hidden_layers, so its hidden states cannot be matched. Give hidden_weight=0 to learn its predictions "
            "alone."
        )
    if TASKS[ours.head].predicts == "state" and args.logit_weight > 0 and ours.hidden_size != theirs.hidden_size:
        raise ValueError(
            f"The teacher has vectors of {theirs.hidden_size} numbers, the model of {ours.hidden_size}. They are "
            "compared as they are. Give a teacher with vectors as long, or logit_weight=0."
        )


def _check_stored(
    teacher: StoredOutputs, args: DynaBertTrainingArguments, train_dataset: Any, *, needs_states: bool
) -> None:
    folder = str(teacher.folder)
    if args.views is not None:
        raise ValueError(
            f"views={args.views} were asked for, but {folder!r} holds what a teacher said of the texts as they are. "
            "Leave views out, or give the teacher itself."
        )
    if needs_states and not teacher.has_hidden_states:
        raise ValueError(
            f"hidden_weight={args.hidden_weight} needs hidden states, and {folder!r} holds predictions alone. Give "
            "hidden_weight=0, or store the outputs with hidden_states=True."
        )
    if train_dataset is not None:
        teacher.check_rows("train_dataset", train_dataset)


def _shape(facts: TeacherFacts) -> str:
    return f"{facts.num_hidden_layers} layers of {facts.hidden_size} in a {facts.family!r}"
