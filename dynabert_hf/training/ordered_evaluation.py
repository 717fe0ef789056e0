"""Evaluation and prediction: in the order of the data and whole, with losses that are plain means over their items.

transformers' `Trainer` evaluates by the arguments of training: in another order with `group_by_length`, without the
last rows with `dataloader_drop_last`. On several processes it counts rows that fill up a batch, and of tokens it counts
batches by their sentences. Here its loop runs over batches that were dealt out and collated before it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, RemoveColumnsCollator
from transformers.utils.output_capturing import OutputRecorder

from ..data.columns import is_stream, short
from ..data.masking import MaskedOnce, as_at_first, drawn_by
from ..data.pooling import sentence_vectors
from ..model.subnetwork import SubNetwork
from ..task_metrics import IGNORED
from ..tasks import MaskingCollator, same_modes, task_of
from .accounting import Items, mean_over_batch, of_labelled
from .callbacks import show_progress
from .checks import check_not_empty
from .collated_batches import CollatedBatches, CountedRows
from .distillation import real_only
from .order import OrderedLoader
from .teacher_facts import at_size, parameters_of

HOOKED = "_output_capturing_hooks_installed"
"""How transformers notes that layers have the hooks that record their states."""


class OrderedEvaluation(Trainer):
    """transformers' `Trainer`, whose evaluation and prediction do not depend on processes or arguments of training.

    Rows are in the order of the data, none is left out and none is counted twice. A loss is the mean over sentences, of
    token heads over labelled tokens. Predictions are the outputs of the head, whatever else the configuration asks a
    model for; of starts and ends of answers padding has -100, as transformers fills up shorter batches. The model is as
    before: its weights, number format, device and mode.

    Every batch is collated once, so that all sizes see the same where a collator draws at random.

    Args:
        *args: As for transformers' `Trainer`.
        compute_loss_func: As for transformers' `Trainer`; it is told the items of its own batch.
        **kwargs: As for transformers' `Trainer`.
    """

    model: Any  # the model itself; what wraps it transformers keeps elsewhere
    _rows: CountedRows | None = None  # of the loop that runs

    def __init__(self, *args: Any, compute_loss_func: Callable | None = None, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "compute_loss_func": mean_over_batch(compute_loss_func)})
        task = task_of(self.model)
        if task.predicts == "vector" and self.args.label_names is None:  # no argument of the encoder is called so
            self.label_names = list(task.label_names)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> OrderedLoader:
        """The batches of this process of a data set, or of one of `self.eval_dataset` by its name.

        Raises:
            ValueError: If there is no data set, none of that name, or an empty one.
        """
        if eval_dataset is None or isinstance(eval_dataset, str):
            own: Any = self.eval_dataset
            if isinstance(eval_dataset, str) and not (isinstance(own, dict) and eval_dataset in own):
                known = list(own) if isinstance(own, dict) else "no set by name"
                raise ValueError(
                    f"eval_dataset={eval_dataset!r} names no data set to evaluate on. The trainer was given {known}. "
                    "Give one of these names, or a data set."
                )
            eval_dataset = own[eval_dataset] if isinstance(eval_dataset, str) else own
        if eval_dataset is None:
            raise ValueError("There is no data set to evaluate on. Give eval_dataset, here or to the trainer.")
        return self.get_test_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> OrderedLoader:
        """The batches of this process of a data set, of which a stream is read to its end first."""
        if is_stream(test_dataset):
            test_dataset = list(test_dataset)
        check_not_empty("The data set to evaluate on", test_dataset)
        collate: Any = self.data_collator
        masking = getattr(collate, "collator", collate)
        if isinstance(masking, MaskingCollator):
            test_dataset = MaskedOnce(test_dataset, masking, seed=self.args.seed)
        if self.args.remove_unused_columns:
            columns = [*parameters_of(self.model), "label", "label_ids", *self.label_names]
            collate = RemoveColumnsCollator(collate, columns)
        return OrderedLoader(test_dataset, collate, self.args)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """transformers' evaluation loop, over batches that were collated before."""
        batches, prepared = self.collate(dataloader), list(self.accelerator._models)  # the next one prepares it anew
        try:
            with unchanged(self.model):
                return self.run_loop(batches, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        finally:
            self.accelerator._models[:] = prepared

    def collate(self, dataloader: Any) -> CollatedBatches:
        """All batches of this process, and what is known of those of the others.

        Raises:
            ValueError: If on several processes the loader is not one of this class.
        """
        if self.accelerator.num_processes > 1 and not isinstance(dataloader, OrderedLoader):
            raise ValueError(
                f"On {self.accelerator.num_processes} processes a {type(dataloader).__name__} was given to evaluate "
                "on, whose rows may be read twice or filled up. Possible are the loaders of get_eval_dataloader and "
                "get_test_dataloader of this class. Return one of these, or evaluate on one process."
            )
        own = getattr(self.data_collator, "collator", self.data_collator)
        with drawn_by(self.args.seed), as_at_first(own):  # a collator that draws draws the same at any time
            batches = CollatedBatches.of(dataloader, self.args)
        self._check_inputs_for_metrics(batches)
        return batches

    def _check_inputs_for_metrics(self, batches: CollatedBatches) -> None:
        """Refuse choices and pairs of several lengths where metrics want the inputs: transformers pads another axis."""
        args, several = self.args, {"choice": "choices", "vector": "pairs"}.get(task_of(self.model).predicts)
        if "inputs" not in args.include_for_metrics or several is None:
            return
        held: Any = batches.loader.dataset
        own = [batch["input_ids"].shape[-1] for batch in held if batch["input_ids"].ndim > 2]  # else single texts
        lengths = set(gather_object(own) if args.world_size > 1 else own)
        if len(lengths) > 1 and (args.eval_do_concat_batches or args.world_size > 1):
            raise ValueError(
                f"include_for_metrics={args.include_for_metrics} was given, but batches have {several} of "
                f"{min(lengths)} to {max(lengths)} tokens, which transformers does not join. Pad all rows to one "
                "length when tokenising, leave 'inputs' out, or on one process give eval_do_concat_batches=False."
            )

    def run_loop(self, batches: CollatedBatches, *args: Any) -> EvalLoopOutput:
        """transformers' loop once, with the rows that were filled up left out and the plain mean of the losses."""
        self._rows = rows = CountedRows(batches, self.accelerator.num_processes)
        gather, self.gather_function = self.gather_function, rows.gather
        self.add_callback(rows)
        compute_metrics, returned = self.compute_metrics, set[str]()
        self.compute_metrics = checked(compute_metrics, returned)
        try:
            output = super().evaluation_loop(batches.loader, *args)
        finally:
            self._rows, self.gather_function = None, gather
            self.remove_callback(rows)
            self.compute_metrics = compute_metrics
        metrics: dict[str, Any] = dict(output.metrics or {})
        for name, value in metrics.items():
            if isinstance(value, np.ndarray) and value.size == 1:  # of tensors transformers itself makes numbers
                metrics[name] = value.item()
        name = f"{args[-1]}_loss"
        if name in metrics and rows.has_losses and "loss" not in returned:  # else they are computed elsewhere
            metrics[name] = rows.mean_loss()
        return output._replace(metrics=metrics, num_samples=sum(batches.rows))

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Any, Any, Any]:
        """Loss, predictions of the head and labels of a batch, as far as there are any."""
        inputs = self._prepare_inputs(inputs)
        if task_of(self.model).predicts == "vector":
            return self._vectors(inputs)
        labels = tuple(inputs.get(name) for name in self.label_names)
        has_labels = len(labels) > 0 and all(label is not None for label in labels)
        loss: Any = None
        asked = {} if self.model.config.return_dict else {"return_dict": True}  # a class of one's own may not take it
        with torch.no_grad(), self.compute_loss_context_manager():
            if has_labels:  # which computing the loss may take out of the inputs
                loss, outputs = self.compute_loss(model, {**inputs, **asked}, return_outputs=True)
                loss = of_labelled(loss.detach().mean(), inputs)
            else:
                outputs = model(**inputs, **asked)
        if loss is not None and self._rows is not None:  # else the caller has a batch of his own
            self._rows.add(loss, Items.of(inputs).labelled)
        if prediction_loss_only:
            return loss, None, None
        names = task_of(self.model).outputs
        if isinstance(outputs, tuple):  # of a compute_loss of the user's own; transformers takes the first for the loss
            outputs = dict(enumerate(outputs[1:]))
        if not outputs.keys() & set(names):  # of a compute_loss of the user's own, all that transformers would take
            names = tuple(name for name in outputs if name != "loss")
        predictions = tuple(outputs[name] for name in names if name not in (ignore_keys or ()))
        if task_of(self.model).predicts == "span":
            predictions = tuple(real_only(each, inputs.get("attention_mask"), IGNORED) for each in predictions)
        return loss, _alone(predictions), _alone(labels) if has_labels else None

    def _vectors(self, inputs: dict[str, Any]) -> tuple[None, Any, Any]:
        """The vectors of a batch of texts or pairs, and its labels or scores, as far as there are any."""
        labels = [inputs.pop(name) for name in self.label_names if name in inputs]
        with torch.no_grad(), self.compute_loss_context_manager():
            return None, sentence_vectors(self.model, inputs), labels[0] if labels else None


