"""An extracted model: stand-alone, small on disk, and still elastic below its size."""

import copy
import json

import pytest
import torch
import transformers
from helpers import FAMILIES, HEADS
from helpers.backbones import make_backbone, make_stock
from helpers.tiny import batch_for, make_batch, make_config, make_model
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

from dynabert_hf import LayerShape, SubNetwork, SubNetworkError, count_parameters

IRREGULAR = (LayerShape(0, 4, 48), LayerShape(2, 1, 7), LayerShape(5, 3, 20))


def logits(model, **kwargs):
    with torch.no_grad():
        return model(**make_batch(**kwargs)).logits


def test_extraction_leaves_the_source_untouched():
    model = make_model().set_active(width=0.75, depth=1.0).train()
    model(**make_batch(), labels=torch.tensor([0, 1])).loss.backward()
    before = copy.deepcopy(model)
    gradients = [None if parameter.grad is None else parameter.grad.clone() for parameter in model.parameters()]
    small = model.extract("w0.5-d0.5")
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert model.active == SubNetwork(0.75, 1.0)
    assert model.training
    assert model.config.to_dict() == before.config.to_dict()
    for now, then, gradient in zip(model.parameters(), before.parameters(), gradients, strict=True):
        assert torch.equal(now, then)
        assert now.grad is None if gradient is None else torch.equal(now.grad, gradient)


def test_an_extracted_model_holds_only_the_kept_weights(family):
    model = make_model(family)
    small = model.extract(width=0.5, depth=0.5)
    assert sum(p.numel() for p in small.parameters()) == count_parameters(model, "w0.5-d0.5").total
    layer = small.base_model.encoder.layer
    assert len(layer) == 3
    assert layer[0].attention.self.query.weight.shape == (16, 32)
    assert layer[0].output.dense.weight.shape == (32, 24)
    assert not {p.data_ptr() for p in small.parameters()} & {p.data_ptr() for p in model.parameters()}


@pytest.mark.parametrize(
    ("head", "num_layers", "size"),
    [*((head, 6, "w0.25-d0.5") for head in HEADS), ("ForSequenceClassification", 24, "w0.25-d1")],
)
def test_what_is_saved_is_the_parameters_and_at_most_64_kb(tmp_path, head, num_layers, size):
    """Also for 24 layers, whose names alone take half of that, with a full table of metrics."""
    metrics = {
        str(each): {"accuracy": 0.123456789012345, "loss": 0.123456789012345} for each in make_config().subnetworks
    }
    model = make_model(head=head, stock={"num_hidden_layers": num_layers}, metrics=metrics)
    small = model.extract(size)
    small.save_pretrained(tmp_path)
    on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 0 <= on_disk - 4 * count_parameters(small).total <= 64 * 1024
    assert on_disk - 4 * count_parameters(model, size).total <= 64 * 1024
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        query = next(name for name in file.keys() if "layer.2.attention.self.query.weight" in name)  # noqa: SIM118
        assert file.get_tensor(query).shape == (8, 32)


def test_an_extracted_model_reloads_by_auto_class_at_its_size(tmp_path, family):
    small = make_model(family).extract(IRREGULAR)
    small.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is type(small)
    assert loaded.active == IRREGULAR
    assert torch.equal(logits(loaded), logits(small))


def test_an_extracted_model_is_elastic_below_its_size(family):
    model = make_model(family)
    small = model.extract(width=0.75, depth=0.5)
    for width in (0.25, 0.5, 0.75):
        expected = logits(model.set_active(width=width, depth=0.5))
        torch.testing.assert_close(logits(small.set_active(width=width)), expected, rtol=0, atol=1e-6)
    assert [str(size) for size in small.config.subnetworks] == ["w0.25-d0.5", "w0.5-d0.5", "w0.75-d0.5"]


def test_extracting_from_an_extracted_model_equals_extracting_at_once():
    model = make_model()
    twice, once = model.extract("w0.75-d0.5").extract(width=0.25), model.extract("w0.25-d0.5")
    for (name, left), right in zip(twice.named_parameters(), once.parameters(), strict=True):
        assert torch.equal(left, right), name
    assert twice.config.to_diff_dict() == once.config.to_diff_dict()


