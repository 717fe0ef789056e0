"""Costs that are measured: of every size, runtime and number format, and what cannot be measured is refused."""

import pytest
import torch
from conftest import make_model

from dynabert_hf import count_flops, measure_latency


def test_latency_is_measured_for_every_size_in_the_order_given():
    sizes = ["w1-d1", "w0.25-d0.5"]
    profiles = measure_latency(make_model(), sizes, batch_size=2, sequence_length=5, rounds=3)
    assert [profile.name for profile in profiles] == sizes
    assert all(profile.latency_ms > 0 and profile.latency_spread_ms >= 0 for profile in profiles)
    assert {(p.runs, p.batch_size, p.sequence_length, p.dtype, p.runtime) for p in profiles} == {
        (3, 2, 5, "float32", "torch")
    }
    assert profiles[0].flops == count_flops(make_model(), "w1-d1", batch_size=2, sequence_length=5)


def test_latency_is_measured_for_every_head(family, head):
    model = make_model(family, head, stock={"num_labels": 2})
    (profile,) = measure_latency(model, ["w0.5-d0.5"], sequence_length=5, rounds=1, dtype=torch.bfloat16)
    assert profile.dtype == "bfloat16"


def test_memory_holds_the_weights_and_the_states_of_a_pass():
    model = make_model()
    small, large = measure_latency(model, ["w0.25-d0.5", "w1-d1"], sequence_length=7, rounds=1)
    longer = measure_latency(model, ["w1-d1"], batch_size=32, sequence_length=18, rounds=1)[0]
    weights = large.parameters * 4 / 2**20
    assert small.memory_mb < large.memory_mb < longer.memory_mb
    assert weights < large.memory_mb < weights + 0.1
    # Intermediate states of one layer, (batch, seq, neurons) in float32, are alive at least twice at a time.
    assert longer.memory_mb - weights > 2 * 32 * 18 * 48 * 4 / 2**20


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"rounds": 0}, "rounds=0 is not possible"), ({"sequence_length": 21}, "longer than the 20 positions")],
)
def test_an_impossible_setting_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        measure_latency(make_model(), **{"sequence_length": 5, **setting})
