"""Switching sizes: what runs, what stays equal to the stock model, and what never leaks."""

import copy
import warnings

import pytest
import torch
from helpers.tiny import TINY, batch_for, make_batch, make_config, make_model, make_small
from safetensors import safe_open
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.output_capturing import OutputRecorder

import dynabert_hf
from dynabert_hf import (
    DynaBertForSequenceClassification,
    DynaBertModel,
    LayerShape,
    SubNetwork,
    SubNetworkError,
    plan_stage,
)

TWO_LABELS = {"stock": {"num_labels": 2}}


def outputs(model, inputs):
    """Everything that a head returns but its loss, as tensors."""
    return [value for value in model(**inputs).values() if isinstance(value, torch.Tensor)]


def elastic_class(family, head="ForSequenceClassification"):
    return getattr(dynabert_hf, f"Dyna{family}{head}")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_full_size_equals_the_stock_model_to_the_last_bit(family, head, attention):
    model = make_model(family, head, **TWO_LABELS).set_active(width=0.5, depth=0.5).set_active(width=1, depth=1)
    stock = model.to_backbone()
    assert type(stock).__name__ == f"{family}{head}"
    for each in (model, stock):
        each.set_attn_implementation(attention)
        sum(output.square().mean() for output in outputs(each, batch_for(head))).backward()
    for ours, theirs in zip(outputs(model, batch_for(head)), outputs(stock, batch_for(head)), strict=True):
        assert torch.equal(ours, theirs)
    gradients = dict(stock.named_parameters())
    for name, parameter in model.named_parameters():
        theirs = gradients[name].grad
        assert parameter.grad is None if theirs is None else torch.equal(parameter.grad, theirs), name


def test_gradients_outside_the_active_slice_are_exactly_zero(family):
    model = make_model(family).set_active(width=0.5, depth=0.5)
    model(**make_batch(), labels=torch.tensor([0, 2])).loss.backward()
    for index, layer in enumerate(model.elastic_layers.stored):
        query, output = layer.attention.self.query.weight.grad, layer.output.dense.weight.grad
        if index in (0, 2, 4):
            assert query[:16].any()
            assert not query[16:].any()
            assert output[:, :24].any()
            assert not output[:, 24:].any()
        else:
            assert query is None
            assert output is None


def test_small_sizes_are_part_of_larger_ones(family):
    model = make_model(family)
    small, large = (model.config.resolve(SubNetwork(width)) for width in (0.25, 0.75))
    assert all(a.fits_in(b) for a, b in zip(small, large, strict=True))
    before = model.set_active(width=0.25)(**make_batch()).logits
    with torch.no_grad():
        for layer in model.elastic_layers.stored:
            layer.intermediate.dense.weight[12:].zero_()
            layer.attention.self.value.weight[8:].zero_()
    assert torch.equal(model(**make_batch()).logits, before)


@pytest.mark.parametrize("size", ["w0.25-d0.5", "w0.5-d0.75", "w1-d1"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_changes_no_loss(family, size, attention):
    model = make_model(family).set_active(size)
    model.set_attn_implementation(attention)
    batch, labels = make_batch(), torch.tensor([0, 2])
    pad = model.config.pad_token_id
    longer = {
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 3), value=pad),
        "attention_mask": torch.nn.functional.pad(batch["attention_mask"], (0, 3), value=0),
    }
    with torch.no_grad():
        loss, padded = (model(**each, labels=labels).loss for each in (batch, longer))
    torch.testing.assert_close(padded, loss, rtol=0, atol=1e-6)


