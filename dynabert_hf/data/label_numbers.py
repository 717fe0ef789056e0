"""Which class a label stands for, whose name or number it may be in one of several spellings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..task_metrics import IGNORED
from .columns import is_missing, short


def ids_of(labels: list[Any], column: str, names: Mapping[int, str], *, rows: Sequence[int]) -> list[int | None]:
    """The number of every label, which stand in these rows: by names if all of them are names, else by numbers.

    Raises:
        ValueError: If one is neither, or some are names and others numbers.
    """
    both = [[number_of(label, ids) for label in labels] for ids in _readings(names)]
    for found in both:
        if None not in found:
            return found
    unknown = [place for place, ids in enumerate(zip(*both, strict=True)) if ids == (None, None)]
    place = unknown[0] if unknown else both[0].index(None)
    raise ValueError(
        f"Column {column!r} has the label {labels[place]!r} in row {rows[place]}. The model knows "
        f"{short(names, most=200)}; give the names of all labels, or the numbers of all."
    )


def numbered(given: Mapping[str, list[Any]], names: Mapping[int, str]) -> set[str]:
    """The data sets whose labels are numbers since those of one of them can be nothing else, though `1` is a name, too.

    Args:
        given: The column of labels of each data set.
        names: The names of the classes, by their numbers.
    """
    by_name, by_number = (
        {name for name, labels in given.items() if all(number_of(each, ids) is not None for each in _each_of(labels))}
        for ids in _readings(names)
    )
    return by_number if by_number - by_name else set()


def is_given(label: Any) -> bool:
    """Whether a row has a label; an empty one of a file is none."""
    return not is_missing(label) and label != ""


def _each_of(labels: list[Any]) -> list[Any]:
    """Every label that counts, of a text or of each of its words, once."""
    flat = (each for label in labels for each in (label if isinstance(label, list) else [label]))
    return list({str(each): each for each in flat if is_given(each) and each != IGNORED}.values())


def _readings(names: Mapping[int, str]) -> tuple[dict[str, int], dict[str, int]]:
    """The number of every label, as a name and as a number."""
    return numbers_by_name(names), {str(number): number for number in names}


def numbers_by_name(names: Mapping[int, str]) -> dict[str, int]:
    """The number of each name that stands for one class alone."""
    given = Counter(map(str, names.values()))
    return {str(name): number for number, name in names.items() if given[str(name)] == 1}


def number_of(label: Any, ids: Mapping[str, int]) -> int | None:
    """The number that a label has among these, whichever way it is written; None if it has none."""
    return next((ids[text] for text in _spellings(label) if text in ids), None)


def _spellings(label: Any) -> list[str]:
    """What a label may be called: itself as text, but 1.0 also 1, and true, as JSON and csv have it, also True or 1."""
    text = str(label)
    if text.lower() in ("true", "false"):
        return [text, text.lower(), text.title(), str(int(text.lower() == "true"))]
    try:
        number = float(text)
    except ValueError:
        return [text]
    return [text, str(int(number))] if number.is_integer() else [text]
