"""ONNX: what is written equals torch at every size, shares its weights, and is there whole or not at all."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from helpers.tiny import make_batch, make_model
from transformers import BertForSequenceClassification

from dynabert_hf import LayerShape, OnnxModel, SubNetwork, SubNetworkError, export_onnx, load_onnx, quantize_onnx
from dynabert_hf.model.subnetwork import size_name
from dynabert_hf.onnx import export as module
from dynabert_hf.onnx.quantization import write_int8
from dynabert_hf.onnx.weights import turn_stored

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SIZES = ["w1-d1", "w0.5-d0.5"]  # so that what a size needs after a larger one must not cut their common file


def make(family="Bert", head="ForSequenceClassification", **stock):
    """A model of two layers: the exporter takes seconds for each."""
    return make_model(family, head, stock={"num_hidden_layers": 2, **stock})


@pytest.fixture(scope="module")
def exported(tmp_path_factory, traced_once):
    """A folder with two sizes, the model that they are of, and the model as it was before."""
    model = make().train().set_active(width=0.5, depth=0.5)
    before = copy.deepcopy(model)
    folder = tmp_path_factory.mktemp("exported") / "all"
    export_onnx(model, folder, sizes=SIZES)
    return folder, model, before


def inputs_for(runner, **kwargs):
    batch = make_batch(**kwargs)
    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    return {name: batch[name] for name in runner.input_names}


def assert_equal_to_torch(runner, model, size, **kwargs):
    batch = inputs_for(runner, **kwargs)
    with torch.no_grad(), model.subnetwork(size):
        expected = model(**batch).logits.numpy()
    np.testing.assert_allclose(runner(**batch)["logits"], expected, rtol=0, atol=1e-4)  # the tolerance of the issue


@pytest.fixture(scope="module")
def choices(tmp_path_factory, traced_once):
    """A folder with one size of a head with choices in RoBERTa, and the model, which tells its states, in chunks."""
    model = make("Roberta", "ForMultipleChoice", type_vocab_size=1, chunk_size_feed_forward=1)
    model.set_attn_implementation("eager")
    model.config.output_hidden_states = model.config.output_attentions = True
    model.config.return_dict = False
    result = export_onnx(model, tmp_path_factory.mktemp("choices") / "out", size="w0.5-d0.5")
    return result, model


def test_a_size_of_many_layers_has_a_file_whose_name_can_be(tmp_path):
    layers = [[LayerShape(index, 12, neurons) for index in range(30)] for neurons in (1000, 1001)]
    names = {module.graph_file(size_name(size)) for size in layers}
    for name in names:
        (tmp_path / name).with_suffix(".int8.onnx").touch()
    assert len(list(tmp_path.iterdir())) == len(names) == 2
    assert module.graph_file("w0.5-d0.5") == "w0.5-d0.5.onnx"


def test_an_axis_of_choices_and_missing_types_of_tokens_are_exported(choices):
    """And positions that begin elsewhere."""
    result, _ = choices
    model = make("Roberta", "ForMultipleChoice", type_vocab_size=1, chunk_size_feed_forward=1)
    assert result.max_differences["w0.5-d0.5"] <= 1e-4
    assert b"site-packages" not in result.files["w0.5-d0.5"].read_bytes()
    runner = load_onnx(result.folder)
    assert_equal_to_torch(runner, model, "w0.5-d0.5", batch=3, length=13, choices=2)
    with pytest.raises(ValueError, match="token_type_ids is no input of this graph"):
        runner([[[5], [6]]], token_type_ids=[[[1], [1]]])


def test_only_the_prediction_is_written_whatever_the_configuration_asks_for(choices):
    result, model = choices
    assert load_onnx(result.folder)([[[5], [6]]]).keys() == {"logits"}
    assert (model.config.output_hidden_states, model.config.output_attentions) == (True, True)
    assert not model.config.return_dict


def test_sizes_share_their_weights(exported):
    folder, model, _ = exported
    for size in SIZES:
        assert_equal_to_torch(load_onnx(folder, size), model.share().eval(), size, batch=2, length=10)
    tensors = [4 * parameter.numel() for parameter in model.parameters() if parameter.numel() >= 64]
    whole = sum(-(-size // 4096) * 4096 for size in tensors)  # each begins at a multiple of 4,096, and small ones are
    assert whole - 4096 < (folder / "weights.bin").stat().st_size <= whole  # in the graphs: what the full size needs
    index = json.loads((folder / "index.json").read_text())
    assert list(index["sizes"]) == SIZES


def test_a_size_of_an_export_may_be_named_as_everywhere(exported):
    folder, _, _ = exported
    for size in (SubNetwork(width=0.5, depth=0.5), "w0.50-d0.50"):
        assert load_onnx(folder, size).path.name == "w0.5-d0.5.onnx"
    with pytest.raises(ValueError, match=r"size=None is not in .* Give one of \['w1-d1', 'w0\.5-d0\.5'"):
        load_onnx(folder)


def test_int8_is_measured_beside_float32_and_stores_once_what_sizes_share(exported, tmp_path):
    model = exported[1].share("w1-d1").eval()
    shutil.copytree(exported[0], tmp_path / "out")
    batch = make_batch(batch=64, length=9)
    with torch.no_grad():
        labels = model(**batch).logits.argmax(-1).numpy()

    def evaluate(runner):
        return (runner(**inputs_for(runner, batch=64, length=9))["logits"].argmax(-1) == labels).mean()

    results = quantize_onnx(tmp_path / "out", evaluate)
    assert results["w1-d1"].float32_accuracy == 1.0
    assert 0.8 < results["w1-d1"].accuracy <= 1.0
    runner = load_onnx(tmp_path / "out", "w1-d1", int8=True)
    assert evaluate(runner) == results["w1-d1"].accuracy
    assert b"MatMulInteger" in results["w1-d1"].path.read_bytes()
    shared = (tmp_path / "out" / "weights.int8.bin").stat().st_size
    own = {size: one.path.stat().st_size for size, one in results.items()}
    apart = {size: one.size_mb * 2**20 - own[size] for size, one in results.items()}
    assert max(apart.values()) < shared < sum(apart.values())
    for size in results:
        alone = OnnxModel(write_int8(tmp_path / "out" / f"{size}.onnx", tmp_path / "alone.onnx"))
        inputs = inputs_for(alone, batch=3, length=9)
        assert np.array_equal(
            load_onnx(tmp_path / "out", size, int8=True)(**inputs)["logits"], alone(**inputs)["logits"]
        )
    entry = json.loads((tmp_path / "out" / "index.json").read_text())["sizes"]["w1-d1"]["int8"]
    assert entry["float32_accuracy"] == 1.0
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_dir()]


def test_no_shape_is_told_of_weights_that_are_about_to_be_quantised(tmp_path):
    """onnxruntime 1.20 and 1.23 turn some, not what is told of them, and ended in `Inferred shape ... differ`."""
    export_onnx(make(), tmp_path / "out", sizes=[SubNetwork()])
    graph = onnx.load(tmp_path / "out" / "w1-d1.onnx")
    before = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    turn_stored(graph)
    turned = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    assert sorted(turned.values()) != sorted(before.values())
    assert not turned.keys() & {each.name for each in graph.graph.value_info}


@pytest.mark.parametrize(("positions", "longest"), [(20, 20), (8192, 1024)])
def test_a_check_reads_texts_of_any_length_that_fits_into_memory(monkeypatch, positions, longest):
    model, seen = make(max_position_embeddings=positions), []

    class Runner:
        def __init__(self, path):
            self.model = model.extract("w0.5-d0.5").eval()

        def __call__(self, **inputs):
            seen.append(tuple(inputs["input_ids"].shape))
            with torch.no_grad():
                return {"logits": self.model(**inputs).logits.numpy()}

    monkeypatch.setattr(module, "OnnxModel", Runner)
    assert module._checked_difference(model, "w0.5-d0.5", "any.onnx") == 0
    assert seen == [(1, 1), (1, longest), (3, longest // 2), (5, 11)]


def test_a_disagreement_is_an_error_and_leaves_nothing(tmp_path, monkeypatch, traced_once):
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(
        RuntimeError, match=r"w0.5-d0.5: logits of ONNX Runtime differs from torch by .*Nothing was written"
    ):
        export_onnx(make(), tmp_path / "out", size="w0.5-d0.5")
    assert list(tmp_path.iterdir()) == []


def test_an_export_leaves_the_model_as_it_was(exported):
    _, model, before = exported
    assert model.training
    assert model.config.to_dict() == before.config.to_dict()
    assert model.config._attn_implementation == before.config._attn_implementation
    for now, then in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(now, then)


def test_bad_targets_and_models_are_refused(tmp_path, monkeypatch):
    model = make()
    with pytest.raises(FileExistsError, match="exists, and nothing is overwritten"):
        export_onnx(model, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be written: .*Give a path in a folder where you may write"):
        export_onnx(model, tmp_path / "file" / "out")
    with torch.device("meta"):
        empty = make_model()
    with pytest.raises(ValueError, match="on the meta device"):
        export_onnx(empty, tmp_path / "out")
    with pytest.raises(TypeError, match=r"BertForSequenceClassification, which has one size only"):
        export_onnx(BertForSequenceClassification(model.to_backbone().config), tmp_path / "out")
    with pytest.raises(SubNetworkError, match="does not hold"):
        export_onnx(model.extract(width=0.5), tmp_path / "out", size="w1-d1")
    with pytest.raises(ValueError, match="Both size="):
        export_onnx(model, tmp_path / "out", size="w1-d1", sizes="all")
    with pytest.raises(ValueError, match="Give 'all' or a list of sizes"):
        export_onnx(model, tmp_path / "out", sizes="w1-d1")
    with pytest.raises(ValueError, match=r"sizes=\[\] is no list of sizes"):
        export_onnx(model, tmp_path / "out", sizes=[])
    with pytest.raises(FileNotFoundError, match=r"has no index\.json"):
        load_onnx(tmp_path)
    monkeypatch.setattr("dynabert_hf.messages.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "dynabert_hf\[onnx\]"'):
        export_onnx(model, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
