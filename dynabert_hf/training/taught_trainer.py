"""What trainers of all sizes and of a single one have in common: a batch is a part of its step, and has a student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import datasets
import torch
from accelerate.utils.memory import clear_device_cache
from torch.utils.data import DataLoader, RandomSampler, Sampler
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from ..data.columns import by_number
from ..data.pooling import single_texts
from ..data.views import FreshViews
from ..model.subnetwork import SubNetwork
from ..tasks import is_sentence_encoder, task_of, without_labels
from .accounting import Items, LossLog, Shares, of_labelled
from .arguments import DynaBertTrainingArguments
from .distillation import loss_of_labelled_rows
from .order import EpochSampler
from .teaching import Teacher, ask, complete


class TaughtTrainer(Trainer):
    """transformers' `Trainer` with losses that are means over all items of a step, however it is divided.

    The order of the examples depends on the seed and the epoch alone.
    """

    args: DynaBertTrainingArguments
    model: Any
    _views: FreshViews | None = None
    _shares = Shares()

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._losses = LossLog()
        self.add_callback(self._losses)

    @contextmanager
    def without_untaught_parts(self) -> Iterator[None]:
        """Freeze what no loss of this training reaches: several processes would wait for its gradients."""
        args, model = self.args, self.model
        frozen: list[torch.nn.Parameter] = []
        ends_before_head = args.logit_weight == args.label_weight == 0 or is_sentence_encoder(model)
        if args.stage != "finetune" and ends_before_head:
            parts = [part for name, part in model.base_model.named_children() if name != "pooler"]
            taught = {id(weight) for part in parts for weight in part.parameters()}
            frozen = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in taught]
        try:
            for weight in frozen:
                weight.requires_grad_(False)
            yield
        finally:
            for weight in frozen:
                weight.requires_grad_()

    def get_train_dataloader(self) -> DataLoader:
        """As transformers makes it; rows that a transform makes have the columns that it returns, not what it reads."""
        own: Any = self.train_dataset
        try:
            if isinstance(own, datasets.Dataset):
                self.train_dataset = by_number(own)
            return super().get_train_dataloader()
        finally:
            self.train_dataset = own

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if self.args.train_sampling_strategy != "random":  # else no row is read for it
            train_dataset = by_number(self.train_dataset if train_dataset is None else train_dataset)
        sampler: Any = super()._get_train_sampler(train_dataset)
        seed = self.args.order_seed
        if self.args.train_sampling_strategy == "batch_rebalance" and sampler is not None:
            sampler.seed = seed  # transformers draws by 42 always
        if not isinstance(sampler, (RandomSampler, LengthGroupedSampler)):
            return sampler
        if isinstance(sampler, LengthGroupedSampler):  # of one length are the examples of a step on all processes
            sampler.batch_size *= self.args.world_size
        return EpochSampler(sampler, seed=seed, epoch=lambda: int(self.state.epoch or 0))

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """The batches of an optimiser step, and the items that its losses are means over, averaged over processes.

        Those at the end of a stream that fill no step are left out: transformers would add them to the next one.

        Raises:
            ValueError: If a stream has not enough for one step.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if len(batches) < num_batches:
            if batches and self.state.global_step == 0:
                raise ValueError(
                    f"train_dataset ended after {len(batches)} batches, and gradient_accumulation_steps={num_batches} "
                    "are a step. Give more rows, smaller batches or fewer accumulation steps."
                )
            batches = []
        if not batches:
            return batches, None
        if self._views is not None:
            batches = [self._views(batch, epoch=int(self.state.epoch or 0)) for batch in batches]
        items = torch.stack([torch.as_tensor(number, device=device).float() for number in Items.of_all(batches)])
        mean = self.accelerator.reduce(items, reduction="mean")  # of few labels on many processes less than 1
        return batches, Items(*mean.masked_fill(mean == 0, 1))

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        """The norm of the gradients of a step, before it changes a weight.

        Raises:
            FloatingPointError: If a loss of the step is not finite, or the norm and no scaler leaves the step out.
        """
        norm = super()._get_grad_norm(*args, **kwargs)
        of_all = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of weights that are split
        self.check_finite(of_all if self.accelerator.scaler is None else None)
        return norm

    def check_finite(self, norm: torch.Tensor | None = None) -> None:
        """Wait for the losses of a step, and for the norm of its gradients if one is given.

        Raises:
            FloatingPointError: If one of them is not finite, on all processes.
        """
        self._losses.check_finite(self.state.global_step, norm, self.accelerator.reduce)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        """End as transformers does, which takes what was not logged yet of the loss from one process alone."""
        self._tr_loss = self.accelerator.reduce(self._tr_loss, "mean")
        return super()._finalize_training(*args, **kwargs)

    def begin_batch(self, model: torch.nn.Module, inputs: dict[str, Any], step: Items | None) -> dict[str, Any]:
        """Put the model and the optimiser into the mode of training; returns the batch as the model takes it.

        Args:
            model: The model, perhaps wrapped.
            inputs: The batch.
            step: What `get_batch_samples` counted in the whole step; None: the batch is the step.
        """
        model.train()
        optimizer: Any = self.optimizer
        if callable(getattr(optimizer, "train", None)):  # of optimisers without a schedule
            optimizer.train()
        every = self.args.torch_empty_cache_steps
        if every is not None and self.state.global_step % every == 0:
            clear_device_cache()
        inputs = self._prepare_inputs(inputs)
        self._shares = Shares.of(Items.of(inputs), step)
        return single_texts(inputs) if is_sentence_encoder(self.model) else inputs

    def student_outputs(self, model: torch.nn.Module, inputs: dict[str, Any]) -> tuple[torch.Tensor | None, Any]:
        """The loss on labels, where it has a weight, and the outputs of the same pass.

        Raises:
            ValueError: If the batch has no labels for it, or lacks some that a `compute_loss` of one's own would need.
        """
        wanted = {"output_hidden_states": bool(self.args.hidden_weight), "return_dict": True}
        names = [*task_of(self.model).outputs] * bool(self.args.logit_weight)
        needed = "model", self.model, names + ["hidden_states"] * bool(self.args.hidden_weight)
        with self.compute_loss_context_manager():
            if self.args.label_weight == 0:
                return None, complete(model(**without_labels(inputs), **wanted), *needed)
            if not inputs.keys() & set(self.label_names):
                raise ValueError(
                    f"label_weight={self.args.label_weight} needs labels, but a batch has {sorted(inputs)}. Name the "
                    f"column of the labels {' and '.join(self.label_names)}, or give label_weight=0."
                )
            labels = inputs.get("labels")
            if labels is not None and labels.is_floating_point() and labels.isnan().any():
                if type(self).compute_loss is not Trainer.compute_loss:
                    raise ValueError(
                        f"A batch has rows without a label, for which {type(self).__name__}.compute_loss would be "
                        "called with NaN. Possible is a compute_loss_func, which gets the rows that have one. Give "
                        "that, or leave the other rows out."
                    )
                outputs: Any = complete(model(**without_labels(inputs), **wanted), *needed)
                return loss_of_labelled_rows(outputs, labels, self.model.config, self.compute_loss_func), outputs
            loss, answer = self.compute_loss(model, {**inputs, **wanted}, return_outputs=True)
            outputs = complete(answer, *needed)  # which a compute_loss of the user's own may give as a dictionary
            if "logits" in outputs and outputs.logits.ndim == 1:  # DeBERTa flattens values beside labels
                outputs["logits"] = outputs.logits[:, None]
            return of_labelled(loss, inputs), outputs

    def teacher_outputs(self, teachers: Sequence[Teacher], size: SubNetwork, inputs: dict[str, Any]) -> Any:
        """What teachers say of a batch at a size, computed as precisely as the student computes."""
        with self.accelerator.autocast():
            return ask(
                teachers,
                size,
                without_labels(inputs),
                config=self.model.config,
                labels=inputs.get("labels"),
                hidden_states=bool(self.args.hidden_weight),
                device=self.args.device,
            )