def test_every_size_runs_alike_on_eager_sdpa_and_flex_attention(family):
    model = make_model(family)
    for size in model.config.subnetworks:
        results = []
        for attention in ("eager", "sdpa", "flex_attention"):
            model.set_attn_implementation(attention)
            # Flex attention compiles its kernel, which takes seconds a size; uncompiled it computes the same.
            with torch.no_grad(), torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, about running its kernel so
                results.append(model.set_active(size)(**make_batch()).logits)
        torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(results[2], results[0], rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(family, reentrant):
    model = make_model(family).train()
    for size in model.config.subnetworks:
        gradients = []
        for checkpointing in (False, True):
            model.zero_grad()
            if checkpointing:
                model.gradient_checkpointing_enable({"use_reentrant": reentrant})
                model.enable_input_require_grads()
            with model.subnetwork(size):
                model(**make_batch(), labels=torch.tensor([0, 2])).loss.backward()
            model.gradient_checkpointing_disable()
            gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        assert gradients[0].keys() == gradients[1].keys()
        assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_hidden_states_and_attentions_are_those_of_the_kept_layers(family):
    model = make_model(family)
    model.set_attn_implementation("eager")
    for size in model.config.subnetworks:
        layers = model.config.resolve(size)
        output = model.set_active(size)(**make_batch(), output_hidden_states=True, output_attentions=True)
        assert len(output.hidden_states) == len(layers) + 1
        assert [attention.shape[1] for attention in output.attentions] == [layer.heads for layer in layers]


@pytest.mark.skipif(
    "num_hidden_layers_key" not in OutputRecorder.__dataclass_fields__,
    reason="before transformers 5.23 chosen hidden states have no negative indices, for stock models neither",
)
def test_negative_indices_of_hidden_states_count_the_layers_that_run(family):
    model = make_model(family)
    for size in model.config.subnetworks:
        every = model.set_active(size)(**make_batch(), output_hidden_states=True).hidden_states
        last = model(**make_batch(), output_hidden_states=[-1]).hidden_states
        assert torch.equal(last[-1], every[-1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_at_every_size(family, dtype):
    model = make_model(family)
    for size in model.config.subnetworks:
        with torch.no_grad():
            exact = model.float().set_active(size)(**make_batch()).logits
            half = model.to(dtype)(**make_batch()).logits
        assert half.dtype == dtype
        torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.1)  # bfloat16 keeps 8 bits of each number


def test_input_embeddings_replace_input_ids(family):
    model = make_model(family).set_active(width=0.5, depth=0.5)
    batch = make_batch()
    embeds = model.get_input_embeddings()(batch["input_ids"])
    logits = model(inputs_embeds=embeds, attention_mask=batch["attention_mask"]).logits
    torch.testing.assert_close(logits, model(**batch).logits)


def test_a_base_checkpoint_misses_only_the_head(tmp_path):
    make_model(head="Model").to_backbone().save_pretrained(tmp_path)
    _, loading = DynaBertForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert loading["missing_keys"] == {"classifier.weight", "classifier.bias"}


def test_the_active_size_is_saved(tmp_path):
    model = make_model().set_active(width=0.5, depth=0.75)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert str(loaded.active) == "w0.5-d0.75"
    torch.testing.assert_close(loaded(**make_batch()).logits, model(**make_batch()).logits, rtol=0, atol=1e-6)


def test_a_saved_model_holds_one_copy_of_the_weights_in_safetensors(head, tmp_path):
    model = make_model("Bert", head).set_active(width=0.5, depth=0.5)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"config.json", "model.safetensors", "generation_config.json"}
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert stored == sum(parameter.numel() for parameter in model.parameters())


def test_old_names_of_norms_load_and_are_saved_under_new_ones(tmp_path):
    model = make_model()
    weights = model.to_backbone().state_dict()
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): weight
        for name, weight in weights.items()
    }
    model.to_backbone().config.save_pretrained(tmp_path / "old")
    torch.save(old, tmp_path / "old" / "pytorch_model.bin")
    loaded = DynaBertForSequenceClassification.from_pretrained(tmp_path / "old")
    loaded.save_pretrained(tmp_path / "new")
    with safe_open(tmp_path / "new" / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(weights)
        assert all(torch.equal(file.get_tensor(name), weight) for name, weight in weights.items())


def test_the_active_size_never_leaks_to_another_model_of_the_same_configuration():
    config = make_config()
    first, second = (DynaBertForSequenceClassification(config) for _ in range(2))
    first.set_active(width=0.5, depth=0.5)
    assert second.active == SubNetwork()
    assert config.active == SubNetwork()
    assert first.config is first.bert.config
    assert first.bert.active == SubNetwork(0.5, 0.5)


def test_a_with_block_restores_the_size_also_after_an_error():
    model = make_model().set_active(width=0.75, depth=0.5)
    with model.subnetwork(width=0.25):
        assert model.active == SubNetwork(0.25, 0.5)
    assert model.active == SubNetwork(0.75, 0.5)
    with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"), model.subnetwork(width=0.25):
        model()
    assert model.active == SubNetwork(0.75, 0.5)


def test_layers_that_differ_are_a_size_as_any_other():
    model = make_model()
    layers = (LayerShape(1, 3, 20), LayerShape(4, 1, 7))
    assert model.set_active(layers).active == layers
    assert len(model(**make_batch(), output_hidden_states=True).hidden_states) == 3
    uniform = model.config.resolve(SubNetwork(0.5, 0.5))
    by_layers = model.set_active(uniform)(**make_batch()).logits
    assert torch.equal(by_layers, model.set_active(width=0.5, depth=0.5)(**make_batch()).logits)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"width": 0.05}, "leaves no attention head of 4"),
        ({"width": "half"}, "width='half' is not a multiplier"),
        ({"depth": float("nan")}, "depth=nan is not a multiplier"),
        ({"size": "w0.5-d0.5", "width": 0.5}, "Give one of them"),
        ({"size": 0.5}, "0.5 is not a size"),
        ({"size": [LayerShape(6, 1, 1)]}, "must increase and lie between 0 and 5"),
        ({"size": [LayerShape(0, 5, 48)]}, "does not hold"),
    ],
)
def test_a_size_that_cannot_be_is_refused_and_the_active_one_stays(asked, message):
    model = make_model().set_active(width=0.5, depth=0.5)
    with pytest.raises(SubNetworkError, match=message):
        model.set_active(**asked)
    assert model.active == SubNetwork(0.5, 0.5)
    if "size" in asked and "width" not in asked:
        with pytest.raises(SubNetworkError, match=message):
            model.config.resolve(asked["size"])


