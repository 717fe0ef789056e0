"""Importance and rewiring beyond the reference values, which test_reference_training.py checks."""

import pytest
import torch
from helpers.backbones import make_stock
from helpers.tiny import make_batch, make_model
from torch.nn.functional import cross_entropy, pad
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from dynabert_hf import DynaBertForSequenceClassification, Importance, SubNetwork, measure_importance, rewire
from dynabert_hf.training.importance import _Predicted


def labelled_batches(num_batches=2):
    return [{**make_batch(seed=seed), "labels": torch.tensor([0, 2])} for seed in range(num_batches)]


def test_rewiring_keeps_the_outputs_of_the_full_network_and_nothing_measured_of_the_others(family):
    model, batch = make_model(family), make_batch()
    model.config.metrics, model.config.temperatures = {"w0.5-d1": {"accuracy": 0.9}}, {"w0.5-d1": 2.0}
    before = model(**batch).logits
    importance = measure_importance(model, labelled_batches(), progress=False)
    assert rewire(model, importance) is model
    torch.testing.assert_close(model(**batch).logits, before, rtol=0, atol=1e-5)
    assert model.config.metrics is model.config.temperatures is None


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # said to peft
def test_adapters_of_a_rewired_model_do_not_name_the_one_that_was_loaded(tmp_path):
    """They were loaded into that, whose heads have another order, without a word."""
    peft = pytest.importorskip("peft")
    make_model().save_pretrained(tmp_path)
    model = DynaBertForSequenceClassification.from_pretrained(tmp_path)
    rewire(model, Importance(torch.rand(6, 4), torch.rand(6, 48)))
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query"]))
    assert adapted.peft_config["default"].base_model_name_or_path is None
    assert model.config.name_or_path == str(tmp_path)  # which cards tell of


def test_rewiring_orders_heads_and_neurons_by_importance(family):
    model = make_model(family)
    rewire(model, measure_importance(model, labelled_batches(), progress=False))
    again = measure_importance(model, labelled_batches(), progress=False)
    for scores in (again.heads, again.neurons):
        assert (scores.diff(dim=1) <= 1e-5 * scores.max()).all()


def test_heads_that_share_keys_or_a_table_are_ordered_by_the_sum_of_their_importance():
    shared = make_stock("EuroBert")  # eighteen heads of two numbers, of which three have one key
    before = shared.model.layers[1].self_attn.q_proj.weight.detach().clone()
    heads = torch.tensor([3.0, 3, 3, 5, 0, 0, 4, 4, 0, 1, 1, 0, 2, 2, 2, 7, 0, 0]).expand(6, -1)
    rewire(shared, Importance(heads, torch.rand(6, 50)))
    order = [0, 2, 5, 4, 1, 3]  # by 9, 8, 7, 6, 5 and 2
    found = shared.model.layers[1].self_attn.q_proj.weight
    assert torch.equal(found.unflatten(0, (6, -1)), before.unflatten(0, (6, -1))[order])

    table = make_stock("MPNet")  # with a column a head for all layers
    bias = table.mpnet.encoder.relative_attention_bias.weight
    before = bias.detach().clone()
    heads = torch.tensor([[9.0, 8, 7, 6]] + [[0.0, 2, 3, 1]] * 5)
    rewire(table, Importance(heads, torch.rand(6, 48)))
    assert torch.equal(bias, before[:, [2, 1, 3, 0]])  # by 22, 18, 11 and 9


def test_importance_adds_up_over_batches():
    model, batches = make_model(), labelled_batches(3)
    together = measure_importance(model, batches, progress=False)
    alone = [measure_importance(model, [batch], progress=False) for batch in batches]
    torch.testing.assert_close(together.heads, sum(each.heads for each in alone))
    torch.testing.assert_close(together.neurons, sum(each.neurons for each in alone))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_importance_in_half_precision_adds_up_in_whole_precision(dtype):
    model, batches = make_model().to(dtype), labelled_batches(2)
    heads, neurons = (
        sum(getattr(measure_importance(model, [batch], progress=False), part) for batch in batches)
        for part in ("heads", "neurons")
    )
    many = measure_importance(model, batches * 40, progress=False)
    assert many.heads.dtype == many.neurons.dtype == torch.float32
    torch.testing.assert_close(many.heads, 40 * heads, rtol=1e-5, atol=0)
    torch.testing.assert_close(many.neurons, 40 * neurons, rtol=1e-5, atol=1e-7)


def test_importance_of_heads_is_that_of_all_runs_of_an_encoder():
    """Against the derivatives with respect to a mask, of a model that compares two texts."""

    class ComparesTwoTexts(DynaBertForSequenceClassification):
        def forward(self, input_ids, labels, attention_mask=None, **kwargs):
            with torch.no_grad():
                self.bert(input_ids)
            ours, theirs = (self.bert(text, attention_mask=attention_mask) for text in (input_ids, input_ids.flip(-1)))
            logits = self.classifier(ours.pooler_output - theirs.pooler_output)
            return {"loss": cross_entropy(logits, labels), "logits": logits}

    model = ComparesTwoTexts(make_model().config).eval()
    model.load_state_dict(make_model().state_dict())
    [batch] = labelled_batches(1)
    masks = [torch.ones(4, 1, requires_grad=True) for _ in range(6)]
    layers = model.base_model.encoder.layer
    hooks = [
        layer.attention.output.dense.register_forward_pre_hook(
            lambda module, inputs, mask=mask: (inputs[0].unflatten(-1, (4, -1)).mul(mask).flatten(-2),)
        )
        for layer, mask in zip(layers.stored, masks, strict=True)
    ]
    expected = torch.autograd.grad(model(**batch)["loss"], masks)
    for hook in hooks:
        hook.remove()
    found = measure_importance(model, [batch], progress=False).heads
    torch.testing.assert_close(found, torch.stack(expected)[..., 0].abs(), rtol=1e-4, atol=1e-7)


