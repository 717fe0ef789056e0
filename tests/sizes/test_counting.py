"""Counted costs against an independent count of a model of those shapes."""

import pytest
import torch
from helpers.backbones import make_backbone
from helpers.tiny import batch_for, make_config, make_model
from torch.utils.flop_counter import FlopCounterMode

import dynabert_hf
from dynabert_hf import LayerShape, SubNetworkError, count_flops, count_parameters
from dynabert_hf.sizes import counting

IRREGULAR = (LayerShape(0, 4, 48), LayerShape(2, 1, 7), LayerShape(5, 3, 20))


def labels_for(head):
    return {"stock": {"num_labels": 2}} if head == "ForQuestionAnswering" else {}


def counted_by_torch(model, inputs):
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    return counter.get_total_flops()


def test_flops_are_those_that_torch_counts(family, head):
    model = make_model(family, head, **labels_for(head))
    inputs = batch_for(head, batch=2, length=7)
    num_sequences = inputs["input_ids"].numel() // 7
    regular = ["w0.5-d0.75"] if head == "ForSequenceClassification" else []  # heads read what all sizes give
    for size in (*regular, IRREGULAR):
        counted = count_flops(model, size, batch_size=num_sequences, sequence_length=7)
        assert counted == counted_by_torch(model.extract(size), inputs)
    assert counted == counted_by_torch(model.set_active(size), inputs)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_head_that_pools_by_the_mask_is_counted(pooling):
    model = make_backbone("ModernBert", "ForMultipleChoice", classifier_pooling=pooling)
    inputs = batch_for("ForMultipleChoice", batch=2, length=7)
    counted = count_flops(model, "w0.5-d0.5", batch_size=6, sequence_length=7)
    assert counted == counted_by_torch(model.extract("w0.5-d0.5"), inputs)


@pytest.mark.parametrize("family", ["Bert", "DistilBert"])
def test_chunks_of_feed_forward_layers_are_counted_at_lengths_that_they_do_not_divide(family):
    chunked, plain = make_backbone(family, chunk_size_feed_forward=5), make_backbone(family)
    for size in ("w0.5-d0.75", "w1-d1"):
        counted = count_flops(chunked, size, batch_size=2, sequence_length=10)
        assert counted == counted_by_torch(chunked.extract(size), batch_for("Model", batch=2, length=10))
        assert count_flops(chunked, size, sequence_length=7) == count_flops(plain, size, sequence_length=7)


def test_of_a_forward_pass_of_ones_own_that_of_its_class_is_counted():
    class TakesIdsAlone(dynabert_hf.DynaBertForSequenceClassification):
        def forward(self, input_ids):
            return super().forward(input_ids)

    for size in ("w0.5-d0.75", IRREGULAR):
        assert count_flops(TakesIdsAlone(make_model().config), size) == count_flops(make_model(), size)


def test_parameters_of_the_full_size_are_those_of_the_model(family, head):
    model = make_model(family, head)
    count = count_parameters(model)
    assert count.total == sum(parameter.numel() for parameter in model.parameters())
    assert count.embeddings == sum(parameter.numel() for parameter in model.base_model.embeddings.parameters())
    assert count.encoder == sum(parameter.numel() for parameter in model.base_model.encoder.parameters())


def test_a_model_without_a_pooler_is_counted_without_one(family):
    model = getattr(dynabert_hf, f"Dyna{family}Model")(make_config(family), add_pooling_layer=False).eval()
    inputs = batch_for("Model", batch=2, length=7)
    for size in ("w1-d1", "w0.5-d0.5"):
        small = model.extract(size)
        assert count_parameters(model, size).total == small.num_parameters()
        assert count_flops(model, size, batch_size=2, sequence_length=7) == counted_by_torch(small, inputs)


def test_parameters_of_a_size_are_those_of_a_model_built_with_its_shapes(family):
    model = make_model(family)
    for size in (*model.config.subnetworks, IRREGULAR):
        shapes = [vars(layer) for layer in model.config.resolve(size)]
        small = make_model(family, stored_shape=shapes, active_layers=shapes)
        assert count_parameters(model, size).total == sum(parameter.numel() for parameter in small.parameters())


def test_a_configuration_counts_without_a_head(family):
    config, model = make_config(family), make_model(family)
    count = count_parameters(config, "w0.5-d0.5")
    assert count.total == count.embeddings + count.encoder
    assert count.encoder == count_parameters(model, "w0.5-d0.5").encoder


def test_counts_are_of_the_active_size_by_default():
    model = make_model().set_active(width=0.5, depth=0.5)
    assert count_parameters(model) == count_parameters(model, "w0.5-d0.5")
    assert count_flops(model) == count_flops(model, "w0.5-d0.5") < count_flops(model, "w1-d1")


def test_counting_a_size_that_is_not_held_is_an_error():
    model = make_model()
    with pytest.raises(SubNetworkError, match="does not hold"):
        count_flops(model, [LayerShape(0, 5, 48)])
    with pytest.raises(SubNetworkError, match="does not name a sub-network"):
        count_parameters(model, "small")


def test_relative_positions_without_a_norm_cost_what_those_with_one_do():
    """DeBERTa's layers are then given a parameter itself, which has a gradient."""
    counts = [count_flops(make_backbone("DebertaV2", norm_rel_ebd=norm)) for norm in ("none", "layer_norm")]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("count", [count_flops, count_parameters])
def test_a_stock_model_is_refused(count):
    with pytest.raises(TypeError, match=r"A BertForMaskedLM has one size only\. .* make one by from_backbone"):
        count(make_model(head="ForMaskedLM").to_backbone())


def test_irregular_sizes_have_a_text_form():
    from dynabert_hf.model.subnetwork import parse_size, size_name

    assert size_name(IRREGULAR) == "l0h4n48-l2h1n7-l5h3n20"
    assert parse_size(size_name(IRREGULAR)) == IRREGULAR
    model = make_model()
    assert model.set_active("l0h4n48-l2h1n7-l5h3n20").active == IRREGULAR


def test_configurations_of_the_same_shapes_are_counted_by_one_model_without_weights():
    model = make_model(widths=[0.5, 1.0])
    counting._twin.cache_clear()
    before = count_parameters(model, "w0.5-d0.5"), count_flops(model, "w0.5-d0.5", sequence_length=7)
    model.config.metrics, model.config.problem_type = {"w1-d1": {"loss": 1.0}}, "regression"
    assert (count_parameters(model, "w0.5-d0.5"), count_flops(model, "w0.5-d0.5", sequence_length=7)) == before
    assert counting._twin.cache_info().currsize == 1
    other = make_model(widths=[1.0], stock={"num_attention_heads": 1})  # of which no part is left at most widths
    assert count_parameters(other).total == sum(parameter.numel() for parameter in other.parameters())
    assert counting._twin.cache_info().currsize == 2


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"sequence_length": -1}, {"sequence_length": 7.5}])
def test_a_pass_of_no_tokens_is_refused(wrong):
    (name, count), *_ = wrong.items()
    with pytest.raises(ValueError, match=rf"^{name}={count} is not possible\. Give a whole number of at least 1\.$"):
        count_flops(make_model(), **wrong)
