"""Every form of a size computes the same: sizes under one head of BERT, every head at the most irregular size.

Sizes cut the encoder and heads read its output, so no pair of the two can fail where each alone does not; RoBERTa's
layers are those of BERT, and tests/model/test_backbones.py has sizes of every family. The
reference is the stock model of the full size with heads and neurons zeroed and layers skipped. Against it stand the
elastic model switched to the size, the extracted model, the same saved and loaded by its Auto class, and ONNX.
"""

from contextlib import ExitStack, contextmanager
from functools import cache

import numpy as np
import pytest
import torch
import transformers
from helpers import FAMILIES, HEADS
from helpers.tiny import batch_for, make_config, make_model

from dynabert_hf import LayerShape, export_onnx, load_onnx
from dynabert_hf.model.subnetwork import size_name

IRREGULAR = (LayerShape(0, 4, 48), LayerShape(2, 1, 7), LayerShape(5, 3, 20))
SIZES = (*make_config().subnetworks, IRREGULAR)
ONE_HEAD = "ForSequenceClassification"
CASES = [
    *(("Bert", ONE_HEAD, size) for size in SIZES[:-1]),
    *((each, head, IRREGULAR) for each in FAMILIES for head in HEADS),
]
ATTENTIONS = ("eager", "sdpa")
TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-12}
"""Largest difference allowed in torch, in units of the largest output or of 1, whichever is more."""

ONNX_TOLERANCE = 1e-4


@cache
def elastic_and_stock(family, head, dtype=torch.float32):
    """An elastic model and the stock one with the same weights, made once for all sizes; they stay as they are."""
    model = make_model(family, head, stock={"num_labels": 2}).to(dtype)
    return model, model.to_backbone()


def outputs(model, inputs):
    with torch.no_grad():
        return {name: value for name, value in model(**inputs).items() if isinstance(value, torch.Tensor)}


def zeroing(first):
    """A hook that zeroes what a linear layer reads, from its feature number `first` on."""

    def hook(module, arguments):
        states = arguments[0].clone()
        states[..., first:] = 0
        return (states, *arguments[1:])

    return hook


@contextmanager
def masked(stock, layers):
    """Inside the block, heads and neurons of a stock model beyond those of `layers` are zero, other layers skipped."""
    encoder = stock.base_model.encoder
    everything = encoder.layer
    head_size = stock.config.hidden_size // stock.config.num_attention_heads
    with ExitStack() as stack:
        for shape in layers:
            layer = everything[shape.index]
            heads, neurons = zeroing(shape.heads * head_size), zeroing(shape.neurons)
            stack.enter_context(layer.attention.output.dense.register_forward_pre_hook(heads))
            stack.enter_context(layer.output.dense.register_forward_pre_hook(neurons))
        encoder.layer = torch.nn.ModuleList(everything[shape.index] for shape in layers)
        stack.callback(setattr, encoder, "layer", everything)
        yield stock


def reference(family, head, size, inputs, *, attention, dtype=torch.float32):
    model, stock = elastic_and_stock(family, head, dtype)
    stock.set_attn_implementation(attention)
    with masked(stock, model.config.resolve(size)):
        return outputs(stock, inputs)


def auto_class(head):
    return getattr(transformers, "AutoModel" if head == "Model" else head.replace("For", "AutoModelFor"))


def assert_same(given, expected):
    assert given.keys() == expected.keys()
    for name, tensor in expected.items():
        allowed = TOLERANCES[tensor.dtype] * max(1.0, tensor.abs().max().item())
        torch.testing.assert_close(given[name], tensor, rtol=0, atol=allowed)


@pytest.mark.parametrize(
    ("family", "head", "size"), CASES, ids=lambda value: value if isinstance(value, str) else size_name(value)
)
def test_masked_switched_extracted_and_reloaded_are_the_same(tmp_path, family, head, size):
    model, _ = elastic_and_stock(family, head)
    small = model.extract(size)
    small.save_pretrained(tmp_path)
    reloaded = auto_class(head).from_pretrained(tmp_path)
    assert type(reloaded) is type(model)
    exact, _ = elastic_and_stock(family, head, torch.float64)
    for form in (model.share(size), small, reloaded, exact.share(size)):
        for attention in ATTENTIONS:
            form.set_attn_implementation(attention)
            expected = reference(family, head, size, batch_for(head), attention=attention, dtype=form.dtype)
            assert_same(outputs(form, batch_for(head)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_onnx_is_the_same_as_masked_at_every_size(tmp_path, family, head):
    """The default run compares exports with the elastic model, in tests/onnx."""
    pytest.importorskip("onnxruntime")
    model, _ = elastic_and_stock(family, head)
    export_onnx(model, tmp_path / "onnx", sizes=SIZES)
    for size in SIZES:
        runner = load_onnx(tmp_path / "onnx", size_name(size))
        for batch, length in ((2, 7), (1, 1), (4, 18)):
            inputs = batch_for(head, batch=batch, length=length)
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
            if length == 1:
                inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            given = runner(**inputs)
            for attention in ATTENTIONS:
                expected = reference(family, head, size, inputs, attention=attention)
                assert given.keys() == expected.keys()
                for name in expected:
                    np.testing.assert_allclose(given[name], expected[name].numpy(), rtol=0, atol=ONNX_TOLERANCE)
