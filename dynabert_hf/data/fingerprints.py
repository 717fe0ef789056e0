"""What tells one model, data set or file from another, so that work goes on only where it belongs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import datasets
import torch

from .columns import as_plain

ROWS_AT_ONCE = 10_000
"""How many rows are read at once."""


def fingerprint_of_weights(model: torch.nn.Module) -> str:
    """What tells the weights of one model from those of another."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        for each in value if isinstance(value, tuple) else (value,):  # quantised layers pack weight and bias
            digest.update(_as_bytes(each))
    return digest.hexdigest()[:16]


def _as_bytes(value: Any) -> Any:
    if not torch.is_tensor(value):
        return repr(value).encode()
    tensor = value.detach().dequantize() if value.is_quantized else value.detach()
    return tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data


def fingerprint_of_rows(dataset: Any) -> str | None:
    """What tells data from others: all of their rows, in order, whether in a `datasets.Dataset` or a list.

    None for data whose rows may be made anew whenever they are asked for.
    """
    if isinstance(dataset, datasets.Dataset):
        rows = _rows_of(dataset.with_format("arrow"))
    elif isinstance(dataset, Sequence):
        rows = iter(dataset)
    else:
        return None
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, default=_as_json, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _rows_of(dataset: datasets.Dataset) -> Iterator[Any]:
    for start in range(0, len(dataset), ROWS_AT_ONCE):
        yield from dataset[start : start + ROWS_AT_ONCE].to_pylist()


def _as_json(value: Any) -> Any:
    plain = as_plain(value)
    return str(value) if plain is value else plain


def fingerprint_of_file(path: str | PathLike) -> str:
    """What tells the content of one file from that of another."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]
