"""What tells one model, data set or file from another, so that work goes on only where it belongs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from os import PathLike
from typing import Any

import datasets
import torch


def fingerprint_of_weights(model: torch.nn.Module) -> str:
    """What tells the weights of one model from those of another."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def fingerprint_of_rows(dataset: Any) -> str | None:
    """What tells data from others: its length, and its first, middle and last rows.

    None for data whose rows may be made anew whenever they are asked for.
    """
    if isinstance(dataset, datasets.Dataset):
        dataset = dataset.with_format(None)
    elif not isinstance(dataset, Sequence):
        return None
    rows = [dataset[number] for number in (0, len(dataset) // 2, len(dataset) - 1)]
    return hashlib.sha256(json.dumps([len(dataset), *rows], default=str, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_of_file(path: str | PathLike) -> str:
    """What tells the content of one file from that of another."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]
