"""Training data as the tokens of a model, whether they hold these already or text by the usual columns."""

from __future__ import annotations

from typing import Any

from ..tasks import is_sentence_encoder, task_of
from .encoding import encoded_datasets
from .sentences import texts_to_learn
from .text_columns import is_text


def as_tokens(name: str, dataset: Any, model: Any, tokenizer: Any) -> Any:
    """Rows of text as `train_dynabert` tokenises them; other data, and text without a tokenizer, as they are.

    Args:
        name: What to call the data set in errors.
        dataset: The data set.
        model: The model that is to read it.
        tokenizer: Its tokenizer, or None.

    Raises:
        ValueError: If a row cannot be read.
    """
    if is_sentence_encoder(model.config):
        return texts_to_learn(name, dataset, model, tokenizer)
    if tokenizer is None or not task_of(model).label_names or not is_text(dataset):
        return dataset
    return encoded_datasets({name: dataset}, model, tokenizer)[0][name]