def test_heads_that_do_not_divide_the_hidden_size_are_refused():
    with pytest.raises(SubNetworkError, match=r"num_attention_heads=5 does not divide hidden_size=32.*\[1, 2, 4, 8"):
        DynaBertModel(make_config(stock={"num_attention_heads": 5}))


def test_a_decoder_is_refused():
    with pytest.raises(SubNetworkError, match="encoders only"):
        DynaBertModel(make_config(stock={"is_decoder": True}))


def test_a_model_without_a_pooler_is_made_elastic_and_back():
    stock = BertModel(BertConfig(**TINY), add_pooling_layer=False)
    elastic = DynaBertModel.from_backbone(stock)
    assert elastic.pooler is None
    assert elastic.to_backbone().pooler is None


def test_another_encoder_and_another_head_are_refused():
    other = DistilBertModel(DistilBertConfig(dim=32, n_heads=4, hidden_dim=48, n_layers=2, vocab_size=99))
    with pytest.raises(
        TypeError, match=r"from 'distilbert'; it needs 'bert'\. Supported encoders are BERT .* EuroBERT"
    ):
        DynaBertForSequenceClassification.from_backbone(other)
    with pytest.raises(TypeError, match=r"A BertModel cannot become a DynaBertForSeq.*; give a BertForSequenceClassif"):
        DynaBertForSequenceClassification.from_backbone(BertModel(BertConfig(**TINY)))


def test_a_model_with_a_forward_pass_of_its_own_is_refused_and_another_of_a_class_of_its_own_is_not():
    class Named(BertForSequenceClassification):
        pass

    class Doubled(Named):
        def forward(self, *args, **kwargs):
            return 2 * super().forward(*args, **kwargs).logits

    stock = make_model().to_backbone()
    for own in (Named, Doubled):
        stock.__class__ = own
        if own is Named:
            elastic = DynaBertForSequenceClassification.from_backbone(stock)
            assert torch.equal(elastic(**make_batch()).logits, stock(**make_batch()).logits)
        else:
            with pytest.raises(TypeError, match=r"A Doubled cannot become .* with the forward pass of that class"):
                DynaBertForSequenceClassification.from_backbone(stock)


def test_a_forward_pass_that_a_subclass_adds_is_never_lost_in_a_stock_model():
    class Named(DynaBertForSequenceClassification):
        pass

    class Doubled(Named):
        def forward(self, *args, **kwargs):
            return SequenceClassifierOutput(logits=2 * super().forward(*args, **kwargs).logits)

    plain = make_model()
    expected = plain(**make_batch()).logits
    named, doubled = (own.from_backbone(plain.to_backbone()) for own in (Named, Doubled))
    assert torch.equal(named.to_backbone()(**make_batch()).logits, expected)
    assert torch.equal(doubled.extract(width=1.0)(**make_batch()).logits, 2 * expected)
    with pytest.raises(TypeError, match=r"A Doubled cannot become a BertForSeq\w+; give a BertForSeq\w+, stock or"):
        doubled.to_backbone()


def test_a_base_model_is_exchanged_for_an_elastic_one_only():
    model, other = make_model(), make_model().to_backbone()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    model.bert = other.bert
    for asked in (lambda: model.active, lambda: model.set_active(width=0.5), model.extract, model.share):
        with pytest.raises(SubNetworkError, match=r"base model is a BertModel now, .* Make it elastic first"):
            asked()
    model.bert, model.classifier = DynaBertModel.from_backbone(other.bert), other.classifier
    expected = DynaBertForSequenceClassification.from_backbone(other).set_active("w0.5-d0.5")
    assert torch.equal(model.set_active("w0.5-d0.5")(**make_batch()).logits, expected(**make_batch()).logits)


