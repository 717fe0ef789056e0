"""Tiny models whose axes all differ, with random norms and biases, so that a mistake cannot hide."""

import torch
from transformers import BertConfig, BertTokenizer, RobertaConfig

import dynabert_hf
from helpers.made import made_once

TINY = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "vocab_size": 99,
    "max_position_embeddings": 20,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
BACKBONE_CONFIGS = {"Bert": BertConfig, "Roberta": RobertaConfig}


def make_config(family="Bert", **kwargs):
    """A tiny elastic configuration."""
    stock = BACKBONE_CONFIGS[family](**{**TINY, "num_labels": 3, **kwargs.pop("stock", {})})
    return getattr(dynabert_hf, f"Dyna{family}Config").from_backbone(stock, **kwargs)


@made_once
def make_model(family="Bert", head="ForSequenceClassification", **kwargs):
    """A tiny elastic model in evaluation mode, every parameter random, norms and biases included."""
    torch.manual_seed(0)
    model = getattr(dynabert_hf, f"Dyna{family}{head}")(make_config(family, **kwargs))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def make_small(head="ForSequenceClassification", *, stock=(), **kwargs):
    """A model of two layers and four sizes: enough where neither layers nor sizes are counted, and faster to train."""
    sizes = {"widths": [0.5, 1.0], "depths": [0.5, 1.0]}
    return make_model(head=head, stock={"num_hidden_layers": 2, **dict(stock)}, **{**sizes, **kwargs})


def make_batch(batch=2, length=7, *, choices=None, seed=0):
    """Input ids `(batch, length)` or `(batch, choices, length)` and a ragged attention mask."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, length) if choices is None else (batch, choices, length)
    input_ids = torch.randint(5, 99, shape, generator=generator)
    attention_mask = torch.ones(shape, dtype=torch.long)
    attention_mask[0, ..., -2:] = 0
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def batch_for(head, **kwargs):
    """Inputs of the form that a head takes."""
    return make_batch(choices=3 if head == "ForMultipleChoice" else None, **kwargs)


def make_tokenizer(words, **kwargs):
    """A tokenizer that knows these words, by their numbers."""
    return BertTokenizer(vocab={word: number for number, word in enumerate(words)}, **kwargs)
