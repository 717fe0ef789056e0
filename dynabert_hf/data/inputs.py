"""What is wrong with tokenised rows for a model, said before any work, by row, value and limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedModel

from ..families import longest_input
from ..tasks import task_of
from .columns import column


def check_inputs(name: str, dataset: Any, model: PreTrainedModel) -> None:
    """Check the inputs of a data set against what a model can read: ids, lengths, masks and choices.

    Args:
        name: What to call the data set in errors.
        dataset: Tokenised data; without a column `input_ids` nothing is checked.
        model: The model that is to read it.

    Raises:
        ValueError: If a row is empty or longer than the model's positions, an id is not in its vocabulary, a mask is
            missing or not as long as its row, a position is none of the model's, a row has no choices or another number
            of them than the first, or ids are nested in another way than the head takes them.
    """
    ids = read_column(name, dataset, "input_ids")
    if ids is None:
        return
    config: Any = model.config
    predicts = task_of(model).predicts
    if predicts == "vector" and depth_of(ids.type) == 2:
        _check_pairs(name, ids)
    else:
        _check_nesting(name, ids, model, depth=2 if predicts == "choice" else 1)
    if predicts == "choice":
        _check_choices(name, ids)
    _check_lengths(name, ids, longest_input(config))
    _check_ids(name, "input_ids", ids, config.vocab_size, since="vocab_size")
    for other in ("attention_mask", "token_type_ids", "position_ids"):
        values = read_column(name, dataset, other)
        if values is None:
            continue
        if values.null_count:
            row = values.is_null().index(True).as_py()
            raise ValueError(f"{name} has no {other!r} in row {row}, but in others. Give it in all rows or in none.")
        check_equal_lengths(name, other, values, ids, hint="Give one for every token, as the tokenizer makes them")
        types = getattr(config, "type_vocab_size", 0)
        if other == "token_type_ids" and types:  # others pass them over, whatever their tokenizer makes
            _check_ids(name, other, values, types, since="type_vocab_size")
        if other == "position_ids":
            _check_positions(name, values, model)


def read_column(name: str, dataset: Any, of: str) -> pa.Array | None:
    """A column for a check, whose values are of one kind.

    Raises:
        ValueError: If they are not.
    """
    try:
        return column(dataset, of)
    except TypeError as error:
        raise ValueError(f"{name}: {error}. Give every row values of the same kind.") from error


def check_paddable(name: str, dataset: Any) -> None:
    """Check that rows can be stacked without padding.

    Raises:
        ValueError: If they have different lengths.
    """
    ids = read_column(name, dataset, "input_ids")
    if ids is None or not depth_of(ids.type):
        return
    lengths = sorted(_lengths(ids).unique().to_pylist())
    if len(lengths) > 1:
        raise ValueError(
            f"{name} has rows of {lengths[0]} to {lengths[-1]} tokens, and nothing that pads them to one length. Give "
            "the tokenizer as processing_class, or pad when tokenising: padding='max_length'."
        )


def check_equal_lengths(name: str, of: str, values: pa.Array, ids: pa.Array, *, hint: str) -> None:
    """Check that a column has a value for every token.

    Raises:
        ValueError: If it has more or fewer in a row.
    """
    if depth_of(values.type) != depth_of(ids.type):
        raise ValueError(f"{name} has {of!r} of type {values.type} for 'input_ids' of type {ids.type}. {hint}.")
    if pc.all(pc.equal(_lengths(values), _lengths(ids))).as_py() is not False:
        return
    for row, (own, tokens) in enumerate(zip(values.to_pylist(), ids.to_pylist(), strict=True)):
        for count, expected in zip(_counts(own), _counts(tokens), strict=False):
            if count != expected:
                raise ValueError(f"{name} has {count} values of {of!r} for {expected} tokens in row {row}. {hint}.")


def first_outside(
    values: pa.Array, most: float, *, whole: bool = True, ignored: int | None = None
) -> tuple[int, Any] | None:
    """The row and the value of the first number that is not from 0 to `most`; None if all are.

    Args:
        values: Numbers, in lists of any depth.
        most: The most that is possible.
        whole: Whether only whole numbers are possible.
        ignored: Another number that may stand there.
    """
    leaves = pc.cast(innermost(values).flatten() if depth_of(values.type) else values, pa.float64(), safe=False)
    counted = leaves if ignored is None else leaves.filter(pc.not_equal(leaves, float(ignored)))
    span = pc.min_max(counted)
    is_whole = not whole or pc.all(pc.equal(counted, pc.floor(counted))).as_py() is not False
    if span["min"].as_py() is None or (is_whole and span["min"].as_py() >= 0 and span["max"].as_py() <= most):
        return None
    return first_where(
        values, lambda value: value != ignored and not (0 <= value <= most and (not whole or value == int(value)))
    )


def first_where(values: pa.Array, is_wrong: Callable[[Any], bool]) -> tuple[int, Any] | None:
    """The row and the value of the first that is wrong, in lists of any depth; None if none is."""
    for row, item in enumerate(values):
        for value in _leaves(item.as_py()):
            if is_wrong(value):
                return row, value
    return None


def depth_of(kind: pa.DataType) -> int:
    """How many lists stand around each value."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return 1 + depth_of(kind.value_type) if is_list else 0


