"""The full size is the stock model to the last bit, gradients included; all kernels agree on every size."""

import warnings
from contextlib import ExitStack

import pytest
import torch
from helpers.devices import to
from helpers.tiny import batch_for, make_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::UserWarning:torch._inductor.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, while it compiles flex attention
]

KERNELS = ("eager", "sdpa", "flex_attention")
HEADS_OF_16 = {"hidden_size": 64, "max_position_embeddings": 140, "num_labels": 2}
"""Flex attention on a GPU needs heads of at least 16 numbers; it takes its general kernel from 128 tokens on."""


def outputs(model, inputs):
    """Everything that a head returns but its loss, as tensors."""
    return [value for value in model(**inputs).values() if isinstance(value, torch.Tensor)]


def as_it_can_be_run(device, attention, stack):
    """Whether there are gradients: flex attention has none on a CPU, where it runs uncompiled, for speed."""
    if attention != "flex_attention" or device.type == "cuda":
        return True
    stack.enter_context(torch.no_grad())
    stack.enter_context(torch.compiler.set_stance("force_eager"))
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")  # torch's own, about running its kernel so
    return False


@pytest.mark.parametrize("attention", KERNELS)
def test_the_full_size_equals_the_stock_model_to_the_last_bit(family, head, attention, device, deterministic):
    model = make_model(family, head, stock=HEADS_OF_16).set_active("w0.5-d0.5").to(device).set_active("w1-d1")
    stock = model.to_backbone().to(device)
    inputs = to(device, batch_for(head, length=128))
    with ExitStack() as stack:
        has_gradients = as_it_can_be_run(device, attention, stack)
        found = []
        for each in (model, stock):
            each.set_attn_implementation(attention)
            found.append(outputs(each, inputs))
            if has_gradients:
                sum(output.square().mean() for output in found[-1]).backward()
    assert all(map(torch.equal, *found))
    gradients = dict(stock.named_parameters())
    for name, parameter in model.named_parameters():
        theirs = gradients[name].grad
        assert parameter.grad is None if theirs is None else torch.equal(parameter.grad, theirs), name


@pytest.mark.parametrize("attention", KERNELS)
def test_every_size_is_on_the_device_what_it_is_on_a_cpu(family, attention, device):
    """In float32 without TF32: sums of up to 128 numbers in another order differ in the last bits."""
    model = make_model(family, stock=HEADS_OF_16)
    inputs = batch_for("ForSequenceClassification", length=128)
    with torch.no_grad():
        expected = {size: outputs(model.set_active(size), inputs) for size in model.config.subnetworks}
    model.to(device).set_attn_implementation(attention)
    for size, theirs in expected.items():
        with torch.no_grad(), ExitStack() as stack:
            as_it_can_be_run(device, attention, stack)
            (ours,) = outputs(model.set_active(size), to(device, inputs))
        torch.testing.assert_close(ours.cpu(), theirs[0], rtol=0, atol=2e-5)
