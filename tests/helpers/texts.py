"""Labelled text for tiny models, made on the spot."""

import numpy as np
import torch

from dynabert_hf import LabelledText
from dynabert_hf.tasks import task_of
from helpers.tiny import make_batch


def make_text(model, *, batches=5, rows=8, seed=0, labels=None):
    """Batches of random tokens, of ragged lengths, with random labels among three."""
    made = [make_batch(rows, 7, seed=seed + number) for number in range(batches)]
    if labels is None:
        labels = torch.randint(0, 3, (batches * rows,), generator=torch.Generator().manual_seed(seed)).numpy()
    return LabelledText(tuple(made), np.asarray(labels), task_of(model).metrics(model))