def innermost(values: pa.Array) -> pa.Array:
    """The lists that hold values, of lists of any depth."""
    while depth_of(values.type) > 1:
        values = values.flatten()
    return values


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def _lengths(values: pa.Array) -> pa.Array:
    """The lengths of the lists that hold the values."""
    return pc.list_value_length(innermost(values))


def _counts(row: Any) -> list[int]:
    """The tokens of a row, or of each of its choices."""
    return [len(choice) for choice in row] if row and isinstance(row[0], list) else [len(row or [])]


def _check_ids(name: str, of: str, values: pa.Array, count: int, *, since: str) -> None:
    leaves = innermost(values).flatten()
    if not pa.types.is_integer(leaves.type) or leaves.null_count:
        raise ValueError(
            f"{name} has {of!r} of type {values.type}. Ids are whole numbers; take those of the tokenizer."
        )
    found = first_outside(values, count - 1)
    if found is not None:
        raise ValueError(
            f"{name} has {found[1]} in {of!r} of row {found[0]}. Possible for this model are 0 to {count - 1}, since "
            f"{since}={count}. Tokenise with the tokenizer of this very model."
        )


def _check_positions(name: str, values: pa.Array, model: PreTrainedModel) -> None:
    """Check positions against the table that a model looks them up in; rotary ones have none."""
    tables = (part for where, part in model.named_modules() if where.endswith("position_embeddings"))
    count: Any = getattr(next(tables, None), "num_embeddings", None)
    found = None if count is None else first_outside(values, count - 1)
    if found is not None:
        raise ValueError(
            f"{name} has {found[1]} in 'position_ids' of row {found[0]}. Possible for this model are 0 to {count - 1}. "
            "Leave the column out, so that the model counts by itself, or cut the row."
        )


def _check_nesting(name: str, ids: pa.Array, model: PreTrainedModel, *, depth: int) -> None:
    if depth_of(ids.type) == depth:
        return
    wanted = "a list of choices, each a list of ids" if depth == 2 else "a list of ids"
    raise ValueError(
        f"{name} has 'input_ids' of type {ids.type}. A {type(model).__name__} takes {wanted} in a row. Tokenise "
        f"{'the choices of each row together' if depth == 2 else 'each row once, without return_tensors'}."
    )


def _check_pairs(name: str, ids: pa.Array) -> None:
    found = first_where(pc.list_value_length(ids), lambda count: count != 2)
    if found is not None:
        raise ValueError(
            f"{name} has {found[1]} texts in row {found[0]}. A sentence encoder is measured on single texts with a "
            "label, or on pairs with a score. Give two lists of ids in every row, or one."
        )


def _check_choices(name: str, ids: pa.Array) -> None:
    counts = pc.list_value_length(ids)
    found = first_where(counts, lambda count: count != counts[0].as_py() or not count)
    if found is not None:
        row, count = found
        raise ValueError(
            f"{name} has {count} choices in row {row} and {counts[0]} in row 0. The head needs the same number in all "
            "rows, at least one. Add wrong choices to rows that have fewer, or leave these rows out."
        )


def _check_lengths(name: str, ids: pa.Array, limit: int) -> None:
    span = pc.min_max(_lengths(ids))
    if ids.null_count == 0 and span["min"].as_py() and span["max"].as_py() <= limit:
        return
    for row, tokens in enumerate(ids.to_pylist()):
        for count in _counts(tokens):
            if not count:
                raise ValueError(f"{name} has no tokens in row {row}. Leave it out, or tokenise with special tokens.")
            if count > limit:
                raise ValueError(
                    f"{name} has {count} tokens in row {row}. The model has positions for {limit}. Cut the rows when "
                    f"tokenising: truncation=True, max_length={limit}."
                )
