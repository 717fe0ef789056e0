"""Keeping what was measured of a finished model with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path


def store_metrics(path: Path, metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Add metrics by size to those in the config.json of a model.

    Returns:
        The sizes, and perhaps `"teacher"`, that keep other metrics, which may come from other data.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    before = config.get("metrics") or {}
    config["metrics"] = before | {size: {**before.get(size, {}), **own} for size, own in metrics.items()}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return [name for name, own in before.items() if own.keys() - metrics.get(name, {}).keys()]


def store_temperatures(path: Path, temperatures: Mapping[str, float]) -> None:
    """Add the temperatures of sizes, by their text, to those in the config.json of a model."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["temperatures"] = {**(config.get("temperatures") or {}), **temperatures}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def store_sizes(path: Path, sizes: Iterable[str]) -> None:
    """Name sizes, by their text, among those of the config.json of a model."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["sizes"] = list(dict.fromkeys([*(config.get("sizes") or []), *sizes]))
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
