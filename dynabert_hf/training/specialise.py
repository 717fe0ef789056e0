"""One size for one deployment: extracted, then distilled on alone for a part of an epoch.

In the joint run a size shares its weights with all others. Alone it has them to itself, which added quality for little
in AutoTinyBERT (arXiv 2107.13686). What comes out is of one size; the elastic model stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.labels import collator_of
from ..data.reading import read_datasets
from ..families import check_elastic
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import Size, SubNetwork, SubNetworkError, parse_size
from ..tasks import task_of
from .accounting import Items
from .argument_checks import check_learns, check_taught
from .arguments import DynaBertTrainingArguments
from .callbacks import AveragedWeights, KeptPositions, show_progress
from .checks import check_datasets
from .distillation import match_hidden_states, taught_losses
from .dropout import dropping
from .ordered_evaluation import without_recording
from .references import same_draws
from .stages import ARGUMENTS, order_of, stage_defaults, what_to_give
from .taught_trainer import TaughtTrainer
from .teacher import check_task
from .teacher_checks import check_same_shape, check_teachers
from .teaching import all_unchanged, fresh_views

OF_A_STAGE = ("stage", "strategy", "num_random_subnetworks", "teacher_width", "eval_sizes")
"""Arguments that say which sizes a step trains together, which has no meaning for one."""


def specialise(
    model: ElasticModelMixin,
    size: Size,
    *,
    train_dataset: Any,
    teacher: PreTrainedModel | None = None,
    processing_class: PreTrainedTokenizerBase | None = None,
    data_collator: Callable | None = None,
    **arguments: Any,
) -> ElasticModelMixin:
    """A new, stand-alone model of one size, distilled further from the full size and, if given, the fine-tuned model.

    The result depends on the arguments alone, among them `seed`. The random generators of the caller do not change.

    Args:
        model: The trained elastic model, which holds its full size; it stays as it is.
        size: The size to extract, as for `extract`.
        train_dataset: Training data, tokenised or, with a `processing_class`, as text by the usual columns; labels are
            needed only for `label_weight`.
        teacher: The fine-tuned model that the elastic one was distilled from. The loss is then the mean of what is
            learned from it and from the full size.
        processing_class: The tokenizer, used for padding.
        data_collator: Makes a batch of examples; None: that of the task.
        **arguments: Fields of `DynaBertTrainingArguments`, such as `learning_rate`. Defaults are those of
            `train_dynabert`, but a learning rate of 1e-4 for every model, half an epoch and `hidden_matching="own"`.
            Nothing is dropped out while training.

    Returns:
        The small model, in evaluation mode, on the device and in the number format of `model`, but trained in float32
        at least. It stores no metrics: those of `model` are of other weights.

    Raises:
        TypeError: If the model is not elastic, or has no head, the teacher is no model, or an argument is unknown.
        SubNetworkError: If the model does not hold the size, or was cut by extraction.
        ValueError: If an argument is not possible, the teacher differs in shape, or the data set is empty.
        FloatingPointError: If a loss or a trained weight is not finite.

    Example:
        ```python
        small = specialise(result.model, "w0.5-d0.5", train_dataset=train, teacher=teacher, processing_class=tokenizer)
        small.save_pretrained("small")
        ```
    """
    # transformers makes a folder, which nothing is written to by default, and sets the seeds of the whole process
    with TemporaryDirectory() as scratch, same_draws():
        has_own_batches = data_collator is not None
        train_dataset = _read(model, size, train_dataset, processing_class, has_own_batches)
        args = _arguments_of_one_size({**order_of(train_dataset), **arguments}, scratch)
        check_taught(model, args)
        check_datasets(model, args, train_dataset, None, has_own_batches=has_own_batches)
        if teacher is not None:
            check_same_shape(model, teacher)
            check_teachers(model, [teacher], args, train_dataset)
        student: Any = model.extract(size)
        student.to(torch.promote_types(model.dtype, torch.float32))  # half precision would lose most steps
        student.config.forget_measured()
        only = {"widths": [1.0], "depths": [1.0], "sizes": [student.config.extracted_from["size"]]}
        student.config.update(only)  # smaller sizes can be run, too, but nothing trains them
        trainer = OneSizeTrainer(
            student,
            [model] if teacher is None else [model, teacher],
            args,
            train_dataset=train_dataset,
            data_collator=collator_of(model, processing_class, data_collator),
            processing_class=processing_class,
        )
        show_progress(trainer)
        trainer.add_callback(AveragedWeights())
        trainer.add_callback(KeptPositions(student.config))
        with dropping(student, 0.0):
            trainer.train()
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):  # mixed precision, of training alone
            vars(student).pop(name, None)
        wrong = [name for name, weight in student.named_parameters() if not weight.isfinite().all()]
        if wrong:  # as the last step may leave them
            raise FloatingPointError(
                f"{wrong[0]} holds numbers that are not finite after step {trainer.state.global_step}. Nothing is kept "
                "of this training. Look for labels or weights that are not finite; a lower learning_rate may help."
            )
        return student.eval().to(model.device, model.dtype)


def _read(
    model: ElasticModelMixin,
    size: Size,
    train_dataset: Any,
    processing_class: PreTrainedTokenizerBase | None,
    has_own_batches: bool,
) -> Any:
    """The data to train a size of a model on, if it can be specialised."""
    check_elastic(model)
    check_task(model)
    if model.config.stored_shape is not None:
        raise SubNetworkError(
            "This model was cut by extraction, so it does not hold its full size, which teaches. Give the elastic "
            "model that it was extracted from."
        )
    model.config.resolve(size)  # refused before the data are read
    named = {"train_dataset": train_dataset}
    datasets, _ = read_datasets(named, model, processing_class, has_own_batches=has_own_batches)
    return datasets["train_dataset"]


def _arguments_of_one_size(given: Mapping[str, Any], scratch: str) -> DynaBertTrainingArguments:
    for name in given:
        if name not in ARGUMENTS:
            raise TypeError(
                f"{name} is no argument of specialise. Possible are its parameters, and the fields of "
                f"DynaBertTrainingArguments one by one. {what_to_give(name, of=specialise)}"
            )
    about_several = sorted(set(OF_A_STAGE) & given.keys())
    if about_several:
        raise ValueError(
            f"{', '.join(about_several)} was given, which is about training several sizes together. One size alone "
            "takes learning_rate, num_train_epochs, the loss weights and other fields of TrainingArguments. Leave it "
            "out."
        )
    if given.get("push_to_hub"):
        raise ValueError(
            "push_to_hub=True was given, but specialise returns a model that lies nowhere yet. Push that by its "
            "push_to_hub, and leave this out."
        )
    if given.get("resume_from_checkpoint"):
        raise ValueError(
            f"resume_from_checkpoint={given['resume_from_checkpoint']!r} was given, but specialise begins anew, since "
            "it takes a part of an epoch. Leave it out."
        )
    defaults = {name: value for name, value in stage_defaults().items() if not name.startswith("save_")}
    folder = "specialised" if "save_strategy" in given else scratch
    own = {"output_dir": folder, "save_strategy": "no", "num_train_epochs": 0.5, "hidden_matching": "own"}
    one_size = {"stage": "depth", "teacher_width": "full", "strategy": "grid"}
    args = DynaBertTrainingArguments(**{**defaults, **own, **given, **one_size})
    check_learns(args, instead="for a size that is not trained on take extract()")
    return args


class OneSizeTrainer(TaughtTrainer):
    """Trains a model of one size from the predictions and hidden states of teachers of full depth.

    Args:
        model: The small model, made by `extract`.
        teachers: Models of the same network at full size, stock or elastic; the loss is the mean over them.
        args: `DynaBertTrainingArguments`, of which the loss weights and the matching count.
        **kwargs: As for transformers' `Trainer`.
    """

    def __init__(
        self,
        model: ElasticModelMixin,
        teachers: Sequence[PreTrainedModel | ElasticModelMixin],
        args: DynaBertTrainingArguments,
        **kwargs: Any,
    ):
        super().__init__(model=model, args=args, **kwargs)
        kept = [layer.index for layer in model.config.stored_layers]
        matching, num_layers = args.hidden_matching, model.config.num_hidden_layers
        self.matched = match_hidden_states(kept, num_layers=num_layers, matching=matching)
        self._size = parse_size(model.config.extracted_from["size"])
        self.teachers = list(teachers)
        self._views = fresh_views(args, model, kwargs)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as transformers does; the teachers and what is frozen are as before when it returns or raises."""
        with self.without_untaught_parts(), all_unchanged(self.teachers), without_recording(self.model):
            return super().train(*args, **kwargs)

    def training_step(  # type: ignore[override]
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Items | None = None
    ) -> torch.Tensor:
        """Accumulate the gradients of a batch; returns what its loss counts for in the step, detached."""
        inputs = self.begin_batch(model, inputs, num_items_in_batch)
        on_labels, student = self.student_outputs(model, inputs)
        losses = [self._loss_from(teacher, student, inputs) for teacher in self.teachers]
        loss = torch.stack(losses).mean() * self._shares.sentences
        if on_labels is not None:
            loss = loss + self.args.label_weight * on_labels * self._shares.labelled
        self.accelerator.backward(loss)
        self._losses.expect_finite(self._size, loss, inputs)
        return loss.detach()

    def _loss_from(self, teacher: PreTrainedModel, student: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """What the student is told by one teacher."""
        target = self.teacher_outputs([teacher], SubNetwork(), inputs)
        told: dict[str, Any] = {"task": task_of(self.model), "config": self.model.config, "args": self.args}
        weighted = taught_losses(student, target, inputs, matched=self.matched, **told)
        return sum((weight * part for weight, part in weighted.values()), torch.zeros((), device=self.args.device))