def checked(compute_metrics: Callable | None, returned: set[str]) -> Callable | None:
    """A user's function for metrics that says if what it returns is none, and adds the names of what it `returned`."""
    if compute_metrics is None:
        return None

    @wraps(compute_metrics)
    def returning_names(*args: Any, **kwargs: Any) -> Any:
        found = compute_metrics(*args, **kwargs)
        if kwargs.get("compute_result") is False:  # of metrics that are told batch by batch
            return found
        if not (isinstance(found, Mapping) and all(isinstance(name, str) for name in found)):
            raise TypeError(
                f"compute_metrics returned {short(found)}. Possible is a dictionary from the names of metrics to "
                "numbers. Return one, such as {'accuracy': 0.9}."
            )
        returned.update(found)
        return found

    return returning_names


def evaluate_one_size(model: PreTrainedModel, args: TrainingArguments, **trainer_kwargs: Any) -> dict[str, float]:
    """The metrics of a model of one size, such as a teacher, measured as those of all sizes are; it stays as it is.

    Args:
        model: A stock model, or an elastic one, which is measured at its full size.
        args: What says how to evaluate.
        **trainer_kwargs: As for transformers' `Trainer`, among them `eval_dataset`.
    """
    with unchanged(model), at_size(model, SubNetwork()):
        evaluation = OrderedEvaluation(model, args, **trainer_kwargs)
        show_progress(evaluation)
        return evaluation.evaluate()


