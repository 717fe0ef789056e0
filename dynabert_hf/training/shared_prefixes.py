"""Work that the passes of one training step have in common, done once.

All sizes of a step start from the same embedding output, and sizes of one width often begin with the same layers.
Nothing here knows losses or optimisers; the trainer runs its passes through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.utils.output_capturing import OutputRecorder

from ..model.elastic import ActiveSizes, ElasticLinear, Parts, Window, is_brought
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import LayerShape, Size

Prefix = tuple[LayerShape, ...]
"""The layers that led to a hidden state; none led to the embedding output."""

_Leaf = tuple[Any, tuple[slice, ...], torch.Tensor]
"""A parameter, a place in it, and what computes in that place's stead."""


@contextmanager
def share_prefixes(
    model: ElasticModelMixin, sizes: Sequence[Size]
) -> Iterator[Callable[[Size], AbstractContextManager[Any]]]:
    """Let the passes of several sizes on one batch share their embedding output and their equal leading layers.

    Each shared layer runs forward once, in the first pass that needs it, and all that is shared runs backward once, in
    the last: until then the gradients of the others gather at its output. The summed gradients are those of separate
    passes up to rounding. With dropout, sizes that share a layer share the draw of its dropout. Gradients of weights at
    a smaller width are added straight into the leading part of the gradient, without a buffer of the full size at every
    pass. Only the latter is done where the layers of a family are given tensors with gradients beside their states, or
    have hooks of yours, which may change what goes through a layer.

    Inside, every pass calls the model once, on the same batch, and where it goes backward it does so before the next.

    Args:
        model: An elastic model, not compiled.
        sizes: The sizes to run, each once, in this order.

    Yields:
        What takes the place of `model.subnetwork` around the forward and backward pass of each size.

    Example:
        >>> with share_prefixes(model, sizes) as at_size:  # doctest: +SKIP
        ...     for size in sizes:
        ...         with at_size(size):
        ...             model(**batch).loss.backward()
    """
    layers = model.elastic_layers.stored
    passes = _SharedPasses(
        [model.config.resolve(size) for size in sizes],
        model.base_model.active_sizes,
        device=model.device,
        shares_layers=not (model.config.anatomy.passes_gradients_beside or any(map(_is_watched, layers))),
    )

    @contextmanager
    def at_size(size: Size) -> Iterator[ElasticModelMixin]:
        with model.subnetwork(size), passes.turn(sizes.index(size)):
            yield model

    passes.active.sharing = passes
    try:
        yield at_size
    finally:
        passes.active.sharing = None


@dataclass(frozen=True)
class _SharedState:
    """The output of a part that several passes share.

    Args:
        attached: The states in the graph of the pass that computed them, for the last pass that needs them.
        leaf: The same values cut off, for the passes before; their gradients gather in its `grad`.
        beside: What the part gave beside its states, where it gives a tuple.
    """

    attached: torch.Tensor
    leaf: torch.Tensor
    beside: tuple[Any, ...] | None

    @classmethod
    def of(cls, given: Any) -> _SharedState:
        states, beside = (given[0], tuple(given[1:])) if isinstance(given, tuple) else (given, None)
        if not states.requires_grad:
            return cls(states, states, beside)
        leaf = states.detach().requires_grad_()
        states.register_hook(lambda gradient: gradient if leaf.grad is None else gradient + leaf.grad)
        return cls(states, leaf, beside)


