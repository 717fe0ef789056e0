"""Tiny sentence encoders as sentence-transformers saves them, made on the spot, and texts for them."""

import json
import random

import torch
from transformers import BertModel

from helpers.tiny import BACKBONE_CONFIGS, TINY, make_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(94))]
MODES = ("mean", "cls", "max")
FLAGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}


def make_encoder(seed=0):
    """A stock encoder whose states differ from text to text."""
    torch.manual_seed(seed)
    model = BertModel(BACKBONE_CONFIGS["Bert"](**TINY))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def save_encoder(folder, *, mode="mean", normalize=True, modules=(), seed=0, **pooling):
    """Save a sentence encoder as sentence-transformers does, without its package, and return the folder as text."""
    make_encoder(seed).save_pretrained(folder)
    make_tokenizer(WORDS, model_max_length=20).save_pretrained(folder)
    last = [("2_Normalize", "Normalize")] if normalize else []
    chain = [("", "Transformer"), ("1_Pooling", "Pooling"), *last, *modules]
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(chain)
    ]
    write_json(folder / "modules.json", listed)
    flags = {flag: own == mode for own, flag in FLAGS.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **flags, **pooling})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 12, "do_lower_case": False})
    return str(folder)


def write_json(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def make_texts(count, seed=0, longest=9):
    """Texts of two words or more."""
    draw = random.Random(seed)
    return [" ".join(f"w{draw.randrange(94)}" for _ in range(draw.randint(2, longest))) for _ in range(count)]


def make_pairs(count, seed=0):
    """Pairs of texts with scores."""
    first, second = make_texts(count, seed=seed), make_texts(count, seed=seed + 1)
    return [
        {"sentence1": one, "sentence2": other, "score": (7 * row % 11) / 2}
        for row, (one, other) in enumerate(zip(first, second, strict=True))
    ]
