"""The values of the published implementation in tests/fixtures/reference/, and models made of them."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

from dynabert_hf import DynaBertForSequenceClassification, DynaRobertaForSequenceClassification, measure_importance
from helpers.devices import to

FOLDER = Path(__file__).parents[1] / "fixtures" / "reference"
NAMES = ("bert_12x12", "roberta_6x4", "bert_regression")
CLASSES = {
    "bert": (BertConfig, BertForSequenceClassification, DynaBertForSequenceClassification),
    "roberta": (RobertaConfig, RobertaForSequenceClassification, DynaRobertaForSequenceClassification),
}


def load_spec(name):
    return json.loads((FOLDER / name / "spec.json").read_text())


def load_expected(name):
    return load_file(FOLDER / name / "expected.safetensors")


def load_weights(name, file):
    """The weights of a model, without RoBERTa's pooler, which the architecture no longer has."""
    weights = load_file(FOLDER / name / f"{file}.safetensors")
    return {key: value for key, value in weights.items() if not key.startswith("roberta.pooler")}


def load_elastic(name, file="model"):
    """An elastic model with the weights of a reference file, in evaluation mode."""
    spec = load_spec(name)
    config_class, stock_class, elastic_class = CLASSES[spec["arch"]]
    stock = stock_class(config_class(**spec["config"]))
    stock.load_state_dict(load_weights(name, file))
    return elastic_class.from_backbone(stock, widths=spec["widths"], depths=spec["depths"]).eval()


def batch_of(expected, index):
    """One of the reference batches, as the models take it."""
    keys = ("input_ids", "attention_mask", "token_type_ids", "labels")
    return {key: expected[f"batch{index}.{key}"] for key in keys if f"batch{index}.{key}" in expected}


def assert_published_outputs(name, attention, device="cpu"):
    """Every size gives the outputs of the published implementation, which computed them on a CPU."""
    model, expected = load_elastic(name).to(device), load_expected(name)
    model.set_attn_implementation(attention)
    batch = batch_of(expected, 0)
    real = batch["attention_mask"].bool()
    for size in model.config.subnetworks:
        prefix = f"forward.w{size.width:g}.d{size.depth:g}"
        with model.subnetwork(size), torch.no_grad():
            output = model(**to(device, batch), output_hidden_states=True)
        assert output.logits.device == model.device
        for ours, theirs in (
            (output.loss.cpu(), expected[f"{prefix}.loss"]),
            (output.logits.cpu(), expected[f"{prefix}.logits"]),
            (torch.stack(output.hidden_states).cpu()[:, real], expected[f"{prefix}.hidden_states"][:, real]),
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


def assert_published_importance(name, device="cpu"):
    """Heads and neurons have the importance that the published implementation measured; returns the model and it."""
    model, expected = load_elastic(name).to(device), load_expected(name)
    importance = measure_importance(model, [batch_of(expected, 0)], progress=False)
    for kind in ("heads", "neurons"):
        ours, theirs = getattr(importance, kind).cpu(), expected[f"importance.{kind}"]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.max().item())
        assert torch.equal(ours.argsort(descending=True), theirs.argsort(descending=True))
    return model, importance
