"""Texts as rows that a sentence encoder reads: single ones to learn from, and labelled ones or pairs to measure on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import datasets
from transformers import PreTrainedTokenizerBase

from .class_names import class_names
from .columns import are_rows, column_names, is_missing, short, values_of, with_all_rows
from .encoding import most_tokens
from .sentence_encoder import as_encoder_reads, prompt_of
from .text_columns import NO_TEXTS, as_names
from .tokens import check_knows_words

SCORE_COLUMNS = ("labels", "label", "scores", "score")
"""What a column of labels or scores may be called, as sentence-transformers calls it."""


def texts_to_learn(
    name: str,
    dataset: Any,
    model: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    max_length: int | None = None,
) -> Any:
    """Tokenised texts of a data set, each once; what is tokenised, or is no data set of rows, stays as it is.

    Args:
        name: What to call the data set in errors.
        dataset: A list of texts, or rows with one or two columns of text; labels play no part.
        model: The sentence encoder.
        tokenizer: Its tokenizer.
        text_columns: The columns of text; None: all that hold text.
        label_column: A column that holds no texts to learn; None: those of `SCORE_COLUMNS`.
        max_length: Tokens of a text at most; None: as many as the encoder takes.

    Raises:
        ValueError: If there are no texts or no tokenizer, or more columns of text than two.
    """
    if not are_rows(dataset) or "input_ids" in column_names(dataset):
        return dataset
    columns = _text_columns(name, with_all_rows(dataset), label=label_column, wanted=text_columns)
    texts = [text for own in columns.values() for text in own]
    return datasets.Dataset.from_dict(tokenised(list(dict.fromkeys(texts)), model, tokenizer, max_length=max_length))


def texts_to_measure(
    name: str,
    dataset: Any,
    model: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    max_length: int | None = None,
) -> Any:
    """Tokenised texts with a label, or pairs of texts with a score; what is tokenised, or no rows, stays as it is.

    A row of a pair has lists of two: `input_ids` and `attention_mask` of both texts. Names of classes become numbers.
    Of pairs they are scores where all are numbers as text, or where there are two, such as no and yes.

    Args:
        name: What to call the data set in errors.
        dataset: Rows with one or two columns of text, and one of `SCORE_COLUMNS`.
        model: The sentence encoder.
        tokenizer: Its tokenizer.
        text_columns: The columns of text; None: all that hold text.
        label_column: The column of labels or scores; None: the one of `SCORE_COLUMNS` that is there.
        max_length: Tokens of a text at most; None: as many as the encoder takes.

    Raises:
        ValueError: If there are no texts, more columns of text than two, labels that are lists, or scores that are no
            numbers.
    """
    if not are_rows(dataset) or "input_ids" in column_names(dataset):
        return dataset
    dataset = with_all_rows(dataset)
    possible = SCORE_COLUMNS if label_column is None else (label_column,)
    label = next((each for each in possible if each in column_names(dataset)), None)
    columns = _text_columns(name, dataset, label=label, wanted=text_columns)
    encoded = [tokenised(own, model, tokenizer, max_length=max_length) for own in columns.values()]
    if len(encoded) == 1:
        rows = encoded[0]
    else:
        rows = {key: [list(pair) for pair in zip(*(each[key] for each in encoded), strict=True)] for key in encoded[0]}
    if label is not None:
        values = values_of(dataset, label)
        _check_given(name, label, values)
        numbers = _numbers(values) if len(encoded) == 1 else _scores(name, label, values, class_names(dataset, label))
        rows["labels"] = numbers
    return datasets.Dataset.from_dict(rows)


def tokenised(
    texts: Sequence[str], model: Any, tokenizer: PreTrainedTokenizerBase | None, *, max_length: int | None = None
) -> dict[str, list[Any]]:
    """Texts as `SentenceTransformer.encode` gives them to the encoder, without padding.

    Raises:
        ValueError: If there is no tokenizer, or it knows no words.
    """
    if tokenizer is None:
        raise ValueError(
            "There are texts, but no tokenizer. Give that of the sentence encoder as processing_class, or to "
            "train_dynabert the encoder as a SentenceTransformer or its folder, which has one."
        )
    check_knows_words(tokenizer)
    prompt, limit = prompt_of(model.config), most_tokens(model, tokenizer, max_length, pair=False)
    given = [as_encoder_reads(model.config, text, prompt) for text in texts]
    encoded = tokenizer(given, truncation=True, max_length=limit)
    return {key: list(encoded[key]) for key in ("input_ids", "attention_mask") if key in encoded}


def _text_columns(
    name: str, dataset: Any, *, label: str | None = None, wanted: Sequence[str] | None = None
) -> dict[str, list[str]]:
    """The columns of text of a data set, by name and in order: those that are wanted, else all that may be read."""
    wanted = as_names(wanted)
    missing = [each for each in wanted or () if each not in column_names(dataset)]
    if missing:
        raise ValueError(
            f"{name} has the columns {column_names(dataset)} but no {missing[0]!r}, which was named as one of text. "
            "Name by text_columns those that are there, in all data sets the same."
        )
    if wanted is not None:
        columns = {each: values_of(dataset, each) for each in wanted}
    elif isinstance(dataset, list | tuple) and dataset and all(isinstance(text, str) for text in dataset):
        columns = {"text": list(dataset)}
    else:
        names = [each for each in column_names(dataset) if each not in (*SCORE_COLUMNS, *NO_TEXTS, label)]
        values = {each: values_of(dataset, each) for each in names}
        columns = {each: own for each, own in values.items() if any(isinstance(value, str) for value in own)}
    if not 1 <= len(columns) <= 2:
        found = f"the columns of text {list(columns)}" if columns else f"no text, only {column_names(dataset)}"
        raise ValueError(
            f"{name} has {found}. Possible is a list of texts, or a data set with one column of text or the two of a "
            "pair. Leave the others out: dataset.select_columns([...]). To learn from all of them, such as those of "
            "triplets, give one list of their texts."
        )
    for column, texts in columns.items():
        for row, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"{name} has no text in {column!r} of row {row} (counted from 0). Fill it, or leave the row out."
                )
    return columns


def _check_given(name: str, column: str, values: list[Any]) -> None:
    for row, value in enumerate(values):
        if is_missing(value):
            raise ValueError(
                f"{name} has no label in {column!r} of row {row} (counted from 0). Give every row one, or leave it out."
            )
        if isinstance(value, list | dict):
            raise ValueError(
                f"{name} has {short(value)} in {column!r} of row {row} (counted from 0). Possible is one label or "
                "score a row; give one."
            )


def _numbers(values: list[Any]) -> list[int]:
    numbers = {value: number for number, value in enumerate(sorted(set(values), key=str))}
    return [numbers[value] for value in values]


def _scores(name: str, column: str, values: list[Any], names: list[str] | None) -> list[float]:
    """The scores of pairs; of classes with names, whose numbers are an order of their own, what the names say."""
    if names is not None and (len(names) > 2 or all(re.fullmatch(r"-?\d+(\.\d+)?", each) for each in names)):
        values = [names[value] if value >= 0 else value for value in values]
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} has scores in {column!r} that are no numbers ({error}). Vectors of pairs are measured against "
            "scores of their similarity. Give a number for each pair."
        ) from error
