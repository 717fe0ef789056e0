"""One optimisation step over a plan of sub-networks, and evaluation over all of them.

The loop, the optimiser, the data loader and the checkpoints are those of transformers' `Trainer`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType
from accelerate.data_loader import DataLoaderStateMixin
from accelerate.state import GradientState
from accelerate.utils import find_batch_size, has_compiled_regions
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel, Trainer
from transformers.trainer_callback import ProgressCallback, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput
from transformers.utils import ModelOutput, logging

from ..hub.card import ModelCardFacts, write_model_card
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import SubNetwork
from ..sizes.metrics import check_asked, check_came, full_name, told_directions, with_summary
from .arguments import DynaBertTrainingArguments
from .callbacks import follow
from .checkpoints import RecoverableTrainer, last_whole_checkpoint
from .checks import IGNORED, check_datasets, check_teacher
from .distillation import DistillationPair, hidden_state_loss, plan_stage, prediction_loss
from .shared_prefixes import share_prefixes

logger = logging.get_logger(__name__)

FOREIGN_ENGINES = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)
"""What holds weights or runs passes in its own way."""


class DynaBertTrainer(RecoverableTrainer):
    """Trains all sizes of an elastic model in one stage of the recipe.

    A step runs forward and backward once for every sub-network of the stage's plan, from small to large, and updates
    the shared weights once with the summed gradients. The embedding pass, and leading layers that are equal in several
    sub-networks, run once a step; with dropout, these sub-networks share its draw there. A subclass with its own
    `compute_loss` or `pair_loss` gets separate passes, and so does a compiled model.

    `evaluate()` and `predict()` cover every sub-network of `model.config.subnetworks`: metrics are named
    `eval_w0.5-d0.75_accuracy`, their mean `eval_mean_accuracy` and their worst `eval_worst_accuracy`; the predictions
    are a dictionary from the name of a sub-network to its predictions.

    Args:
        model: The elastic model to train.
        teacher: In stage `"width"` the fine-tuned model, stock or elastic, run at full size; in stage `"depth"` the
            elastic result of stage `"width"` or, with `teacher_width="full"`, the fine-tuned model. It is moved to the
            device of the model and put into evaluation mode. None in stage `"finetune"`.
        args: `DynaBertTrainingArguments`.
        **kwargs: As for transformers' `Trainer`.

    Raises:
        TypeError: If `model` is not elastic, or `args` are not `DynaBertTrainingArguments`.
        ValueError: If the teacher is missing, is the model itself, or differs from it in shape, dtype or device; or if
            a data set is empty, too small for the processes, or has labels that the model cannot predict.
        OSError: If the output folder cannot be made.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel,
        teacher: PreTrainedModel | None = None,
        args: DynaBertTrainingArguments | None = None,
        **kwargs: Any,
    ):
        if not isinstance(model, ElasticModelMixin):
            raise TypeError(
                f"model is a {type(model).__name__}, which has one size only. Give an elastic model; make one of a "
                "stock BERT or RoBERTa with DynaBertFor....from_backbone(model)."
            )
        if not isinstance(args, DynaBertTrainingArguments):
            raise TypeError(f"args is a {type(args).__name__}. Give DynaBertTrainingArguments, which name the stage.")
        self.plan = plan_stage(
            model.config, args.stage, teacher_width=args.teacher_width, hidden_matching=args.hidden_matching
        )
        check_teacher(model, teacher, args)
        check_datasets(model, args, kwargs.get("train_dataset"), kwargs.get("eval_dataset"))
        super().__init__(model=model, args=args, **kwargs)
        self._check_metric_for_best_model()
        self.add_callback(_CardAtTheEnd(self))
        self.teacher: Any = None if teacher is None else teacher.eval()
        if self.teacher is not None:
            self.teacher.to(self.args.device)
        self.progress = follow(self)
        self._part_losses: dict[str, torch.Tensor] = {}
        self._part_counts: dict[str, int] = defaultdict(int)

    @property
    def evaluation_sets(self) -> tuple[str, ...]:
        """The names of the evaluation sets; none where there is only one."""
        return tuple(self.eval_dataset) if isinstance(self.eval_dataset, dict) else ()

    def _check_metric_for_best_model(self) -> None:
        if self.args.eval_strategy == "no" or self.eval_dataset is None:
            return
        known = ["loss"] if self.compute_metrics is None else None
        sizes = [str(size) for size in self.accelerator.unwrap_model(self.model).config.subnetworks]
        check_asked(self.args.metric_for_best_model, sets=self.evaluation_sets, sizes=sizes, known=known)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The metrics of every size, their mean and their worst, as transformers names those of one model.

        Raises:
            ValueError: If training needs a metric that did not come. A checkpoint of the work so far is saved before.
        """
        metrics = super().evaluate(eval_dataset, *args, **kwargs)
        asked = self.args.metric_for_best_model
        if self.is_in_train and eval_dataset is None and asked is not None and full_name(asked) not in metrics:
            model: Any = self.model
            self._save_checkpoint(model, trial=None)
            check_came(asked, metrics, saved=str(last_whole_checkpoint(str(self.args.output_dir))))
        return metrics

    def checkpoint_facts(self) -> dict[str, Any]:
        """What decides which sub-networks a step trains; to resume under others would be another training."""
        config, args = self.accelerator.unwrap_model(self.model).config, self.args
        named = ("stage", "teacher_width", "hidden_matching", "strategy", "num_random_subnetworks", "seed")
        grid = {"widths": list(config.widths), "depths": list(config.depths)}
        return {**{name: getattr(args, name) for name in named}, **grid}

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

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Accumulate the gradients of every sub-network of this step on a batch; returns the summed loss, detached.

        Raises:
            FloatingPointError: If a loss is NaN or infinite, before it reaches the weights.
        """
        model.train()
        if callable(getattr(self.optimizer, "train", None)):  # of optimisers without a schedule
            self.optimizer.train()
        inputs = self._prepare_inputs(inputs)
        share = self._count_items([inputs]) / num_items_in_batch if num_items_in_batch is not None else 1.0
        pairs = self.pairs_of_step()
        total = torch.zeros((), device=self.args.device)
        teacher_size, teacher_outputs = None, None
        with self._passes(model, [pair.student for pair in pairs]) as at_size:
            for pair in pairs:
                self.progress.show_size(pair.student)
                if pair.teacher != teacher_size:
                    teacher_size, teacher_outputs = pair.teacher, self._teacher_outputs(pair.teacher, inputs)
                is_last = pair is pairs[-1]
                with nullcontext() if is_last else self._unsynchronised(model), at_size(pair.student):
                    loss = self.pair_loss(model, inputs, pair, teacher_outputs) * share
                    self._check_finite(loss, pair, inputs)
                    self.accelerator.backward(loss)
                total += loss.detach()
        return total

    def _unsynchronised(self, model: torch.nn.Module) -> AbstractContextManager[Any]:
        """Around a pass whose gradients other processes get later.

        accelerate's own has no effect in a world of one process, where DDP still waits for every gradient of a pass.
        """
        if isinstance(model, DistributedDataParallel):
            return model.no_sync()
        return self.accelerator.no_sync(model)

    def _passes(self, model: torch.nn.Module, sizes: list[SubNetwork]) -> AbstractContextManager[Any]:
        """Around the passes of a step: what switches to each size, sharing work between them where that is exact.

        It is not known to be exact where a subclass may call the model otherwise than once a pass, where code was
        compiled, and where an engine holds the weights or copies the modules.
        """
        elastic = self.accelerator.unwrap_model(model)
        losses = type(self).compute_loss, type(self).pair_loss
        has_own_loss = losses != (Trainer.compute_loss, DynaBertTrainer.pair_loss)
        is_compiled = has_compiled_regions(model) or any(module._compiled_call_impl for module in model.modules())
        if has_own_loss or is_compiled or self.args.n_gpu > 1 or self.accelerator.distributed_type in FOREIGN_ENGINES:
            return nullcontext(elastic.subnetwork)
        return share_prefixes(elastic, sizes)

    def _check_finite(self, loss: torch.Tensor, pair: DistillationPair, inputs: dict[str, Any]) -> None:
        if not torch.isfinite(loss):
            first = {name: tensor[0].tolist() for name, tensor in inputs.items() if torch.is_tensor(tensor)}
            raise FloatingPointError(
                f"The loss of {pair.student} is {loss.item()} at step {self.state.global_step}, on the batch that "
                f"begins with {first}. The weights are those of the step before, and checkpoints are kept. Look for "
                "labels or weights that are not finite; a lower learning_rate or full precision may help."
            )

    def pair_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], pair: DistillationPair, teacher: ModelOutput | None
    ) -> torch.Tensor:
        """The loss of one sub-network on a batch, the mean over its sentences; the model is at that size."""
        if teacher is None:
            given = dict(inputs)  # compute_loss may take the labels out
            label_loss: Any = self.compute_loss(model, given)
            label_loss = _of_labelled(label_loss, inputs)
            self._record(pair, loss=label_loss)
            return label_loss
        label_loss, student = self._student_outputs(model, inputs)
        mask = inputs.get("attention_mask")
        loss: Any = 0.0
        parts: dict[str, torch.Tensor] = {}
        if self.args.logit_weight > 0:
            labels = inputs.get("labels")
            kind = _problem_type(student, labels, self.accelerator.unwrap_model(model).config)
            parts["logit_loss"] = prediction_loss(
                student, teacher, problem_type=kind, attention_mask=mask, labels=labels
            )
            loss = self.args.logit_weight * parts["logit_loss"]
        if self.args.hidden_weight > 0:
            matched = [teacher.hidden_states[index] for index in pair.teacher_hidden_layers]
            mask = None if mask is None else mask.flatten(0, -2)
            parts["hidden_loss"] = hidden_state_loss(student.hidden_states, matched, mask)
            loss = loss + self.args.hidden_weight * parts["hidden_loss"]
        if label_loss is not None:
            parts["label_loss"] = label_loss
            loss = loss + self.args.label_weight * label_loss
        self._record(pair, **parts)
        return loss

    def _student_outputs(self, model: torch.nn.Module, inputs: dict[str, Any]) -> tuple[torch.Tensor | None, Any]:
        """The loss on labels, where it has a weight, and the outputs of the same pass."""
        wanted = {"output_hidden_states": self.args.hidden_weight > 0}
        with self.compute_loss_context_manager():
            if self.args.label_weight == 0:
                return None, model(**_without_labels(inputs), **wanted)
            if not inputs.keys() & set(self.label_names):
                raise ValueError(
                    f"label_weight={self.args.label_weight} needs labels, but a batch has {sorted(inputs)}. Name the "
                    f"column of the labels {' and '.join(self.label_names)}, or give label_weight=0."
                )
            loss, outputs = self.compute_loss(model, {**inputs, **wanted}, return_outputs=True)
            return _of_labelled(loss, inputs), outputs

    def _teacher_outputs(self, size: SubNetwork | None, inputs: dict[str, Any]) -> ModelOutput | None:
        if size is None or self.teacher is None:
            return None
        at_size = self.teacher.subnetwork(size) if isinstance(self.teacher, ElasticModelMixin) else nullcontext()
        with torch.no_grad(), self.accelerator.autocast(), at_size:
            return self.teacher(**_without_labels(inputs), output_hidden_states=self.args.hidden_weight > 0)

    def _count_items(self, batches: list[dict[str, Any]]) -> int | torch.Tensor:
        """What the losses of this stage are means over: labelled items in `finetune`, else sentences."""
        if self.args.stage == "finetune" and "labels" in batches[0]:
            labels = [batch["labels"] for batch in batches]
            return sum(label.ne(IGNORED).sum() if label.ndim > 1 else len(label) for label in labels)
        return sum(len(next(iter(batch.values()))) for batch in batches)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | None:
        """Items of all batches of an optimiser step, averaged over processes, so that any split gives one gradient."""
        if not batch_samples:
            return None
        items = torch.as_tensor(self._count_items(batch_samples), device=device, dtype=torch.float32)
        return self.accelerator.reduce(items, reduction="mean").clamp(min=1)

    def _record(self, pair: DistillationPair, **losses: torch.Tensor) -> None:
        for name, loss in losses.items():
            name = f"{pair.student}_{name}"
            self._part_losses[name] = self._part_losses.get(name, 0) + loss.detach()
            self._part_counts[name] += 1

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as transformers does, with the losses of every sub-network, averaged since they were last logged."""
        if "loss" in logs:
            for name, loss in self._part_losses.items():
                logs[name] = round(loss.item() / self._part_counts[name], 6)
            self._part_losses.clear()
            self._part_counts.clear()
        super().log(logs, start_time)

    def create_model_card(  # type: ignore[override]
        self,
        *,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        **facts: Any,
    ) -> None:
        """Write the card of the model as training left it, with every size that was measured, into `output_dir`.

        Done at the end of training, and by `push_to_hub`, which takes these arguments, too. If the model is there, its
        code is put beside it.

        Args:
            language: Code of a language, such as `en`.
            license: Id of a license, such as `apache-2.0`.
            tags: More tags for the Hub.
            model_name: Heading of the card.
            finetuned_from: Id of the model that training began with; None: where the model was loaded from.
            dataset_tags: Id of the data set on the Hub.
            dataset: Its name for people.
            **facts: Other fields of `ModelCardFacts`; what else transformers' method takes has no effect.
        """
        if not self.is_world_process_zero():
            return
        model: Any = self.accelerator.unwrap_model(self.model)
        folder = Path(str(self.args.output_dir))
        given = {
            "language": language,
            "license": license,
            "tags": tuple(_as_list(tags)),
            "title": model_name or folder.name,
            "model_id": self.hub_model_id,
            "base_model": finetuned_from or model.config.name_or_path,
            "dataset_id": next(iter(_as_list(dataset_tags)), None),
            "dataset_name": next(iter(_as_list(dataset)), None),
            **{name: value for name, value in facts.items() if name not in ("tasks", "dataset_args")},
        }
        write_model_card(folder, ModelCardFacts.from_training(model, self.args, self.state, **given))
        if (folder / "config.json").exists():
            model.save_code(folder)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """transformers' evaluation loop, once for every sub-network, on one pass over the collated data."""
        if self.args.world_size == 1:
            dataloader = _Collated(dataloader)
        outputs: dict[str, Any] = {}
        model: Any = self.model
        for subnetwork in model.config.subnetworks:
            with model.subnetwork(subnetwork):
                outputs[str(subnetwork)] = super().evaluation_loop(
                    dataloader,
                    f"{description} of {subnetwork}",
                    prediction_loss_only,
                    ignore_keys,
                    f"{metric_key_prefix}_{subnetwork}",
                )
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, ProgressCallback):  # one bar a size; else the first would run past its end
                    callback.on_predict(self.args, self.state, self.control)
        last = outputs[str(subnetwork)]
        predictions: Any = {name: output.predictions for name, output in outputs.items()}
        return EvalLoopOutput(
            predictions=predictions,
            label_ids=last.label_ids,
            metrics=with_summary(
                {name: output.metrics for name, output in outputs.items()},
                metric_key_prefix,
                asked=self.args.metric_for_best_model,
                directions=told_directions(self.args, self.evaluation_sets),
            ),
            num_samples=last.num_samples,
        )


