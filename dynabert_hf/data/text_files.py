"""Files of text: csv, tsv, json, jsonl, parquet, tagged words as CoNLL has them, and plain text, a row a line."""

from __future__ import annotations

import csv
import glob
import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets, load_dataset

from .columns import short

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""What parts the cells of a row."""

WHOLE = {"chunksize": 10_000_000}
"""How a csv is read: as a whole, since the rows of a part would decide on the types of its columns alone."""

READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", WHOLE),
    ".tsv": ("csv", {"sep": DELIMITERS[".tsv"], **WHOLE}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
    ".txt": ("text", {"encoding": "utf-8-sig"}),  # as csv and json are read, with or without its mark
}
"""By its suffix the reader of a file."""

TAGGED = (".conll", ".bio", ".iob", ".iob2")
"""How files of tagged words end that are text."""


def read_rows(
    path: str | PathLike, *, needed: Sequence[str] = (), as_text: bool = False, cache_dir: str | None = None
) -> Dataset:
    """The rows of a file, with the types that its columns have there.

    Args:
        path: A csv, tsv, json, jsonl or parquet file; `.txt`, a text a line in the column `text`; or `.conll`, as
            `read_tagged_words` reads it.
        needed: Columns that it has to have.
        as_text: Whether the needed columns of a csv are read as they are written: `n/a` and `7` are texts. So are dates
            of a json file, in all columns. Else columns of numbers and of dates are read as such, but not where one
            begins with a 0 that counts nothing, as `007` does; in columns of text only an empty cell is a missing one.
        cache_dir: Where the file is kept as an Arrow table; None: where `datasets` keeps them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has another suffix, cannot be read, has no rows, lacks a needed column or has two of a name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Give the path of a csv, json or parquet file.")
    if path.suffix in TAGGED:
        rows = read_tagged_words(path)
    elif path.suffix in READERS:
        rows = _read(path, needed if as_text else (), cache_dir)
        if path.suffix in DELIMITERS:
            _check_head(path, rows)
        if path.suffix == ".tsv":
            _check_quotes(path, rows)
    else:
        possible = ", ".join((*READERS, *TAGGED))
        raise ValueError(f"{str(path)!r} ends in {path.suffix!r}. Possible is one of {possible}. Give such a file.")
    missing = [column for column in needed if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"{str(path)!r} has no column {missing}, only {rows.column_names}. Name the right columns, or give another "
            "file."
        )
    if not len(rows):
        raise _no_rows(path)
    return rows


def names_of_columns(path: str | PathLike) -> list[str]:
    """The columns of a file that `read_rows` reads, and raises what it raises; of a csv its head alone is read."""
    path = Path(path)
    if path.suffix not in DELIMITERS or not path.is_file():
        return list(read_rows(path).column_names)
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        lines = csv.reader(file, delimiter=DELIMITERS[path.suffix])
        return next(filter(None, lines), [])  # the first that is not empty


def read_corpus(path: str | PathLike, columns: Sequence[str]) -> list[str | list[str]]:
    """All texts in these columns of a file, or the words of each; empty cells are left out.

    Takes the files that `read_rows` takes, and raises what it raises.
    """
    rows = read_rows(path, needed=columns, as_text=True)
    cells = [cell for column in columns for cell in list(rows[column]) if cell is not None]
    return [cell if isinstance(cell, list) else str(cell) for cell in cells]


def read_tagged_words(path: str | PathLike) -> Dataset:
    """The sentences of a text file with a word a line and an empty line after each sentence, as CoNLL's tasks have it.

    The first column of a line is the word, the last one its tag; columns are parted by tabs or blanks. Lines that mark
    the start of a document, and those that begin with `# id`, as MultiCoNER marks its sentences, are left out.

    Returns:
        Rows with the columns `tokens` and `tags`.

    Raises:
        ValueError: If a line has no tag, the words of all sentences are their numbers, or the file is not UTF-8.
    """
    rows: list[dict[str, list[str]]] = []
    for sentence in _sentences(Path(path)):
        rows.append({"tokens": [word for word, _ in sentence], "tags": [tag for _, tag in sentence]})
    if not rows:
        raise _no_rows(path)
    if len(max((row["tokens"] for row in rows), key=len)) > 1 and all(map(_are_numbers, rows)):
        raise ValueError(
            f"{str(path)!r} has the numbers of words in its first column, as CoNLL-U and GermEval have them. The first "
            "column is read as the word, and the last one as its tag. Give a file with these two."
        )
    return Dataset.from_list(rows)


def _are_numbers(row: dict[str, list[str]]) -> bool:
    """Whether the words of a sentence are 1, 2 and so on, beside `1-2` and what begins with `#`."""
    words = [word for word in row["tokens"] if not word.startswith("#") and not re.fullmatch(r"\d+[-.]\d+", word)]
    return bool(words) and words == [str(number) for number in range(1, len(words) + 1)]


