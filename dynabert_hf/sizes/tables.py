"""Tables of sizes for a terminal of 80 columns: names of sizes stay whole, headings wrap instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table


def table_of(rows: Sequence[Mapping[str, Any]], *, last: Iterable[Mapping[str, Any]] = ()) -> Table:
    """Rows as a table, numbers to the right; `last` stands below a line. A key that a row lacks is an empty cell."""
    last = list(last)
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        values = [row[name] for row in rows if name in row]
        is_number = all(isinstance(value, int | float) or value[:1].isdigit() or not value for value in values)
        table.add_column(
            " ".join(map(_in_parts, name.split("_"))),
            justify="right" if is_number else "left",
            min_width=max(len(_cell(row.get(name, ""))) for row in [*rows, *last]),
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(_cell(row.get(name, "")) for name in names))
    if last:
        table.add_section()
    for row in last:
        table.add_row(*(_cell(row.get(name, "")) for name in names))
    return table


def quantity(count: float) -> str:
    """A count, shortened: `22.7 M`, `81 k`."""
    for factor, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= factor:
            return f"{count / factor:.3g}{suffix}"
    return f"{count:.0f}"


def _in_parts(word: str) -> str:
    """A word of a heading, broken where it would widen the column of its numbers: 11 letters and more."""
    return word if len(word) <= 10 else f"{word[:7]}- {_in_parts(word[7:])}"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
