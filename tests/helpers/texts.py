"""Labelled text for tiny models, made on the spot."""

import numpy as np
import torch

from dynabert_hf import LabelledText
from dynabert_hf.tasks import task_of
from helpers.tiny import make_batch, make_model, make_tokenizer

REVIEW_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "very"]


def make_text(model, *, batches=5, rows=8, seed=0, labels=None):
    """Batches of random tokens, of ragged lengths, with random labels among three."""
    made = [make_batch(rows, 7, seed=seed + number) for number in range(batches)]
    if labels is None:
        labels = torch.randint(0, 3, (batches * rows,), generator=torch.Generator().manual_seed(seed)).numpy()
    return LabelledText(tuple(made), np.asarray(labels), task_of(model).metrics(model))


def make_review_model():
    """A model of two labels and two layers."""
    return make_model(stock={"num_labels": 2, "num_hidden_layers": 2})


def save_reviews(folder):
    """Such a model with its tokenizer in `model`, short reviews in `dev.csv`, and none in `empty.csv`."""
    make_review_model().save_pretrained(folder / "model")
    make_tokenizer(REVIEW_WORDS).save_pretrained(folder / "model")
    texts = ["a good film", "very bad", "bad bad film", "good", "a very very good film", "film a", "very", "bad good"]
    rows = [f"{text},{number % 2}" for number, text in enumerate(texts * 2)]
    (folder / "dev.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (folder / "empty.csv").write_text("text,label\n")
    return folder
