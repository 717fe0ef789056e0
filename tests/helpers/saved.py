"""Checkpoints that load for ever: `python tests/helpers/saved.py VERSION` saves one of each family and head.

Of the families beside BERT and RoBERTa it is one head, and the model is rewired, since MPNet saves its order of heads.
Run once for a release whose form of saving is new, never for one that is there: old folders stay as they are.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from dynabert_hf import measure_importance, rewire
from helpers import FAMILIES, HEADS
from helpers.backbones import CONFIGS, make_backbone, of_layers
from helpers.tiny import batch_for, make_model

SAVED = Path(__file__).parents[1] / "fixtures" / "saved"
SHAPE = {
    "hidden_size": 8,
    "num_attention_heads": 4,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "vocab_size": 99,
    "max_position_embeddings": 12,
    "num_labels": 2,
}
METRICS = {"w1-d1": {"accuracy": 0.75}}
SAVED_HEADS = {family: HEADS if family in FAMILIES else ("ForSequenceClassification",) for family in CONFIGS}
"""For each family the heads that are saved."""
SIZES = ("w1-d1", "w0.5-d1", "w0.25-d0.5")
EXTRACTED = "w0.5-d0.5"
"""The size of which a small model of its own lies in the folder `extracted`."""


def tensors_of(model, inputs):
    """The outputs of a model by name."""
    with torch.no_grad():
        return {name: value for name, value in model(**inputs).items() if isinstance(value, torch.Tensor)}


def make(family, head):
    """A tiny model with metrics."""
    if family in FAMILIES:
        return make_model(family, head, stock=SHAPE, metrics=METRICS)
    model = make_backbone(family, head, **of_layers(family, 2))
    rewire(model, measure_importance(model, [{**batch_for(head), "labels": torch.tensor([0, 2])}]))
    model.config.metrics = METRICS
    return model


def save(folder, family, head):
    """The model switched to a small size, a part of it, and inputs and outputs of several sizes."""
    model = make(family, head)
    inputs = batch_for(head)
    expected = dict(inputs)
    for size in (*SIZES, EXTRACTED):
        with model.subnetwork(size):
            expected |= {f"{size}/{name}": value for name, value in tensors_of(model, inputs).items()}
    model.extract(EXTRACTED).save_pretrained(folder / "extracted")
    model.set_active(SIZES[-1]).save_pretrained(folder)
    save_file({name: value.contiguous() for name, value in expected.items()}, folder / "expected.safetensors")


def main():
    folder = SAVED / sys.argv[1]
    folder.mkdir()
    for family, heads in SAVED_HEADS.items():
        for head in heads:
            save(folder / f"{family}{head}", family, head)


if __name__ == "__main__":
    main()
