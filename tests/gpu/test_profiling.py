"""Costs of sizes on the device: the table says where they were measured."""

import pytest
import torch
from helpers.tiny import make_model

from dynabert_hf import profile

pytestmark = pytest.mark.gpu


def test_a_profile_is_measured_on_the_device_that_was_asked_for(device):
    model = make_model()
    sizes = ["w0.25-d0.5", "w1-d1"]
    table = profile(model, sizes, sequence_lengths=(7,), dtypes=("float32", "bfloat16"), device=device.type, rounds=5)
    assert model.device.type == "cpu"
    assert {torch.device(one.setting["device"]).type for one in table} == {device.type}
    assert all(one.costs["latency_ms"] > 0 for one in table)
    small, large, small_half, large_half = table
    weights = large.costs["parameters"] * 4 / 2**20
    assert small.costs["memory_mb"] < large.costs["memory_mb"]
    assert weights < large.costs["memory_mb"] < weights + 20  # a GPU lends matrix products up to 16 MB at once
    assert (
        small_half.costs["memory_mb"] < small.costs["memory_mb"],
        large_half.costs["memory_mb"] < large.costs["memory_mb"],
    ) == (True, True)
    if device.type == "cuda":
        assert table.machine["card"] == torch.cuda.get_device_name()
    assert f"| {small.setting['device']} |" in table.to_markdown()
