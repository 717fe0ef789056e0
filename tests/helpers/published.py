"""Checkpoints as they were published."""

import json

import torch

from helpers.tiny import TINY


def publish_as_the_authors_did(folder, model, *, config=()):
    """A PyTorch file with BERT's names, LayerNorm's old ones among them, and a configuration without model_type."""
    folder.mkdir()
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = {}
    for name, tensor in model.state_dict().items():
        for today, before in names.items():
            name = name.replace(today, before)
        weights[name] = tensor
    torch.save(weights, folder / "pytorch_model.bin")
    old = {name: value for name, value in model.config.to_dict().items() if name in TINY}
    old |= {"finetuning_task": "sst-2", "pruned_heads": {}, "torchscript": False, "output_past": True, **dict(config)}
    (folder / "config.json").write_text(json.dumps(old))
