"""What a stage teaches: its losses, and its plan as data.

A stage is a list of `DistillationPair`s, one per sub-network trained in a step; the trainer loops over them and does
not know which stage it is in. Every loss is a mean over the sentences of a batch, and padding never counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from ..messages import check_one_of
from ..model.configuration import ElasticConfigMixin
from ..model.subnetwork import AnySize, SubNetwork, SubNetworkError, grid
from ..task_metrics import IGNORED
from ..tasks import Task
from .vector_losses import vector_losses

STAGES = ("width", "depth", "finetune")
TEACHER_WIDTHS = ("same", "full")
HIDDEN_MATCHINGS = ("published", "own")
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


@dataclass(frozen=True)
class DistillationPair:
    """One sub-network of a step and what it learns from.

    Args:
        student: The size that is trained.
        teacher: The size of the teacher that it imitates; None where it learns from labels.
        teacher_hidden_layers: For every hidden state of the student, embedding output first, the index of the teacher's
            hidden state that it is compared with.
    """

    student: AnySize
    teacher: SubNetwork | None = None
    teacher_hidden_layers: tuple[int, ...] = ()


def plan_stage(
    config: ElasticConfigMixin,
    stage: str,
    *,
    teacher_width: str = "same",
    hidden_matching: str = "published",
    teacher_layers: int | None = None,
) -> tuple[DistillationPair, ...]:
    """The sub-networks that a step of a stage trains, from small to large, the full network last (section 2.2).

    The order is part of the contract: with several backward passes a step, distributed training synchronises gradients
    in the last one, which therefore has to reach every parameter.

    Args:
        config: Configuration of the student, whose `widths` and `depths` are trained.
        stage: `"width"` (all widths at full depth, from the full-size fine-tuned model), `"depth"` (all sizes, from the
            width-adaptive model at full depth) or `"finetune"` (all sizes, from labels).
        teacher_width: In stage `"depth"`, `"same"` narrows the teacher to the student's width (the paper), `"full"`
            leaves it at full width (the published code).
        hidden_matching: Which hidden states of the teacher a student is compared with: see `match_hidden_states`.
        teacher_layers: Number of layers of the teacher; None: that of the model. Of another number, hidden state `i` of
            a model of `L` layers stands for state `i * teacher_layers / L` of the teacher, rounded (TinyBERT's uniform
            map).

    Raises:
        ValueError: If `stage`, `teacher_width` or `hidden_matching` is unknown, or the largest trained size is not the
            full network.
    """
    check_one_of("stage", stage, STAGES)
    check_one_of("teacher_width", teacher_width, TEACHER_WIDTHS)
    check_one_of("hidden_matching", hidden_matching, HIDDEN_MATCHINGS)
    _check_trainable(config)
    if stage == "finetune":
        return tuple(map(DistillationPair, config.subnetworks))
    if stage == "width":
        widths = {size.width for size in config.subnetworks if isinstance(size, SubNetwork)}
        students: Sequence[AnySize] = grid(widths, [1.0])
        teachers = [SubNetwork()] * len(students)
    else:
        students = config.subnetworks
        teachers = [SubNetwork(width=_teacher_width(student, teacher_width)) for student in students]
    return tuple(
        _pair(config, student, teacher, hidden_matching, teacher_layers or config.num_hidden_layers)
        for student, teacher in zip(students, teachers, strict=True)
    )


def _teacher_width(student: AnySize, rule: str) -> float:
    """Layers that differ have no one width, and learn from the full one."""
    return student.width if rule == "same" and isinstance(student, SubNetwork) else 1.0


def _check_trainable(config: ElasticConfigMixin) -> None:
    if config.stored_shape is not None:
        raise SubNetworkError(
            "This model was cut by extraction, so it does not hold its full size to distil into. Train it with the "
            "plain Trainer of transformers, or distil the model that it was extracted from."
        )
    if 1.0 not in config.widths or 1.0 not in config.depths:
        raise SubNetworkError(
            f"widths={config.widths} and depths={config.depths} do not hold the full network, which every step has to "
            "train. Add 1.0 to both."
        )


def _pair(
    config: ElasticConfigMixin, student: AnySize, teacher: SubNetwork, matching: str, teacher_layers: int
) -> DistillationPair:
    kept, num_layers = [layer.index for layer in config.resolve(student)], config.num_hidden_layers
    states = match_hidden_states(kept, num_layers=num_layers, matching=matching)
    return DistillationPair(student, teacher, tuple(round(state * teacher_layers / num_layers) for state in states))


def match_hidden_states(kept: Sequence[int], *, num_layers: int, matching: str = "published") -> tuple[int, ...]:
    """For the hidden states of a student with the given layers, those of its full-depth teacher to compare with.

    Hidden state 0 is the embedding output, hidden state `i + 1` the output of layer `i`. Embedding output is compared
    with embedding output and the last state with the last, in either matching.

    Args:
        kept: Increasing indices of the layers that the student keeps.
        num_layers: Number of layers of the teacher.
        matching: `"own"` compares each other kept layer with the teacher's output of the same layer. `"published"`
            compares a student's state before a kept layer with the teacher's state before that layer, as the published
            code does. Its depth rule always keeps the first layer; where that is left out, the matching is `"own"`,
            because the published one would compare the embedding output with the output of a layer.
    """
    if matching == "published" and kept[0] == 0:
        return (*kept, num_layers)
    return (0, *(index + 1 for index in kept[:-1]), num_layers)


def logit_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    *,
    problem_type: str = "single_label_classification",
    token_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """How far the student's predictions are from the teacher's: soft cross-entropy without temperature (equation 2).

    Args:
        student: Logits `(batch, labels)`, or `(batch, seq, labels)` with `token_mask`.
        teacher: Logits of the same shape.
        problem_type: `"single_label_classification"`; `"multi_label_classification"`, where each label is a binary
            distribution of its own and their losses are summed; or `"regression"`, where the loss is the mean squared
            error of the prediction.
        token_mask: `(batch, seq)`, 1 for the tokens whose predictions count.

    Returns:
        A scalar: the mean over sentences of the mean over the counting tokens of each.

    Raises:
        ValueError: If the problem type is unknown.
    """
    if token_mask is None:
        return _divergence(student, teacher, problem_type).mean()
    counts = token_mask.bool()  # a vocabulary is wide, and of masked text few tokens count: others are not looked at
    told = _divergence(student[counts], teacher[counts], problem_type)
    return _mean_over_tokens(told.new_zeros(counts.shape).masked_scatter(counts, told), counts)


def _divergence(student: torch.Tensor, teacher: torch.Tensor, problem_type: str) -> torch.Tensor:
    """The loss of each prediction, `(..., labels)` to `(...)`."""
    check_one_of("problem_type", problem_type, PROBLEM_TYPES)
    if problem_type == "regression":
        return functional.mse_loss(student, teacher, reduction="none").mean(-1)
    if problem_type == "multi_label_classification":
        return functional.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none").sum(-1)
    return -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1)


def hidden_state_loss(
    student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor], attention_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """How far the student's hidden states are from the teacher's: summed mean squared errors (equation 3).

    Args:
        student: Hidden states of the student, each `(batch, seq, hidden)`.
        teacher: As many hidden states of the teacher, those to compare with.
        attention_mask: `(batch, seq)`, 1 for real tokens; None: all are real.

    Returns:
        A scalar: the sum over states of the mean over sentences of the mean squared error over each one's real tokens.
    """
    pairs = zip(student, teacher, strict=True)
    squares = [functional.mse_loss(*pair, reduction="none").mean(-1) for pair in pairs]  # keeps no difference
    return _mean_over_tokens(torch.stack(squares).sum(0), attention_mask)


def _mean_over_tokens(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Mean of values `(batch, seq)` over the tokens of each sentence where the mask is set, then over sentences.

    Without a mask it is the mean of all values, of whatever shape.
    """
    if mask is None:
        return values.mean()
    mask = mask.to(values.dtype)
    return ((values * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()


def prediction_loss(
    student: Any,
    teacher: Any,
    *,
    problem_type: str = "single_label_classification",
    attention_mask: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
) -> torch.Tensor:
    """`logit_loss` between the outputs of any head.

    Heads with a prediction for every token count the tokens with a label, or all real ones where there are no labels;
    question answering compares the distributions of start and of end over the real tokens.

    Args:
        student: Output of a task head, a `ModelOutput`.
        teacher: Output of the same head of the teacher.
        problem_type: As in `logit_loss`.
        attention_mask: `(batch, seq)`, 1 for real tokens; None: all are real.
        labels: Labels as given to the model; -100 marks tokens without one.
    """
    if "start_logits" in student:
        pairs = ((student.start_logits, teacher.start_logits), (student.end_logits, teacher.end_logits))
        losses = [
            logit_loss(real_only(ours, attention_mask), real_only(theirs, attention_mask)) for ours, theirs in pairs
        ]
        return torch.stack(losses).mean()
    token_mask = None
    if student.logits.ndim == 3:
        token_mask = attention_mask if labels is None else labels != IGNORED
        if token_mask is None:
            token_mask = student.logits.new_ones(student.logits.shape[:2])
    return logit_loss(student.logits, teacher.logits, problem_type=problem_type, token_mask=token_mask)


def tokens_that_count(labels: torch.Tensor | None, attention_mask: torch.Tensor | None) -> torch.Tensor | None:
    """Labels `(batch, seq)`, -100 where a prediction does not count; in a row without any label all real tokens do.

    A row that nobody labelled teaches by what the teacher says of all its tokens.
    """
    if labels is None:
        return None
    real = torch.ones_like(labels) if attention_mask is None else attention_mask
    unlabelled = torch.where(real.bool(), torch.zeros_like(labels), IGNORED)
    return torch.where(labels.ne(IGNORED).any(-1, keepdim=True), labels, unlabelled)


def kind_of_predictions(output: Any, labels: torch.Tensor | None, config: Any) -> str:
    """What the predictions are, where the configuration does not say, as transformers tells it from the labels."""
    if config.problem_type is not None or "start_logits" in output or output.logits.ndim != 2:
        return config.problem_type or "single_label_classification"
    if config.num_labels == output.logits.shape[-1] == 1:
        return "regression"
    is_multi_label = labels is not None and labels.is_floating_point()
    return "multi_label_classification" if is_multi_label else "single_label_classification"


def taught_losses(
    student: Any,
    teacher: Any,
    inputs: Mapping[str, Any],
    *,
    task: Task,
    config: Any,
    args: Any,
    matched: Sequence[int],
    states: Sequence[torch.Tensor] | None = None,
) -> dict[str, tuple[float, torch.Tensor]]:
    """All that a student learns from what a teacher says of a batch: by name the weight and the loss.

    Args:
        student: Output of the student, with hidden states where they have a weight.
        teacher: Output of the teacher, likewise.
        inputs: The batch.
        task: The task of both.
        config: Configuration of the student.
        args: `DynaBertTrainingArguments`, with the weights.
        matched: For each hidden state of the student that of the teacher.
        states: Hidden states of the student as the teacher's would be; None: as they are.
    """
    mask, labels = inputs.get("attention_mask"), inputs.get("labels")
    losses = {}
    if task.predicts == "vector":
        losses = vector_losses(student, teacher, mask, config=config, args=args)
    elif args.logit_weight > 0:
        if task.head == "ForTokenClassification":
            labels = tokens_that_count(labels, mask)
        kind = kind_of_predictions(student, labels, config)
        told = prediction_loss(student, teacher, problem_type=kind, attention_mask=mask, labels=labels)
        losses["logit_loss"] = args.logit_weight, told
    if args.hidden_weight:
        wanted = [teacher.hidden_states[index] for index in matched]
        mask = None if mask is None else mask.flatten(0, -2)
        ours = student.hidden_states if states is None else states
        losses["hidden_loss"] = args.hidden_weight, hidden_state_loss(ours, wanted, mask)
    return losses


def real_only(logits: torch.Tensor, attention_mask: torch.Tensor | None, filling: float | None = None) -> torch.Tensor:
    """Logits or labels of tokens `(batch, seq)` with another number for padding, where a mask tells it.

    Args:
        logits: A number for each token, such as the logits of starts of answers.
        attention_mask: `(batch, seq)`, 1 for real tokens. Nothing is known of padding without one, or where a mask is
            of pairs of tokens.
        filling: What padding has; None: the lowest number, which gives it no probability.
    """
    if attention_mask is None or attention_mask.ndim != 2:
        return logits
    return logits.masked_fill(attention_mask == 0, torch.finfo(logits.dtype).min if filling is None else filling)


def loss_of_labelled_rows(outputs: Any, labels: torch.Tensor, config: Any, own: Callable[..., Any] | None) -> Any:
    """The loss of values or of several labels over the rows that have them; those of others are NaN.

    Args:
        outputs: Of the model, with logits `(batch, labels)`.
        labels: `(batch,)` or `(batch, labels)`.
        config: Configuration of the model.
        own: A loss of the user's own, as `Trainer` takes it by `compute_loss_func`.
    """
    rows = ~labels.isnan().reshape(len(labels), -1).any(1)
    logits, labels = outputs.logits[rows], labels[rows]
    if not len(labels):
        return outputs.logits.sum() * 0
    if own is not None:
        return own(type(outputs)(logits=logits), labels, num_items_in_batch=None)
    if kind_of_predictions(outputs, labels, config) == "regression":
        return functional.mse_loss(logits.reshape(labels.shape), labels)
    return functional.binary_cross_entropy_with_logits(logits, labels)
