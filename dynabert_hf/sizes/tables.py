"""Tables of sizes for a terminal of 80 columns: names of sizes stay whole, headings wrap instead.

Where even that takes too much room, long labels in the first column wrap, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

_GAP = 2
"""Columns of the terminal between two of the table."""

_LONGEST_WHOLE = 20
"""Letters of a name that never wraps: of a third and the like a multiplier alone has more."""


def table_of(
    rows: Sequence[Mapping[str, Any]],
    *,
    last: Iterable[Mapping[str, Any]] = (),
    width: int = 80,
    may_go: Sequence[str] = (),
) -> Table:
    """Rows as a table, numbers to the right, as many decimals in all of a column. A key that a row lacks is empty.

    Megabytes, in columns whose names end with `mb`, have three digits each: a file of one may be small beside another.

    Args:
        rows: The rows.
        last: Rows that stand below a line.
        width: Columns of the terminal.
        may_go: Keys of columns that are left out where they do not fit, the last first; a line below says so.
    """
    width -= 1  # rich before 14.3 counts a space after the last column, and cuts its numbers to make room
    rows, last = _rounded([*rows, *last], len(rows))
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = {name: [str(row.get(name, "")) for row in [*rows, *last]] for name in names}
    widths = {name: max(map(len, [*cells[name], *_lines(name)])) for name in names}
    gone: list[str] = []
    while sum(widths[name] + _GAP for name in names) - _GAP > width and len(gone) < len(may_go):
        gone.insert(0, may_go[-1 - len(gone)])
        names.remove(gone[0])
    headings = _broken({name: name.replace("_", " ") for name in names}, widths, width)
    over = sum(widths[name] + _GAP for name in names) - _GAP - width
    if over > 0:  # else the last column would be lost
        longest = max(len(word) for cell in cells[names[0]] for word in cell.split())
        widths[names[0]] = max(widths[names[0]] - over, min(longest, _LONGEST_WHOLE))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        values = [row[name] for row in rows if name in row]
        is_number = all(
            isinstance(value, int | float) or value.lstrip("-")[:1].isdigit() or not value for value in values
        )
        justify: Any = "right" if is_number else "left"
        table.add_column(headings[name], justify=justify, min_width=widths[name], overflow="fold")
    for row in rows:
        table.add_row(*(str(row.get(name, "")) for name in names))
    if last:
        table.add_section()
    for row in last:
        table.add_row(*(str(row.get(name, "")) for name in names))
    if gone:
        table.caption, table.caption_justify = f"No room for {', '.join(gone)}.", "left"
    return table


def _broken(headings: dict[str, str], widths: Mapping[str, int], width: int) -> dict[str, str]:
    """Headings, the widest of them in lines where a table would not fit otherwise.

    Args:
        headings: The headings by column.
        widths: How wide each column is at least, with its heading in lines.
        width: Columns of the terminal.
    """
    wide = {name: max(len(text), widths[name]) for name, text in headings.items()}
    for name in sorted(wide, key=lambda name: widths[name] - wide[name]):
        if sum(wide.values()) + _GAP * (len(wide) - 1) <= width:
            break
        wide[name], headings[name] = widths[name], "\n".join(_lines(name))
    return headings


def _rounded(rows: Sequence[Mapping[str, Any]], count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows with the fractions of each column as text, the first `count` of them and the others."""
    fractions: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float):
                fractions.setdefault(name, []).append(value)
    form = {name: _form(values) for name, values in fractions.items()}
    shown = [
        {name: _text(name, value, form[name]) if isinstance(value, float) else value for name, value in row.items()}
        for row in rows
    ]
    return shown[:count], shown[count:]


def _text(name: str, value: float, form: str) -> str:
    return shortened(value) if name.lower().endswith("mb") else format(value, form)


def _form(values: Sequence[float]) -> str:
    """How fractions are written: four digits of the largest, unless another would lose its own then.

    What is below the largest by more digits than a double has is what rounding left of 0.
    """
    sizes = [abs(value) for value in values if math.isfinite(value)]
    largest = max(sizes, default=0.0)
    decimals = 4 if largest <= 1 else max(0, 4 - len(str(int(largest))))
    return ".4g" if any(1e-15 * largest < size < 10**-decimals for size in sizes) else f".{decimals}f"


def _lines(name: str) -> list[str]:
    """A heading in as many lines as it has parts."""
    return " ".join(map(_in_parts, name.split("_"))).split()


def shortened(number: float, digits: int = 3) -> str:
    """A number with so many digits, or all before its point where these are more: `12.3`, `1234`."""
    return f"{number:.{digits}g}" if number < 10**digits - 0.5 else f"{number:.0f}"


def megabytes(size: float) -> str:
    """What a file or memory takes, in units of 2**20 bytes: `0.39 MB`, `12.3 MB`, `1234 MB`."""
    return f"{shortened(size)} MB"


def quantity(count: float) -> str:
    """A count, shortened: `22.7 M`, `81 k`."""
    for factor, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= 0.9995 * factor:  # which three digits round up
            return f"{shortened(count / factor)}{suffix}"
    return f"{count:.0f}"


def metric_text(value: float, *, decimals: int = 4) -> str:
    """A metric with so many decimals, or as many digits where it is too small for them: `0.8712`, `0.0001234`."""
    return f"{value:.{decimals}g}" if 0 < abs(value) < 0.01 else f"{value:.{decimals}f}"


def _in_parts(word: str) -> str:
    """A word of a heading, broken where it would widen the column of its numbers: 11 letters and more."""
    return word if len(word) <= 10 else f"{word[:7]}- {_in_parts(word[7:])}"