class _SharedPasses:
    """What the model's layers and linears ask while passes share work: walks the tree of prefixes, pass after pass.

    Args:
        paths: The layers of each pass.
        active: What is switched on in the model.
        device: Where the model runs.
        shares_layers: Whether layers are shared; else only gradients are gathered.
    """

    def __init__(self, paths: Sequence[Prefix], active: ActiveSizes, *, device: torch.device, shares_layers: bool):
        self.paths, self.active, self.device, self.shares_layers = paths, active, device, shares_layers
        walks = [(path[:length], turn) for turn, path in enumerate(paths) for length in range(len(path) + 1)]
        self.last = dict(walks)
        self.first = dict(reversed(walks))
        self.states: dict[Prefix, _SharedState] = {}
        self.parts: dict[tuple[int, Window], Parts] = {}
        self.leaves: list[_Leaf] = []
        self.embedding = ExitStack()

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """The pass of this number; what no later one needs is let go at its end."""
        self.number = number
        try:
            with self.embedding:
                if number and self.shares_layers:  # this pass does not use its embedding output, nor what that draws
                    devices = [] if self.device.type == "cpu" else [self.device]
                    self.embedding.enter_context(torch.random.fork_rng(devices, device_type=self.device.type))
                yield
            _gather(self.leaves)
        finally:
            self.states = {prefix: state for prefix, state in self.states.items() if self.last[prefix] > number}

    def walk(self, layers: Sequence[nn.Module]) -> Iterator[Any]:
        """What the encoder's loop meets in the place of its layers."""
        self.embedding.close()
        self.prefix: Prefix = ()
        return iter([_SharedLayer(layer, self) for layer in layers] if self.shares_layers else layers)

    def run(self, layer: nn.Module, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The output of a layer, computed where this pass is the first that needs it."""
        if not self.prefix and len(self.paths) > 1:
            hidden_states = self._state(lambda: hidden_states)
        parent, self.prefix = self.prefix, self.paths[self.number][: len(self.prefix) + 1]
        if self.first[self.prefix] == self.last[self.prefix]:
            return layer(hidden_states, *args, **kwargs)
        goes_backward_with = parent in self.states and self.last[parent] == self.last[self.prefix]
        states = self.states[parent].attached if goes_backward_with else hidden_states
        given = self._state(lambda: layer.forward(states, *args, **kwargs))
        for record in layer._forward_hooks.values():  # of transformers, for hidden states
            record(layer, (hidden_states, *args), given)
        return given

    def _state(self, compute: Callable[[], Any]) -> Any:
        """What the part that ends at the current prefix gives to this pass."""
        if self.prefix not in self.states:
            self.states[self.prefix] = _SharedState.of(compute())
        state = self.states[self.prefix]
        states = state.attached if self.number == self.last[self.prefix] else state.leaf
        return states if state.beside is None else (states, *state.beside)

    def make_ready(self, linears: Sequence[ElasticLinear]) -> None:
        """Cut off what linears compute with in this pass, so that gradients of parts gather at the end of it.

        Else autograd makes a gradient of the full size, zero outside of that part, at every pass, and adds all of it.
        Gradients then reach `grad` alone, and not who asks `torch.autograd.grad` for those of the weights.
        """
        if any(map(is_brought, linears)):
            return
        ready: list[Parts | None] = list(self.active.unready)
        for linear in linears:
            window = self.active.windows[linear.number]
            if window is not None:
                key = linear.number, window
                if key not in self.parts:
                    self.parts[key] = self._leading_parts(linear, window)
                ready[linear.number] = self.parts[key]
        self.active.ready = ready

    def _leading_parts(self, linear: ElasticLinear, window: Window) -> Parts:
        weight, bias = linear.weight, linear.bias
        return [
            (self._leaf(weight, place), None if bias is None else self._leaf(bias, place[:1]))
            for place in linear.slices(window)
        ]

    def _leaf(self, parameter: torch.Tensor, place: tuple[slice, ...]) -> torch.Tensor:
        """A part of a parameter, cut off from it: what its gradient is added to is known to `leaves`."""
        is_watched = parameter._backward_hooks or parameter._post_accumulate_grad_hooks
        if not parameter.requires_grad or is_watched:
            return parameter[place]
        leaf = parameter.detach()[place].requires_grad_()
        self.leaves.append((parameter, place, leaf))
        return leaf


class _SharedLayer:
    """Stands for a layer in the encoder's loop.

    Args:
        layer: The layer, whose attributes it has.
        passes: What runs it.
    """

    def __init__(self, layer: nn.Module, passes: _SharedPasses):
        self._layer, self._passes = layer, passes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return self._passes.run(self._layer, hidden_states, *args, **kwargs)


def _is_watched(layer: nn.Module) -> bool:
    """Whether a layer has hooks, other than those by which transformers records its states."""
    own = [hook for hook in layer._forward_hooks.values() if hook.__module__ != OutputRecorder.__module__]
    return bool(own or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def _gather(leaves: Sequence[_Leaf]) -> None:
    """Add the gradients of parts to those places of their parameters' gradients, all in few operations."""
    found = [(parameter, place, leaf) for parameter, place, leaf in leaves if leaf.grad is not None]
    for parameter, _, _ in found:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if found:
        gradients: Any = [leaf.grad for _, _, leaf in found]
        torch._foreach_add_([parameter.grad[place] for parameter, place, _ in found], gradients)
    for _, _, leaf in found:
        leaf.grad = None
