"""Every family: its full size is the stock model, its sizes are masked ones, and every door gives the same."""

from contextlib import nullcontext

import pytest
import torch
import transformers
from helpers.backbones import CONFIGS, HEADS, irregular, make_backbone, make_stock, masked, of_layers, run
from helpers.tiny import make_batch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

import dynabert_hf
from dynabert_hf import LayerShape, SubNetworkError, count_flops, count_parameters, measure_importance, rewire
from dynabert_hf.model.anatomy import KEYS, layer_axes, linear_shape
from dynabert_hf.training.shared_prefixes import share_prefixes

BATCH = {**make_batch(), "labels": torch.tensor([0, 2])}
IN_FLOAT32 = ("ModernBert", "NomicBert", "EuroBert")
SOME_SIZES = ("w0.25-d0.5", "w0.5-d0.75", "w0.75-d1", "w1-d0.5")


ROBERTA_BY_OTHER_NAMES = ("XLMRoberta", "Camembert")
"""Whose code is that of RoBERTa; by default their heads are held against stock, and the rest is left to it."""


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in ROBERTA_BY_OTHER_NAMES)) for name in CONFIGS]
)
def family(request):
    return request.param


def assert_close(ours, theirs, tolerance):
    assert len(ours) == len(theirs) > 0
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("family", "head"), [(family, head) for family in HEADS for head in HEADS[family]])
def test_the_full_size_of_every_head_is_bit_equal_to_stock(family, head):
    """Two layers hold all there is: global and local attention, the first layer and the last."""
    stock = make_stock(family, head, **of_layers(family, 2))
    model = make_backbone(family, head, depths=(0.5, 1.0), **of_layers(family, 2))
    model.set_active("w0.5-d0.5").set_active("w1-d1")
    for attention in ("eager", "sdpa") if stock._supports_sdpa else ("eager",):
        for each in (stock, model):
            each.set_attn_implementation(attention)
        ours, theirs = (run(each, head, output_hidden_states=True) for each in (model, stock))
        assert len(ours) == len(theirs) > 3
        assert all(map(torch.equal, ours, theirs))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # of torch, about its own arguments
def test_the_full_size_is_bit_equal_to_stock_in_flex_attention(family):
    """Compiled on first use, which takes a minute."""
    stock, model = make_stock(family), make_backbone(family).set_active("w0.5-d0.5").set_active("w1-d1")
    if not stock._supports_flex_attn:
        pytest.skip("this family has no flex attention")
    torch.compiler.reset()  # each family has shapes of its own, and only so many may be compiled
    half = run(model.share("w0.5-d0.5"))
    for each in (stock, model):
        each.set_attn_implementation("flex_attention")
    assert all(map(torch.equal, run(model, output_hidden_states=True), run(stock, output_hidden_states=True)))
    assert_close(run(model.set_active("w0.5-d0.5")), half, 1e-5)


def test_every_size_equals_the_masked_stock_model(family):
    """In float64, so that a difference is no rounding; stock computes some norms and angles in float32 even then."""
    model = make_backbone(family).double()
    for size in (*SOME_SIZES, irregular(model)):
        ours = run(model.set_active(size), output_hidden_states=True)
        stock = masked(model, size).double()
        assert_close(ours, run(stock, output_hidden_states=True), 1e-5 if family in IN_FLOAT32 else 1e-12)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of vmap
