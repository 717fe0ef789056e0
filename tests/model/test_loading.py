"""Loading: at a size, in part, from stock and published checkpoints, and what is refused."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from helpers import splitting_worker
from helpers.backbones import make_backbone
from helpers.published import publish_as_the_authors_did
from helpers.tiny import BACKBONE_CONFIGS, TINY, make_batch, make_model, make_small
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

import dynabert_hf
from dynabert_hf import DynaBertConfig, DynaBertForSequenceClassification, DynaBertModel, SubNetworkError
from dynabert_hf.model.checkpoint import TensorPart, open_tensors

SIZE = {"active_width": 0.5, "active_depth": 0.75}


def logits(model):
    with torch.no_grad():
        return model(**make_batch()).logits


def edit_config(folder, **changes):
    path = Path(folder) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with a tiny elastic model."""
    folder = tmp_path_factory.mktemp("original")
    make_model().save_pretrained(folder)
    return folder


@pytest.fixture
def saved(original, tmp_path):
    """A copy of it for one test."""
    return shutil.copytree(original, tmp_path / "saved")


def test_size_is_chosen_while_loading(saved):
    model = DynaBertForSequenceClassification.from_pretrained(saved, **SIZE)
    whole = DynaBertForSequenceClassification.from_pretrained(saved).set_active(width=0.5, depth=0.75)
    assert str(model.active) == "w0.5-d0.75"
    assert torch.equal(logits(model), logits(whole))
    assert str(AutoModelForSequenceClassification.from_pretrained(saved, **SIZE).active) == "w0.5-d0.75"


def test_a_subclass_that_takes_a_configuration_alone_is_loaded(saved, tmp_path):
    class Scaled(DynaBertForSequenceClassification):
        def __init__(self, config):
            super().__init__(config)
            self.scale = torch.nn.Parameter(torch.full((config.num_labels,), 2.0))

        def forward(self, **inputs):
            outputs = super().forward(**inputs)
            outputs.logits = outputs.logits * self.scale
            return outputs

    made = Scaled(DynaBertConfig.from_pretrained(saved)).eval()
    made.save_pretrained(tmp_path / "scaled")
    model = Scaled.from_pretrained(tmp_path / "scaled", **SIZE)
    assert torch.equal(logits(model), logits(made.set_active(width=0.5, depth=0.75)))
    assert torch.equal(logits(model), logits(made.extract()))


def test_size_is_chosen_beside_a_configuration_which_stays_as_it_is(saved, tmp_path):
    own, stock = DynaBertConfig.from_pretrained(saved), make_model().to_backbone()
    stock.save_pretrained(tmp_path / "stock")
    before = own.to_dict()
    small = DynaBertForSequenceClassification.from_pretrained(saved, config=own, **SIZE)
    assert torch.equal(logits(small), logits(DynaBertForSequenceClassification.from_pretrained(saved, **SIZE)))
    part = AutoModelForSequenceClassification.from_pretrained(saved, config=own, **SIZE, only_active=True)
    assert part.config.extracted_from["parent"] == str(saved)
    assert torch.equal(logits(part), logits(small))
    assert str(AutoModelForSequenceClassification.from_config(own, **SIZE).active) == "w0.5-d0.75"
    made = DynaBertForSequenceClassification.from_pretrained(
        tmp_path / "stock", config=stock.config, widths=[0.5, 1], **SIZE
    )
    assert made.config.widths == [0.5, 1.0]
    assert torch.equal(logits(made), logits(small))
    assert own.to_dict() == before
    with pytest.raises(SubNetworkError, match="width=7 is not a multiplier"):
        DynaBertForSequenceClassification.from_pretrained(saved, config=own, active_width=7)


def test_size_that_is_not_stored_is_refused_while_loading(saved, tmp_path):
    DynaBertForSequenceClassification.from_pretrained(saved, **SIZE, only_active=True).save_pretrained(
        tmp_path / "part"
    )
    with pytest.raises(SubNetworkError, match=r"w1-d0\.75 needs .* does not hold"):
        DynaBertForSequenceClassification.from_pretrained(tmp_path / "part", active_width=1.0)


