"""One look-up from a stock class to its elastic class, and what is refused by it."""

import json

import pytest
import transformers
from helpers import HEADS
from helpers.texts import make_text
from helpers.tiny import TINY, make_model
from helpers.trainers import make_dataset
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoConfig,
    GPT2Config,
    GPT2Model,
    T5Config,
    T5ForSequenceClassification,
    default_data_collator,
)
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from dynabert_hf import (
    AUTO_CLASSES,
    Cascade,
    DynaBertTrainer,
    DynaBertTrainingArguments,
    LatencyController,
    ModelCardFacts,
    RecipeResult,
    ServingTarget,
    SizeRecord,
    calibrate,
    export_onnx,
    measure_cascade,
    measure_latency,
    profile,
    push_subnetworks,
    repair,
    search_layers,
    specialise,
    train_dynabert,
)
from dynabert_hf.families import (
    anatomy_of,
    elastic_class_of,
    elastic_classes,
    family_name,
    read_config,
    sizes_of,
)
from dynabert_hf.training.size_evaluation import SizeEvaluation


def test_a_model_that_holds_trained_sizes_is_measured_at_its_own_too():
    size = "l0h3n40-l1h3n40-l2h3n40-l3h4n40-l4h3n40-l5h3n40"  # the largest: it holds w0.75-d1
    small = make_model().extract(size).set_active("w0.5-d0.5")
    *others, own = measure_latency(small, sequence_length=5, rounds=1)
    assert {one.size for one in others} == set(small.config.subnetworks)
    assert (others[-1].name, own.name, own.parameters) == ("w0.75-d1", size, small.num_parameters())


@pytest.mark.parametrize("size", ["w0.2-d0.4", "l0h2n10-l3h3n20"])
def test_a_model_that_holds_no_trained_size_is_measured_at_its_own(tmp_path, size):
    small = make_model().extract(size)
    assert small.config.subnetworks == ()
    assert sizes_of(small) == (small.active,)
    assert [one.size for one in measure_latency(small, sequence_length=5, rounds=1)] == [small.active]
    assert list(calibrate(small, make_text(small))) == [size]
    result = RecipeResult.from_metrics(small, {f"eval_{size}_accuracy": 0.5})
    assert [(row.size, row.metrics) for row in result.rows] == [(small.active, {"accuracy": 0.5})]
    assert list(export_onnx(small, tmp_path / "onnx", sizes="all").files) == [size]
    args = DynaBertTrainingArguments(tmp_path, stage="finetune", report_to="none", disable_tqdm=True, use_cpu=True)
    evaluation = SizeEvaluation(small, args, data_collator=default_data_collator)
    assert f"eval_{size}_loss" in evaluation.evaluate(make_dataset())
    assert list(evaluation.predict(make_dataset()).predictions) == [size]


def test_every_stock_class_has_its_elastic_class(family, head):
    stock = getattr(transformers, f"{family}{head}")
    elastic = elastic_class_of(stock)
    assert elastic.__name__ == f"Dyna{family}{head}"
    assert elastic_class_of(elastic) is elastic
    assert elastic.backbone_class is stock
    assert type("Mine", (elastic,), {}).backbone_class is stock


@pytest.mark.parametrize(
    "call",
    [
        profile,
        measure_latency,
        lambda model: search_layers(model, None, None, flops=1e6),
        lambda model: calibrate(model, None),
        lambda model: Cascade(model, "w0.5-d0.5", "w1-d1", threshold=0.5),
        lambda model: measure_cascade(model, "w0.5-d0.5", "w1-d1", None),
        lambda model: repair(model, "w0.6-d0.5", []),
        lambda model: specialise(model, "w0.5-d0.5", train_dataset=[]),
        lambda model: push_subnetworks(model, "me/sizes", ["w0.5-d0.5"]),
        ModelCardFacts.from_stored,
        lambda model: LatencyController(model, SERVED, ServingTarget(p95_ms=100)),
    ],
)
def test_a_stock_model_is_refused_by_name_where_sizes_are_needed(call):
    with pytest.raises(
        TypeError, match=r"is a BertForSequenceClassification, which has one size only\. .*from_backbone"
    ):
        call(transformers.BertForSequenceClassification(transformers.BertConfig(**TINY)))


