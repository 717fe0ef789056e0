"""Forward passes of every sub-network against the values of the published implementation."""

import pytest
import torch
from helpers.reference import NAMES, batch_of, load_elastic, load_expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_subnetwork_gives_the_published_outputs(name, attention):
    model, expected = load_elastic(name), load_expected(name)
    model.set_attn_implementation(attention)
    batch = batch_of(expected, 0)
    real = batch["attention_mask"].bool()
    for subnetwork in model.config.subnetworks:
        prefix = f"forward.w{subnetwork.width:g}.d{subnetwork.depth:g}"
        with model.subnetwork(subnetwork), torch.no_grad():
            output = model(**batch, output_hidden_states=True)
        for ours, theirs in (
            (output.loss, expected[f"{prefix}.loss"]),
            (output.logits, expected[f"{prefix}.logits"]),
            (torch.stack(output.hidden_states)[:, real], expected[f"{prefix}.hidden_states"][:, real]),
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