def test_importance_of_a_stock_model_is_that_of_the_elastic_one():
    """Also of one whose configuration asks for tuples of outputs."""
    model = make_model()
    ours = measure_importance(model, labelled_batches(), progress=False)
    backbone = model.to_backbone()
    backbone.config.return_dict = False
    stock = measure_importance(backbone, labelled_batches(), progress=False)
    assert torch.equal(ours.heads, stock.heads)
    assert torch.equal(ours.neurons, stock.neurons)


@pytest.mark.parametrize("fails", [False, True])
def test_measuring_leaves_the_model_as_it_was(fails):
    model = make_model().train().set_active(width=0.5, depth=0.5)
    model.base_model.embeddings.requires_grad_(False).eval()
    modes, config = [module.training for module in model.modules()], model.config.to_dict()
    model.base_model.encoder.requires_grad_(False)
    model.classifier.weight.grad = torch.ones_like(model.classifier.weight)
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    batches = labelled_batches()
    if fails:
        del batches[1]["labels"]
        with pytest.raises(ValueError, match="gives no loss"):
            measure_importance(model, batches, progress=False)
    else:
        measure_importance(model, batches, progress=False)
    assert [module.training for module in model.modules()] == modes
    assert model.config.to_dict() == config
    assert model.active == SubNetwork(0.5, 0.5)
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == flags
    assert torch.equal(model.classifier.weight.grad, torch.ones_like(model.classifier.weight))
    assert all(p.grad is None for name, p in model.named_parameters() if name != "classifier.weight")
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_importance_reads_any_data_loader():
    rows = [{"input_ids": torch.arange(5, 12), "labels": torch.tensor(row % 3)} for row in range(4)]
    loader = torch.utils.data.DataLoader(rows, batch_size=2)
    assert measure_importance(make_model(), loader, progress=False).heads.shape == (6, 4)


def test_importance_is_saved_and_loaded(tmp_path):
    importance = measure_importance(make_model(), labelled_batches(), progress=False)
    importance.save(tmp_path / "importance.safetensors")
    loaded = Importance.load(tmp_path / "importance.safetensors")
    assert torch.equal(loaded.heads, importance.heads)
    assert torch.equal(loaded.neurons, importance.neurons)


def test_a_file_of_something_else_is_not_importance(tmp_path):
    make_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not 'heads' and 'neurons'"):
        Importance.load(tmp_path / "model.safetensors")


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="no batch to measure importance on"):
        measure_importance(make_model(), [], progress=False)


def test_importance_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(6, 3\).*needs \(6, 4\)"):
        rewire(make_model(), Importance(torch.ones(6, 3), torch.ones(6, 48)))


def test_importance_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="NaN or infinity"):
        rewire(make_model(), Importance(torch.full((6, 4), torch.nan), torch.ones(6, 48)))


def test_a_cut_model_is_refused():
    layer = {"index": 0, "heads": 4, "neurons": 48}
    model = make_model(stored_shape=[layer], active_layers=[layer])
    with pytest.raises(ValueError, match="cut by extraction"):
        measure_importance(model, labelled_batches(), progress=False)


@pytest.mark.parametrize("compute", [lambda linear: prune.l1_unstructured(linear, "weight", 0.5), weight_norm])
def test_weights_that_are_computed_are_refused_before_anything_is_reordered(compute):
    model = make_model()
    compute(model.bert.encoder.layer[1].output.dense)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"layer 1 the weight of output\.dense is computed .*prune\.remove"):
        rewire(model, Importance(torch.rand(6, 4), torch.rand(6, 48)))
    with pytest.raises(ValueError, match=r"layer 1 the weight of output\.dense is computed"):
        measure_importance(model, labelled_batches(), progress=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_answers_that_a_model_predicts_to_measure_importance_on_are_not_in_padding():
    model = make_model(head="ForQuestionAnswering", stock={"num_labels": 2})
    ids = [make_batch(1, 5 + row % 5, seed=row)["input_ids"] for row in range(9)]
    alone = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids]
    padded = [{name: pad(value, (0, 16 - value.shape[1])) for name, value in row.items()} for row in alone]
    ours, theirs = (
        [(int(row["start_positions"]), int(row["end_positions"])) for row in _Predicted(model, batches)]
        for batches in (padded, alone)
    )
    assert ours == theirs
    assert len(set(ours)) > 3


def test_labels_that_a_model_predicts_to_measure_importance_on_are_all_that_are_likelier_than_not():
    model, batch = make_model(stock={"problem_type": "multi_label_classification"}), make_batch(16, 7)
    with torch.no_grad():
        likely = model(**batch).logits.sigmoid()
    assert ((likely > 0.5) & (likely < 0.6)).any()
    assert torch.equal(next(iter(_Predicted(model, [batch])))["labels"], (likely > 0.5).float())


@pytest.mark.parametrize("head", ["ForQuestionAnswering", "ForTokenClassification"])
def test_predictions_to_measure_importance_on_take_masks_between_tokens(head):
    """They say nothing of padding, so that the predictions are those without a mask."""
    model, batch = make_model(head=head, stock={"num_labels": 2}), make_batch(2, 7)
    ids = batch["input_ids"]
    expected = next(iter(_Predicted(model, [{"input_ids": ids}])))
    found = next(iter(_Predicted(model, [{"input_ids": ids, "attention_mask": torch.ones(2, 1, 7, 7)}])))
    names = expected.keys() - {"input_ids"}
    assert names
    assert all(torch.equal(found[name], expected[name]) for name in names)
