"""Work that the passes of one training step have in common, done once.

All sizes of a step start from the same embedding output, and sizes of one width often begin with the same layers.
Nothing here knows losses or optimisers; the trainer runs its passes through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import LayerShape, SubNetwork

Prefix = tuple[LayerShape, ...]
"""The layers that led to a hidden state; none led to the embedding output."""


@contextmanager
def share_prefixes(
    model: ElasticModelMixin, sizes: Sequence[SubNetwork]
) -> Iterator[Callable[[SubNetwork], AbstractContextManager[Any]]]:
    """Let the passes of several sizes on one batch share their embedding pass and their equal leading layers.

    Each shared part runs forward once, in the first pass that needs it, and backward once, in the last: until then the
    gradients of the others gather at its output. The summed gradients are those of separate passes up to rounding. With
    dropout, sizes that share a layer share the draw of its dropout. Gradients of weights at a smaller width are added
    straight into the leading part of the gradient, without a buffer of the full size at every pass.

    Inside, every pass calls the model once, on the same batch, and where it goes backward it does so before the next.
    Modules and hooks see the usual calls, also of layers that are not computed again.

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
    passes = _SharedPasses([model.config.resolve(size) for size in sizes])
    encoder = model.base_model.encoder
    with ExitStack() as stack:
        stack.enter_context(_forward_through(model.base_model.embeddings, passes.embed))
        for layer in encoder.layer:
            stack.enter_context(_forward_through(layer, passes.apply))
        stack.enter_context(encoder.active.gathering_gradients())

        @contextmanager
        def at_size(size: SubNetwork) -> Iterator[ElasticModelMixin]:
            with model.subnetwork(size), passes.turn(sizes.index(size)):
                yield model

        yield at_size


@contextmanager
def _forward_through(module: nn.Module, run: Callable[..., torch.Tensor]) -> Iterator[None]:
    """Replace the forward pass of a module by `run(forward, *args, **kwargs)`.

    The module is still called, so that the hooks by which transformers records hidden states fire.
    """
    before = module.__dict__.get("forward")
    module.forward = partial(run, module.forward)
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


@dataclass(frozen=True)
class _SharedState:
    """The output of a part that several passes share.

    Attributes:
        attached: The output in the graph of the pass that computed it, for the last pass that needs it.
        leaf: The same values cut off, for the passes before; their gradients gather in its `grad`.
    """

    attached: torch.Tensor
    leaf: torch.Tensor

    @classmethod
    def of(cls, output: torch.Tensor) -> _SharedState:
        if not output.requires_grad:
            return cls(output, output)
        leaf = output.detach().requires_grad_()
        output.register_hook(lambda gradient: gradient if leaf.grad is None else gradient + leaf.grad)
        return cls(output, leaf)


class _SharedPasses:
    """Walks the tree of prefixes, one pass after the other.

    Args:
        paths: The layers of each pass.
    """

    def __init__(self, paths: Sequence[Prefix]):
        self.paths = paths
        walks = [(path[:length], turn) for turn, path in enumerate(paths) for length in range(len(path) + 1)]
        self.last = dict(walks)
        self.first = dict(reversed(walks))
        self.states: dict[Prefix, _SharedState] = {}

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """The pass of this number; what no later one needs is let go at its end."""
        self.number = number
        try:
            yield
        finally:
            self.states = {prefix: state for prefix, state in self.states.items() if self.last[prefix] > number}

    def embed(self, forward: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        self.prefix: Prefix = ()
        return self._run(lambda: forward(*args, **kwargs))

    def apply(
        self, forward: Callable[..., torch.Tensor], hidden_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        parent, self.prefix = self.prefix, self.paths[self.number][: len(self.prefix) + 1]
        if parent in self.states and self.last[parent] == self.last[self.prefix]:
            hidden_states = self.states[parent].attached
        return self._run(lambda: forward(hidden_states, *args, **kwargs))

    def _run(self, compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The state after the current prefix, computed where this pass is the first that needs it."""
        if self.first[self.prefix] == self.last[self.prefix]:
            return compute()
        if self.number == self.first[self.prefix]:
            self.states[self.prefix] = _SharedState.of(compute())
        state = self.states[self.prefix]
        return state.attached if self.number == self.last[self.prefix] else state.leaf
