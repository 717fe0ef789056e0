"""Activation checkpointing: what is computed again in the backward pass is what was computed before, dropout too."""

import pytest
import torch
from helpers.tiny import make_model
from helpers.trainers import LastGradients, make_trainer

from dynabert_hf.training.arguments import RECOMPUTE

pytestmark = pytest.mark.gpu

DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


def gradients(tmp_path, device, **arguments):
    """Of the last of three steps on the same weights: a scale of float16 that was too large has been halved by then."""
    last = LastGradients()
    settings = {"max_steps": 3, "learning_rate": 0.0, "max_grad_norm": 1e9, "use_cpu": device.type == "cpu"}
    make_trainer(tmp_path, model=make_model(stock=DROPOUT), callbacks=[last], **settings, **arguments).train()
    return last.gradients


@pytest.mark.parametrize("stage", ["width", "depth", "finetune"])
def test_recomputed_activations_give_the_same_gradients_in_float32(stage, device, deterministic, tmp_path):
    check(tmp_path, device, stage=stage)


def test_recomputed_activations_give_the_same_gradients_in_mixed_precision(mixed, device, deterministic, tmp_path):
    check(tmp_path, device, stage="depth", **{mixed: True})


def check(tmp_path, device, **arguments):
    kept = gradients(tmp_path, device, **arguments)
    recomputed = gradients(tmp_path, device, **{RECOMPUTE: True}, **arguments)
    assert kept["classifier.weight"].any()
    for name, gradient in kept.items():
        assert torch.equal(recomputed[name], gradient), name
