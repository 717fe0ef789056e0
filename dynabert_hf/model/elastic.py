"""Slicing and layer skipping: the one place that knows where the six linears of a layer are.

The sizes in force live in one `ActiveSizes` object per model, which every elastic module of that model reads. Switching
replaces one tuple; no module is visited, no weight is copied or masked.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.utils.output_capturing import OutputRecorder

from .subnetwork import LayerShape, SubNetworkError

HIDDEN, HEADS, NEURONS = range(3)
"""The three axes of a layer; an `ElasticLinear` maps one to another."""

LINEARS = {
    "attention.self.query": (HIDDEN, HEADS),
    "attention.self.key": (HIDDEN, HEADS),
    "attention.self.value": (HIDDEN, HEADS),
    "attention.output.dense": (HEADS, HIDDEN),
    "intermediate.dense": (HIDDEN, NEURONS),
    "output.dense": (NEURONS, HIDDEN),
}
"""Path of each elastic linear in a layer of BERT or RoBERTa: its input axis and its output axis."""


@dataclass(frozen=True)
class PreparedSize:
    """What a size means to one model, worked out once.

    Args:
        positions: Which of the stored layers run, increasing.
        axes: For each stored layer its size on the three axes, `(hidden, heads * head_size, neurons)`.
        is_full_width: Whether that is all that is stored of each layer.
    """

    positions: tuple[int, ...]
    axes: tuple[tuple[int, int, int], ...]
    is_full_width: bool


class ActiveSizes:
    """What is switched on now in one model.

    Attributes:
        positions: Which of the stored layers run, increasing.
        axes: For each stored layer its current size on the three axes, `(hidden, heads * head_size, neurons)`.
        is_full_width: Whether that is all that is stored of each layer.
        prepared: Every size that was ever prepared, by its name.
        parts: While gradients are gathered, the leading parts of weights in use, by linear and size; else None.
    """

    def __init__(self, stored: Sequence[LayerShape], *, hidden_size: int, head_size: int):
        self.hidden_size, self.head_size = hidden_size, head_size
        self._position = {layer.index: position for position, layer in enumerate(stored)}
        self._stored_axes = tuple(self._axes(layer) for layer in stored)
        self.prepared: dict[Hashable, PreparedSize] = {}
        self.parts: dict[Hashable, tuple[torch.Tensor, torch.Tensor]] | None = None
        self.switch(self.prepare(None, tuple(stored)))

    def _axes(self, layer: LayerShape) -> tuple[int, int, int]:
        return self.hidden_size, layer.heads * self.head_size, layer.neurons

    def prepare(self, name: Hashable, layers: Sequence[LayerShape]) -> PreparedSize:
        """Work out once what a size means; each layer must fit into the stored layer of its index."""
        positions = tuple(self._position[layer.index] for layer in layers)
        axes = list(self._stored_axes)
        for position, layer in zip(positions, layers, strict=True):
            axes[position] = self._axes(layer)
        self.prepared[name] = PreparedSize(positions, tuple(axes), tuple(axes) == self._stored_axes)
        return self.prepared[name]

    def switch(self, size: PreparedSize) -> None:
        """Switch to a prepared size."""
        self.positions, self.axes, self.is_full_width = size.positions, size.axes, size.is_full_width

    @contextmanager
    def gathering_gradients(self) -> Iterator[None]:
        """Inside, backward passes at smaller widths add to the leading part of a weight's `grad` and to nothing else.

        Else autograd makes a gradient of the full size, zero outside of that part, at every pass, and adds all of it.
        Gradients then reach `grad` alone, and not who asks `torch.autograd.grad` for those of the weights.
        """
        self.parts = {}
        try:
            yield
        finally:
            self.parts = None


class ElasticLinear(nn.Linear):
    """A linear layer that computes with the leading rows and columns that are switched on.

    At its full size it runs the stock computation on the stock weight, so that it is bit-equal to `nn.Linear`;
    below, on views of it.
    """

    _kept: dict[tuple[int, int], tuple[int, int, tuple[torch.Tensor, torch.Tensor]]]

    def __init__(self, linear: nn.Linear, active: ActiveSizes, *, position: int, axes: tuple[int, int]):
        nn.Module.__init__(self)
        self.active, self.position = active, position
        self.in_axis, self.out_axis = axes
        sizes = active.axes[position]
        self.in_features, self.out_features = sizes[self.in_axis], sizes[self.out_axis]
        self.weight, self.bias = self._leading(linear.weight), self._leading(linear.bias)
        self._kept = {}

    def _leading(self, parameter: Any) -> Any:
        """The part of a linear's weight or bias that is stored here, the parameter itself where that is all of it."""
        shape = (self.out_features, self.in_features)[: parameter.ndim]
        if tuple(parameter.shape) == shape:
            return parameter
        part = parameter.detach()[tuple(slice(size) for size in shape)].clone()
        return nn.Parameter(part, requires_grad=parameter.requires_grad)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        sizes = self.active.axes[self.position]
        rows, columns = sizes[self.out_axis], sizes[self.in_axis]
        if rows == self.out_features and columns == self.in_features:
            return nn.functional.linear(states, self.weight, self.bias)
        part = self._trained_part if torch.is_grad_enabled() else self._kept_part
        return nn.functional.linear(states, *part(rows, columns))

    def _trained_part(self, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        parts = self.active.parts
        if parts is None:
            return self.weight[:rows, :columns], self.bias[:rows]
        key = (self, rows, columns)
        if key not in parts:
            parts[key] = _gathering_part(self.weight, rows, columns), _gathering_part(self.bias, rows)
        return parts[key]

    def _kept_part(self, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The leading part of weight and bias, kept for the next pass: making it takes as long as a small product.

        Not kept are what a compiler or tracer sees, and views that hold memory which hooks move weights out of. A kept
        view holds the memory that it is of, so no other weight can have its address.
        """
        weight, bias = self._parameters.get("weight"), self._parameters.get("bias")
        is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        is_moved = "_hf_hook" in self.__dict__
        if is_moved:
            self._kept = {}
        if is_traced or is_moved or type(weight) is not nn.Parameter or bias is None:
            return self.weight[:rows, :columns], self.bias[:rows]
        kept = self._kept.get((rows, columns))
        if kept is None or kept[0] != weight.data_ptr() or kept[1] != bias.data_ptr():
            kept = weight.data_ptr(), bias.data_ptr(), (weight[:rows, :columns], bias[:rows])
            current = {size: other for size, other in self._kept.items() if other[:2] == kept[:2]}
            self._kept = {**current, (rows, columns): kept}
        return kept[2]

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self._kept = {}  # else it would hold the memory that the weights leave
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


def _gathering_part(parameter: torch.Tensor, *sizes: int) -> torch.Tensor:
    """The leading part of a parameter, as a leaf whose gradients are added to the leading part of the parameter's."""
    window = tuple(slice(size) for size in sizes)
    is_watched = parameter._backward_hooks or parameter._post_accumulate_grad_hooks
    if not parameter.requires_grad or is_watched:
        return parameter[window]

    def gather(part: Any) -> None:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad[window].add_(part.grad)
        part.grad = None

    part = parameter.detach()[window].requires_grad_()
    part.register_post_accumulate_grad_hook(gather)
    return part


class ElasticEncoder(nn.Module):
    """The stack of layers, of which a forward pass walks only those that are switched on.

    Takes over the layers of a stock encoder under their names, `layer.0.attention.self.query.weight` and so on.

    Args:
        layers: The stock encoder's layers, of the full size.
        stored: The shapes to keep, one per kept layer.
        active: Where the current size is read from; holds `stored` when given.
    """

    def __init__(self, layers: Any, stored: Sequence[LayerShape], active: ActiveSizes):
        super().__init__()
        self.active = active
        self.layer = nn.ModuleList(layers[shape.index] for shape in stored)
        for position, layer in enumerate(self.layer):
            layer.attention.self.layer_idx = position
            for path, axes in LINEARS.items():
                parent, _, name = path.rpartition(".")
                stock = attrgetter(path)(layer)
                elastic = ElasticLinear(stock, active, position=position, axes=axes)
                setattr(attrgetter(parent)(layer), name, elastic)
        self._places = [
            (f"{position}.{path}", layer.get_submodule(path.rpartition(".")[0])._modules, path.rpartition(".")[2])
            for position, layer in enumerate(self.layer)
            for path in LINEARS
        ]

    def check_linears(self) -> None:
        """Refuse a size below the stored widths where something else has taken the place of an elastic linear.

        An adapter or a quantised layer may, and knows no widths. Looks into the parents' tables, for speed.
        """
        for path, modules, name in self._places:
            if not isinstance(modules[name], ElasticLinear):
                raise SubNetworkError(
                    f"A size narrower than this model is asked for, but an adapter or a quantised layer stands in "
                    f"layer {path}, and that knows one width only. Possible are all depths at full width; for other "
                    "widths merge adapters first (merge_and_unload), or extract the size and adapt that."
                )

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *, use_cache=None, **kwargs
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        if not (self.active.is_full_width or torch.compiler.is_compiling()):
            self.check_linears()  # an adapter may have come after the size
        for position in self.active.positions:
            hidden_states = self.layer[position](hidden_states, attention_mask, **kwargs)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden_states)


def layer_linears(layers: Iterable[nn.Module]) -> Iterator[dict[str, nn.Linear]]:
    """For each layer of an encoder, stock or elastic, its six linears by path."""
    for layer in layers:
        yield {path: attrgetter(path)(layer) for path in LINEARS}


def layer_recorder(layer_class: type[nn.Module]) -> OutputRecorder:
    """How transformers collects the hidden states of the layers that run.

    Newer versions resolve negative indices of `output_hidden_states` and are told the configuration's property for it.
    """
    key = "num_hidden_layers_key"
    newer: dict[str, Any] = {key: "num_active_layers"} if key in OutputRecorder.__dataclass_fields__ else {}
    return OutputRecorder(layer_class, index=0, **newer)
