"""Of which rows the metrics of a model are: metrics of other rows do not compare.

Beside `metrics`, a configuration holds `metric_rows`: of the same form, in place of each number the rows in words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..model.configuration import REFERENCES
from .metrics import in_telling_order

UNKNOWN_ROWS = "rows that were not noted"
"""What is said of metrics that came without their rows."""

Numbers = Mapping[str, Mapping[str, float]]
"""Metrics by size or reference."""

Rows = Mapping[str, Mapping[str, str]]
"""Of the same metrics the rows that they are of, in words."""


def rows_in_words(count: int | Mapping[str, int] | None, data: str) -> str:
    """The rows that something was measured on.

    Args:
        count: How many; of several evaluation sets for each; None: not known.
        data: The data that they are of.

    Example:
        >>> rows_in_words(300, "dev.csv"), rows_in_words({"matched": 5, "mismatched": 7}, "MNLI")
        ('300 rows of dev.csv', '5 rows (matched) and 7 rows (mismatched) of MNLI')
    """
    if count is None:
        return data
    counts = count if isinstance(count, Mapping) else {"": count}
    return f"{' and '.join(f'{number} rows' + f' ({name})' * bool(name) for name, number in counts.items())} of {data}"


def rows_of(metrics: Numbers, rows: str) -> dict[str, dict[str, str]]:
    """The same rows for all of these metrics."""
    return {name: dict.fromkeys(own, rows) for name, own in metrics.items()}


def common_rows(metric: str, metrics: Numbers, rows: Rows, names: Collection[str]) -> str | None:
    """The rows that a metric of these sizes is of; None if it is of several, or some size lacks it."""
    if not all(metric in metrics.get(name, {}) for name in names):
        return None
    found = {_rows(rows, name, metric) for name in names}
    return found.pop() if len(found) == 1 else None


def in_words(metrics: Numbers, rows: Rows) -> str:
    """A sentence or two that tell of which rows metrics are; empty where there are none.

    Example:
        >>> in_words({"w1-d1": {"f1": 0.9}, "teacher": {"f1": 0.9}}, {"w1-d1": {"f1": "A"}, "teacher": {"f1": "B"}})
        'Metrics are of different rows, and only those of the same compare: A (w1-d1); B (teacher).'
    """
    groups: dict[str, dict[str, list[str]]] = {}
    names = in_telling_order(metric for own in metrics.values() for metric in own)
    for metric in names:
        for name in metrics:
            if metric in metrics[name]:
                groups.setdefault(_rows(rows, name, metric), {}).setdefault(metric, []).append(name)
    if not groups:
        return ""
    if len(groups) == 1:
        return f"Metrics were measured on {next(iter(groups))}."
    told = "; ".join(f"{each} ({_what(found, metrics)})" for each, found in groups.items())
    return f"Metrics are of different rows, and only those of the same compare: {told}."


def _rows(rows: Rows, name: str, metric: str) -> str:
    return rows.get(name, {}).get(metric, UNKNOWN_ROWS)


def _what(found: Mapping[str, list[str]], metrics: Numbers) -> str:
    """Which of all metrics these are, as shortly as is clear.

    Args:
        found: For each metric those that have it of the rows in question.
        metrics: All metrics.
    """
    by_names: dict[tuple[str, ...], list[str]] = {}
    for metric, having in found.items():
        by_names.setdefault(tuple(having), []).append(metric)
    parts = []
    for names, own in by_names.items():
        everybody = tuple(name for name in metrics if all(metric in metrics[name] for metric in own))
        is_all_of_them = all(set(metrics[name]) == set(own) for name in names)
        if names == everybody:
            parts.append(listed(own))
        elif is_all_of_them:
            parts.append(_who(names, everybody))
        else:
            parts.append(f"{listed(own)} of {_who(names, everybody)}")
    return ", ".join(parts)


def _who(names: Collection[str], everybody: Iterable[str]) -> str:
    """Some sizes and references; the sizes are not listed where all of them are meant."""
    sizes = {name for name in everybody if name not in REFERENCES}
    if len(sizes) > 1 and sizes <= set(names):
        return listed(["all sizes", *(name for name in names if name in REFERENCES)])
    return listed(names)


def listed(names: Iterable[Any]) -> str:
    """Names with commas, and an `and` before the last.

    Example:
        >>> listed(["loss"]), listed(["f1", "loss"]), listed("abc")
        ('loss', 'f1 and loss', 'a, b and c')
    """
    *first, last = map(str, names)
    return f"{', '.join(first)} and {last}" if first else last
