"""What an elastic checkpoint remembers, and what it refuses."""

import numpy
import pytest
from helpers.tiny import BACKBONE_CONFIGS, TINY, make_config, make_model
from transformers import AutoConfig, BertModel, DistilBertConfig

import dynabert_hf
from dynabert_hf import (
    DynaBertConfig,
    DynaBertForSequenceClassification,
    DynaRobertaConfig,
    LayerShape,
    SubNetwork,
    SubNetworkError,
)


def test_a_configuration_is_made_from_a_stock_one_or_a_model(family):
    stock = BACKBONE_CONFIGS[family](**TINY, num_labels=5)
    config_class = getattr(dynabert_hf, f"Dyna{family}Config")
    config = config_class.from_backbone(stock, widths=[0.5, 1.0])
    assert config.model_type == f"dyna{family.lower()}"
    assert (config.num_labels, config.intermediate_size, config.widths) == (5, 48, [0.5, 1.0])
    assert config.to_backbone().to_dict() == stock.to_dict()
    if family == "Bert":
        assert config_class.from_backbone(BertModel(stock)).num_hidden_layers == 6


def test_a_configuration_survives_json(family, tmp_path):
    config = make_config(family, kept_layers={"0.5": [1, 3, 5]}, active_width=0.5, active_depth=0.75)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is type(config)
    changing = {"transformers_version": 0, "_name_or_path": ""}
    assert {**loaded.to_dict(), **changing} == {**config.to_dict(), **changing}
    assert loaded.active == SubNetwork(0.5, 0.75)


def test_the_grid_of_sizes_and_the_layers_that_run():
    config = make_config(widths=[1, 0.5], depths=[1, 0.5], kept_layers={"0.5": [1, 3, 5]}, active_depth=0.5)
    assert [str(size) for size in config.subnetworks] == ["w0.5-d0.5", "w0.5-d1", "w1-d0.5", "w1-d1"]
    assert config.resolve(SubNetwork(0.5, 0.5)) == tuple(LayerShape(index, 2, 24) for index in (1, 3, 5))
    assert config.num_active_layers == 3


def test_other_layers_to_keep_take_no_metrics_of_those_before(tmp_path):
    metrics, temperatures = {"w1-d0.5": {"accuracy": 0.8}, "teacher": {"accuracy": 0.9}}, {"w1-d0.5": 2.0}
    config = make_config(kept_layers={"0.5": [1, 3, 5]}, metrics=metrics, temperatures=temperatures)
    config.save_pretrained(tmp_path)
    for given in ({}, {"kept_layers": {0.5: [1, 3, 5]}}, {"active_depth": 0.5}):
        same = AutoConfig.from_pretrained(tmp_path, **given)
        assert (same.metrics, same.temperatures) == (metrics, temperatures)
    for given, layers in (({"0.5": [0, 1, 5]}, [0, 1, 5]), (None, [0, 2, 4])):
        other = AutoConfig.from_pretrained(tmp_path, kept_layers=given)
        assert (other.metrics, other.temperatures) == (None, None)
        assert [layer.index for layer in other.resolve(SubNetwork(depth=0.5))] == layers
        made = type(config).from_backbone(config, kept_layers=given)
        assert (made.metrics, made.temperatures) == (None, None)
    assert type(config).from_backbone(config, widths=[0.5, 1.0]).metrics == metrics


def test_a_size_given_beside_a_configuration_comes_instead_of_its_layers():
    config = make_config(active_layers=[{"index": 1, "heads": 2, "neurons": 7}])
    assert type(config).from_backbone(config).active == (LayerShape(1, 2, 7),)
    assert type(config).from_backbone(config, active_depth=0.5).active == SubNetwork(depth=0.5)


@pytest.mark.parametrize("key", [str(1 / 3), 1 / 3])
def test_layers_to_keep_are_found_for_every_depth(key, tmp_path):
    config = make_config(depths=[1 / 3, 1.0], kept_layers={key: [1, 5]})
    config.save_pretrained(tmp_path)
    for same in (config, AutoConfig.from_pretrained(tmp_path)):
        assert [layer.index for layer in same.resolve(SubNetwork(depth=1 / 3))] == [1, 5]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"widths": [0.5, 7]}, r"width=7 is not a multiplier"),
        ({"depths": [0]}, r"depth=0 is not a multiplier"),
        ({"widths": []}, "widths is empty"),
        ({"widths": 0.5}, r"widths=0\.5 is not possible\. Give a list"),
        ({"widths": ["a", 1]}, "width='a' is not a multiplier"),
        ({"kept_layers": [0, 1, 2]}, "kept_layers=.* is not possible. Give for each depth"),
        ({"kept_layers": {"half": [0, 1, 2]}}, "kept_layers=.* is not possible. Give for each depth"),
        ({"kept_layers": {"2": list(range(12))}}, "kept_layers=.* is not possible. Give for each depth"),
        ({"kept_layers": {"nan": []}}, "kept_layers=.* is not possible. Give for each depth"),
        ({"kept_layers": {"0.5": [0.0, 2.0, 4.0]}}, "kept_layers=.* is not possible. Give for each depth"),
        (
            {"kept_layers": {0.5: [0, 2, 4], "0.50": [1, 3, 5]}},
            r"has the keys \[0\.5, '0\.50'\], and two name one depth",
        ),
        ({"widths": [0.1]}, r"leaves no attention head of 4"),
        ({"depths": [0.05]}, r"leaves no layer of 6"),
        ({"kept_layers": {"0.5": [0, 2, 6]}}, r"kept_layers.*\[0, 2, 6\].* between 0 and 5"),
        ({"kept_layers": {"0.5": [2, 1, 4]}}, r"kept_layers.*must increase"),
        ({"kept_layers": {"0.5": [0, 1]}}, "has 2 layers. Depth 0.5 of 6 layers is 3"),
        ({"format_version": 2}, "format_version=2, this release reads up to 1. Update"),
        ({"format_version": "two"}, "format_version='two', this release reads up to 1. Update"),
        ({"metrics": "bad"}, "metrics='bad' is not possible. Give metrics by size, such as {'w1-d1': {'f1': 0.9}}"),
        ({"metrics": {"w1-d1": 0.9}}, "metrics={'w1-d1': 0.9} is not possible. Give metrics by size"),
        ({"metric_rows": "872"}, "metric_rows='872' is not possible. Give metric_rows by size, .*'f1': '872 rows'"),
        ({"metric_rows": {"w1-d1": "872 rows"}}, "metric_rows={'w1-d1': '872 rows'} is not possible"),
        ({"active_width": 2}, "width=2 is not a multiplier"),
        ({"active_layers": 3}, r"^3 does not describe layers\. Possible is a list"),
    ],
)
def test_an_impossible_field_is_refused(field, message):
    with pytest.raises(SubNetworkError, match=message):
        make_config(**field).resolve(make_config(**field).active)


