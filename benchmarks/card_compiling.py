"""Compiling more graphs than torch allows by itself, of layers or of whole models. `gpu.py` asks it."""

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def many_graphs():
    """More compilations of one function than torch's limit; to hit the raised one is an error, no silent eager run."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    limits = {"recompile_limit": 1000, "accumulated_recompile_limit": 10_000, "fail_on_recompile_limit_hit": True}
    with torch._dynamo.config.patch(limits):
        yield
    torch._dynamo.reset()


@contextmanager
def compiled_layers(layers: Sequence[Any], **how: Any):
    """Each layer's forward pass compiled by itself: regions, between which hooks and shared prefixes still work.

    Hooks within a layer are taken away: transformers records attentions by them, and each would split a graph.
    """
    hooks = [module._forward_hooks for layer in layers for module in layer.modules() if module is not layer]
    kept = [dict(own) for own in hooks]
    with many_graphs():
        for own in hooks:
            own.clear()
        for layer in layers:
            layer.forward = torch.compile(layer.forward, dynamic=False, **how)
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward
            for own, before in zip(hooks, kept, strict=True):
                own.update(before)