def test_only_the_active_part_is_loaded(tmp_path, family, head):
    """Of one file, or, for one of the heads, of shards."""
    whole = make_model(family, head, stock={"num_labels": 2})
    whole.save_pretrained(tmp_path, max_shard_size="20KB" if head == "ForTokenClassification" else "10GB")
    part = type(whole).from_pretrained(tmp_path, **SIZE, only_active=True)
    assert part.config.stored_layers == whole.set_active(width=0.5, depth=0.75).active_layers
    assert part.num_parameters() < whole.num_parameters()
    whole_again = type(whole).from_pretrained(tmp_path, **SIZE)
    inputs = make_batch(choices=3 if head == "ForMultipleChoice" else None)
    with torch.no_grad():
        for ours, theirs in zip(part(**inputs).to_tuple(), whole_again(**inputs).to_tuple(), strict=True):
            # The same numbers times the same numbers, summed in the order that another memory layout suggests: float32
            # rounding through five layers.
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    for name, parameter in part.named_parameters():
        if "encoder" not in name:
            assert torch.equal(parameter, whole.get_parameter(name)), name


def test_loading_the_active_part_is_loading_and_extracting(saved):
    part = DynaBertForSequenceClassification.from_pretrained(saved, **SIZE, only_active=True)
    extracted = DynaBertForSequenceClassification.from_pretrained(saved).extract("w0.5-d0.75")
    ours, theirs = (model.config.to_dict() for model in (part, extracted))
    assert ours == theirs
    for (name, ours), (_, theirs) in zip(part.named_parameters(), extracted.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def test_weights_in_memory_are_loaded_whole_and_their_active_part_is_extracted(saved):
    whole = DynaBertForSequenceClassification.from_pretrained(saved, **SIZE)
    given = {"config": whole.config, "state_dict": whole.state_dict()}
    with pytest.raises(SubNetworkError, match=r"but state_dict was given.*extract\(\) the part"):
        DynaBertForSequenceClassification.from_pretrained(None, **given, only_active=True)
    again = DynaBertForSequenceClassification.from_pretrained(None, **given).extract()
    for (name, ours), (_, theirs) in zip(again.named_parameters(), whole.extract().named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.slow
def test_weights_that_processes_would_split_are_refused(tmp_path):
    """Transformers split them, and the leading part of a shard gave other outputs without an error."""
    make_backbone("EuroBert").save_pretrained(tmp_path)
    assert all("tp_plan splits weights over processes" in text for text in splitting_worker.start(tmp_path))


def test_part_of_a_part_is_loaded(saved, tmp_path):
    part = DynaBertForSequenceClassification.from_pretrained(saved, **SIZE, only_active=True)
    part.save_pretrained(tmp_path / "part")
    smaller = {"active_width": 0.25, "active_depth": 0.75}
    again = DynaBertForSequenceClassification.from_pretrained(tmp_path / "part", **smaller, only_active=True)
    at_once = DynaBertForSequenceClassification.from_pretrained(saved, **smaller, only_active=True)
    for (name, ours), (_, theirs) in zip(again.named_parameters(), at_once.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    assert again.config.stored_shape == at_once.config.stored_shape


def test_auto_class_loads_only_the_active_part(saved):
    part = AutoModelForSequenceClassification.from_pretrained(saved, **SIZE, only_active=True)
    assert len(part.bert.encoder.layer) == 4


def test_only_the_active_part_of_a_stock_checkpoint_is_loaded(tmp_path):
    stock = BertForSequenceClassification(BACKBONE_CONFIGS["Bert"](**TINY)).eval()
    stock.save_pretrained(tmp_path)
    part = DynaBertForSequenceClassification.from_pretrained(tmp_path, active_depth=0.5, only_active=True)
    assert torch.equal(part.bert.encoder.layer[1].output.dense.weight, stock.bert.encoder.layer[2].output.dense.weight)


@pytest.mark.parametrize(
    ("cut", "message", "given"),
    [
        (
            {"num_attention_heads": 1},
            r"width=0\.25 .* 0\.5, which keeps one; .* in widths too",
            {"widths": [0.5, 1.0]},
        ),
        ({"num_hidden_layers": 1}, r"depth=0\.5 .* depth of 1 keeps one; .* in depths too", {"depths": [1.0]}),
    ],
)
def test_a_checkpoint_too_small_for_the_default_sizes_is_loaded_with_others(tmp_path, cut, message, given):
    stock = BertForSequenceClassification(BACKBONE_CONFIGS["Bert"](**{**TINY, **cut})).eval()
    stock.save_pretrained(tmp_path)
    with pytest.raises(SubNetworkError, match=message):
        DynaBertForSequenceClassification.from_pretrained(tmp_path)
    model = DynaBertForSequenceClassification.from_pretrained(tmp_path, **given)
    assert torch.equal(logits(model), logits(stock))


def test_parts_are_read_by_slice():
    class Recorder:
        def __getitem__(self, slices):
            self.slices = slices
            return torch.zeros([part.stop for part in slices])

    recorder = Recorder()
    assert TensorPart(recorder, (2, 3))[...].shape == (2, 3)
    assert recorder.slices == (slice(2), slice(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("size", [(5, 7), (3, 7), (3, 4), (5, 2)])
def test_leading_parts_of_a_file_are_those_of_the_tensor(tmp_path, monkeypatch, dtype, size):
    monkeypatch.setattr("dynabert_hf.model.checkpoint._BLOCK", 2 * 7 * torch.empty((), dtype=dtype).element_size())
    whole = torch.arange(35).reshape(5, 7).to(dtype)
    save_file({"before": torch.ones(3), "whole": whole}, tmp_path / "file.safetensors")
    found = {name: source for name, source, _ in open_tensors([str(tmp_path / "file.safetensors")])}
    assert torch.equal(TensorPart(found["whole"], size)[...], whole[: size[0], : size[1]])
    assert torch.equal(TensorPart(found["before"], (2,))[...], torch.ones(2))


def test_elements_of_an_unusual_type_are_not_read_in_part(tmp_path):
    save_file({"odd": torch.ones(3, dtype=torch.int16)}, tmp_path / "file.safetensors")
    ((_, source, shape),) = open_tensors([str(tmp_path / "file.safetensors")])
    with pytest.raises(TypeError, match=r"elements of a type that cannot be read in part\. Load the whole model"):
        TensorPart(source, shape)[...]


@pytest.mark.slow
def test_peak_memory_of_the_active_part_is_at_most_45_percent(tmp_path):
    """Of a BERT-base at (0.25, 0.5), as the benchmark measures it."""
    root = Path(dynabert_hf.__file__).parent.parent
    command = [
        sys.executable,
        root / "benchmarks" / "loading.py",
        "--rounds",
        "1",
        "--output",
        tmp_path / "report.json",
    ]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root)}, check=True, capture_output=True, timeout=600)
    assert json.loads((tmp_path / "report.json").read_text())["share_of_whole"] <= 0.45


@pytest.mark.parametrize("only_active", [False, True])
def test_dtype_device_map_and_subfolder_are_respected(tmp_path, only_active):
    make_model().save_pretrained(tmp_path / "sub")
    model = DynaBertForSequenceClassification.from_pretrained(
        tmp_path,
        **SIZE,
        subfolder="sub",
        dtype=torch.bfloat16,
        device_map="cpu",
        low_cpu_mem_usage=True,
        only_active=only_active,
    )
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.device.type == "cpu"
    assert logits(model).isfinite().all()


def test_stock_checkpoint_loads_without_a_word(tmp_path, family, capfd):
    stock_class = getattr(__import__("transformers"), f"{family}ForSequenceClassification")
    stock_class(BACKBONE_CONFIGS[family](**TINY)).save_pretrained(tmp_path)
    capfd.readouterr()
    model = getattr(dynabert_hf, f"Dyna{family}ForSequenceClassification").from_pretrained(tmp_path)
    assert model.config.model_type == f"dyna{family.lower()}"
    assert "of type" not in capfd.readouterr().err


class Bomb:
    """Unpickling it makes a file, if code runs."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("config", [{}, {"model_type": "bert"}], ids=["without_type", "bert"])
def test_published_checkpoint_is_loaded_with_all_its_sizes(tmp_path, config):
    model = make_model(stock={"num_labels": 2})
    publish_as_the_authors_did(tmp_path / "published", model, config=config)
    loaded = DynaBertForSequenceClassification.from_pretrained(tmp_path / "published")
    assert loaded.config.subnetworks == model.config.subnetworks
    for (name, ours), (_, theirs) in zip(loaded.named_parameters(), model.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    part = DynaBertForSequenceClassification.from_pretrained(tmp_path / "published", **SIZE, only_active=True)
    torch.testing.assert_close(logits(part), logits(loaded.set_active(width=0.5, depth=0.75)), rtol=0, atol=1e-5)
    loaded.save_pretrained(tmp_path / "saved")
    assert "bert.embeddings.LayerNorm.weight" in load_file(tmp_path / "saved" / "model.safetensors")
    DynaBertForSequenceClassification.from_pretrained(tmp_path / "saved")  # its old fields are no cause for warnings


def measured(tmp_path, head):
    """The folder of a small model that stores what was measured of it."""
    model = make_small(head)
    model.config.metrics, model.config.temperatures = {"w1-d1": {"accuracy": 0.9}}, {"w1-d1": 2.0}
    model.save_pretrained(tmp_path)
    return tmp_path


def told(model):
    return model.config.metrics, model.config.temperatures


@pytest.mark.parametrize("head", ["Model", "ForSequenceClassification", "ForMaskedLM"])
def test_what_was_measured_of_a_model_is_known_when_it_is_loaded_again(tmp_path, head):
    folder, model_class = measured(tmp_path, head), getattr(dynabert_hf, f"DynaBert{head}")
    everything = {"w1-d1": {"accuracy": 0.9}}, {"w1-d1": 2.0}
    assert told(model_class.from_pretrained(folder)) == everything
    again, info = model_class.from_pretrained(folder, active_width=0.5, output_loading_info=True)
    assert told(again) == everything
    assert not any(info.values())
    no_pooler = {} if head != "Model" else {"add_pooling_layer": False}
    assert told(model_class.from_pretrained(folder, **no_pooler)) == everything


def test_of_other_weights_than_those_of_the_checkpoint_nothing_is_told_to_be_measured(tmp_path):
    folder = measured(tmp_path, "ForSequenceClassification")
    shallow = DynaBertConfig.from_pretrained(folder, num_hidden_layers=1, depths=[1.0])
    other_labels = {"num_labels": 5, "ignore_mismatched_sizes": True}
    for name, given in (
        ("ForTokenClassification", {}),  # whose head has the same names and shapes
        ("Model", {}),
        ("ForSequenceClassification", {"config": shallow}),
        ("ForSequenceClassification", other_labels),
    ):
        loaded = getattr(dynabert_hf, f"DynaBert{name}").from_pretrained(folder, **given)
        assert told(loaded) == (None, None), (name, given)
    assert shallow.metrics  # of the caller, as it was


@pytest.mark.parametrize("only_active", [False, True])
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_pickle_that_runs_code_is_refused(tmp_path, saved, form, only_active):
    (saved / "model.safetensors").unlink()
    content = {"bert.embeddings.word_embeddings.weight": Bomb(tmp_path / "ran")}
    if form == "zip":
        torch.save(content, saved / "pytorch_model.bin")
    else:
        (saved / "pytorch_model.bin").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(OSError, match="holds more than tensors, and reading it could run code"):
        DynaBertForSequenceClassification.from_pretrained(saved, only_active=only_active)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("length", [0, 100, -100], ids=["empty", "in_header", "in_weights"])
def test_truncated_weights_are_refused(saved, length):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(OSError, match=r"cannot be read: .* cut off .* force_download=True"):
        DynaBertForSequenceClassification.from_pretrained(saved)


def test_shard_outside_of_the_folder_is_refused(tmp_path):
    make_model().save_pretrained(tmp_path / "in", max_shard_size="20KB")
    path = tmp_path / "in" / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    shard = index["weight_map"]["classifier.bias"]
    os.rename(tmp_path / "in" / shard, tmp_path / shard)
    index["weight_map"] = {k: f"../{v}" if v == shard else v for k, v in index["weight_map"].items()}
    path.write_text(json.dumps(index))
    with pytest.raises(OSError, match="lies outside of it"):
        DynaBertForSequenceClassification.from_pretrained(tmp_path / "in")


@pytest.mark.parametrize("name", ["vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings"])
@pytest.mark.parametrize("factor", [2, 10**12])
def test_configuration_larger_than_the_weights_is_refused(saved, name, factor):
    edit_config(saved, **{name: TINY[name] * factor})
    with pytest.raises(
        (SubNetworkError, RuntimeError), match=f"{name}=|The configuration says that .* the checkpoint holds it as"
    ):
        DynaBertForSequenceClassification.from_pretrained(saved)


@pytest.mark.parametrize("num_layers", [7, 10**9])
def test_more_layers_than_the_weights_are_refused(saved, num_layers):
    edit_config(saved, num_hidden_layers=num_layers)
    with pytest.raises(
        (SubNetworkError, RuntimeError), match=r"does not hold it|num_hidden_layers=1000000000 is not possible"
    ):
        DynaBertForSequenceClassification.from_pretrained(saved)


@pytest.mark.parametrize("name", sorted({*TINY} - {"hidden_dropout_prob", "attention_probs_dropout_prob"}))
def test_negative_counts_are_refused(saved, name):
    edit_config(saved, **{name: -4})
    with pytest.raises(SubNetworkError, match=f"{name}=-4 is not possible. It must be an integer from 1"):
        DynaBertForSequenceClassification.from_pretrained(saved)


def test_enormous_number_of_labels_is_refused():
    with pytest.raises(SubNetworkError, match="num_labels=1000000000000 is not possible"):
        DynaBertConfig(num_labels=10**12)


@pytest.mark.parametrize("value", ["32", None, 3.5, [32], {}])
def test_counts_that_are_no_numbers_are_refused(saved, value):
    edit_config(saved, hidden_size=value)
    with pytest.raises(Exception, match="hidden_size") as refused:
        DynaBertForSequenceClassification.from_pretrained(saved)
    assert type(refused.value).__name__ in ("StrictDataclassFieldValidationError", "SubNetworkError")


@pytest.mark.parametrize("value", ["0.5", -1, 0, 2, float("nan")])
def test_active_width_that_is_no_multiplier_is_refused(saved, value):
    edit_config(saved, active_width=value)
    with pytest.raises(Exception, match=r"width") as refused:
        DynaBertForSequenceClassification.from_pretrained(saved)
    assert type(refused.value).__name__ in ("StrictDataclassFieldValidationError", "SubNetworkError")


def test_field_of_ones_own_is_kept_without_a_word(saved):
    edit_config(saved, sentence_transformers={"version": "5.0"}, emb_size=312)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = DynaBertForSequenceClassification.from_pretrained(saved)
    assert model.config.sentence_transformers == {"version": "5.0"}
    assert model.config.emb_size == 312


def shape_of(saved, folder, **size):
    part = DynaBertForSequenceClassification.from_pretrained(saved, **size, only_active=True)
    part.save_pretrained(folder)
    return part.config.stored_shape


def test_stored_shape_that_disagrees_with_the_weights_is_refused(saved, tmp_path):
    shape = shape_of(saved, tmp_path / "part", active_width=0.5, active_depth=1.0)
    narrower = [{**layer, "neurons": layer["neurons"] - 1} for layer in shape]
    for wrong, message in (
        (shape[:-1], r"w0.5-d1 needs"),
        (narrower, r"needs LayerShape"),
        ([*shape[:3], {**shape[3], "index": 99}], "index=99"),
        ([{**shape[0], "heads": 10**9}, *shape[1:]], "heads=1000000000"),
        ([{**shape[0], "heads": -1}, *shape[1:]], "heads=-1 is not possible"),
        ([{"index": 0}], "does not describe layers"),
    ):
        edit_config(tmp_path / "part", stored_shape=wrong)
        with pytest.raises(SubNetworkError, match=message):
            DynaBertForSequenceClassification.from_pretrained(tmp_path / "part")
    edit_config(tmp_path / "part", stored_shape=narrower, active_layers=narrower)
    with pytest.raises(RuntimeError, match=r"The configuration says that .* the checkpoint holds it as"):
        DynaBertForSequenceClassification.from_pretrained(tmp_path / "part")
    edit_config(tmp_path / "part", stored_shape=shape[:-1], active_layers=shape[:-1])
    with pytest.raises(RuntimeError, match="5 layers are stored, the checkpoint holds 6"):
        DynaBertForSequenceClassification.from_pretrained(tmp_path / "part")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_warned_about(saved, value):
    weights = load_file(saved / "model.safetensors")
    weights["bert.encoder.layer.3.output.dense.bias"][1] = value
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match=r"layer\.3\.output\.dense\.bias holds NaN or infinite values"):
        DynaBertForSequenceClassification.from_pretrained(saved)


def test_good_checkpoints_are_loaded_without_a_warning(saved):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DynaBertForSequenceClassification.from_pretrained(saved)
        DynaBertModel.from_pretrained(saved)


@pytest.mark.parametrize("before", ["w0.5-d0.5", "w1-d1"])
def test_a_depth_after_layer_shapes_is_at_full_width_whatever_was_in_force_before(tmp_path, before):
    model = make_model().set_active(before).set_active("l0h2n20-l3h4n48")
    with model.subnetwork(before):
        pass
    model.save_pretrained(tmp_path)
    loaded = DynaBertForSequenceClassification.from_pretrained(tmp_path, active_depth=0.5)
    assert str(loaded.active) == str(model.set_active(depth=0.5).active) == "w1-d0.5"
    assert torch.equal(logits(loaded), logits(model))
