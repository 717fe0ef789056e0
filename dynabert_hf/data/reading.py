"""Data sets as the tokens of a model, whether they hold these already or text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel

from ..messages import get_logger
from ..tasks import is_sentence_encoder, task_of
from .columns import column_names
from .encoding import encoded_datasets
from .sentences import texts_to_learn, texts_to_measure
from .tokens import check_knows_words

logger = get_logger(__name__)


def read_datasets(
    named: Mapping[str, Any],
    model: PreTrainedModel,
    tokenizer: Any,
    *,
    text_columns: Sequence[str] | None = None,
    label_column: str | None = None,
    max_length: int | None = None,
    has_own_batches: bool = False,
) -> tuple[dict[str, Any], Callable | None]:
    """Data sets as their model reads them, where they hold text, and what scores answers to questions.

    Args:
        named: Data sets by what to call them in errors; None where there is none. `eval_dataset` is measured on.
        model: The model that is to read them.
        tokenizer: Its tokenizer, or None.
        text_columns: Columns of the text; None: the usual ones.
        label_column: Column of the labels or scores; None: the usual one.
        max_length: Tokens of a row, or of a window, at most; None: what model and tokenizer take.
        has_own_batches: Whether the collator is the user's own, who then prepared the rows for it.

    Raises:
        ValueError: If a row cannot be read, a column was named that is not there, or a sentence encoder has no texts
            or no tokenizer.
    """
    how: dict[str, Any] = {"text_columns": text_columns, "label_column": label_column, "max_length": max_length}
    if given := [name for name, value in how.items() if value is not None]:
        names_of = {name: column_names(dataset) for name, dataset in named.items() if dataset is not None}
        names_of = {name: names for name, names in names_of.items() if "input_ids" not in names}
        if not names_of:
            logger.warning(f"All rows are tokenised, so {', '.join(given)} changed nothing. Give rows of text instead.")
        elif has_own_batches and not is_sentence_encoder(model):
            logger.warning(
                f"data_collator makes batches of the rows as they are, so {', '.join(given)} changed nothing. Let it "
                "heed them itself, and leave them out here."
            )
        elif label_column is not None and is_sentence_encoder(model):
            _check_label_column(names_of, label_column)
    if is_sentence_encoder(model):
        read = {"eval_dataset": texts_to_measure}
        return {
            name: read.get(name, texts_to_learn)(name, dataset, model, tokenizer, **how)
            for name, dataset in named.items()
        }, None
    if tokenizer is None or has_own_batches or not task_of(model).label_names:
        return dict(named), None
    datasets, questions = encoded_datasets(named, model, tokenizer, **how)
    return datasets, questions["eval_dataset"].metrics if "eval_dataset" in questions else None


def _check_label_column(names_of: Mapping[str, list[str]], label_column: str) -> None:
    if not any(label_column in names for names in names_of.values()):
        found = "; ".join(f"{name} has the columns {names}" for name, names in names_of.items())
        raise ValueError(f"{found}, but none is {label_column!r}, the label_column. Name one that is there.")


def load_tokenizer(name: str | PathLike) -> Any:
    """The tokenizer beside a model; None if a folder has none, where transformers makes an empty one.

    Raises:
        OSError: If there is no such folder or Hub id.
        ImportError: If a package that it needs is not installed.
        ValueError: If its files cannot be read, or lack the words.
    """
    files = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")
    if Path(name).is_dir() and not any(Path(name, file).exists() for file in files):
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ImportError):
        raise
    except Exception as error:  # the reader of tokenizer.json has no type of its own
        raise ValueError(
            f"The tokenizer of {str(name)!r} cannot be read: {error}. Save the one that the model was trained with "
            "beside it."
        ) from error
    check_knows_words(tokenizer)
    return tokenizer
