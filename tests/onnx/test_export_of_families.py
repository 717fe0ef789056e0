"""Every family in ONNX Runtime: its sizes agree with torch, and have an int8 version."""

import numpy as np
import pytest
import torch
from helpers.backbones import CONFIGS, make_backbone, of_layers, run
from helpers.tiny import make_batch, make_tokenizer

from dynabert_hf import export_onnx, load_onnx, quantize_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SIZES = ["w0.5-d1", "w1-d1"]
FUSED = {"ModernBert": 2}
"""Tensors that each size stores anew: of the fused parts of its layer, which no prefix of the whole ones is."""


def places_of_weights(path):
    """Where in the file of weights the tensors of a graph begin."""
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    return {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "offset"}


HEADS = {"ModernBert": "ForQuestionAnswering"}
"""Which has two outputs; the other families have the usual head."""


def outputs(runner, inputs):
    """What a size in ONNX Runtime gives, where it is not padding."""
    given = runner(**inputs)
    mask = inputs["attention_mask"].bool().numpy()
    return [each[mask] if each.shape == mask.shape else each for each in given.values()]


@pytest.mark.parametrize("head", ["ForTokenClassification", pytest.param("Model", marks=pytest.mark.slow)])
def test_padding_that_local_attention_sees_alone_is_no_difference(head, tmp_path, traced_once):
    """Of it torch's own ways of attention say different things, and sdpa is the usual one."""
    model = make_backbone("ModernBert", head, **of_layers("ModernBert", 2), depths=[1.0]).set_active("w0.5-d1")
    inputs = make_batch(length=12)
    inputs["attention_mask"][0, 3:] = 0
    with torch.no_grad():
        said = model(**inputs)[0]
        model.set_attn_implementation("eager")
        assert not torch.allclose(said, model(**inputs)[0], atol=1e-2)
        model.set_attn_implementation("sdpa")
    export_onnx(model, tmp_path / "out")
    (given,) = load_onnx(tmp_path / "out")(**inputs).values()
    counts = inputs["attention_mask"].bool().numpy()
    np.testing.assert_allclose(given[counts], said.numpy()[counts], rtol=0, atol=1e-4)


def test_a_model_without_a_head_is_exported_with_its_pooled_output(tmp_path, traced_once):
    model = make_backbone("Bert", "Model", **of_layers("Bert", 2), depths=[1.0]).set_active("w0.5-d1")
    inputs = make_batch(length=12)
    with torch.no_grad():
        states, pooled = model(**inputs, return_dict=False)
    export_onnx(model, tmp_path / "out")
    given = load_onnx(tmp_path / "out")(**inputs)
    counts = inputs["attention_mask"].bool().numpy()
    np.testing.assert_allclose(given["last_hidden_state"][counts], states.numpy()[counts], rtol=0, atol=1e-4)
    np.testing.assert_allclose(given["pooler_output"], pooled.numpy(), rtol=0, atol=1e-4)


GROWING = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("NomicBert", {"rope_parameters": GROWING}),
        pytest.param(
            "ModernBert",
            {"rope_parameters": {"full_attention": GROWING, "sliding_attention": GROWING}},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_rotary_frequencies_that_grow_beyond_the_longest_input_are_exported(family, settings, tmp_path, traced_once):
    model = make_backbone(family, "ForMaskedLM", **of_layers(family, 1), depths=[1.0], **settings)
    model.set_active("w0.5-d1")
    inputs = make_batch(length=model.config.max_position_embeddings)
    with torch.no_grad():
        said = model(**inputs)[0]
    export_onnx(model, tmp_path / "out")
    (given,) = load_onnx(tmp_path / "out")(**inputs).values()
    counts = inputs["attention_mask"].bool().numpy()
    np.testing.assert_allclose(given[counts], said.numpy()[counts], rtol=0, atol=1e-4)


def test_a_graph_with_relative_positions_takes_texts_of_any_length(tmp_path, traced_once):
    model = make_backbone("DebertaV2", **of_layers("DebertaV2", 1), depths=[1.0], position_biased_input=False)
    model.set_active("w0.5-d1")
    inputs = make_batch(length=3 * model.config.max_position_embeddings)
    with torch.no_grad():
        said = model(**inputs).logits
    export_onnx(model, tmp_path / "out", tokenizer=make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good"]))
    graph = load_onnx(tmp_path / "out")
    np.testing.assert_allclose(graph(**inputs)["logits"], said.numpy(), rtol=0, atol=1e-4)
    assert graph.tokenizer.model_max_length == model.config.max_position_embeddings  # where nobody knows a limit


@pytest.mark.parametrize(
    ("family", "sizes"),
    [("ModernBert", SIZES[:1]), *(pytest.param(name, SIZES, marks=pytest.mark.slow) for name in CONFIGS)],
)
def test_an_export_equals_torch(family, sizes, tmp_path, traced_once):
    """By default one small size of ModernBERT, whose parts are fused: the exporter takes seconds for each size.

    A family without types of tokens passes over those that a tokenizer makes of a pair, as torch does.
    """
    head = HEADS.get(family, "ForSequenceClassification")
    model = make_backbone(family, head, **of_layers(family, 1), depths=[1.0])
    export_onnx(model, tmp_path / "out", sizes=sizes)
    types = torch.full_like(make_batch()["attention_mask"], not getattr(model.config, "type_vocab_size", 0))
    inputs = {**make_batch(), "token_type_ids": types}
    expected = {size: run(model.set_active(size), head) for size in sizes}
    for size in sizes:
        for given, wanted in zip(outputs(load_onnx(tmp_path / "out", size), inputs), expected[size], strict=True):
            np.testing.assert_allclose(given, wanted.numpy(), rtol=0, atol=1e-4)

    if sizes == SIZES and family in ("MPNet", "DebertaV2", "ModernBert"):
        small, whole = (places_of_weights(tmp_path / "out" / f"{size}.onnx") for size in SIZES)
        assert len(small) > 5
        assert len(small - whole) == FUSED.get(family, 0)

    quantised = quantize_onnx(tmp_path / "out", lambda runner: 0.0)
    assert all(b"MatMulInteger" in quantised[size].path.read_bytes() for size in sizes)
    for size in sizes:
        runner = load_onnx(tmp_path / "out", size, int8=True)
        for given, wanted in zip(outputs(runner, inputs), expected[size], strict=True):
            off = np.abs(given - wanted.numpy()).max()
            assert off < 0.3 * wanted.std()  # at most 0.22 of it, in DeBERTa; other weights are off by more
