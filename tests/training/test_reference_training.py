"""Importance, rewiring and training against the values of the published implementation."""

import pytest
import torch
from helpers.reference import NAMES, assert_published_importance, batch_of, load_expected, load_weights
from helpers.reference_training import check_depth_stage, check_finetuning, check_width_stage

from dynabert_hf import rewire


@pytest.mark.parametrize("name", NAMES)
def test_importance_and_what_is_rewired_equal_the_published_values(name):
    expected, (model, importance) = load_expected(name), assert_published_importance(name)
    rewire(model, importance)
    for key, value in load_weights(name, "rewired").items():
        assert torch.equal(model.state_dict()[key], value), key
    for subnetwork in model.config.subnetworks:
        prefix = f"rewired.w{subnetwork.width:g}.d{subnetwork.depth:g}"
        with model.subnetwork(subnetwork), torch.no_grad():
            output = model(**batch_of(expected, 0))
        torch.testing.assert_close(output.logits, expected[f"{prefix}.logits"], rtol=0, atol=2e-5)
        torch.testing.assert_close(output.loss, expected[f"{prefix}.loss"], rtol=0, atol=2e-5)


# The default run trains those that can differ in a stage.
@pytest.mark.parametrize("name", ["bert_12x12", "bert_regression", pytest.param("roberta_6x4", marks=pytest.mark.slow)])
def test_width_stage_reproduces_the_published_training(name, tmp_path):
    check_width_stage(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "teacher_width"),
    [
        ("bert_12x12", "same"),
        pytest.param("bert_12x12", "full", marks=pytest.mark.slow),
        pytest.param("roberta_6x4", "same", marks=pytest.mark.slow),
        ("roberta_6x4", "full"),
        pytest.param("bert_regression", "same", marks=pytest.mark.slow),
        pytest.param("bert_regression", "full", marks=pytest.mark.slow),
    ],
)
def test_depth_stage_reproduces_the_published_training(name, teacher_width, tmp_path):
    check_depth_stage(name, tmp_path, teacher_width)


@pytest.mark.parametrize("name", ["roberta_6x4", "bert_regression", pytest.param("bert_12x12", marks=pytest.mark.slow)])
def test_final_finetuning_reproduces_the_published_training(name, tmp_path):
    check_finetuning(name, tmp_path)
