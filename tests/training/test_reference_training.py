"""Importance, rewiring and training against the values of the published implementation."""

import copy

import pytest
import torch
from helpers.reference import NAMES, batch_of, load_elastic, load_expected, load_weights
from helpers.reference_training import assert_logged_losses_equal, assert_weights_equal, loss_weights, train

from dynabert_hf import measure_importance, rewire


@pytest.fixture(params=NAMES)
def name(request):
    """Each of them, where a test does not choose: the default run trains those that can differ in a stage."""
    return request.param


def test_importance_equals_the_published_values(name):
    expected = load_expected(name)
    importance = measure_importance(load_elastic(name), [batch_of(expected, 0)], progress=False)
    for kind in ("heads", "neurons"):
        ours, theirs = getattr(importance, kind), expected[f"importance.{kind}"]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.max().item())
        assert torch.equal(ours.argsort(descending=True), theirs.argsort(descending=True))


def test_rewired_weights_and_outputs_equal_the_published_ones(name):
    expected = load_expected(name)
    model = load_elastic(name)
    rewire(model, measure_importance(model, [batch_of(expected, 0)], progress=False))
    for key, value in load_weights(name, "rewired").items():
        assert torch.equal(model.state_dict()[key], value), key
    for subnetwork in model.config.subnetworks:
        prefix = f"rewired.w{subnetwork.width:g}.d{subnetwork.depth:g}"
        with model.subnetwork(subnetwork), torch.no_grad():
            output = model(**batch_of(expected, 0))
        torch.testing.assert_close(output.logits, expected[f"{prefix}.logits"], rtol=0, atol=2e-5)
        torch.testing.assert_close(output.loss, expected[f"{prefix}.loss"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["bert_12x12", "bert_regression", pytest.param("roberta_6x4", marks=pytest.mark.slow)])
def test_width_stage_reproduces_the_published_training(name, tmp_path):
    student = load_elastic(name, "rewired")
    trainer = train(name, tmp_path, student, load_elastic(name), stage="width", **loss_weights(name))
    assert_logged_losses_equal(trainer, name, "stage1")
    assert_weights_equal(student, name, "after_stage1")


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
    student = load_elastic(name, "after_stage1")
    trainer = train(
        name,
        tmp_path,
        student,
        copy.deepcopy(student),
        stage="depth",
        teacher_width=teacher_width,
        hidden_matching="published",
        **loss_weights(name),
    )
    assert_logged_losses_equal(trainer, name, f"stage2{teacher_width}")
    assert_weights_equal(student, name, f"after_stage2_{teacher_width}_width_teacher")


@pytest.mark.parametrize("name", ["roberta_6x4", "bert_regression", pytest.param("bert_12x12", marks=pytest.mark.slow)])
def test_final_finetuning_reproduces_the_published_training(name, tmp_path):
    student = load_elastic(name, "after_stage1")
    trainer = train(name, tmp_path, student, None, stage="finetune")
    assert_logged_losses_equal(trainer, name, "stage3")
    assert_weights_equal(student, name, "after_final_finetuning")