def test_a_model_of_the_code_beside_its_weights_is_told_from_a_stock_one(tmp_path):
    """It is what `trust_remote_code=True` loads before this package is imported."""
    make_model().save_pretrained(tmp_path, with_code=True)
    name = "modeling_dynabert.DynaBertForSequenceClassification"
    model = get_class_from_dynamic_module(name, str(tmp_path)).from_pretrained(tmp_path)
    arguments = DynaBertTrainingArguments(tmp_path / "run", stage="width", use_cpu=True)
    calls = [
        lambda: profile(model),
        lambda: export_onnx(model, tmp_path / "export"),
        lambda: DynaBertTrainer(model, None, arguments),
        lambda: train_dynabert(model, train_dataset=[{"input_ids": [5], "labels": 0}], output_dir=tmp_path / "run"),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"of the code beside its weights, .* Import dynabert_hf first, and load"):
            call()


SERVED = [
    SizeRecord("w0.5-d0.5", {"accuracy": 0.5}, {"latency_ms": 1}),
    SizeRecord("w1-d1", {"accuracy": 0.7}, {"latency_ms": 2}),
]


def test_auto_classes_know_every_elastic_class():
    known = {model_class for classes in AUTO_CLASSES.values() for model_class in classes}
    assert known == set(elastic_classes())
    for each in elastic_classes():
        assert type(AutoConfig.for_model(each.config_class.model_type)) is each.config_class
        assert anatomy_of(each.config_class.backbone_config_class()) is each.config_class.anatomy


@pytest.mark.parametrize(
    "stock",
    [
        AlbertModel(AlbertConfig(**TINY, embedding_size=8)),
        GPT2Model(GPT2Config(n_embd=32, n_head=4, n_layer=1, vocab_size=99)),
        T5ForSequenceClassification(T5Config(d_model=32, d_kv=8, d_ff=48, num_heads=4, num_layers=1, vocab_size=99)),
    ],
    ids=["another encoder", "decoder", "encoder-decoder"],
)
def test_a_family_that_is_not_supported_is_refused_with_those_that_are(stock):
    with pytest.raises(
        TypeError, match=rf"A {type(stock).__name__} cannot be made elastic\. Supported types .* bert, ro"
    ):
        elastic_class_of(stock)
    with pytest.raises(
        TypeError, match=rf"A {type(stock).__name__} is neither an elastic .* Supported types .* bert, ro"
    ):
        anatomy_of(stock)


def test_a_head_that_is_not_supported_is_refused_with_those_of_its_family():
    stock = transformers.BertForNextSentencePrediction(transformers.BertConfig(**TINY))
    with pytest.raises(TypeError, match=r"Of this family these are BertModel, .*BertForMaskedLM.*; use one of them"):
        elastic_class_of(stock)


def test_a_checkpoint_that_does_not_say_what_it_is_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    with pytest.raises(
        ValueError, match=r"does not say of which type .* DynaBertForSequenceClassification\.from_pretr"
    ):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**TINY, "model_type": "bert"}))
    assert read_config(tmp_path).hidden_size == 32


def test_a_name_of_no_elastic_class_has_no_family():
    assert family_name("DynaMPNetForMaskedLM") == "MPNet"
    with pytest.raises(ValueError, match=r"'BertModel' is no elastic class\. Possible are DynaBertModel, .*; give one"):
        family_name("BertModel")


def test_every_head_is_there():
    assert set(HEADS) <= {each.__name__.removeprefix("DynaBert") for each in elastic_classes()}
