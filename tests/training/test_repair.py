"""Sizes between the trained ones, mended in closed form: by value, and what is left as it was."""

import numpy as np
import pytest
import torch
from helpers.backbones import make_backbone
from helpers.texts import make_text
from helpers.tiny import make_model

from dynabert_hf import DynaBertForSequenceClassification, LayerShape, SubNetworkError, measure_importance, repair
from dynabert_hf.families import anatomy_of

WIDE = {"widths": [0.5, 1.0], "depths": [0.5, 1.0]}
OUT = ("attention.output.dense", "output.dense")


def outputs_of(model, kept):
    """The linears back into the hidden states, of some layers."""
    layers = anatomy_of(model).stored_layers(model.base_model)
    return [layers[index].get_submodule(path) for index in kept for path in OUT]


def mean_inputs(model, size, linears, batches):
    """The mean of what goes into linears at a size, token by token, in a loop over texts."""
    seen = [[] for _ in linears]
    for batch in batches:
        for text, mask in enumerate(batch["attention_mask"]):
            one = {name: value[text : text + 1] for name, value in batch.items()}
            for rows, linear in zip(seen, linears, strict=True):
                given = []
                hook = linear.register_forward_pre_hook(lambda _, inputs, given=given: given.append(inputs[0][0]))
                with model.subnetwork(size), torch.no_grad():
                    model(**one)
                hook.remove()
                rows += [given[0][token].double().numpy() for token in range(len(mask)) if mask[token]]
    return [np.mean(rows, axis=0) for rows in seen]


@pytest.mark.parametrize(
    ("size", "reference"),
    [
        ("w0.75-d0.5", "w1-d0.5"),
        ("w0.25-d1", "w0.5-d1"),
        ("l1h2n20-l4h4n48", (LayerShape(1, 4, 48), LayerShape(4, 4, 48))),
    ],
)
def test_a_bias_grows_by_the_mean_of_what_was_cut_in_the_next_larger_trained_size(size, reference):
    model = make_model(**WIDE)
    batches = make_text(model, batches=3).batches
    kept = [layer.index for layer in model.config.resolve(size)]
    wide = outputs_of(model, kept)
    means = mean_inputs(model, reference, wide, batches)
    small = repair(model, size, batches)
    for mean, whole, own in zip(means, wide, outputs_of(small, range(len(kept))), strict=True):
        weight, bias = whole.weight.detach().double().numpy(), whole.bias.detach().double().numpy()
        for row in range(len(bias)):
            for column in range(own.in_features, len(mean)):
                bias[row] += weight[row, column] * mean[column]
        np.testing.assert_allclose(own.bias.detach().numpy(), bias, rtol=1e-4, atol=1e-6)


class ReadsTwoTexts(DynaBertForSequenceClassification):
    """Runs the encoder twice, on texts with masks of their own."""

    def forward(self, input_ids, attention_mask, other_ids, other_mask):
        pooled = [self.bert(ids, mask)[1] for ids, mask in ((input_ids, attention_mask), (other_ids, other_mask))]
        return self.classifier(pooled[0] - pooled[1])


def test_every_pass_of_the_encoder_counts_the_tokens_of_its_own_text():
    model = make_model(**WIDE)
    batch, *_ = make_text(model).batches
    one = {name: batch[name] for name in ("input_ids", "attention_mask")}
    other = {name: value.flip(0) for name, value in one.items()}
    assert not torch.equal(one["attention_mask"], other["attention_mask"])
    expected = repair(model, "w0.75-d0.5", [one, other])
    twice = ReadsTwoTexts(model.config)
    twice.load_state_dict(model.state_dict())
    both = {**one, "other_ids": other["input_ids"], "other_mask": other["attention_mask"]}
    small = repair(twice, "w0.75-d0.5", [both])
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(small.state_dict()[name], weight, rtol=0, atol=1e-6)  # of sums in another order


def test_all_but_biases_is_the_extracted_size_and_the_model_stays_as_it_was(tmp_path):
    model = make_model(**WIDE).train()
    model.base_model.embeddings.eval()
    modes = [module.training for module in model.modules()]
    model.set_active("w0.5-d1").config.metrics = {"w0.5-d0.5": {"accuracy": 0.9}}
    text = make_text(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small, plain = repair(model, "w0.75-d0.5", text.labelled_batches()), model.extract("w0.75-d0.5")
    assert small.config.metrics is None  # a bias grew for the sizes within it, too
    assert plain.config.metrics == model.config.metrics
    assert [module.training for module in model.modules()] == modes
    assert str(model.active) == "w0.5-d1"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())
    changed = [name for name, value in plain.state_dict().items() if not torch.equal(value, small.state_dict()[name])]
    assert len(changed) == 3 * 2
    assert all(name.endswith(tuple(f"{path}.bias" for path in OUT)) for name in changed)
    small.eval().save_pretrained(tmp_path)
    np.testing.assert_array_equal(text.predict(type(model).from_pretrained(tmp_path)), text.predict(small))


def test_what_cannot_be_repaired_is_refused():
    model = make_model(**WIDE)
    batches = make_text(model).batches
    with pytest.raises(SubNetworkError, match=r"trained for w0.5-d1, so there is nothing to repair. Possible are"):
        repair(model, "w0.5-d1", batches)
    with pytest.raises(SubNetworkError, match="does not hold"):
        repair(model.extract("w0.5-d1"), "w0.75-d1", batches)
    with pytest.raises(ValueError, match=r"There was no text to repair by. Give at least one batch"):
        repair(model, "w0.75-d1", [])
    with pytest.raises(TypeError, match=r"A repair changes biases, .* have none. Possible are .* by specialise"):
        repair(make_backbone("ModernBert", widths=[1.0]), "w0.5-d1", batches)
    for given, name in ((make_text(model), "LabelledText"), (batches[0], "dict"), ("dev.csv", "str")):
        with pytest.raises(TypeError, match=f"batches is a {name}. Possible is a list, .* Give the batches of a Label"):
            repair(model, "w0.75-d1", given)
        with pytest.raises(TypeError, match=rf"batches is a {name}.* Give the labelled_batches\(\) of a LabelledText"):
            measure_importance(model, given)
