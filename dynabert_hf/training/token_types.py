"""Token types for teachers of students that read none: to which text of a pair a token belongs.

The tokenizers of DistilBERT and others leave them out, and a BERT that was fine-tuned with them would take both texts
for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from transformers import PreTrainedModel

from ..messages import get_logger
from .teacher_facts import parameters_of

logger = get_logger(__name__)

NAME = "token_type_ids"


@contextmanager
def telling_texts_apart(teachers: Sequence[Any], student: PreTrainedModel, tokenizer: Any) -> Iterator[None]:
    """Inside, teachers that tell texts apart get token types where a batch has none: 1 after the first separator.

    Args:
        teachers: Who teaches; only models that read token types, where the student does not, are concerned.
        student: The model that learns.
        tokenizer: Its tokenizer, which knows the separator; None: nothing is told, and a warning says so.
    """
    separator = getattr(tokenizer, "sep_token_id", None)
    with ExitStack() as stack:
        for teacher in teachers:
            if NAME in parameters_of(student) or not reads_token_types(teacher):
                continue
            if separator is None:
                logger.warning_once(
                    f"The {type(teacher).__name__} that teaches tells the two texts of a pair apart by token types, "
                    f"which a {type(student).__name__} does not read, and without a tokenizer nothing says where the "
                    "second begins. Give the tokenizer as processing_class; of single texts, go on."
                )
                continue
            stack.enter_context(with_token_types(teacher, separator))
        yield


def telling_apart_for(teacher: PreTrainedModel, tokenizer: Any) -> AbstractContextManager[None]:
    """Inside, a teacher that is asked before training gets token types where its student's tokenizer makes none."""
    separator = getattr(tokenizer, "sep_token_id", None)
    if separator is None or NAME in tokenizer.model_input_names or not reads_token_types(teacher):
        return nullcontext()
    return with_token_types(teacher, separator)


def reads_token_types(model: Any) -> bool:
    """Whether a model has several types of tokens."""
    has_types = isinstance(model, PreTrainedModel) and NAME in parameters_of(model)
    return has_types and (getattr(model.config, "type_vocab_size", None) or 0) > 1


@contextmanager
def with_token_types(model: PreTrainedModel, separator: int) -> Iterator[None]:
    """Inside, a model that is given no token types reads tokens after the first separator as of a second text."""

    def add(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        ids = kwargs.get("input_ids")
        if ids is not None and kwargs.get(NAME) is None:
            kwargs = {**kwargs, NAME: types_of(ids, kwargs.get("attention_mask"), separator)}
        return args, kwargs

    hook = model.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def types_of(ids: torch.Tensor, mask: torch.Tensor | None, separator: int) -> torch.Tensor:
    """The token types of ids `(..., seq)`: 0 up to the first separator and in padding, else 1."""
    ends = (ids == separator).long()
    is_second = (ends.cumsum(-1) - ends > 0).long()
    return is_second if mask is None else is_second * mask.long()
