"""Columns of a data set, whatever holds its rows, as Arrow arrays; and rows drawn from it.

Rows that are made only when they are asked for, as by `with_transform` or in a data set of one's own, may be costly or
random: of these only the first is read, and of a stream none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import torch

LABELS = ("labels", "label", "label_ids")
"""What a column of labels may be called, except that of answers."""

LABEL_COLUMNS = (*LABELS, "start_positions")
"""What a column of labels may be called, as transformers' collators and heads read it."""


def is_stream(dataset: Any) -> bool:
    """Whether rows can be read only one after the other."""
    return isinstance(dataset, torch.utils.data.IterableDataset | datasets.IterableDataset)


def has_all_rows(dataset: Any) -> bool:
    """Whether all rows are there to be read, before they are used."""
    return _is_table(dataset) or isinstance(dataset, list | tuple)


def are_rows(dataset: Any) -> bool:
    """Whether something is one data set of known length whose rows can be read by their number."""
    return hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and not isinstance(dataset, Mapping)


def column_names(dataset: Any) -> list[str]:
    """The columns of a data set, those that any row has; empty where no row can be read without going through all."""
    if _is_table(dataset):
        return dataset.column_names
    return list(dict.fromkeys(name for row in _readable_rows(dataset) if isinstance(row, Mapping) for name in row))


def label_column(dataset: Any) -> str | None:
    """The column with the labels of a data set; None if it has none."""
    names = column_names(dataset)
    return next((name for name in LABEL_COLUMNS if name in names), None)


def lacks_labels(dataset: Any, *, everywhere: bool = False) -> bool:
    """Whether a row of a data set has no label, as far as rows can be read; or, everywhere, whether none has one."""
    name = label_column(dataset)
    labels = None if name is None else column(dataset, name)
    if labels is None:
        return name is None
    return labels.null_count == len(labels) if everywhere else labels.null_count > 0


def without_missing_labels(dataset: Any) -> Any:
    """A data set without its columns of labels if no row has one, as in hidden test data; else the data set itself."""
    if not has_all_rows(dataset) or label_column(dataset) is None or not lacks_labels(dataset, everywhere=True):
        return dataset
    names = [name for name in (*LABEL_COLUMNS, "end_positions") if name in column_names(dataset)]
    if isinstance(dataset, datasets.Dataset):
        return dataset.remove_columns(names)
    return [{name: value for name, value in row.items() if name not in names} for row in dataset]


def column(dataset: Any, name: str) -> pa.Array | None:
    """A column of a data set, or as much of it as can be read; None if it is not there.

    Raises:
        TypeError: If the values are of different kinds.
    """
    if _is_table(dataset):
        if name not in dataset.column_names:
            return None
        table = dataset.select_columns([name]).with_format("arrow")[:]
        return _plain(table[name])
    values = [as_plain(row.get(name)) for row in _readable_rows(dataset) if isinstance(row, Mapping)]
    if all(value is None for value in values) and name not in column_names(dataset):
        return None
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise TypeError(f"Column {name!r} holds values of different kinds: {error}") from error


def unformatted(dataset: Any) -> Any:
    """A data set whose rows hold values of Python, whatever its format; rows made on demand stay as they are."""
    return dataset.with_format(None) if _is_table(dataset) else dataset


def with_all_rows(dataset: Any) -> Any:
    """A data set of known length with all of its rows; those that are made on demand, maybe at random, are made once.

    Columns that are read from it one after the other are of the same rows then.
    """
    return dataset if has_all_rows(dataset) else [dataset[row] for row in range(len(dataset))]


def by_number(dataset: Any) -> Any:
    """A data set whose rows, if they are made on demand, are asked for by their number alone, up to the last one.

    Of a data set of one's own, which may never say that a number is too high, iteration ends with this one, too.
    """
    if is_stream(dataset) or has_all_rows(dataset) or not are_rows(dataset):
        return dataset
    return torch.utils.data.Subset(dataset, range(len(dataset)))