def test_making_a_model_elastic_copies_its_weights():
    stock = BertForSequenceClassification(BertConfig(**TINY))
    elastic = DynaBertForSequenceClassification.from_backbone(stock)
    with torch.no_grad():
        elastic.classifier.weight.zero_()
    assert stock.classifier.weight.any()


def without_gradients(model, size="w0.5-d0.5"):
    with torch.no_grad(), model.subnetwork(size):
        return model(**make_batch()).logits


def test_passes_without_gradients_equal_those_with(family, head):
    model = make_model(family, head, **TWO_LABELS)
    for size in model.config.subnetworks:
        with model.subnetwork(size):
            expected = outputs(model, batch_for(head))
            for _ in range(2):  # the second finds what the first kept
                with torch.no_grad():
                    given = outputs(model, batch_for(head))
                assert all(torch.equal(ours, theirs) for ours, theirs in zip(given, expected, strict=True))


@pytest.mark.parametrize("change", ["in place", "data", "assign", "double", "deepcopy"])
def test_passes_without_gradients_see_weights_that_change(change):
    model, other = make_model(), make_model()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    before = without_gradients(model)
    if change == "in place":
        model.load_state_dict(other.state_dict())
    elif change == "data":
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            ours.data = theirs.data.clone()
    elif change == "assign":
        model.load_state_dict(other.state_dict(), assign=True)
    elif change == "double":
        without_gradients(other)
        model, other = other.double(), copy.deepcopy(other).double()
    else:
        model = copy.deepcopy(model)
        model.load_state_dict(other.state_dict())
    assert torch.equal(without_gradients(model), without_gradients(other))
    assert not torch.equal(without_gradients(model), before)


def test_passes_without_gradients_see_modules_and_biases_that_change():
    model = make_model().set_active("w0.5-d0.5")
    before = without_gradients(model)
    output, loaded = model.bert.encoder.layer[2].output, copy.deepcopy(model)
    ours, output.dense = output.dense, torch.nn.Linear(48, 32)
    loaded.bert.encoder.layer[2].output.dense.load_state_dict(output.dense.state_dict())
    assert torch.equal(without_gradients(model), without_gradients(loaded))
    assert not torch.equal(without_gradients(model), before)
    output.dense = torch.nn.Sequential(torch.nn.Linear(48, 32))
    with torch.no_grad(), pytest.raises(SubNetworkError, match=r"stands in layer 2\.output\.dense"):
        model(**make_batch())
    output.dense = ours
    assert torch.equal(without_gradients(model), before)
    bias, ours.bias = ours.bias, None
    without_bias = without_gradients(model)
    assert torch.equal(without_bias, without_gradients(copy.deepcopy(model)))
    assert not torch.equal(without_bias, before)
    ours.bias = bias
    assert torch.equal(without_gradients(model), before)


def test_kept_views_hold_no_memory_that_the_weights_left_and_are_not_saved():
    model = make_model()
    without_gradients(model)
    linear, sizes = model.bert.encoder.layer[0].intermediate.dense, model.base_model.active_sizes
    (kept,) = sizes._kept.values()
    part = kept.parts[linear.number][0][0]
    assert part.data_ptr() == linear.weight.data_ptr()
    assert part.is_inference()  # of which torch tracks no views in a pass
    assert not copy.deepcopy(model).base_model.active_sizes._kept
    model.double()
    assert not sizes._kept
    without_gradients(model, "w0.25-d0.5")
    without_gradients(model, "w0.5-d0.5")
    assert len(sizes._kept) == 2
    model.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()}, assign=True)
    without_gradients(model, "w0.5-d0.5")
    assert len(sizes._kept) == 1


def test_what_is_looked_up_for_a_pass_holds_only_until_it_ends():
    model = make_model().set_active("w0.5-d0.5")
    sizes, layers, states = model.base_model.active_sizes, model.elastic_layers, torch.ones(1, 3, 32)
    nothing = sizes.ready
    with torch.no_grad():
        model(**make_batch())
        assert sizes.ready is nothing
        walk = iter(layers)  # a pass that stops after its first layer, and is not let go
        layer = next(walk)
        assert any(sizes.ready)
        before = layer(states)
    layer(states).sum().backward()  # with gradients, in the middle of it
    assert layer.output.dense.weight.grad.any()
    assert not any(copy.deepcopy(sizes).ready)
    for change in (lambda: model.set_active("w0.25-d0.5"), model.double, walk.close):
        sizes.ready = (None, None)
        change()
        assert sizes.ready is nothing
    model.float().set_active("w0.5-d0.5")
    with torch.no_grad():
        assert torch.equal(layer(states), before)


