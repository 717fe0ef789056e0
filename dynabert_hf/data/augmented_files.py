"""Rows and files with changed copies of their texts: written in whole parts, so that an interrupted file goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from ..files import KEPT, changed, check_writable_file, json_text, named_on_a_full_disk, write_whole
from ..messages import check_counts
from .augmentation import WordReplacement
from .columns import short
from .fingerprints import fingerprint_of_file, fingerprint_of_weights
from .text_columns import as_names
from .text_files import DELIMITERS, names_of_columns, read_rows

COPIES = 20
"""Copies of a text by default: as many as TinyBERT's paper made. Its script makes 10 to 30, by the task."""

ROWS_A_PART = 256
"""How many rows are read and written at once."""


def _write_lines(rows: datasets.Dataset, path: Path) -> None:
    """A row a line, numbers to their last digit and dates as text, as pandas, which `to_json` asks, has neither."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json_text(row, ensure_ascii=False, default=str) + "\n" for row in rows)


WRITERS: dict[str, Callable[[datasets.Dataset, Path], Any]] = {
    ".csv": lambda rows, path: rows.to_csv(path, index=False),
    ".tsv": lambda rows, path: rows.to_csv(path, index=False, sep="\t"),
    ".json": _write_lines,
    ".jsonl": _write_lines,
    ".parquet": lambda rows, path: rows.to_parquet(path),
}
"""By the suffix of a file what writes it."""


def augment_rows(
    rows: datasets.Dataset,
    replacement: WordReplacement,
    *,
    text_columns: Sequence[str] | str = ("text",),
    copies: int = COPIES,
    seed: int = 0,
    first_row: int = 0,
) -> datasets.Dataset:
    """New rows: each row, then up to `copies` copies of it with replaced words; other columns do not change.

    Args:
        rows: Rows with a text, or the texts of a pair, whose words are then all replaced in a copy.
        replacement: What makes the copies.
        text_columns: The column of the text, or those of the texts.
        copies: How many copies of a row are drawn; those that are no different from another are left out.
        seed: Seed of the draws, which depend on it and on the number of the row alone.
        first_row: The number of the first row.

    Raises:
        TypeError: If the rows are no `datasets.Dataset`.
        ValueError: If a column is missing, a row has no text in one, or `copies` or `seed` is not possible.
    """
    check_counts(copies=copies)
    check_counts(0, seed=seed)
    text_columns = _columns_of(rows, text_columns)
    if not len(rows):
        return rows.select([])
    texts = [[_text(text, column, row) for row, text in enumerate(rows[column], first_row)] for column in text_columns]
    words = [replacement.words(column) for column in texts]
    source: list[int] = []
    made: list[tuple[str, ...]] = []
    for row, (own, own_words) in enumerate(zip(zip(*texts, strict=True), zip(*words, strict=True), strict=True)):
        random = np.random.default_rng([seed, first_row + row])
        drawn = [own, *replacement.copies(own, own_words, copies, random)]
        made += drawn
        source += [row] * len(drawn)
    table = rows.select(source).with_format("arrow")[:]
    for column, values in zip(text_columns, zip(*made, strict=True), strict=True):
        place = table.column_names.index(column)
        table = table.set_column(place, column, pa.array(values, type=table.schema.field(place).type))
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=rows.features))


def augment_file(
    path: str | PathLike,
    output: str | PathLike,
    replacement: WordReplacement,
    *,
    text_columns: Sequence[str] | str = ("text",),
    copies: int = COPIES,
    seed: int = 0,
    progress: bool = True,
) -> int:
    """Write a file with the rows of another and changed copies of them; a repeated call continues.

    Args:
        path: A file of text, as `read_rows` takes it.
        output: The file to write: csv, tsv, json, jsonl or parquet. Its parts stand in a folder beside it until all of
            them are there.
        replacement: What makes the copies.
        text_columns: The column of the text, or those of the texts.
        copies: As for `augment_rows`.
        seed: As for `augment_rows`.
        progress: Whether to show a bar.

    Returns:
        The number of rows in the new file.

    Raises:
        FileNotFoundError: If there is no such file, or no folder to write to.
        FileExistsError: If `output` exists.
        OSError: If the disk is full. The parts that were written are kept.
        ValueError: If the file cannot be read, lacks a column or a text, `output` has another suffix or cannot hold the
            lists of a column, or the folder of parts belongs to another augmentation.
    """
    path, output, text_columns = Path(path), Path(output), as_names(text_columns) or ()
    rows = rows_to_augment(path, output, text_columns=text_columns, copies=copies, seed=seed)
    parts = output.with_name(f".{output.name}.parts")
    settings = _settings(path, replacement, text_columns=list(text_columns), copies=copies, seed=seed)
    with named_on_a_full_disk(output, KEPT):
        _open_parts(parts, settings)
        starts = range(0, len(rows), ROWS_A_PART)
        files = [parts / f"{start:09}.parquet" for start in starts]
        with tqdm(total=len(rows), desc="Augmenting", unit="row", disable=None if progress else True) as bar:
            for start, file in zip(starts, files, strict=True):
                part = rows.select(range(start, min(start + ROWS_A_PART, len(rows))))
                if not file.exists():
                    made = augment_rows(
                        part, replacement, text_columns=text_columns, copies=copies, seed=seed, first_row=start
                    )
                    table = made.with_format("arrow")[:]
                    write_whole(file, partial(pq.write_table, table))
                bar.update(len(part))
        names = [str(file) for file in files]
        whole = datasets.Dataset.from_parquet(names, cache_dir=str(parts), features=rows.features)
        write_whole(output, partial(WRITERS[output.suffix], whole))
        shutil.rmtree(parts)
    return len(whole)


def rows_to_augment(
    path: Path, output: Path, *, text_columns: Sequence[str], copies: int, seed: int
) -> datasets.Dataset:
    """The rows of a file, if `augment_file` can augment them; raises what that raises."""
    check_counts(copies=copies)
    check_counts(0, seed=seed)
    check_output(output)
    rows = read_rows(path, needed=_columns_as_written(path, text_columns), as_text=True)
    flat = (datasets.Value, datasets.ClassLabel)
    nested = [name for name, kind in rows.features.items() if not isinstance(kind, flat)]
    if nested and output.suffix in DELIMITERS:
        raise ValueError(
            f"{str(path)!r} has lists or the like in column {nested[0]!r}, which {str(output)!r} cannot hold as they "
            "are. Give a name that ends in .jsonl or .parquet."
        )
    for column in text_columns:
        for row, text in enumerate(rows[column]):
            _text(text, column, row)
    return rows


def check_output(output: Path) -> None:
    """Check that a file of rows can be written, and is not there yet.

    Raises:
        ValueError: If its suffix is no possible one.
        FileExistsError: If it exists.
        OSError: If it cannot be written.
    """
    if output.suffix not in WRITERS:
        raise ValueError(f"{str(output)!r} ends in {output.suffix!r}. Possible is one of {', '.join(WRITERS)}.")
    if output.exists():
        raise FileExistsError(f"{str(output)!r} exists, and nothing is overwritten. Give another path, or remove it.")
    check_writable_file(output)


def _columns_of(rows: Any, asked: Sequence[str] | str) -> Sequence[str]:
    """The columns that were asked for, all of which are there."""
    if not isinstance(rows, datasets.Dataset):
        raise TypeError(f"The rows are a {type(rows).__name__}. Give a Dataset: datasets.Dataset.from_list(rows).")
    names = as_names(asked) or ()
    missing = [name for name in names if name not in rows.column_names]
    if missing or not names:
        raise ValueError(
            f"text_columns={asked!r} was given for rows with the columns {rows.column_names}. Name those of the texts."
        )
    return names


def _text(text: Any, column: str, row: int) -> str:
    if isinstance(text, list):
        raise ValueError(
            f"Row {row} (counted from 0) has the list {short(text)} in column {column!r}. Words are replaced in texts, "
            "and not in words that have tags of their own. Name a column of texts."
        )
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"Row {row} (counted from 0) has no text in column {column!r}. Fill it, or leave the row out.")
    return text


def _columns_as_written(path: Path, text_columns: Sequence[str]) -> list[str]:
    """The columns of a csv file, which are all read as they are written, and the columns of texts."""
    header = names_of_columns(path) if path.suffix in DELIMITERS and path.is_file() else []
    return list(dict.fromkeys([*filter(None, header), *text_columns]))  # to_csv leaves an index without a name


def _settings(path: Path, replacement: WordReplacement, **more: Any) -> dict[str, Any]:
    """What decides the rows of the new file."""
    return {
        "file": fingerprint_of_file(path),
        "model": fingerprint_of_weights(replacement.model),
        "word_vectors": replacement.vectors.fingerprint,
        "probability": replacement.probability,
        "num_candidates": replacement.num_candidates,
        "stop_words": sorted(replacement.stop_words),
        "rows_a_part": ROWS_A_PART,
        **more,
    }


def _open_parts(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder of parts, or check that it belongs to these settings."""
    file = folder / "settings.json"
    if not file.exists():
        folder.mkdir(exist_ok=True)
        write_whole(file, lambda partial: partial.write_text(json.dumps(settings), encoding="utf-8"))
        return
    was, now = changed(json.loads(file.read_text(encoding="utf-8")), settings)
    if now:
        for each in (was, now):
            each.pop("stop_words", None)  # a long list
        raise ValueError(
            f"{str(folder)!r} holds parts of an augmentation with {was}, now {now} is asked. Give the same settings to "
            "go on with it, or remove that folder to begin anew."
        )