@pytest.mark.parametrize("has_biases", [False, True])
def test_fused_blocks_without_gradients_give_what_they_give_with_gradients(has_biases):
    """In one call, for vmap, too; block by block under autocast and where there are biases."""
    model = make_backbone("ModernBert", attention_bias=has_biases, mlp_bias=has_biases)
    states = torch.randn(3, 2, 7, 36, generator=torch.Generator().manual_seed(0))

    def encode(batch):
        return model.base_model(inputs_embeds=batch).last_hidden_state

    for size in (*SOME_SIZES, irregular(model)):
        model.set_active(size)
        expected = torch.stack([encode(batch) for batch in states])
        with torch.no_grad():
            assert_close(torch.stack([encode(batch) for batch in states]), expected, 1e-6)
            assert_close(torch.func.vmap(encode)(states), expected, 1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            expected = encode(states[0])
            with torch.no_grad():
                assert torch.equal(encode(states[0]), expected)


def test_every_linear_of_a_layer_is_declared_as_it_is(family):
    model = make_backbone(family)
    anatomy, full = model.config.anatomy, model.config.stored_layers[0]
    for layer in model.elastic_layers.stored:
        declared = {path: (role, linear) for path, role, linear in anatomy.linears_of(layer)}
        assert declared.keys() == {name for name, each in layer.named_modules() if isinstance(each, torch.nn.Linear)}
        for role, linear in declared.values():
            assert tuple(linear.weight.shape) == linear_shape(role, layer_axes(model.config, full))


def test_small_sizes_are_part_of_larger_ones_and_gradients_stay_in_them(family):
    model = make_backbone(family).set_active("w0.5-d0.5")
    model(**BATCH).loss.backward()
    running = {layer.index: layer for layer in model.active_layers}
    for index, layer in enumerate(model.elastic_layers.stored):
        for _, role, linear in model.config.anatomy.linears_of(layer):
            if index not in running:
                assert linear.weight.grad is None
                continue
            gradient = linear.weight.grad.unflatten(0, (role.blocks, -1)).clone()
            axes = layer_axes(model.config, running[index])
            inside = gradient[:, : axes[role.outputs], : axes[role.inputs]]
            assert all(block.any() for block in inside)
            inside.zero_()
            assert not gradient.any()


def test_rewiring_changes_no_output_of_the_full_size(family):
    model = make_backbone(family)
    before = run(model, output_hidden_states=True)
    importance = measure_importance(model, [BATCH], progress=False)
    stock = rewire(model.to_backbone(), importance)
    rewire(model, importance)
    assert_close(run(model, output_hidden_states=True), before, 2e-5)
    assert_close(run(stock, output_hidden_states=True), before, 2e-5)
    again = measure_importance(model, [BATCH], progress=False).neurons
    torch.testing.assert_close(again, importance.neurons.sort(1, descending=True).values, rtol=1e-3, atol=1e-4)


def test_each_layer_of_mpnet_keeps_its_own_most_important_heads(tmp_path):
    """By value: below full width the rewired model is stock without the heads that its layer can spare."""
    model, stock = make_backbone("MPNet"), make_stock("MPNet")
    importance = measure_importance(model, [BATCH], progress=False)
    rewire(model, importance)
    rewire(model, measure_importance(model, [{**BATCH, "labels": torch.tensor([1, 1])}], progress=False))
    best = importance.heads.argsort(1, descending=True)
    rewire(model, measure_importance(model, [BATCH], progress=False))
    assert model.config.head_orders == best.tolist()
    assert len(set(map(tuple, model.config.head_orders))) > 1
    with torch.no_grad():
        for layer, order in zip(stock.mpnet.encoder.layer, best, strict=True):
            layer.attention.attn.o.weight.unflatten(1, (4, 8))[:, order[2:]] = 0
    expected = run(stock, output_hidden_states=True)
    shapes = [LayerShape(index, 2, 48) for index in range(6)]
    small = model.set_active(shapes).extract()
    small.save_pretrained(tmp_path)
    for each in (model, small, type(model).from_pretrained(tmp_path).eval(), model.share(shapes)):
        assert_close(run(each, output_hidden_states=True), expected, 2e-5)


def test_a_rewired_mpnet_becomes_the_stock_model_that_it_was():
    model, stock = make_backbone("MPNet"), make_stock("MPNet")
    rewire(model, measure_importance(model, [BATCH], progress=False))
    again = model.to_backbone()
    for name, weight in stock.state_dict().items():
        if not any(part in name for part in ("intermediate.dense", ".output.dense")):  # where neurons are reordered
            assert torch.equal(again.state_dict()[name], weight), name
    shallow = model.extract([LayerShape(index, 4, 48) for index in (1, 4)])
    assert_close(run(shallow.to_backbone()), run(shallow), 1e-5)


@pytest.mark.parametrize("orders", [[[0, 1, 2, 3]] * 5, [[0, 1, 2, 2]] * 6, [[0, 1, 2]] * 6])
def test_impossible_orders_of_heads_are_refused(orders):
    with pytest.raises(
        SubNetworkError, match=r"not possible. Give each of the 6 layers an order of the columns 0 to 3"
    ):
        dynabert_hf.DynaMPNetConfig(num_hidden_layers=6, num_attention_heads=4, hidden_size=32, head_orders=orders)


def test_extracted_switched_reloaded_and_shared_models_agree(family, tmp_path):
    model = make_backbone(family)
    for size in ("w0.5-d0.75", irregular(model)):
        expected = run(model.set_active(size))
        small = model.extract()
        for each in (small, model.share(size)):
            assert_close(run(each.eval()), expected, 1e-5)
        assert count_parameters(model).total == small.num_parameters()
    for each, folder in ((small, "small"), (model, "whole")):
        each.save_pretrained(tmp_path / folder)
        assert_close(run(type(model).from_pretrained(tmp_path / folder).eval()), expected, 1e-5)


@pytest.mark.parametrize("own", [{"head_dim": 4}, {"attention_head_size": 4}, {"num_key_value_heads": 2}])
def test_fields_that_a_family_does_not_declare_cut_nothing(own):
    stock, plain = make_stock("Bert", **own), make_backbone("Bert")
    model = type(plain).from_backbone(stock)
    for size in SOME_SIZES:
        assert model.config.resolve(size) == plain.config.resolve(size)
        assert_close(run(model.set_active(size)), run(plain.set_active(size)), 0)
    assert count_parameters(model, "w1-d1") == count_parameters(plain, "w1-d1")


def test_a_text_longer_than_the_model_knows_changes_no_copy():
    """It changes rotary frequencies of type `dynamic`, and the model notes for which length."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1000.0}
    stock = make_stock("ModernBert", rope_parameters={"full_attention": rope})
    short = make_batch()
    long = {**short, "position_ids": torch.arange(33, 40).unsqueeze(0)}
    with torch.no_grad():
        expected = stock(**short).logits
        stock(**long)
        model = dynabert_hf.DynaModernBertForSequenceClassification.from_backbone(stock)
        assert torch.equal(model(**short).logits, expected)
        shared = model.share()
        longer = model(**long).logits
        for copied in (shared, model.extract(), model.to_backbone()):
            assert torch.equal(copied(**short).logits, expected)
            assert torch.equal(copied(**long).logits, longer)
            assert torch.equal(copied(**short).logits, expected)


def test_only_the_active_part_is_loaded(family, tmp_path):
    model = make_backbone(family).set_active("w0.5-d0.75")
    model.save_pretrained(tmp_path)
    part = type(model).from_pretrained(tmp_path, only_active=True).eval()
    assert_close(run(part), run(model), 1e-5)
    assert part.num_parameters() == model.extract().num_parameters()


def test_a_file_that_names_weights_otherwise_is_not_read_in_part(tmp_path):
    """Stock NomicBERT saves the fused names of the Hub, which transformers converts while it loads."""
    make_stock("NomicBert").save_pretrained(tmp_path)
    elastic_class = dynabert_hf.DynaNomicBertForSequenceClassification
    with pytest.raises(SubNetworkError, match=r"cannot cut this checkpoint: it does not hold self_attn\.q_proj"):
        elastic_class.from_pretrained(tmp_path, active_width=0.5, only_active=True)


def test_weights_have_the_names_of_the_hub_if_asked(tmp_path):
    stock, model = make_stock("NomicBert"), make_backbone("NomicBert")
    stock.save_pretrained(tmp_path / "stock")
    model.save_pretrained(tmp_path / "ours", save_original_format=True)
    names = [load_file(tmp_path / folder / "model.safetensors").keys() for folder in ("stock", "ours")]
    assert names[0] == names[1] != model.state_dict().keys()
    assert_close(run(type(model).from_pretrained(tmp_path / "ours").eval()), run(model), 1e-6)


def test_a_stock_checkpoint_of_every_head_loads_without_missing_weights(family, tmp_path):
    for head in HEADS[family]:
        stock = make_stock(family, head, **of_layers(family, 2))
        stock.save_pretrained(tmp_path / head)
        elastic_class = getattr(dynabert_hf, f"Dyna{family}{head}")
        model, loading = elastic_class.from_pretrained(tmp_path / head, output_loading_info=True)
        assert not loading["missing_keys"]
        assert not loading["unexpected_keys"]
        assert_close(run(model.eval(), head), run(stock, head), 1e-6)


def test_new_weights_are_drawn_as_stock_draws_them(family, tmp_path):
    base = make_stock(family, "Model", **of_layers(family, 2))
    base.save_pretrained(tmp_path)
    loaded, fresh = [], []
    for name in (f"{family}ForSequenceClassification", f"Dyna{family}ForSequenceClassification"):
        torch.manual_seed(0)
        loaded.append(getattr(dynabert_hf if name.startswith("Dyna") else transformers, name).from_pretrained(tmp_path))
        fresh.append(type(loaded[-1])(loaded[-1].config))
    for stock, ours in zip(loaded[0].parameters(), loaded[1].parameters(), strict=True):
        assert torch.equal(stock, ours)
    for (name, stock), ours in zip(fresh[0].named_parameters(), fresh[1].parameters(), strict=True):
        if stock.numel() > 1000:  # enough to tell by their spread how they were drawn
            torch.testing.assert_close(ours.std(), stock.std(), rtol=0.15, atol=0.0, msg=name)


def test_a_cut_in_depth_becomes_a_stock_model(family, tmp_path):
    model = make_backbone(family)
    full = model.config.stored_layers
    for size in ("w1-d0.5", (full[0], full[3]), (full[1], full[4], full[5])):
        small = model.extract(size)
        if family == "ModernBert" and small.config.stored_layers[0].index:
            with pytest.raises(
                SubNetworkError, match=r"A ModernBertConfig .* begins with layer 1\. .* keep layer 0 become"
            ):
                small.to_backbone()
            continue
        stock = small.to_backbone()
        assert_close(run(stock.eval()), run(model.set_active(size)), 1e-5)
    stock.save_pretrained(tmp_path)
    assert_close(run(type(stock).from_pretrained(tmp_path).eval()), run(stock), 1e-6)


def test_a_cut_keeps_which_layers_attend_locally():
    model = make_backbone("ModernBert", local_attention=2)
    kinds = model.config.layer_types
    kept = model.extract("w1-d0.75").config.stored_layers
    assert model.extract("w1-d0.75").to_backbone().config.layer_types == [kinds[layer.index] for layer in kept]
    assert len(set(kinds)) == 2


@pytest.mark.parametrize(
    ("num_layers", "depth", "everywhere", "nearby"),
    [
        (6, 0.25, [0], [1]),  # a quarter of two is rounded to none
        (22, 0.5, [0, 6, 12, 18], [1, 4, 7, 10, 13, 16, 19]),
        (22, 0.75, [0, 3, 6, 12, 15, 18], [1, 2, 4, 7, 8, 11, 13, 14, 17, 19]),
        (28, 0.5, [0, 6, 12, 18, 24], [1, 4, 7, 10, 13, 16, 19, 22, 25]),
        (10, 0.7, [0, 3, 6], [1, 2, 5, 7]),
    ],
)
def test_a_depth_of_modernbert_keeps_the_ratio_of_its_kinds_of_layers(num_layers, depth, everywhere, nearby):
    """Of 22 layers, as ModernBERT-base has, 8 attend to all tokens; of 28 10, and of 10 4."""
    config = dynabert_hf.DynaModernBertConfig(num_hidden_layers=num_layers, depths=[depth, 1.0])
    kept = [layer.index for layer in config.resolve(f"w1-d{depth}")]
    kinds = [config.layer_types[index] for index in kept]
    assert kept == sorted(kept)
    assert [index for index, kind in zip(kept, kinds, strict=True) if kind == "full_attention"] == everywhere
    assert [index for index, kind in zip(kept, kinds, strict=True) if kind != "full_attention"] == nearby


def test_layers_of_one_s_own_choice_and_impossible_depths_are_told_of_modernbert_as_of_bert():
    own = list(range(11))
    assert [
        layer.index for layer in dynabert_hf.DynaModernBertConfig(kept_layers={"0.5": own}).resolve("w1-d0.5")
    ] == own
    for depth in range(1, 23):
        assert len(dynabert_hf.DynaModernBertConfig().resolve(f"w1-d{depth / 22}")) == depth
    with pytest.raises(SubNetworkError, match=r"depth=0\.01 leaves no layer of 22"):
        dynabert_hf.DynaModernBertConfig().resolve("w1-d0.01")


def test_costs_are_those_of_the_extracted_model(family):
    model = make_backbone(family)
    for size in ("w0.75-d1", irregular(model)):
        small = model.extract(size)
        small.set_attn_implementation("eager")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            small(input_ids=BATCH["input_ids"])
        assert count_flops(model, size, batch_size=2, sequence_length=7) == counter.get_total_flops()
        assert count_parameters(model, size).total == small.num_parameters()


def test_shared_passes_give_the_gradients_of_separate_ones(family):
    model = make_backbone(family).double()
    sizes, gradients = model.config.subnetworks, []
    for passes in (nullcontext(model.subnetwork), share_prefixes(model, sizes)):
        model.zero_grad()
        with passes as at_size:
            for size in sizes:
                with at_size(size):
                    output = model(**BATCH, output_hidden_states=True)
                    (output.loss + sum(state.square().mean() for state in output.hidden_states)).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        tolerance = 1e-6 if family in ("ModernBert", "EuroBert") else 1e-9  # stock computes norms or angles in float32
        torch.testing.assert_close(gradients[1][name], gradient, rtol=tolerance, atol=tolerance, msg=name)


def test_a_stale_head_count_gives_other_results_without_an_error():
    """Why DeBERTa's attention is asked: its stock class splits by the count that it remembers."""
    model = make_backbone("DebertaV2").set_active("w0.5-d1")
    right = run(model)
    for layer in model.elastic_layers.stored:
        attention = layer.attention.self
        attention.__class__ = type(attention).__mro__[2]
        attention.num_attention_heads, attention.all_head_size = 4, 32
    assert max((a - b).abs().max() for a, b in zip(run(model), right, strict=True)) > 1e-3


def test_fused_parts_are_cut_where_no_width_divides_them():
    config = make_backbone("ModernBert").config
    kept = [config.resolve(f"w{width}-d1")[0] for width in (0.25, 0.5, 0.75)]
    assert [(layer.heads, layer.neurons) for layer in kept] == [(2, 16), (3, 25), (4, 33)]


def test_fused_rows_are_no_heads(monkeypatch):
    """Why ModernBERT's blocks are declared: cut as leading rows of all, its heads would be queries only."""
    model = make_backbone("ModernBert").set_active("w0.5-d1")
    right = run(model)
    linear_class = type(model.elastic_layers.stored[0].attn.Wqkv)
    monkeypatch.setattr(
        linear_class, "slices", lambda self, window: [(slice(window[0] * self.blocks), slice(window[1]))]
    )
    wrong = model(**make_batch()).logits  # with gradients: without, one product takes the blocks
    assert (wrong - right[0]).abs().max() > 1e-3


def test_heads_that_share_keys_are_kept_together():
    model = make_backbone("EuroBert")
    assert [model.config.resolve(f"w{width}-d1")[0].heads for width in (0.25, 0.5, 0.75)] == [6, 9, 12]
    assert model.config.anatomy.linears["self_attn.k_proj"].outputs == KEYS
    with pytest.raises(SubNetworkError, match=r"heads=4.* 3 attention heads share keys .* Give a multiple of 3 heads"):
        model.set_active([LayerShape(0, 4, 50)])
    with pytest.raises(SubNetworkError, match=r"no attention head of 6 with keys of its own\. The smallest .* 0\.0833"):
        model.set_active(width=0.05)
