"""The values of the published implementation, on the device; it computed them on a CPU.

The tolerances are those of the CPU tests: float32 without TF32 rounds alike, and sums of a few dozen numbers in another
order differ in the last bits.
"""

import copy

import pytest
import torch
from helpers.devices import to
from helpers.reference import NAMES, batch_of, load_elastic, load_expected, load_weights
from helpers.reference_training import assert_logged_losses_equal, assert_weights_equal, loss_weights, train

from dynabert_hf import measure_importance, rewire

pytestmark = pytest.mark.gpu


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_size_gives_the_published_outputs(name, attention, device):
    model, expected = load_elastic(name).to(device), load_expected(name)
    model.set_attn_implementation(attention)
    batch = batch_of(expected, 0)
    real = batch["attention_mask"].bool()
    for size in model.config.subnetworks:
        prefix = f"forward.w{size.width:g}.d{size.depth:g}"
        with model.subnetwork(size), torch.no_grad():
            output = model(**to(device, batch), output_hidden_states=True)
        assert output.logits.device.type == device.type
        for ours, theirs in (
            (output.loss.cpu(), expected[f"{prefix}.loss"]),
            (output.logits.cpu(), expected[f"{prefix}.logits"]),
            (torch.stack(output.hidden_states).cpu()[:, real], expected[f"{prefix}.hidden_states"][:, real]),
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


def test_importance_and_rewired_weights_equal_the_published_ones(name, device):
    expected = load_expected(name)
    model = load_elastic(name).to(device)
    importance = measure_importance(model, [batch_of(expected, 0)], progress=False)
    for kind in ("heads", "neurons"):
        ours, theirs = getattr(importance, kind).cpu(), expected[f"importance.{kind}"]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.max().item())
        assert torch.equal(ours.argsort(descending=True), theirs.argsort(descending=True))
    rewire(model, importance)
    for key, value in load_weights(name, "rewired").items():
        assert torch.equal(model.state_dict()[key].cpu(), value), key


def test_width_stage_reproduces_the_published_training(name, device, tmp_path):
    student = load_elastic(name, "rewired")
    settings = {"stage": "width", "use_cpu": device.type == "cpu", **loss_weights(name)}
    trainer = train(name, tmp_path, student, load_elastic(name), **settings)
    assert student.device.type == device.type
    assert_logged_losses_equal(trainer, name, "stage1")
    assert_weights_equal(student, name, "after_stage1")


@pytest.mark.parametrize("teacher_width", ["same", "full"])
def test_depth_stage_reproduces_the_published_training(name, teacher_width, device, tmp_path):
    student = load_elastic(name, "after_stage1")
    settings = {"stage": "depth", "teacher_width": teacher_width, "use_cpu": device.type == "cpu"}
    trainer = train(name, tmp_path, student, copy.deepcopy(student), **settings, **loss_weights(name))
    assert_logged_losses_equal(trainer, name, f"stage2{teacher_width}")
    assert_weights_equal(student, name, f"after_stage2_{teacher_width}_width_teacher")


def test_final_finetuning_reproduces_the_published_training(name, device, tmp_path):
    student = load_elastic(name, "after_stage1")
    trainer = train(name, tmp_path, student, None, stage="finetune", use_cpu=device.type == "cpu")
    assert_logged_losses_equal(trainer, name, "stage3")
    assert_weights_equal(student, name, "after_final_finetuning")
