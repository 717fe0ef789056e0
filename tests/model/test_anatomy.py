"""A family is made elastic by a description of its layers: one that exists only here needs nothing else."""

from contextlib import nullcontext

import pytest
import torch
from helpers.tiny import make_batch
from helpers.toy import DynaToyForSequenceClassification, make_toy
from torch.utils.flop_counter import FlopCounterMode

from dynabert_hf import LayerShape, SubNetworkError, count_flops, count_parameters, measure_importance, rewire
from dynabert_hf.onnx.weights import WeightPool
from dynabert_hf.training.shared_prefixes import share_prefixes

IRREGULAR = (LayerShape(1, 3, 20), LayerShape(4, 1, 7))
BATCH = {**make_batch(), "labels": torch.tensor([0, 2])}


def logits(model, size=None):
    with torch.no_grad(), model.subnetwork(size or model.active):
        return model(**BATCH).logits


def masked(model, size):
    """The whole model, whose layers of a size lose what the others read of their cut heads and neurons."""
    stock = model.to_backbone()
    blocks = stock.toy.stack["blocks"]
    with torch.no_grad():
        for layer in model.config.resolve(size):
            blocks[layer.index].mixed.weight[:, 8 * layer.heads :] = 0
            blocks[layer.index].narrow.weight[:, layer.neurons :] = 0
    stock.toy.stack["blocks"] = torch.nn.ModuleList(blocks[layer.index] for layer in model.config.resolve(size))
    return stock.eval()


def test_its_full_size_is_bit_equal_and_every_other_equals_a_masked_model():
    model = make_toy()
    with torch.no_grad():
        assert torch.equal(logits(model), model.to_backbone().eval()(**BATCH).logits)
        for size in (*model.config.subnetworks, IRREGULAR):
            expected = masked(model, size)(**BATCH).logits
            torch.testing.assert_close(logits(model, size), expected, rtol=0, atol=1e-5)


def test_gradients_outside_of_its_fused_slices_are_zero():
    model = make_toy().set_active("w0.5-d0.5")
    model(**BATCH).loss.backward()
    kvq = model.elastic_layers.stored[0].mix["kvq"].weight.grad.unflatten(0, (3, -1))
    assert all(block[:16].any() for block in kvq)
    assert not kvq[:, 16:].any()
    assert model.elastic_layers.stored[1].mixed.weight.grad is None


@pytest.mark.parametrize("size", ["w0.5-d0.5", "w0.25-d1", "l1h3n20-l4h1n7"])
def test_it_is_extracted_saved_loaded_in_part_and_shared(tmp_path, size):
    model = make_toy()
    expected = logits(model, size)
    small = model.extract(size)
    model.set_active(size).save_pretrained(tmp_path)
    part = DynaToyForSequenceClassification.from_pretrained(tmp_path, only_active=True)
    for each in (small, part, make_toy().share(size)):
        torch.testing.assert_close(logits(each), expected, rtol=0, atol=1e-6)
    for ours, theirs in zip(part.parameters(), small.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert sum(p.numel() for p in small.parameters()) == count_parameters(model, size).total
    model.config.vocab_size = 98
    model.config.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match=r"The configuration says that words\.weight is of size"):
        DynaToyForSequenceClassification.from_pretrained(tmp_path)


def test_its_costs_are_counted():
    model = make_toy()
    for size in (*model.config.subnetworks, IRREGULAR):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.extract(size)(**make_batch())
        attention = sum(4 * 2 * 7 * 7 * 8 * layer.heads for layer in model.config.resolve(size))  # sdpa is not seen
        counted = count_flops(model, size, batch_size=2, sequence_length=7)
        assert counted in (counter.get_total_flops(), counter.get_total_flops() + attention)


def test_it_is_rewired_by_the_importance_of_its_parts():
    model = make_toy()
    before = logits(model)
    importance = measure_importance(model, [BATCH], progress=False)
    assert importance.heads.shape == (6, 4)
    assert importance.neurons.shape == (6, 48)
    widen, narrow = (model.elastic_layers.stored[2].get_submodule(name).weight for name in ("widen", "narrow"))
    into, out = torch.autograd.grad(model(**BATCH).loss, [widen, narrow])
    by_hand = (into * widen).sum(1).view(2, 48).sum(0).abs() + (out * narrow).sum(0).abs()
    torch.testing.assert_close(importance.neurons[2], by_hand.detach())
    rewire(model, importance)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)
    again = measure_importance(model, [BATCH], progress=False)
    torch.testing.assert_close(again.neurons, importance.neurons.sort(1, descending=True).values)
    torch.testing.assert_close(again.heads, importance.heads.sort(1, descending=True).values)


def test_its_weights_are_laid_out_for_onnx():
    model = make_toy()
    arrays = [blob.array for blobs in WeightPool(model).blobs.values() for blob in blobs]
    narrow = model.elastic_layers.stored[0].narrow.weight.detach().T.numpy()
    assert any(array.shape == narrow.shape and (array == narrow).all() for array in arrays)


def test_its_passes_share_their_layers():
    model = make_toy().double()
    sizes, gradients = model.config.subnetworks, []
    for passes in (nullcontext(model.subnetwork), share_prefixes(model, sizes)):
        model.zero_grad()
        runs = []
        hook = model.elastic_layers.stored[0].widen.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        with passes as at_size:
            for size in sizes:
                with at_size(size):
                    model(**BATCH).loss.backward()
        hook.remove()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert len(runs) == 4
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_shapes_that_it_cannot_have_are_refused():
    with pytest.raises(SubNetworkError, match="does not hold"):
        make_toy().set_active([LayerShape(0, 5, 48)])