def test_extracting_beyond_an_extracted_size_is_an_error():
    small = make_model().extract(width=0.5, depth=0.5)
    with pytest.raises(SubNetworkError, match=r"w0\.75-d0\.5 needs .* does not hold.*Sizes that fit: w0\.25-d0\.5"):
        small.extract(width=0.75)
    with pytest.raises(SubNetworkError, match="load the model that this one was extracted from"):
        small.extract([LayerShape(1, 1, 1)])
    assert small.active == SubNetwork(0.5, 0.5)


def test_an_overridden_depth_rule_survives_extraction(tmp_path):
    model = make_model(kept_layers={"0.5": [1, 3, 5]})
    small = model.extract(width=0.5, depth=0.5)
    assert [layer.index for layer in small.config.stored_layers] == [1, 3, 5]
    small.save_pretrained(tmp_path)
    loaded = type(small).from_pretrained(tmp_path)
    torch.testing.assert_close(
        logits(loaded.set_active(width=0.25)), logits(model.set_active(width=0.25, depth=0.5)), rtol=0, atol=1e-6
    )


def test_the_configuration_records_where_it_came_from(tmp_path):
    table = {"w0.5-d0.5": {"accuracy": 0.5}, "w0.25-d0.5": {"accuracy": 0.25}, "w1-d1": {"accuracy": 1.0}}
    make_model(metrics={**table, "teacher": {"accuracy": 1.0}}).save_pretrained(tmp_path / "parent")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "parent")
    model.extract(width=0.5, depth=0.5).save_pretrained(tmp_path / "small")
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    assert config["extracted_from"] == {
        "parent": str(tmp_path / "parent"),
        "size": "w0.5-d0.5",
        "metrics": {"accuracy": 0.5},
    }
    assert set(config["metrics"]) == {"w0.5-d0.5", "w0.25-d0.5", "teacher"}


CUTS = {
    "depth": SubNetwork(1.0, 0.5),
    "neurons": [LayerShape(index, 4, 11) for index in range(6)],
    "both": [LayerShape(index, 4, 30) for index in (1, 2, 5)],
}


