"""Dropout of models of any family: what sets it in a configuration, and in a model that is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..sizes.metrics import is_number


def dropout_fields(config: Any) -> tuple[str, ...]:
    """The fields of a configuration that are probabilities of dropout, or None where another one holds."""
    return tuple(
        name for name, value in config.to_dict().items() if "dropout" in name and (value is None or is_number(value))
    )


@contextmanager
def dropping(model: torch.nn.Module, probability: float) -> Iterator[None]:
    """Inside, all dropout of a model has this probability, in place; its configuration stays as it is."""
    modules = list(model.modules())
    parts: list[tuple[torch.nn.Module, str]] = [(each, "p") for each in modules if isinstance(each, torch.nn.Dropout)]
    parts += [(each, "attention_dropout") for each in modules if is_number(vars(each).get("attention_dropout"))]
    before = [getattr(module, name) for module, name in parts]
    try:
        for module, name in parts:
            setattr(module, name, probability)
        yield
    finally:
        for (module, name), own in zip(parts, before, strict=True):
            setattr(module, name, own)