def values_of(dataset: Any, name: str) -> list[Any]:
    """A column of a data set of known length as a list of plain values; None where a row of a list has none or NaN."""
    if isinstance(dataset, datasets.Dataset):
        return list(unformatted(dataset)[name])
    values = (as_plain(dataset[row].get(name)) for row in range(len(dataset)))
    return [None if is_missing(value) else value for value in values]


def drawn_rows(dataset: Any, count: int, seed: int = 0, *, label: str | None = None) -> list[int]:
    """The numbers of so many rows, drawn by the seed alone, in random order; with classes, of each its share.

    Args:
        dataset: Data of known length. Where a column of labels holds whole numbers or names, every label has the share
            of the drawn rows that it has of all: of two or of equally frequent labels to within a row, else to within a
            few.
        count: How many rows; as many as there are if that is more.
        seed: Seed of the draw.
        label: The column of labels; None: the one of a usual name, if there is one.
    """
    generator = np.random.default_rng(seed)
    rank = generator.permutation(len(dataset)).astype(np.float64) / max(len(dataset), 1)
    classes = _classes(dataset, label or label_column(dataset))
    if classes is not None:
        rank = _rank_within(classes, rank, generator)
    return generator.permutation(np.argsort(rank, kind="stable")[:count]).tolist()


def draw(dataset: Any, count: int, seed: int = 0) -> Any:
    """So many rows of a data set, as `drawn_rows` draws them; the data set itself if it has no more."""
    if count >= len(dataset):
        return dataset
    rows = drawn_rows(dataset, count, seed)
    if isinstance(dataset, datasets.Dataset):
        return dataset.select(rows)
    if isinstance(dataset, Sequence):
        return [dataset[row] for row in rows]
    return torch.utils.data.Subset(dataset, rows)


def _classes(dataset: Any, name: str | None) -> np.ndarray | None:
    """For every row the number of its class in a column; None without classes."""
    labels = None if name is None else column(dataset, name)
    if labels is None or len(labels) != len(dataset):
        return None
    kind = labels.type
    is_name = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (is_name or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        return None
    return pc.dictionary_encode(labels, null_encoding="encode").indices.to_numpy(zero_copy_only=False)


def _rank_within(classes: np.ndarray, rank: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The place of each row in its class, from 0 to 1, so that the lowest of all hold every class by its share."""
    order = np.lexsort((rank, classes))
    counts = np.bincount(classes)
    place = np.empty(len(classes))
    place[order] = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (place + generator.random(len(counts))[classes]) / counts[classes]


def _is_table(dataset: Any) -> bool:
    """Whether its rows are held, and not made on demand."""
    return isinstance(dataset, datasets.Dataset) and dataset.format["type"] != "custom"


def _readable_rows(dataset: Any) -> Sequence[Any]:
    if is_stream(dataset) or isinstance(dataset, Mapping | str) or not hasattr(dataset, "__getitem__"):
        return []
    if isinstance(dataset, list | tuple):
        return dataset
    try:
        return [dataset[0]] if len(dataset) else []
    except KeyError:  # of a table, which has columns there
        return []


def is_missing(value: Any) -> bool:
    """Whether a row has no value: None, or what the formats of numpy, torch, pandas and files make of it, as NaN."""
    return value is None or value is pd.NA or (getattr(value, "ndim", 0) == 0 and bool(value != value))


def as_plain(value: Any) -> Any:
    """A value without the types that numpy and torch have for numbers and lists of them, and pandas for no value."""
    if value is pd.NA:
        return None
    return value.tolist() if isinstance(value, torch.Tensor | np.ndarray | np.generic) else value


def _plain(values: pa.ChunkedArray) -> pa.Array:
    """Without the types of one's own that `datasets` has for arrays of several dimensions."""
    chunks = [chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk for chunk in values.chunks]
    return pa.chunked_array(chunks, type=chunks[0].type if chunks else values.type).combine_chunks()


def short(value: Any, most: int = 60) -> str:
    """What an error shows of a value."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"