@pytest.mark.parametrize(
    ("family", "head", "cut"),
    [
        *((family, head, "both") for family in FAMILIES for head in HEADS),
        *(("Bert", "ForSequenceClassification", cut) for cut in ("depth", "neurons")),
    ],
)
def test_cuts_in_depth_and_neurons_become_models_that_stock_transformers_loads(tmp_path, family, head, cut):
    small = make_model(family, head, stock={"num_labels": 2}).extract(CUTS[cut])
    small.to_backbone().save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == family.lower()
    assert not {"stored_shape", "active_width", "widths", "extracted_from", "auto_map"} & config.keys()
    auto_class = "AutoModel" if head == "Model" else head.replace("For", "AutoModelFor")
    stock, loading = getattr(transformers, auto_class).from_pretrained(tmp_path, output_loading_info=True)
    assert type(stock) is getattr(transformers, f"{family}{head}")
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert stock.num_parameters() == count_parameters(small).total
    with torch.no_grad():
        expected, given = (model(**batch_for(head)).to_tuple() for model in (small, stock))
    for left, right in zip(given, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


def test_cuts_in_heads_and_layers_that_differ_stay_elastic():
    model = make_model()
    for size in (SubNetwork(0.5, 1.0), IRREGULAR):
        with pytest.raises(SubNetworkError, match=r"A stock configuration cannot express.*all 4 heads and as"):
            model.extract(size).to_backbone()


def test_a_base_model_without_pooler_stays_without():
    from dynabert_hf import DynaBertModel

    model = DynaBertModel(make_model().config, add_pooling_layer=False)
    assert model.extract(width=0.5).pooler is None
    assert model.to_backbone().pooler is None
    assert DynaBertModel.from_backbone(model.to_backbone()).pooler is None


def test_tied_weights_stay_tied():
    small = make_model(head="ForMaskedLM").extract(width=0.5)
    assert small.cls.predictions.decoder.weight is small.bert.embeddings.word_embeddings.weight
    assert small.cls.predictions.decoder.bias is small.cls.predictions.bias


def test_weights_that_are_not_tied_stay_so_also_where_the_configuration_ties_them():
    """So transformers loads checkpoints that hold both with different values."""
    model = make_model(head="ForMaskedLM")
    model.cls.predictions.decoder.weight = torch.nn.Parameter(torch.randn(99, 32))
    stock = model.to_backbone()
    with torch.no_grad():
        expected = model(**make_batch()).logits
        for copied in (stock, type(model).from_backbone(stock), model.extract()):
            assert torch.equal(copied(**make_batch()).logits, expected)
            assert copied.cls.predictions.decoder.bias is copied.cls.predictions.bias


def test_extraction_keeps_dtype_mode_and_attention():
    model = make_model().to(torch.bfloat16).train()
    model.set_attn_implementation("eager")
    small = model.extract(width=0.5)
    assert small.training
    assert {p.dtype for p in small.parameters()} == {torch.bfloat16}
    assert small.config._attn_implementation == "eager"


@pytest.mark.parametrize("family", ["Roberta", "XLMRoberta", "Camembert", "MPNet"])
def test_copies_count_positions_from_where_the_model_does_whatever_its_tokenizer_pads_with(family, tmp_path):
    """transformers' Trainer writes the padding token of the tokenizer into the configuration of a made model."""
    model, batch = make_backbone(family), make_batch()
    stock = model.to_backbone()
    with torch.no_grad():
        expected, narrow = stock(**batch).logits, model.set_active("w0.5-d0.5")(**batch).logits
        stock.config.pad_token_id = model.config.pad_token_id = 0
        elastic = type(model).from_backbone(stock)
        elastic.save_pretrained(tmp_path)
        model.save_pretrained(tmp_path / "trained")
        loaded = [type(model).from_pretrained(folder) for folder in (tmp_path, tmp_path / "trained")]
        model.config.pad_token_id = 0
        for copied in (elastic, loaded[0], loaded[1].set_active("w1-d1"), model.to_backbone()):
            assert torch.equal(copied.eval()(**batch).logits, expected)
        assert torch.equal(model.extract()(**batch).logits, narrow)
    assert stock.config.pad_token_id == model.config.pad_token_id == 0


@pytest.mark.parametrize("head", HEADS)
def test_a_model_without_weights_cannot_be_extracted(head):
    with torch.device("meta"):
        model = make_model(head=head)
    with pytest.raises(ValueError, match=r"on the meta device, without values to copy.*from_pretrained"):
        model.extract(width=0.5)


def test_a_head_that_the_configuration_does_not_know_is_not_cut_to_it():
    model = make_model()
    model.classifier = torch.nn.Linear(32, 7)
    message = r"classifier\.weight is of size \(3, 32\), the model holds it as \(7, 32\).*num_labels"
    for copied in (lambda: model.extract(width=0.5), model.to_backbone):
        with pytest.raises(ValueError, match=message):
            copied()
    stock = transformers.BertForSequenceClassification(make_model().to_backbone().config)
    stock.classifier = torch.nn.Linear(32, 7)
    with pytest.raises(ValueError, match=message):
        type(model).from_backbone(stock)
    stock.config.num_labels = 7
    assert type(model).from_backbone(stock).classifier.out_features == 7


@pytest.mark.parametrize("family", ["Bert", "DistilBert"])
def test_layers_that_the_configuration_does_not_know_are_neither_left_out_of_a_copy_nor_of_a_pass(family):
    stock, model = make_stock(family), make_backbone(family)
    layers = model.config.anatomy.stored_layers(stock.base_model)
    stock.base_model.get_submodule(model.config.anatomy.layers).append(layers[0])
    model.elastic_layers.append(model.elastic_layers[0])
    for copied in (lambda: type(model).from_backbone(stock), model.to_backbone, model.extract):
        with pytest.raises(ValueError, match=r"says that there are 6 layers, the model holds 7\. .*num_hidden_layers"):
            copied()
    with pytest.raises(SubNetworkError, match="6 layers is a ElasticLayers of 7 now"):
        logits(model)
    del model.elastic_layers[6]
    stock.config.num_hidden_layers = 7
    assert torch.equal(logits(type(model).from_backbone(stock)), logits(stock))


def test_an_extracted_model_trains_with_a_plain_trainer(tmp_path):
    small = make_model().extract(IRREGULAR)
    before = copy.deepcopy(small.state_dict())
    rows = [{key: value[0] for key, value in make_batch(seed=i).items()} | {"labels": i % 3} for i in range(8)]
    arguments = TrainingArguments(
        tmp_path, max_steps=3, per_device_train_batch_size=4, report_to=[], use_cpu=True, disable_tqdm=True
    )
    result = Trainer(small, arguments, train_dataset=rows).train()
    assert result.training_loss > 0
    trained = small.state_dict()
    changed = [name for name in before if not torch.equal(before[name], trained[name])]
    assert any("encoder.layer.2.intermediate" in name for name in changed)
    type(small).from_pretrained(tmp_path / "checkpoint-3")


def test_extraction_works_for_every_head(family, head):
    stock = {"stock": {"num_labels": 2}} if head == "ForQuestionAnswering" else {}
    model = make_model(family, head, **stock)
    small = model.extract(width=0.5, depth=0.5)
    with torch.no_grad():
        expected = model.set_active(width=0.5, depth=0.5)(**batch_for(head)).to_tuple()
        given = small(**batch_for(head)).to_tuple()
    for left, right in zip(given, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


def test_an_extracted_model_stands_on_stock_linears_until_it_is_made_smaller(family):
    model = make_model(family)
    for size in ("w1-d1", "w0.5-d0.5"):
        small = model.extract(size)
        linears = [module for module in small.modules() if isinstance(module, torch.nn.Linear)]
        assert {type(linear) for linear in linears} == {torch.nn.Linear}
        expected = logits(model.set_active("w0.25-d0.5"))
        torch.testing.assert_close(logits(small.set_active("w0.25-d0.5")), expected, rtol=0, atol=1e-6)
        assert logits(small.set_active(size)).shape == (2, 3)


def test_a_refused_width_leaves_stock_linears_which_are_made_smaller_once_nothing_is_in_their_place():
    model, size = make_model(), "w0.25-d0.5"
    small, expected = model.extract("w0.5-d0.5"), logits(model.set_active(size))
    place = small.bert.encoder.layer.stored[1].intermediate
    place.dense = torch.nn.Sequential(place.dense)  # as an adapter wraps a linear
    with pytest.raises(SubNetworkError, match=r"stands in layer 1\.intermediate\.dense"):
        small.set_active(size)
    assert {type(each) for each in small.modules() if isinstance(each, torch.nn.Linear)} == {torch.nn.Linear}
    place.dense = place.dense[0]
    torch.testing.assert_close(logits(small.set_active(size)), expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per_tensor:UserWarning")  # torch's own
@pytest.mark.parametrize("size", ["w1-d1", "w0.5-d0.5"])
def test_dynamic_quantisation_quantises_an_extracted_model(family, size):
    from torch.ao.nn.quantized.dynamic import Linear
    from torch.ao.quantization import quantize_dynamic

    model = make_model(family).set_active(size)
    small = model.extract()
    quantised = quantize_dynamic(small, {torch.nn.Linear}, dtype=torch.qint8)
    assert sum(isinstance(module, Linear) for module in quantised.modules()) == sum(
        isinstance(module, torch.nn.Linear) for module in small.modules()
    )
    torch.testing.assert_close(logits(quantised), logits(model), rtol=0, atol=0.1)  # of eight bits
    if size == "w1-d1":
        stock = quantize_dynamic(model.to_backbone().eval(), {torch.nn.Linear}, dtype=torch.qint8)
        assert torch.equal(logits(quantised), logits(stock))
    with pytest.raises(SubNetworkError, match="a quantised layer or a part of your own stands in layer"):
        quantised.set_active("w0.25-d0.5")


@pytest.mark.parametrize("are_removed", [False, True])
def test_an_extracted_model_whose_weights_hooks_move_or_moved_is_elastic_below_its_size(are_removed):
    from accelerate import cpu_offload
    from accelerate.hooks import remove_hook_from_module

    model = make_model()
    small = model.extract("w0.75-d0.5")
    cpu_offload(small, execution_device=torch.device("cpu"))
    if are_removed:
        remove_hook_from_module(small, recurse=True)
    expected = logits(model.set_active("w0.25-d0.5"))
    torch.testing.assert_close(logits(small.set_active("w0.25-d0.5")), expected, rtol=0, atol=1e-6)
