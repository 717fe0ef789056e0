"""Rows of text as what a head reads: tokens, and labels as numbers. Questions are `questions`'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from ..families import longest_input, usual_input
from ..messages import get_logger
from ..task_metrics import IGNORED, problem_type
from ..tasks import task_of
from .class_names import class_names, model_names_of, warn_of_other_order
from .columns import column_names, short, values_of, with_all_rows
from .label_numbers import ids_of, is_given, number_of, numbered, numbers_by_name
from .questions import INPUTS, WINDOW, Questions
from .text_columns import TextColumns, is_text
from .tokens import check_knows_words

logger = get_logger(__name__)
_short = partial(short, most=200)


def encoded(
    rows: Any,
    columns: TextColumns,
    model: PreTrainedModel,
    tokenizer: Any,
    *,
    label_order: Sequence[str] | None = None,
    max_length: int | None = None,
    needs_labels: bool = False,
) -> list[dict[str, Any]]:
    """The rows of a data set as a model reads them: a row each, with `labels` where a column of labels is known.

    A masked language model learns from all of a text: one that is too long becomes several rows. Others are cut.

    Args:
        rows: A data set, or a list of mappings.
        columns: Where texts and labels are.
        model: The model, which knows its labels and how much text it takes.
        tokenizer: Its tokenizer.
        label_order: Names of the classes in the order of the model's outputs, where it calls them `LABEL_0` and so on;
            None: those of the model.
        max_length: Tokens of a row at most; None: what model and tokenizer take.
        needs_labels: Whether a row without a label is refused; else its label is None.

    Raises:
        ValueError: If a row has no text, a label is unknown, or words and labels are not of one number.
    """
    task = task_of(model)
    config: Any = model.config
    names = dict(config.id2label if label_order is None else enumerate(label_order))
    limit = most_tokens(model, tokenizer, max_length, pair=len(columns.texts) > 1)
    made = with_all_rows(rows)
    texts = [values_of(made, each) for each in columns.texts]
    given = None if columns.labels is None else _named(rows, columns.labels, values_of(made, columns.labels), names)
    labels: list[Any] | None = None
    if task.head == "ForTokenClassification":
        inputs, labels = _tagged(texts[0], given, columns.labels or "", names, tokenizer, limit, needs_labels)
    elif task.predicts == "choice":
        inputs = _with_choices(texts[0], texts[1], columns.texts, tokenizer, limit)
        names = {number: str(number) for number in range(len(texts[1][0]))}
    elif task.head == "ForMaskedLM" and len(texts) == 1 and given is None and tokenizer.is_fast:
        each_text = as_texts(texts[0], columns.texts[0])
        inputs = _inputs(tokenizer(each_text, truncation=True, max_length=limit, return_overflowing_tokens=True))
    else:
        whole = [as_texts(each, column) for each, column in zip(texts, columns.texts, strict=True)]
        inputs = tokenised(whole, tokenizer, limit)
    if given is not None and labels is None:
        labels = _labels_of_rows(given, str(columns.labels), model, names, needs_labels=needs_labels)
    examples = [{each: inputs[each][row] for each in inputs} for row in range(len(inputs["input_ids"]))]
    return examples if labels is None else [{**one, "labels": labels[row]} for row, one in enumerate(examples)]


def encoded_datasets(
    named: Mapping[str, Any],
    model: PreTrainedModel,
    tokenizer: Any,
    *,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    max_length: int | None = None,
) -> tuple[dict[str, Any], dict[str, Questions]]:
    """Data sets with text tokenised, and others as they are.

    Args:
        named: Data sets by what to call them in errors, the one to find the columns of texts in first; None where there
            is none.
        model: The model that is to read them.
        tokenizer: Its tokenizer.
        text_columns: Columns of the text; None: the usual ones.
        label_column: Column of the labels; None: the usual one.
        max_length: Tokens of a row, or of a window, at most; None: what model and tokenizer take, of windows 384.

    Returns:
        The data sets by their names, and those of questions as such.

    Raises:
        ValueError: If a column is missing, a row cannot be read, or the tokenizer knows no words.
    """
    result, questions = dict(named), dict[str, Questions]()
    names_of = {name: column_names(each) for name, each in named.items() if each is not None and is_text(each)}
    if not names_of:
        return result, questions
    check_knows_words(tokenizer)
    columns = TextColumns.found(names_of, model, texts=text_columns, labels=label_column)
    config: Any = model.config
    by_number = read_by_number({each: named[each] for each in names_of}, columns.labels, model)
    labelled = {each: named[each] for each in by_number if columns.labels in names_of[each]}
    of_numbers = _numbered(labelled, str(columns.labels), model)
    for name, names in names_of.items():
        dataset = named[name]
        columns.check(name, names, found_in=next(iter(names_of)))
        if label_column is None:
            columns.check_labels(name, names, model)
        own = TextColumns(columns.texts, columns.labels if columns.labels in names else None)
        if task_of(model).predicts == "span":
            window = most_tokens(model, tokenizer, WINDOW if max_length is None else max_length)
            is_known = own.labels is not None and any(each is not None for each in values_of(dataset, own.labels))
            asked: dict[str, Any] = {"columns": own.texts, "answer_column": own.labels if is_known else None}
            asked |= {"max_length": window, "may_lack_answers": name != "eval_dataset"}
            questions[name] = Questions.from_rows(dataset, tokenizer, name=name, **asked)
            result[name] = questions[name].dataset
            continue
        order = list(map(str, sorted(config.id2label))) if name in of_numbers else None
        told: dict[str, Any] = {"label_order": order, "max_length": max_length}
        try:
            examples = encoded(dataset, own, model, tokenizer, **told)
            if label_column is None:
                warn_of_other_labels(examples, dataset, own, model, tokenizer, **told)
            result[name] = Dataset.from_list(examples)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return result, questions


def _numbered(named: Mapping[str, Any], column: str, model: PreTrainedModel) -> set[str]:
    """The data sets of these whose column of labels holds numbers although they may be names of classes, too."""
    task = task_of(model)
    of_texts = task.predicts == "text" and problem_type(model.config) == "single_label_classification"
    if not of_texts and task.head != "ForTokenClassification":
        return set()
    names: Any = model.config.id2label
    return numbered({name: values_of(rows, column) for name, rows in named.items()}, names)


def read_by_number(named: Mapping[str, Any], column: str | None, model: PreTrainedModel) -> list[str]:
    """The data sets whose numbers of classes are taken as they are; where their names are others, it is said.

    Args:
        named: Data sets with text by what to call them.
        column: Their column of labels; None: there is none.
        model: The model, which knows its labels.
    """
    names: Any = model.config.id2label
    by_number = [each for each in named if _called(named[each], column, names) is None]
    warn_of_other_order({each: named[each] for each in by_number}, model, column=column)
    return by_number


def warn_of_other_labels(
    examples: Sequence[Mapping[str, Any]],
    rows: Any,
    columns: TextColumns,
    model: PreTrainedModel,
    tokenizer: Any,
    **told: Any,
) -> None:
    """Say so where another column has a usual name of labels and holds others, and nobody said which one counts.

    Args:
        examples: What `encoded` made of the rows with these columns.
        rows: A data set, or a list of mappings.
        columns: Where texts and labels are.
        model: The model, which knows its labels.
        tokenizer: Its tokenizer.
        **told: What else `encoded` was told.
    """
    for other in columns.other_labels(column_names(rows), model):
        try:
            others = encoded(rows, replace(columns, labels=other), model, tokenizer, **told)
        except ValueError:
            continue  # it holds no labels of this model
        if [row["labels"] for row in examples] != [row["labels"] for row in others]:
            logger.warning(
                f"The columns {columns.labels!r} and {other!r} have different labels, of which those of "
                f"{columns.labels!r} are read. Name the right column by label_column, or leave the other out."
            )


def _called(rows: Any, column: str | None, names: Mapping[int, str]) -> list[str] | None:
    """What the model calls the classes of a column, by their numbers in the data."""
    return model_names_of(class_names(rows, column), names)


def _named(rows: Any, column: str, given: list[Any], names: Mapping[int, str]) -> list[Any]:
    """Labels by their names where the data set numbers them in an order of its own, and the model knows these names."""
    called = _called(rows, column, names)
    if called is None:
        return given

    def name(label: Any) -> Any:
        if isinstance(label, list):
            return [name(each) for each in label]
        return called[label] if isinstance(label, int) and label >= 0 else label

    return [name(label) for label in given]


def _labels_of_rows(
    given: list[Any], column: str, model: Any, names: Mapping[int, str], *, needs_labels: bool
) -> list[Any]:
    """The labels of all rows; of those that have one, where the others may lack it."""
    has_label = [is_given(label) for label in given]
    if needs_labels and not all(has_label):
        row = has_label.index(False)
        raise ValueError(
            f"Row {row} (counted from 0) has no label in column {column!r}. Fill it, or leave the row out."
        )
    known = {row: label for row, (label, own) in enumerate(zip(given, has_label, strict=True)) if own}
    found = iter(_labels(known, column, model, names))
    return [next(found) if own else None for own in has_label]


def _with_choices(
    texts: list[Any], choices: list[Any], columns: Sequence[str], tokenizer: Any, limit: int
) -> dict[str, list]:
    for row, own in enumerate(choices):
        if not isinstance(own, list) or not own or len(own) != len(choices[0]):
            raise ValueError(
                f"Row {row} has the choices {_short(own)} in column {columns[1]!r}, the first row {_short(choices[0])}."
                " The head needs the same number in all rows. Give every row a list of the same length, as json, jsonl "
                "and parquet hold them."
            )
    count = len(choices[0])
    firsts = [text for text in as_texts(texts, columns[0]) for _ in range(count)]
    places = [as_texts(list(each), columns[1]) for each in zip(*choices, strict=True)]
    seconds = [text for own in zip(*places, strict=True) for text in own]
    flat = _inputs(tokenizer(firsts, seconds, truncation=True, max_length=limit))
    return {name: [values[at : at + count] for at in range(0, len(values), count)] for name, values in flat.items()}


def _labels(given: Mapping[int, Any], column: str, model: PreTrainedModel, names: Mapping[int, str]) -> list[Any]:
    """A label or value for every text, or a list of them where the model gives several, from those by row."""
    config: Any = model.config
    if task_of(model).predicts == "choice":
        return _right_choices(given, column, names)
    kind, has_several = problem_type(config), config.num_labels > 1
    if kind == "single_label_classification" or not has_several:
        return _label_ids(given, column, config, names)
    for row, label in given.items():
        if not isinstance(label, list):
            raise ValueError(
                f"Column {column!r} has {label!r} in row {row}. The model gives a text several labels or values. Give "
                "a list in every row, in a json, jsonl or parquet file."
            )
    if kind == "regression" or not all(isinstance(label, str) for own in given.values() for label in own):
        return list(given.values())
    ids = {name: number for number, name in names.items()}
    for row, own in given.items():
        unknown = [label for label in own if label not in ids]
        if unknown:
            raise ValueError(
                f"Column {column!r} has the label {unknown[0]!r} in row {row}. The model knows {_short(names)}; give "
                "those that a text has."
            )
    return [[float(names[number] in own) for number in sorted(names)] for own in given.values()]


def _tagged(
    words: list[Any],
    tags: list[Any] | None,
    column: str,
    names: Mapping[int, str],
    tokenizer: Any,
    limit: int,
    needs_labels: bool,
) -> tuple[dict[str, list], list[Any] | None]:
    """Words as tokens, and for each token the label of its word if it is the first of it, else -100, as words may have.

    Of rows without labels the labels are None, if they may be missing.
    """
    check_words(words, tags, column, needs_labels=needs_labels)
    _warn_of_joined_words(tokenizer)
    encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=limit)
    if tags is None:
        return _inputs(encoded), None
    flat = [(row, label) for row, own in enumerate(tags) for label in own or () if label != IGNORED]
    ids = iter(ids_of([label for _, label in flat], column, names, rows=[row for row, _ in flat]))
    numbers = [None if row is None else [label if label == IGNORED else next(ids) for label in row] for row in tags]
    labels: list[Any] = []
    cut = without_token = 0
    for row, own in enumerate(numbers):
        places = encoded.word_ids(row)
        is_first = [place is not None and place not in places[:number] for number, place in enumerate(places)]
        found = None
        if own is not None:
            found = [own[place] if first else IGNORED for place, first in zip(places, is_first, strict=True)]
        labels.append(found)
        missing = len(words[row]) - sum(is_first)
        if encoded.encodings[row].overflowing:
            cut += missing
        else:
            without_token += missing
    total = sum(map(len, words))
    if cut:
        logger.warning(f"{cut} of {total} words come after token {limit} of their row, and are left out.")
    if without_token:
        logger.warning(f"{without_token} of {total} words give no token, so their labels do not count.")
    return _inputs(encoded), labels


def _warn_of_joined_words(tokenizer: Any) -> None:
    """Warn where the words of a list are other pieces than those of a text, as RoBERTa's are without their blanks."""
    as_list = tokenizer(["a", "a"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    if as_list != tokenizer("a a", add_special_tokens=False)["input_ids"]:
        logger.warning(
            "The tokenizer splits a word of a list otherwise than the same word in a text, since the blank before it "
            "is missing. The model has learned from texts, so tags get worse. Load the tokenizer with "
            "add_prefix_space=True; where that has no effect, set "
            "tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True. Save the tokenizer so."
        )


def check_words(words: list[Any], tags: list[Any] | None, column: str, *, needs_labels: bool = False) -> None:
    """Check that every row is a list of words, with as many labels where there are any.

    Raises:
        ValueError: If one is not.
    """
    for row, own in enumerate(words):
        labels = own if tags is None else tags[row]
        may_lack = labels is None and not needs_labels
        is_tagged = may_lack or (isinstance(labels, list) and isinstance(own, list) and len(own) == len(labels))
        if not isinstance(own, list) or not own or not is_tagged:
            raise ValueError(
                f"Row {row} has the words {_short(own)} and the labels {_short(labels)} in column {column!r}. Give two "
                "lists of the same length, of at least one word, in a json, jsonl or parquet file."
            )
        if not all(isinstance(word, str) for word in own):
            word = next(word for word in own if not isinstance(word, str))
            raise ValueError(
                f"Row {row} has {_short(word)} among its words. Each word is a text. Write it as one, or leave it and "
                "its label out."
            )


def _right_choices(labels: Mapping[int, Any], column: str, numbers: Mapping[int, str]) -> list[Any]:
    """The number of the right choice of every text, of as many as there are, whatever classes the model names."""
    found = {row: number_of(label, numbers_by_name(numbers)) for row, label in labels.items()}
    for row, choice in found.items():
        if choice is None:
            raise ValueError(
                f"Row {row} has the label {labels[row]!r} in column {column!r}, and {len(numbers)} choices. Give the "
                f"number of the right one, from 0 to {len(numbers) - 1}."
            )
    return list(found.values())


def _label_ids(labels: Mapping[int, Any], column: str, config: Any, known: Mapping[int, str]) -> list[Any]:
    if config.num_labels == 1:
        try:
            return [float(label) for label in labels.values()]
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Column {column!r} holds values that are no numbers ({error}); the model is one of regression."
            ) from error
    for row, label in labels.items():
        if isinstance(label, list):
            raise ValueError(
                f"Column {column!r} has the list {_short(label)} in row {row}, where the model gives one label. Give "
                "one label, or set problem_type of its configuration to 'multi_label_classification' for several "
                "labels a row, and to 'regression' for several values."
            )
    return ids_of(list(labels.values()), column, known, rows=list(labels))


def as_texts(texts: list[Any], column: str) -> list[str]:
    """Texts, none of which is missing or blank; a number is the text that it is written as.

    Raises:
        ValueError: If one is, or is a list or something else that is no text.
    """
    for row, text in enumerate(texts):
        if text is None or text != text or not str(text).strip():
            raise ValueError(
                f"Row {row} (counted from 0) has no text in column {column!r}. Fill it, or leave the row out."
            )
        if not isinstance(text, str | int | float):
            raise ValueError(
                f"Row {row} has the {type(text).__name__} {_short(text)} in column {column!r}. Possible is one text a "
                "row. Join its parts, or name a column that holds texts."
            )
    return [str(text) for text in texts]


def rows_of_texts(table: Dataset, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The texts of a table, a row each, from these columns.

    Raises:
        ValueError: As `as_texts` does.
    """
    return list(zip(*(as_texts(list(table[column]), column) for column in columns), strict=True))


def tokenised(columns: Sequence[Sequence[str]], tokenizer: Any, limit: int) -> dict[str, list]:
    """Texts, or pairs of them, as inputs of a model, cut after so many tokens."""
    return _inputs(tokenizer(*map(list, columns), truncation=True, max_length=limit))


def most_tokens(model: PreTrainedModel, tokenizer: Any, asked: int | None = None, *, pair: bool = True) -> int:
    """How many tokens of a row fit into a model, or as many as were asked for if these are fewer.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        asked: Tokens of a row at most; None: as many as is usual.
        pair: Whether a row is a pair of texts, which has more special tokens.

    Raises:
        ValueError: If what was asked for leaves no room for a text beside the special tokens.
    """
    usual = usual_input(model.config, tokenizer)
    special = tokenizer.num_special_tokens_to_add(pair=pair)
    if asked is not None and asked <= special:
        what = "pair" if pair else "text"
        raise ValueError(
            f"max_length={asked} leaves no text: a {what} has {special} special tokens. Possible are {special + 1} to "
            f"{usual} tokens. Give as many as texts need, or leave it out."
        )
    return usual if asked is None else min(asked, longest_input(model.config), tokenizer.model_max_length)


def _inputs(encoded: Mapping[str, list]) -> dict[str, list]:
    return {name: encoded[name] for name in encoded if name in INPUTS}
