"""The values of the published implementation, on the device; it computed them on a CPU.

The tolerances are those of the CPU tests: float32 without TF32 rounds alike, and sums of a few dozen numbers in another
order differ in the last bits.
"""

import pytest
import torch
from helpers.reference import NAMES, assert_published_importance, assert_published_outputs, load_weights
from helpers.reference_training import check_depth_stage, check_finetuning, check_width_stage

from dynabert_hf import rewire

pytestmark = pytest.mark.gpu


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_size_gives_the_published_outputs(name, attention, device):
    assert_published_outputs(name, attention, device)


def test_importance_and_rewired_weights_equal_the_published_ones(name, device):
    model, importance = assert_published_importance(name, device)
    rewire(model, importance)
    for key, value in load_weights(name, "rewired").items():
        assert torch.equal(model.state_dict()[key].cpu(), value), key


def test_width_stage_reproduces_the_published_training(name, device, tmp_path):
    check_width_stage(name, tmp_path, use_cpu=device.type == "cpu")


@pytest.mark.parametrize("teacher_width", ["same", "full"])
def test_depth_stage_reproduces_the_published_training(name, teacher_width, device, tmp_path):
    check_depth_stage(name, tmp_path, teacher_width, use_cpu=device.type == "cpu")


def test_final_finetuning_reproduces_the_published_training(name, device, tmp_path):
    check_finetuning(name, tmp_path, use_cpu=device.type == "cpu")
