"""torch.compile at several sizes: what it computes, and its gradients, are those of the model as it is."""

import pytest
import torch
from helpers.devices import to
from helpers.tiny import make_batch, make_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::UserWarning:torch._inductor.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.jit.*"),
]

SIZES = ("w0.25-d0.5", "w0.5-d1", "w1-d1")
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
"""In float32 without TF32: fused operations add up in another order, over the layers and back."""


@pytest.fixture
def compiled(device):
    """A tiny model of two layers and the same one compiled, one graph a size; more than the limit is an error.

    A CPU checks graphs and their gradients; inductor's C++ for it takes minutes to build.
    """
    model = make_model(stock={"num_hidden_layers": 2}).to(device)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=2 * len(SIZES), fail_on_recompile_limit_hit=True):
        yield model, torch.compile(model, backend="inductor" if device.type == "cuda" else "aot_eager")
    torch._dynamo.reset()


def test_a_compiled_model_switches_sizes(compiled, device):
    model, fast = compiled
    batch = to(device, make_batch())
    with torch.no_grad():
        for size in (*SIZES, *SIZES):
            model.set_active(size)
            torch.testing.assert_close(fast(**batch).logits, model(**batch).logits, **CLOSE)


def test_a_compiled_model_has_the_gradients_of_every_size(compiled, device):
    model, fast = compiled
    batch, labels = to(device, make_batch()), torch.tensor([0, 2], device=device)
    for size in SIZES:
        found = []
        for each in (fast, model):
            model.zero_grad()
            with model.subnetwork(size):
                each(**batch, labels=labels).loss.backward()
            found.append(
                {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
            )
        assert found[0].keys() == found[1].keys()
        for name, gradient in found[1].items():
            torch.testing.assert_close(found[0][name], gradient, **CLOSE, msg=f"{size}: {name}")
