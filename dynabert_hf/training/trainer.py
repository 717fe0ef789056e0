"""One optimisation step over a plan of sub-networks.

The loop, the optimiser, the data loader and the checkpoints are those of transformers' `Trainer`; evaluation is in
`size_evaluation`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import DistributedType
from accelerate.utils import has_compiled_regions
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer

from ..data.labels import collator_of
from ..families import has_own_forward, not_elastic
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import AnySize, size_name
from ..tasks import task_of
from .accounting import Items, of_labelled
from .argument_checks import check_callables, check_callbacks, check_label_names, check_precision, warn_of_unused_loss
from .arguments import LEARNED, DynaBertTrainingArguments, check_processes
from .callbacks import follow
from .cards import CardAtTheEnd, CardTrainer
from .checked_batches import checking_batches
from .checkpoints import RecoverableTrainer
from .checks import check_datasets, check_ignored, check_teacher
from .distillation import DistillationPair, plan_stage, taught_losses
from .ordered_evaluation import without_recording
from .references import look_at_teachers
from .shared_prefixes import share_prefixes
from .taught_trainer import TaughtTrainer
from .teacher_checks import check_teachers
from .teaching import (
    PROJECTIONS,
    Teacher,
    all_unchanged,
    carrying,
    check_optimizers,
    facts_of,
    fingerprint_of_teacher,
    fresh_views,
    projections_to,
    teachers_of,
)
from .token_types import telling_texts_apart

FOREIGN_ENGINES = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)
"""What holds weights or runs passes in its own way."""


class DynaBertTrainer(CardTrainer, RecoverableTrainer, TaughtTrainer):
    """Trains all sizes of an elastic model in one stage of the recipe.

    A step runs forward and backward once for every sub-network of the stage's plan, from small to large, and updates
    the shared weights once with the summed gradients. The embedding pass, and leading layers that are equal in several
    sub-networks, run once a step; with dropout, these sub-networks share its draw there. A subclass with its own
    `compute_loss` or `pair_loss` gets separate passes, and so does a model that was compiled, or has a forward pass of
    its own.

    `evaluate()` and `predict()` cover every sub-network of `model.config.subnetworks`: metrics are named
    `eval_w0.5-d0.75_accuracy`, their mean `eval_mean_accuracy` and their worst `eval_worst_accuracy`; the predictions
    are a dictionary from the name of a sub-network to its predictions.

    Args:
        model: The elastic model to train.
        teacher: In stage `"width"` the fine-tuned model, stock or elastic, run at full size; in stage `"depth"` the
            elastic result of stage `"width"` or, with `teacher_width="full"`, the fine-tuned model. It runs in
            evaluation mode on the device of the model; after training it is as before. None in stage `"finetune"`.
            It may have another number of layers or hidden size, or be of another family with the same tokens: its
            hidden states are then compared through learned projections, which checkpoints keep and models do not. Also
            `StoredOutputs`, what a teacher said before; or a list, whose mean distribution teaches, with the hidden
            states of the first.
        args: `DynaBertTrainingArguments`.
        **kwargs: As for transformers' `Trainer`. Without a `data_collator` batches are made as the head takes them, and
            labels are cast to what its loss takes.

    Raises:
        TypeError: If `model` is not elastic, or `args` are not `DynaBertTrainingArguments`.
        ValueError: If the teacher is missing, shares weights with the model, differs from it in dtype, tokens or
            labels, or in shape where stage and losses need the same; if a data set is empty, too small for the
            processes, or has labels that the model cannot predict; if one process has several devices; if
            `eval_sizes` are not possible; or if `model_init` is given.
        OSError: If the output folder cannot be made.
    """

    def __init__(
        self,
        model: PreTrainedModel | None = None,
        teacher: Teacher | Sequence[Teacher] | None = None,
        args: DynaBertTrainingArguments | None = None,
        **kwargs: Any,
    ):
        if kwargs.get("model_init") is not None:
            _refuse_search("model_init was given")
        if not isinstance(model, ElasticModelMixin):
            raise not_elastic(type(model))
        if not isinstance(args, DynaBertTrainingArguments):
            raise TypeError(f"args is a {type(args).__name__}. Give DynaBertTrainingArguments, which name the stage.")
        functions = ("data_collator", "compute_metrics", "preprocess_logits_for_metrics", "compute_loss_func")
        check_callables(**{name: kwargs.get(name) for name in functions})
        check_callbacks(kwargs.get("callbacks"))
        self._teachers = teachers_of(teacher)
        self.plan = plan_stage(
            model.config,
            args.stage,
            teacher_width=args.teacher_width,
            hidden_matching=args.hidden_matching,
            teacher_layers=facts_of(self._teachers[0]).num_hidden_layers if self._teachers else None,
        )
        check_processes(args)
        check_precision(model, args)
        if type(self).compute_loss is Trainer.compute_loss:
            check_label_names(model, args)
        check_teacher(model, self._teachers, args)
        if args.stage != "finetune":
            check_teachers(model, self._teachers, args, kwargs.get("train_dataset"))
        check_optimizers(kwargs.get("optimizers") or (None, None), self._teachers, model, args)
        self.has_own_batches = kwargs.get("data_collator") is not None
        data = kwargs.get("train_dataset"), kwargs.get("eval_dataset")
        check_datasets(model, args, *data, has_own_batches=self.has_own_batches)
        collator = collator_of(model, kwargs.get("processing_class"), kwargs.pop("data_collator", None))
        super().__init__(model=model, args=args, data_collator=collator, **kwargs)
        self._check_eval_sizes()
        self._check_metric_for_best_model()
        self.add_callback(CardAtTheEnd(self))
        self._given_teacher = teacher
        self.progress = follow(self)
        self._views = fresh_views(args, model, kwargs)
        self._projections = projections_to(self._teachers, model, args)

    @property
    def teacher(self) -> Any:
        """Who teaches, as given; another teacher takes another trainer, which checks that it can."""
        return self._given_teacher

    @cached_property
    def _teachers_weights(self) -> list[str] | None:
        """What tells the teachers of this training from others."""
        return None if self.args.stage == "finetune" else [fingerprint_of_teacher(each) for each in self._teachers]

    looks_at_teachers = True
    """Whether training begins with a look at its teacher, which is said to be weak where it is."""

    def checkpoint_facts(self) -> dict[str, Any]:
        """What decides which sub-networks a step trains and by which losses; others would be another training."""
        config, args = self.model.config, self.args
        grid = {"widths": list(config.widths), "depths": list(config.depths), "sizes": config.sizes}
        views = None if args.views is None else [*args.views, args.view_probability]
        of_teacher = {
            "teacher": self._teachers_weights,
            "views": views,
            "projections": None if self._projections is None else self._projections.shape,
        }
        return {**{name: getattr(args, name) for name in (*LEARNED, "seed")}, **grid, **of_teacher}

    def save_beside(self, checkpoint: Path) -> None:
        """Put the projections of this training into a checkpoint, if it has some, and the code if it is pushed."""
        if self._projections is not None:
            save_file(self._projections.state_dict(), checkpoint / PROJECTIONS)
        if self.args.push_to_hub and (checkpoint / "config.json").exists():
            self.model.save_code(checkpoint)

    def load_beside(self, checkpoint: Path) -> None:
        """Take the projections from a checkpoint that training goes on from."""
        if self._projections is not None:
            self._projections.load_state_dict(load_file(checkpoint / PROJECTIONS))

    def before_weights_change(self) -> None:
        """Forget what the configuration holds of measurements; the trainer's own are of its log."""
        self.model.config.forget_measured()

    def pairs_of_step(self) -> tuple[DistillationPair, ...]:
        """The part of the plan that the coming step trains, from small to large, the full network last.

        A draw depends on nothing but the seed and the number of the step, so it is the same on all processes and after
        resuming.
        """
        smallest, *between, largest = self.plan if len(self.plan) > 1 else (self.plan[0], self.plan[0])
        count = self.args.num_random_subnetworks
        if self.args.strategy == "grid" or len(between) <= count:
            return self.plan
        draw = random.Random(f"{self.args.seed}-{self.state.global_step}").sample(range(len(between)), count)
        return (smallest, *(between[index] for index in sorted(draw)), largest)

    def train(self, resume_from_checkpoint: str | Path | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as transformers does; the teacher and what is frozen are as before when it returns or raises.

        What the configuration held of measurements is of other weights then, and is forgotten.

        Args:
            resume_from_checkpoint: A checkpoint; True: the last whole one in `output_dir`.
            *args: Passed on to transformers.
            **kwargs: Passed on to transformers.

        Raises:
            ValueError: If there is no such checkpoint, it is not whole, or it belongs to another training; or if
                `ignore_keys_for_eval` leave nothing to score.
            OSError: If a checkpoint could not be written to `output_dir`.
        """
        if self.args.eval_strategy != "no":
            check_ignored(kwargs.get("ignore_keys_for_eval"), self.model, self.compute_metrics)
        with (
            telling_texts_apart(self._teachers, self.model, self.processing_class),
            self.without_untaught_parts(),
            carrying(self.model, self._projections),
            all_unchanged(self._teachers),
            without_recording(self.model),
        ):
            if self.looks_at_teachers and self.args.stage != "finetune" and not resume_from_checkpoint:
                look_at_teachers(self, self._teachers)
                warn_of_unused_loss(self._own_loss, self.model, [self.args])
            return super().train(resume_from_checkpoint, *args, **kwargs)

    def hyperparameter_search(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not possible: a search makes a trainer for each trial.

        Raises:
            ValueError: Always.
        """
        _refuse_search("hyperparameter_search was called")

    def get_train_dataloader(self) -> DataLoader:
        """As transformers makes it; rows that could not be read before are checked batch by batch."""
        with checking_batches(self):
            return super().get_train_dataloader()

    def training_step(  # type: ignore[override]
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Items | None = None
    ) -> torch.Tensor:
        """Accumulate the gradients of every sub-network of this step on a batch; returns the summed loss, detached.

        Args:
            model: The model, perhaps wrapped.
            inputs: The batch.
            num_items_in_batch: What `get_batch_samples` counted in the whole step; None: the batch is the step.
        """
        inputs = self.begin_batch(model, inputs, num_items_in_batch)
        pairs = self.pairs_of_step()
        total = torch.zeros((), device=self.args.device)
        said: dict[Any, Any] = {}  # by the teacher, at each of its sizes that is still learned from
        with self._passes(model, [pair.student for pair in pairs]) as at_size:
            for number, pair in enumerate(pairs, 1):
                self.progress.show_size(pair.student)
                if pair.teacher is not None and pair.teacher not in said:
                    said[pair.teacher] = self.teacher_outputs(self._teachers, pair.teacher, inputs)
                is_last = number == len(pairs)
                with nullcontext() if is_last else self._unsynchronised(model), at_size(pair.student):
                    loss = self.pair_loss(model, inputs, pair, said.get(pair.teacher)) * self._main_share
                    self.accelerator.backward(loss)
                later = {each.teacher for each in pairs[number:]}
                said = {size: outputs for size, outputs in said.items() if size in later}
                total += loss.detach()
                self._losses.expect_finite(pair.student, loss, inputs)
        return total

    @property
    def _main_share(self) -> Any:
        """What the loss of this batch counts for in its step."""
        return self._shares.labelled if self.args.stage == "finetune" else self._shares.sentences

    @property
    def _own_loss(self) -> str | None:
        """What the user's own loss on labels is called; None: there is none, or an own `pair_loss` may call it."""
        own = type(self)
        if own.compute_loss is not Trainer.compute_loss:
            return f"{own.__name__}.compute_loss" if own.pair_loss is DynaBertTrainer.pair_loss else None
        return None if self.compute_loss_func is None else "compute_loss_func"

    def _unsynchronised(self, model: torch.nn.Module) -> AbstractContextManager[Any]:
        """Around a pass whose gradients other processes get later.

        accelerate's own has no effect in a world of one process, where DDP still waits for every gradient of a pass.
        """
        if isinstance(model, DistributedDataParallel):
            return model.no_sync()
        return self.accelerator.no_sync(model)

    def _passes(self, model: torch.nn.Module, sizes: list[AnySize]) -> AbstractContextManager[Any]:
        """Around the passes of a step: what switches to each size, sharing work between them where that is exact.

        It is not known to be exact where a subclass may run the encoder otherwise than once a pass, where code was
        compiled, and where an engine holds the weights or copies the modules.
        """
        losses = type(self).compute_loss, type(self).pair_loss
        has_own_pass = losses != (Trainer.compute_loss, DynaBertTrainer.pair_loss) or any(
            map(has_own_forward, (self.model, self.model.base_model))
        )
        is_compiled = has_compiled_regions(model) or any(module._compiled_call_impl for module in model.modules())
        if has_own_pass or is_compiled or self.accelerator.distributed_type in FOREIGN_ENGINES:
            return nullcontext(self.model.subnetwork)
        return share_prefixes(self.model, sizes)

    def pair_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], pair: DistillationPair, teacher: Any
    ) -> torch.Tensor:
        """The loss of one sub-network on a batch, the mean over its sentences; the model is at that size."""
        if teacher is None:
            label_loss: Any = self.compute_loss(model, dict(inputs))  # which may take the labels out
            label_loss = of_labelled(label_loss, inputs)
            self._record(pair, loss=label_loss)
            return label_loss
        label_loss, student = self.student_outputs(model, inputs)
        weighted = taught_losses(
            student,
            teacher,
            inputs,
            task=task_of(self.model),
            config=self.model.config,
            args=self.args,
            matched=pair.teacher_hidden_layers,
            states=None if self._projections is None else self._projections(student.hidden_states),
        )
        parts = {name: part for name, (_, part) in weighted.items()}
        loss: Any = sum(weight * part for weight, part in weighted.values())
        if label_loss is not None:
            parts["label_loss"] = label_loss * (self._shares.labelled / self._shares.sentences)
            loss = loss + self.args.label_weight * parts["label_loss"]
        self._record(pair, **parts)
        return loss

    def _record(self, pair: DistillationPair, **losses: torch.Tensor) -> None:
        """Keep the parts of a loss of this batch, which is that of its main share, for the logs."""
        for name, loss in losses.items():
            is_last = self.accelerator.sync_gradients
            self._losses.add(f"{size_name(pair.student)}_{name}", loss * self._main_share, ends_step=is_last)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as transformers does, with the losses of every sub-network, averaged since they were last logged."""
        if "loss" in logs:
            logs.update(self._losses.pop_means(self.accelerator.reduce))
        super().log(logs, start_time)


def _refuse_search(what: str) -> NoReturn:
    raise ValueError(
        f"{what}, but a DynaBertTrainer trains one model, which its teacher has to fit. Possible is model=. To search "
        "for hyperparameters without model_init, make a trainer in each trial, train it, and let the search go by "
        'trainer.evaluate()["eval_mean_loss"] (docs/training.md).'
    )