class _CardAtTheEnd(TrainerCallback):
    """Leaves a card of what was trained and measured."""

    def __init__(self, trainer: DynaBertTrainer):
        self.trainer = trainer

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.create_model_card()


def _as_list(given: str | list[str] | None) -> list[str]:
    if given is None:
        return []
    return [given] if isinstance(given, str) else list(given)


class _Collated(DataLoaderStateMixin, list):
    """The batches of a data loader, collated once, with its data set.

    It tells accelerate when it begins and ends, and which batch is the last, as a data loader does. Otherwise the
    loader of training, which ended on a batch that was not full, would still count as the active one, and all batches
    would be cut to that length; and a last batch that is not full would count as much in the loss as a full one.
    """

    def __init__(self, dataloader: Any):
        super().__init__(dataloader)
        self.dataset = dataloader.dataset
        self.gradient_state = GradientState()

    def __iter__(self) -> Iterator[Any]:
        self.begin()
        self.remainder = (find_batch_size(self[-1]) or 0) % (find_batch_size(self[0]) or 1) if self else 0
        try:
            for number, batch in enumerate(super().__iter__(), start=1):
                self.end_of_dataloader = number == len(self)
                yield batch
        finally:
            self.end()


def _without_labels(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if name not in ("labels", "start_positions", "end_positions")}


def _problem_type(output: ModelOutput, labels: torch.Tensor | None, config: Any) -> str:
    """What the predictions are, where the configuration does not say, as transformers tells it from the labels."""
    if config.problem_type is not None or "start_logits" in output or output.logits.ndim != 2:
        return config.problem_type or "single_label_classification"
    if config.num_labels == output.logits.shape[-1] == 1:
        return "regression"
    is_multi_label = labels is not None and labels.is_floating_point()
    return "multi_label_classification" if is_multi_label else "single_label_classification"


def _of_labelled(loss: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
    """The loss on labels; 0 where no token of the batch has one, of which torch's mean is NaN."""
    labels = inputs.get("labels")
    if labels is None or labels.ndim < 2:
        return loss
    return torch.where(labels.ne(IGNORED).any(), loss, loss.nan_to_num())
