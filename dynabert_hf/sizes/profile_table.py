"""The table of what sub-networks cost: to select from, to save in several forms, and to choose a size by.

Measuring is left to `profiling`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from ..files import write_whole
from .records import SETTING, SizeRecord, make_records
from .tables import shortened

COLUMNS = {
    "parameters": "costs",
    "embedding_parameters": "costs",
    "encoder_parameters": "costs",
    "flops": "costs",
    "batch_size": "setting",
    "sequence_length": "setting",
    "runtime": "setting",
    "dtype": "setting",
    "device": "setting",
    "threads": "setting",
    "latency_ms": "costs",
    "latency_spread_ms": "costs",
    "memory_mb": "costs",
    "runs": "setting",
}
"""The columns of a table after the size, and which part of a record each of them is."""

SUFFIXES = (".json", ".csv", ".md")
"""What a table can be saved as."""


@dataclass(frozen=True)
class ProfileTable:
    """The costs of several sizes under one or more settings.

    Args:
        records: One for each size and setting.
        left_out: For each runtime and number format that was asked for and does not exist together, why not.
        machine: What it was measured on.
    """

    records: tuple[SizeRecord, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[SizeRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def select(self, **setting: Any) -> ProfileTable:
        """The part of the table with these values, such as `runtime="torch", batch_size=1`.

        Raises:
            ValueError: If no record has them, or a name is no field of a setting.
        """
        unknown = [name for name in setting if name not in SETTING]
        if unknown:
            raise ValueError(f"{unknown} are no fields of a setting. Possible are {list(SETTING)}.")
        wanted = setting.items()
        found = tuple(one for one in self if all(one.setting.get(name) == value for name, value in wanted))
        if not found:
            raise ValueError(f"No size was measured under {setting}. Possible are {self.settings}; choose among them.")
        return replace(self, records=found)

    def with_metrics(
        self, metrics: Mapping[Any, Any] | Callable[[Any], Any] | None, *, metric: str = "accuracy"
    ) -> tuple[SizeRecord, ...]:
        """What `recommend` and `pareto_front` choose from: the sizes of this table that have metrics, with them.

        Args:
            metrics: For a size, or its text, its metrics by name, as `model.config.metrics` holds them, or the value of
                one; or a function of a size that measures these.
            metric: What a metric is called that is given as one value.

        Raises:
            ValueError: If the table holds several settings, whose costs would be mixed, or no size has metrics.
        """
        return make_records(metrics, self.records, metric=metric)

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The settings that were measured, in their order."""
        settings = dict.fromkeys(tuple((name, one.setting.get(name)) for name in SETTING) for one in self)
        return [dict(setting) for setting in settings]

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for each record, its size as text; what was not measured is None."""
        return [
            {"size": one.name, **{name: getattr(one, part).get(name) for name, part in COLUMNS.items()}} for one in self
        ]

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`."""
        return pd.DataFrame(self.rows())

    def to_json(self) -> str:
        """The table as JSON text, which `from_json` reads."""
        content = {"machine": dict(self.machine), "left_out": dict(self.left_out), "profiles": self.rows()}
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ProfileTable:
        """The table that `to_json` wrote.

        Raises:
            ValueError: If the text is no such table.
        """
        try:
            content = json.loads(text)
            records = tuple(_record(row) for row in content["profiles"])
            return cls(records, content["left_out"], content["machine"])
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"The text is not a table of profiles ({error!r}). Give what to_json wrote.") from error

    def to_csv(self) -> str:
        """The table as CSV text with a header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["size", *COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return text.getvalue()

    def to_markdown(self) -> str:
        """The table for people, with units, in GitHub's Markdown."""
        header = ["size", "parameters", "GFLOPs", "runtime", "dtype", "device", "batch", "tokens"]
        header += ["ms", "spread ms", "MB"]
        lines = [header, ["---", "---:", "---:", *["---"] * 3, *["---:"] * 5]]
        for one in self:
            measured = [one.costs.get(name) for name in ("latency_ms", "latency_spread_ms", "memory_mb")]
            numbers = ["" if number is None else shortened(number, 4) for number in measured]
            counted = [
                "" if one.parameters is None else f"{one.parameters / 1e6:.1f} M",
                "" if one.flops is None else shortened(one.flops / 1e9),
            ]
            names = ("runtime", "dtype", "device", "batch_size", "sequence_length")
            setting = [str(one.setting.get(name, "")) for name in names]
            lines.append([one.name, *counted, *setting, *numbers])
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def save(self, path: str | PathLike) -> None:
        """Write the table to a file; its suffix decides the form: `.json`, `.csv` or `.md`.

        Raises:
            ValueError: If the suffix is another one.
        """
        check_suffix(path)
        forms = {".json": self.to_json, ".csv": self.to_csv, ".md": self.to_markdown}
        content = forms[Path(path).suffix]()
        write_whole(Path(path), lambda partial: partial.write_text(content, encoding="utf-8"))


def check_suffix(path: str | PathLike) -> None:
    """Whether a table can be saved under this name, to be known before it is measured.

    Raises:
        ValueError: If the suffix is none of `SUFFIXES`.
    """
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f"{str(path)!r} is no name for a table. Possible suffixes are {list(SUFFIXES)}; give one.")


def _record(row: Mapping[str, Any]) -> SizeRecord:
    """The record that a row of a table was made of."""
    unknown = [name for name in row if name not in ("size", *COLUMNS)]
    if unknown:
        raise KeyError(unknown[0])
    parts: dict[str, dict[str, Any]] = {"costs": {}, "setting": {}}
    for name, part in COLUMNS.items():
        if row.get(name) is not None:
            parts[part][name] = row[name]
    return SizeRecord(row["size"], {}, **parts)