@pytest.mark.parametrize("field", [{"active_width": 7}, {"widths": [7]}, {"kept_layers": {"0.5": [3, 2, 1]}}])
def test_an_impossible_override_on_loading_is_refused(field, tmp_path):
    make_config().save_pretrained(tmp_path)
    with pytest.raises(SubNetworkError):
        DynaBertConfig.from_pretrained(tmp_path, **field)


def test_another_encoder_is_refused_with_those_that_are_supported(tmp_path):
    with pytest.raises(TypeError, match=r"from 'distilbert'; it needs 'bert'\. Supported encoders are BERT .* RoBERTa"):
        DynaBertConfig.from_backbone(DistilBertConfig())
    with pytest.raises(TypeError, match="from 'bert'; it needs 'roberta'"):
        DynaRobertaConfig.from_backbone(BACKBONE_CONFIGS["Bert"](**TINY))
    DistilBertConfig().save_pretrained(tmp_path)
    with pytest.raises(
        SubNetworkError, match="encoder of type 'distilbert'; DynaBertConfig reads 'dynabert' and 'bert'"
    ):
        DynaBertConfig.from_pretrained(tmp_path)


def test_listed_sizes_are_trained_sizes_besides_the_grid(tmp_path):
    layers = (LayerShape(1, 3, 20), LayerShape(4, 1, 7))
    config = make_config(widths=[0.5, 1.0], depths=[1.0], sizes=["w0.75-d0.5", layers, "w1-d1", "w0.75-d0.5"])
    assert config.sizes == ["w0.75-d0.5", "l1h3n20-l4h1n7", "w1-d1"]
    expected = (layers, SubNetwork(0.75, 0.5), SubNetwork(0.5, 1.0), SubNetwork(1.0, 1.0))
    assert config.subnetworks == expected
    config.save_pretrained(tmp_path)
    assert type(config).from_pretrained(tmp_path).subnetworks == expected
    assert config.extract("w0.75-d0.5").subnetworks == (SubNetwork(0.75, 0.5),)


def test_integers_of_numpy_are_integers(tmp_path):
    layers = [LayerShape(*numpy.array([index, 3, 20])) for index in (1, 4)]
    config = make_config(sizes=[layers], kept_layers={numpy.float32(0.5): numpy.array([1, 3, 5])})
    config.save_pretrained(tmp_path)
    assert type(config).from_pretrained(tmp_path).sizes == config.sizes == ["l1h3n20-l4h3n20"]
    assert [layer.index for layer in config.resolve("w1-d0.5")] == [1, 3, 5]


@pytest.mark.parametrize(("name", "nearest"), [("width", "widths"), ("depht", "depth"), ("size", "sizes")])
def test_a_name_close_to_a_field_is_refused_where_it_would_be_kept_as_one_s_own(name, nearest):
    model = make_model().to_backbone()
    with pytest.raises(TypeError, match=rf"{name} is no field. The nearest is {nearest}.*, or a size to set_active"):
        DynaBertForSequenceClassification.from_backbone(model, **{name: [0.5]})
    assert DynaBertConfig.from_backbone(model, emb_size=312, num_labels=5).emb_size == 312


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("w0.5-d1", r"sizes='w0\.5-d1' is not possible\. Give a list of sizes"),
        (["small"], "'small' does not name a sub-network"),
        (LayerShape(1, 3, 20), r"sizes=LayerShape\(.*is not possible\. Give a list of sizes"),
        (["l9h1n1"], "must increase and lie between 0 and 5"),
        (["l0h9n20"], r"heads=9.* Sizes that fit: w0\.25-d0\.5, .* w1-d1\. Choose"),
    ],
)
def test_listed_sizes_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(SubNetworkError, match=message):
        make_config(sizes=sizes)


@pytest.mark.parametrize("given", [{"metrics": {"accuracy": 0.9}}, {"sizes": "small"}, {"temperatures": 0.7}])
def test_fields_of_a_stock_configuration_under_names_of_ours_are_the_users_own(tmp_path, given):
    stock = BACKBONE_CONFIGS["Bert"](**TINY, **given, own=3)
    stock.save_pretrained(tmp_path)
    made = DynaBertConfig.from_backbone(stock, depths=[0.5, 1.0])
    loaded = DynaBertConfig.from_pretrained(tmp_path, depths=[0.5, 1.0])
    for config in (made, loaded, DynaBertConfig.from_backbone(made)):
        assert (config.metrics, config.sizes, config.temperatures) == (None, None, None)
        assert (config.depths, config.own) == ([0.5, 1.0], 3)
