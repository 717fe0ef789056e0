"""Network rewiring: how important each head and neuron is, and reordering them so that the important come first.

A sub-network keeps the first heads and neurons of a layer, so after rewiring the important ones are shared by more
sub-networks (DynaBERT, section 2.1). The full network computes the same function before and after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from ..model.elastic import layer_linears
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import SubNetwork


@dataclass(frozen=True)
class Importance:
    """How much the loss changes without each head and each neuron, to first order; unnormalised.

    Args:
        heads: Importance of the attention heads, `(layers, heads)`.
        neurons: Importance of the feed-forward neurons, `(layers, neurons)`.
    """

    heads: torch.Tensor
    neurons: torch.Tensor

    def save(self, path: str | Path) -> None:
        """Save as a safetensors file."""
        save_file({"heads": self.heads.contiguous(), "neurons": self.neurons.contiguous()}, path)

    @classmethod
    def load(cls, path: str | Path) -> Importance:
        """Load what `save` wrote.

        Raises:
            ValueError: If the file holds something else.
        """
        tensors = load_file(path)
        if set(tensors) != {"heads", "neurons"}:
            raise ValueError(
                f"{path} holds {sorted(tensors)}, not 'heads' and 'neurons'. Give a file of Importance.save."
            )
        return cls(**tensors)


def measure_importance(
    model: PreTrainedModel, batches: Iterable[Mapping[str, Any]], *, progress: bool = True
) -> Importance:
    """The importance of every head and neuron of a fine-tuned model, measured on labelled data.

    Following the paper's section 2.1 and its published code: a head's importance is the absolute derivative of the
    loss with respect to a mask of one on its output, a neuron's the absolute first-order change of the loss when its
    incoming weights are removed plus the same for its outgoing weights; each per batch, summed over batches.

    The model runs at its full size in evaluation mode; its mode, active size, gradients and `requires_grad` flags are
    as before when the function returns or raises.

    Args:
        model: An elastic or stock BERT or RoBERTa with a task head.
        batches: Batches as dictionaries of tensors with `labels`, for instance a data loader. Passed over once.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If a batch has no labels, there is no batch, or the model was cut by extraction.
    """
    layers = _full_layers(model)
    linears = list(layer_linears(layers))
    weights = [
        parameter
        for linear in linears
        for parameter in (
            linear["intermediate.dense"].weight,
            linear["intermediate.dense"].bias,
            linear["output.dense"].weight,
        )
    ]
    head_scores, neuron_scores = None, None
    with ExitStack() as stack:
        if isinstance(model, ElasticModelMixin):
            stack.enter_context(model.subnetwork(SubNetwork()))
        stack.callback(model.train, model.training)
        for parameter in weights:
            stack.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_()
        contexts = [stack.enter_context(_RecordedInput(linear["attention.output.dense"])) for linear in linears]
        model.eval()
        for batch in tqdm(batches, desc="Measuring importance", disable=not progress):
            loss = _loss(model, batch)
            gradients = torch.autograd.grad(loss, [context.states for context in contexts] + weights)
            head_size = model.config.hidden_size // model.config.num_attention_heads
            heads = _head_importance(contexts, gradients[: len(contexts)], head_size)
            neurons = _neuron_importance(weights, gradients[len(contexts) :])
            head_scores = heads if head_scores is None else head_scores + heads
            neuron_scores = neurons if neuron_scores is None else neuron_scores + neurons
    if head_scores is None or neuron_scores is None:
        raise ValueError("There was no batch to measure importance on. Give at least one batch with labels.")
    return Importance(head_scores.cpu(), neuron_scores.cpu())


class _RecordedInput:
    """Keeps the input of a linear layer, with a gradient also where all before it is frozen, inside a `with` block."""

    def __init__(self, linear: nn.Linear):
        self.linear = linear
        self.states: torch.Tensor

    def __enter__(self) -> _RecordedInput:
        self._hook = self.linear.register_forward_pre_hook(self._record)
        return self

    def __exit__(self, *exception: object) -> None:
        self._hook.remove()

    def _record(self, module: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        self.states = inputs[0] if inputs[0].requires_grad else inputs[0].detach().requires_grad_()
        return (self.states,)


def _full_layers(model: PreTrainedModel) -> Any:
    if isinstance(model, ElasticModelMixin) and model.config.stored_shape is not None:
        raise ValueError(
            "This model was cut by extraction. Importance and rewiring are of a full network: use the model that it "
            "was extracted from."
        )
    encoder = getattr(model.base_model, "encoder", None)
    if encoder is None:
        raise TypeError(
            f"A {type(model).__name__} is neither an elastic nor a stock BERT or RoBERTa. Give one of them; of a model "
            "with adapters that is what merge_and_unload() returns."
        )
    layers = encoder.layer
    for number, linears in enumerate(layer_linears(layers)):
        for path, linear in linears.items():
            if not isinstance(linear, nn.Linear) or not linear.weight.is_floating_point():
                raise ValueError(
                    f"In layer {number} a {type(linear).__name__} stands for {path}. Importance and rewiring are of "
                    "plain weights: merge adapters first (merge_and_unload), and quantise afterwards."
                )
    return layers


def _loss(model: PreTrainedModel, batch: Mapping[str, Any]) -> torch.Tensor:
    batch = {name: value.to(model.device) if torch.is_tensor(value) else value for name, value in batch.items()}
    with torch.enable_grad():
        loss = model(**batch).get("loss")
    if loss is None:
        raise ValueError(
            f"A batch has the columns {sorted(batch)} and gives no loss. Importance needs labelled data: add `labels` "
            "(or `start_positions` and `end_positions`), and use a model with a task head."
        )
    return loss


def _head_importance(
    contexts: list[_RecordedInput], gradients: tuple[torch.Tensor, ...], head_size: int
) -> torch.Tensor:
    """`(layers, heads)`: the derivative with respect to a head's mask is the sum of context times gradient over it."""
    products = (context.states.detach() * gradient for context, gradient in zip(contexts, gradients, strict=True))
    return torch.stack([product.flatten(0, -2).sum(0).view(-1, head_size).sum(1).abs() for product in products])