def test_nothing_is_kept_where_hooks_move_the_weights():
    from accelerate import cpu_offload

    model = make_model()
    expected = without_gradients(model)
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert torch.equal(without_gradients(model), expected)
    assert not model.base_model.active_sizes._kept


def test_sizes_that_were_once_asked_for_are_not_kept_for_ever():
    model = make_model()
    for neurons in range(1, 49):
        for heads in (1, 2, 3, 4):
            for index in (0, 5):
                with torch.no_grad():
                    model.set_active([LayerShape(index, heads, neurons)])(**make_batch(batch=1))
    assert len(model.base_model.active_sizes.prepared) <= 256
    assert all(size in model.base_model.active_sizes.prepared for size in model.config.subnetworks)
    assert 1 < len(model.base_model.active_sizes._kept) <= 16
    assert model.set_active([LayerShape(0, 1, 1)]).active == (LayerShape(0, 1, 1),)


def test_more_sizes_may_be_trained_than_others_are_kept():
    model = make_model(widths=[number / 200 for number in range(25, 201)], depths=[0.5, 1.0])
    assert len(model.config.subnetworks) == 352
    for size in ("w0.133-d1", "w0.5-d0.5"):  # the first belongs to none of them
        both = [outputs(each.set_active(size), make_batch()) for each in (model, make_model())]
        assert all(map(torch.equal, *both))
    assert all(size in model.base_model.active_sizes.prepared for size in model.config.subnetworks)


def test_layer_shapes_are_trained_with_the_grid():
    layers = (LayerShape(1, 3, 20), LayerShape(4, 1, 7))
    model = make_model(widths=[0.5, 1.0], depths=[1.0], sizes=[layers])
    assert [pair.student for pair in plan_stage(model.config, "finetune")] == [layers, *model.config.subnetworks[1:]]
    pair = plan_stage(model.config, "depth")[0]
    assert (pair.student, pair.teacher) == (layers, SubNetwork(1.0, 1.0))


@pytest.mark.parametrize("size", [None, "w0.5-d0.5"])
def test_a_model_forgets_what_was_measured_when_somebody_trains_it(size, tmp_path):
    model = make_model(widths=[0.5, 1.0], depths=[0.5, 1.0])
    model.config.metrics = {"w0.5-d0.5": {"accuracy": 0.9}, "w1-d1": {"accuracy": 0.95}}
    model.config.temperatures = {"w0.5-d0.5": 1.5, "w1-d1": 1.2}
    model = model if size is None else model.extract(size)
    measured = copy.deepcopy(model.config.metrics)
    batch = {**make_batch(), "labels": torch.tensor([0, 2])}
    model(**batch).loss.backward()  # in evaluation, as importance is measured
    model.zero_grad()
    model.train()
    with torch.no_grad():
        model(**batch)
    assert model.config.metrics == measured != {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(**batch).loss.backward()
    optimizer.step()
    model.save_pretrained(tmp_path)
    kept = type(model).from_pretrained(tmp_path).config
    assert kept.metrics is kept.temperatures is kept.metric_rows is None


@pytest.mark.slow
def test_a_compiled_model_forgets_what_was_measured_when_somebody_trains_it():
    model = make_small()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for size in ("w1-d1", "w0.5-d0.5", "w1-d1"):  # the last runs a graph that was compiled before
        model.set_active(size).config.metrics = measured = {"w1-d1": {"accuracy": 0.95}}
        compiled.eval()(**make_batch())
        assert model.config.metrics == measured
        compiled.train()(**make_batch())
        assert model.config.metrics is None
    torch._dynamo.reset()


@pytest.mark.parametrize("how", [lambda model: model, copy.deepcopy, lambda model: model.share()])
def test_a_size_in_the_configuration_of_a_model_is_that_of_the_next_loading(how, tmp_path):
    """The model read it when it was made; `set_active` changes both."""
    model = how(make_model().set_active(width=0.5))
    expected = model.eval()(**make_batch()).logits
    model.config.active_width, model.config.active_depth = 0.25, 0.5
    assert (model.active, len(model.active_layers)) == (SubNetwork(0.5, 1.0), TINY["num_hidden_layers"])
    assert torch.equal(model(**make_batch()).logits, expected)
    model.save_pretrained(tmp_path)
    assert type(model).from_pretrained(tmp_path).active == SubNetwork(0.25, 0.5)
    model.set_active(depth=0.5)
    assert (model.active, model.config.active) == (SubNetwork(0.5, 0.5), SubNetwork(0.5, 0.5))
