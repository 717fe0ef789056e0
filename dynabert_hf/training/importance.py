"""Importance for the recipe: over processes, and without labels where there are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import SubNetwork
from ..task_metrics import IGNORED, problem_type
from ..tasks import is_sentence_encoder, on_device, task_of, without_labels
from .arguments import DynaBertTrainingArguments
from .distillation import real_only
from .ordered_evaluation import OrderedEvaluation
from .rewiring import Importance, measure_importance
from .vector_losses import change_of_vectors

MAX_SAMPLES = 1024
"""Rows that importance is measured on by default. More hardly change the order, and cost a pass each."""


def importance_over_processes(
    model: ElasticModelMixin,
    dataset: Any,
    args: DynaBertTrainingArguments,
    trainer_kwargs: Mapping[str, Any],
    *,
    from_predictions: bool = False,
) -> Importance:
    """Importance over all of the data, of which every process measures its own batches, none of them twice.

    The batches are in the order of the data, as in the published code: importance is a sum over batches of absolute
    values, so other batches have another importance.

    Args:
        model: The elastic model.
        dataset: Tokenised data with labels; of a sentence encoder texts, whose vectors alone count.
        args: Batch size and device.
        trainer_kwargs: What makes batches of the data: arguments of `Trainer`.
        from_predictions: Whether the model's own predictions stand in for labels.
    """
    trainer = OrderedEvaluation(model, args, **trainer_kwargs)
    batches: Any = trainer.get_eval_dataloader(dataset)
    is_encoder = is_sentence_encoder(model)
    if from_predictions and not is_encoder:
        batches = _Predicted(model, batches)
    widest = (model.config.num_attention_heads, model.config.intermediate_size)
    scores = [torch.zeros(model.config.num_hidden_layers, each) for each in widest]
    if len(batches):  # with fewer batches than processes, some have none
        of_vectors = change_of_vectors if is_encoder else None
        own = measure_importance(model, batches, progress=not args.disable_tqdm, compute_loss=of_vectors)
        scores = [own.heads, own.neurons]
    return Importance(*(trainer.accelerator.reduce(each.to(args.device), "sum").cpu() for each in scores))


class _Predicted:
    """Batches with the predictions of a model, at its full size, as their labels.

    The loss is then how sure the model is of what it says, which needs no labels to have a gradient.
    """

    def __init__(self, model: ElasticModelMixin, batches: Any):
        self.model, self.batches = model, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches:
            yield self._labelled(batch)

    @torch.no_grad()
    def _labelled(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        task = task_of(self.model)
        inputs = on_device(without_labels(batch), self.model.device)
        with self.model.subnetwork(SubNetwork()):
            outputs = self.model(**inputs, return_dict=True)
        if task.predicts == "text" and problem_type(self.model.config) == "multi_label_classification":
            return {**inputs, "labels": (outputs.logits > 0).float()}
        logits, mask = [outputs[name] for name in task.outputs], inputs.get("attention_mask")
        if task.predicts == "span":
            logits = [real_only(each, mask) for each in logits]
        labels = [each.argmax(-1) for each in logits]
        if task.predicts == "token":
            labels = [real_only(labels[0], mask, IGNORED)]
        return {**inputs, **dict(zip(task.label_names, labels, strict=True))}