def _neuron_importance(weights: list[torch.Tensor], gradients: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """`(layers, neurons)`, from incoming weights, their bias, and outgoing weights of each layer in turn."""
    products = [weight.detach() * gradient for weight, gradient in zip(weights, gradients, strict=True)]
    incoming, bias, outgoing = products[0::3], products[1::3], products[2::3]
    return torch.stack(
        [
            (into.sum(1) + offset).abs() + out.sum(0).abs()
            for into, offset, out in zip(incoming, bias, outgoing, strict=True)
        ]
    )


@torch.no_grad()
def rewire(model: PreTrainedModel, importance: Importance) -> PreTrainedModel:
    """Reorder heads and neurons of every layer in place, the most important first, and return the model.

    The outputs of the full network do not change beyond rounding; those of its sub-networks do. Make an optimiser after
    rewiring, not before: its states would belong to other neurons.

    Args:
        model: An elastic or stock BERT or RoBERTa.
        importance: What `measure_importance` returned for it.

    Raises:
        ValueError: If the importance is of a network of another shape, or is not finite; or the model was cut.
    """
    layers = _full_layers(model)
    config = model.config
    expected = (
        (config.num_hidden_layers, config.num_attention_heads),
        (config.num_hidden_layers, config.intermediate_size),
    )
    given = tuple(importance.heads.shape), tuple(importance.neurons.shape)
    if given != expected:
        raise ValueError(
            f"The importance has shapes {given[0]} and {given[1]}; this model needs {expected[0]} for heads and "
            f"{expected[1]} for neurons. Measure it on this model."
        )
    if not (importance.heads.isfinite().all() and importance.neurons.isfinite().all()):
        raise ValueError("The importance holds NaN or infinity. Check the loss of the batches that it was measured on.")
    head_size = config.hidden_size // config.num_attention_heads
    for linears, heads, neurons in zip(layer_linears(layers), importance.heads, importance.neurons, strict=True):
        head_order = heads.argsort(descending=True, stable=True)
        head_rows = (head_order[:, None] * head_size + torch.arange(head_size)).flatten()
        neuron_order = neurons.argsort(descending=True, stable=True)
        for name in ("query", "key", "value"):
            _permute_outputs(linears[f"attention.self.{name}"], head_rows)
        _permute_inputs(linears["attention.output.dense"], head_rows)
        _permute_outputs(linears["intermediate.dense"], neuron_order)
        _permute_inputs(linears["output.dense"], neuron_order)
    return model


def _permute_outputs(linear: nn.Linear, order: torch.Tensor) -> None:
    order = order.to(linear.weight.device)
    linear.weight.copy_(linear.weight[order])
    linear.bias.copy_(linear.bias[order])


def _permute_inputs(linear: nn.Linear, order: torch.Tensor) -> None:
    linear.weight.copy_(linear.weight[:, order.to(linear.weight.device)])
