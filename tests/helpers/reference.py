"""The values of the published implementation in tests/fixtures/reference/, and models made of them."""

import json
from pathlib import Path

from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification, RobertaConfig, RobertaForSequenceClassification

from dynabert_hf import DynaBertForSequenceClassification, DynaRobertaForSequenceClassification

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
