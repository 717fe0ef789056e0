"""Keeping what was measured of a finished model with it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..files import write_whole
from .measured_rows import rows_of
from .metrics import in_telling_order, is_number, plain_metrics

Metrics = Mapping[str, Mapping[str, Any]]
"""Metrics, or the rows that they are of, by size."""


@contextmanager
def edited_config(path: Path) -> Iterator[dict[str, Any]]:
    """The content of the config.json of a model, which is written as it is when the block ends, whole or not at all."""
    config = json.loads(path.read_text(encoding="utf-8"))
    yield config
    content = json.dumps(config, indent=2, sort_keys=True) + "\n"
    write_whole(path, lambda partial: partial.write_text(content, encoding="utf-8"))


def with_metrics(before: Metrics | None, metrics: Metrics) -> dict[str, dict[str, Any]]:
    """Metrics that were stored, and others of these sizes added to them; one that is not finite is left out."""
    known = {size: dict(own) for size, own in (before or {}).items()}
    merged = known | {size: {**known.get(size, {}), **own} for size, own in metrics.items()}
    return {
        size: {name: value for name, value in own.items() if not is_number(value) or math.isfinite(value)}
        for size, own in merged.items()
    }


def stored_metrics(config: Any) -> dict[str, dict[str, float]]:
    """The metrics that the configuration of a model holds, by size and reference, as far as they are finite numbers."""
    return with_metrics(None, {name: plain_metrics(own) for name, own in (config.metrics or {}).items()})


def measured_fields(config: Mapping[str, Any], metrics: Metrics, rows: str) -> dict[str, Any]:
    """The fields of a configuration that tell what was measured, with more added to them.

    Args:
        config: The fields as they are.
        metrics: Metrics by size.
        rows: The rows that all of them were measured on, in words.
    """
    before = config.get("metrics") or {}
    names = (name for own in (*metrics.values(), *before.values()) for name in own)
    return {
        "metrics": with_metrics(before, metrics),
        "metric_rows": with_metrics(config.get("metric_rows"), rows_of(metrics, rows)),
        "metric_order": in_telling_order([*(config.get("metric_order") or ()), *names]),
    }


def keep_measured(config: Any, before: Any) -> None:
    """Let a configuration, in place, also tell what one before it told of the same weights under other names.

    Args:
        config: The configuration, which tells what was measured last.
        before: The one before it.
    """
    own = {name for told in (config.metrics or {}).values() for name in told}
    for field in ("metrics", "metric_rows"):
        told = (getattr(before, field) or {}).items()
        others = {size: {name: value for name, value in all_of.items() if name not in own} for size, all_of in told}
        kept = with_metrics({size: left for size, left in others.items() if left}, getattr(config, field) or {})
        setattr(config, field, kept or None)
    config.metric_order = in_telling_order([*(config.metric_order or ()), *(before.metric_order or ())]) or None
    config.metric_directions = {**(before.metric_directions or {}), **(config.metric_directions or {})} or None


def with_sizes(before: Iterable[str] | None, sizes: Iterable[str]) -> list[str]:
    """Sizes that were named, and others after them, each once."""
    return list(dict.fromkeys([*(before or []), *sizes]))


def store_metrics(path: Path, metrics: Metrics, rows: str) -> bool:
    """Add metrics by size to those in the config.json of a model, and of which rows they are.

    Args:
        path: The config.json.
        metrics: The metrics.
        rows: The rows that all of them were measured on, in words.

    Returns:
        Whether some size or reference keeps other metrics, which may be of other rows.
    """
    with edited_config(path) as config:
        before = config.get("metrics") or {}
        config.update(measured_fields(config, metrics, rows))
    return any(own.keys() - metrics.get(name, {}).keys() for name, own in before.items())


def store_temperatures(path: Path, temperatures: Mapping[str, float]) -> None:
    """Add the temperatures of sizes, by their text, to those in the config.json of a model."""
    with edited_config(path) as config:
        config["temperatures"] = {**(config.get("temperatures") or {}), **temperatures}


def store_sizes(path: Path, sizes: Iterable[str]) -> None:
    """Name sizes, by their text, among those of the config.json of a model."""
    with edited_config(path) as config:
        config["sizes"] = with_sizes(config.get("sizes"), sizes)
