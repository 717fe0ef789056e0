"""Dropout of every family is known by its configuration, and as parts of the model."""

import copy

import pytest
import torch
import transformers
from helpers.backbones import CONFIGS, HEADS, make_backbone, make_stock, of_layers
from helpers.recipes import run_recipe
from helpers.tiny import batch_for

from dynabert_hf.training.dropout import dropout_fields, dropping

PLACES = [(family, head) for family in CONFIGS for head in HEADS[family] if head != "Model"]


def make_dropping(family, head):
    """A model of one layer of which much is dropped wherever its stock configuration has a field for it."""
    fields = dropout_fields(getattr(transformers, f"{family}Config")())
    model = make_backbone(
        family, head, widths=[1.0], depths=[1.0], **of_layers(family, 1), **dict.fromkeys(fields, 0.4)
    )
    model.set_attn_implementation("eager")
    return model


def drawn(model, head):
    """What a model in training mode says of a batch."""
    with torch.no_grad():
        return model.train()(**batch_for(head))[0]


@pytest.mark.parametrize(("family", "head"), PLACES)
def test_nothing_is_dropped_where_all_fields_of_dropout_are_0(family, head):
    model = make_dropping(family, head)
    config = copy.deepcopy(model.config)
    config.update(dict.fromkeys(dropout_fields(config), 0.0))
    calm = type(model)(config)
    calm.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = calm.eval()(**batch_for(head))[0]
    torch.testing.assert_close(drawn(calm, head), expected, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(drawn(model, head), expected)


@pytest.mark.parametrize(("family", "head"), PLACES)
def test_parts_of_a_model_drop_as_much_as_asked_for_a_time(family, head):
    model = make_dropping(family, head)
    with torch.no_grad():
        expected = model.eval()(**batch_for(head))[0]
    with dropping(model, 0.0):
        torch.testing.assert_close(drawn(model, head), expected, rtol=0, atol=0, equal_nan=True)
    torch.manual_seed(0)
    first = drawn(model, head)
    with dropping(model, 0.4):
        torch.manual_seed(0)
        assert torch.equal(drawn(model, head), first)
    assert not torch.equal(first, expected)


def test_the_recipe_drops_nothing_whatever_a_family_calls_it(tmp_path):
    """DistilBERT drops a tenth by default, and a fifth before its head."""
    names = ("dropout", "attention_dropout", "seq_classif_dropout")
    calm, dropped = (
        make_stock("DistilBert", n_layers=2, **dict.fromkeys(names, probability)) for probability in (0.0, 0.3)
    )
    whole, result = (run_recipe(tmp_path / name, each) for name, each in (("calm", calm), ("dropped", dropped)))
    expected = whole.model.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in result.model.state_dict().items())
    assert [getattr(result.model.config, name) for name in names] == [0.3, 0.3, 0.3]