def _sentences(path: Path) -> Iterator[list[tuple[str, str]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} cannot be read as text: {error}. Give a file in UTF-8.") from error
    words: list[tuple[str, str]] = []
    for number, line in enumerate([*lines, ""], 1):  # a word may hold any other sign of white space
        columns = line.split("\t") if "\t" in line else [column for column in line.split(" ") if column]
        if not line.strip() or columns[0] == "-DOCSTART-" or line.startswith("# id "):
            if words:
                yield words
            words = []
        elif len(columns) < 2 or not columns[0] or not columns[-1].strip():
            raise ValueError(
                f"{str(path)!r} has {line!r} in line {number}. A line is a word, then its tag, parted by a tab or "
                "blanks. Give every word a tag, O where it is none."
            )
        else:
            words.append((columns[0], columns[-1].strip()))


def _read(path: Path, as_text: Sequence[str], cache_dir: str | None) -> Any:
    reader, given = READERS[path.suffix]
    as_written: dict[str, Any] = {"keep_default_na": False}
    load = partial(load_dataset, reader, data_files=glob.escape(str(path)), split="train", cache_dir=cache_dir, **given)
    try:
        if reader == "csv" and as_text:
            return load(**as_written, converters=dict.fromkeys(as_text, str))
        rows: Any = load()
        if reader == "csv":
            names = rows.column_names
            written = load(**as_written, converters=dict.fromkeys(names, _none_if_empty))
            texts = [name for name in names if not _holds_numbers(rows, written, name)]
            parts = [each for each in (written.select_columns(texts), rows.remove_columns(texts)) if each.column_names]
            rows = concatenate_datasets(parts, axis=1).select_columns(names)
        dates = [name for name, kind in rows.features.items() if "timestamp" in str(kind)]
        if reader == "json" and as_text and dates:
            rows = _as_in_json(path, rows, dates)
        return rows
    except Exception as error:  # each reader fails in its own way
        cause = error.__cause__ or error
        text = " ".join(str(cause).split()) or type(cause).__name__
        is_empty = "corresponds to no data" in str(error) or "BatchSize must be greater than 0" in text
        if is_empty or not path.stat().st_size:
            raise _no_rows(path) from error
        raise ValueError(
            f"{str(path)!r} cannot be read as {reader}: {text}. Give a file of that form, in UTF-8."
        ) from error


def _as_in_json(path: Path, rows: Dataset, columns: Sequence[str]) -> Dataset:
    """The rows of a json file with these columns as they stand there: of a date in text a time of day is made else."""
    text, decoder = path.read_text(encoding="utf-8-sig").strip(), json.JSONDecoder()
    given: list[Any] = []
    at = 0
    while at < len(text):  # a row after the other, or all in a list
        value, end = decoder.raw_decode(text, at)
        given += value if isinstance(value, list) else [value]
        at = next((place for place in range(end, len(text)) if not text[place].isspace()), len(text))
    if len(given) != len(rows) or not isinstance(given[0], dict):  # a column after the other, or texts alone
        return rows
    table = rows.data.table
    for column in columns:
        values = pa.array([row.get(column) for row in given])
        table = table.set_column(table.column_names.index(column), column, values)
    return Dataset(table)


def _holds_numbers(rows: Dataset, written: Dataset, name: str) -> bool:
    """Whether a column that was read as numbers is one: of `007` the 0 would be lost, of `true` how it is written.

    A column that holds nothing but what may be a missing number, such as `None` or `NA`, has no number.
    """
    if not str(getattr(rows.features[name], "dtype", "")).startswith(("int", "uint", "float")):
        return False
    cells = written.data.column(name).cast(pa.large_string())  # of an empty column the type says nothing
    if rows.data.column(name).null_count == len(rows) > cells.null_count:
        return False
    return not pc.any(pc.match_substring_regex(cells, r"^\s*[-+]?0\d+\s*$")).as_py()


def _none_if_empty(cell: str) -> str | None:
    return cell or None


def _check_head(path: Path, rows: Dataset) -> None:
    """Check that the head names every column once and has one for every cell: of those before pandas makes an index."""
    head = names_of_columns(path)
    twice = next((name for name in head if name and head.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"{str(path)!r} has {head.count(twice)} columns called {twice!r}. Give every column a name of its own."
        )
    if any(name.startswith("__index_level_") and name not in head for name in rows.column_names):
        raise ValueError(
            f"{str(path)!r} has rows with more cells than its {len(head)} columns, {head}. Put texts that hold the "
            "separator in double quotes, and end no row with one, or give jsonl."
        )


def _check_quotes(path: Path, rows: Dataset) -> None:
    """Check that no quote in front of a cell took the lines up to the next quote for one cell."""
    kinds = {name: str(getattr(kind, "dtype", "")) for name, kind in rows.features.items()}
    for column in (name for name, kind in kinds.items() if kind.endswith("string")):
        for row, cell in enumerate(rows[column]):
            if cell is not None and "\t" in cell and "\n" in cell:
                raise ValueError(
                    f"{str(path)!r} has {short(cell)} in column {column!r} of row {row}, with tabs and ends of lines. "
                    "A quote opens that cell, and the next one, some lines on, closes it. Put such a cell in quotes "
                    "and double those in it, or give jsonl."
                )


def _no_rows(path: str | PathLike) -> ValueError:
    return ValueError(f"{str(path)!r} has no rows. Give a file with at least one.")