@contextmanager
def unchanged(model: torch.nn.Module) -> Iterator[None]:
    """Inside, a model may be moved, cast and set to evaluation; at the end all that is, in place, as it was before.

    So is what transformers writes into a configuration when a model runs, what it hooks to record states, and what
    accelerate sets on a model: in mixed precision its forward pass, too.
    """
    attributes, config = dict(vars(model)), vars(getattr(model, "config", model))
    fields = {name: config.get(name, config) for name in ("problem_type", "use_cache")}
    tensors = [tensor for weight in model.parameters() for tensor in (weight, weight.grad) if tensor is not None]
    numbers = [(tensor, tensor.data) for tensor in tensors]
    buffers = [(module, *item) for module in model.modules() for item in module.named_buffers(recurse=False)]
    try:
        with same_modes(model), without_recording(model):
            yield
    finally:
        for name, value in fields.items():
            if value is config:
                config.pop(name, None)
            else:
                config[name] = value
        for name in vars(model).keys() - attributes - {HOOKED}:
            delattr(model, name)
        vars(model).update(attributes)
        for tensor, before in numbers:
            if (tensor.dtype, tensor.device) != (before.dtype, before.device):
                tensor.data = before
        for module, name, buffer in buffers:
            setattr(module, name, buffer)


@contextmanager
def without_recording(model: torch.nn.Module) -> Iterator[None]:
    """Inside, transformers may hook layers to record their states; the hooks go at the end, since none can be pickled.

    Those of a model that recorded before stay.
    """
    was_hooked = any(HOOKED in vars(module) for module in model.modules())
    try:
        yield
    finally:
        for module in () if was_hooked else model.modules():
            vars(module).pop(HOOKED, None)
            for key, hook in list(module._forward_hooks.items()):
                if hook.__module__ == OutputRecorder.__module__:
                    del module._forward_hooks[key]


def _alone(tensors: tuple[Any, ...]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors
