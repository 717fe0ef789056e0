"""What a model says of tokenised rows, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ..tasks import on_device, task_of


def outputs_of(model: Any, tokenizer: Any, rows: Sequence[Mapping[str, Any]], *, batch_size: int) -> Iterator[Any]:
    """The outputs of the active size for each batch of rows, which the tokenizer pads as the head takes them."""
    collate = task_of(model).collator(tokenizer)
    for at in range(0, len(rows), batch_size):
        batch = collate([dict(row) for row in rows[at : at + batch_size]])
        with torch.inference_mode():
            outputs = model(**on_device(batch, model.device), return_dict=True)
        yield outputs
