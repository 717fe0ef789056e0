"""A tiny study: a random model of six layers, and two tasks of made-up words, to see that every part works."""

from dataclasses import replace

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from .plan import PLAN, Backbone, Task

WORDS = [f"word{number}" for number in range(40)]
RATES = (1e-3, 4e-3)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def smoke_plan(folder):
    """A plan of tiny data sets and a tiny model, written into a folder if need be."""
    if not (folder / "model" / "config.json").exists():
        write_data(folder)
        write_model(folder / "model")
    return replace(
        PLAN,
        tasks={
            "classes": Task(str(folder / "classes"), ("one", "other"), "accuracy_and_f1", num_held_out=16, epochs=1),
            "numbers": Task(str(folder / "numbers"), ("one",), "correlation", num_held_out=16, epochs=1),
        },
        backbones={"tiny": Backbone(str(folder / "model"), (1e-3,), RATES)},
        compared=("w0.5-d0.5",),
        ideas=("published",),
        seeds=(0,),
    )


def write_data(folder):
    """Two data sets whose label is how often one word stands in a text: at least once, and the number itself."""
    random = torch.Generator().manual_seed(0)
    for name in ("classes", "numbers"):
        for split, count in (("train", 48), ("validation", 16), ("test", 16)):
            draws = [torch.randint(8, (5 + row % 4,), generator=random).tolist() for row in range(count)]
            counts = [draw.count(0) for draw in draws]
            labels = [min(each, 1) for each in counts] if name == "classes" else [float(each) for each in counts]
            texts = [" ".join(WORDS[number] for number in draw) for draw in draws]
            path = folder / name / f"{split}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            Dataset.from_dict({"one": texts, "other": texts[::-1], "label": labels}).to_parquet(path)


def write_model(folder):
    torch.manual_seed(0)
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.BertProcessing(ends[1], ends[0])
    special = {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=6,
        num_attention_heads=8,
        intermediate_size=48,
        max_position_embeddings=40,
        initializer_range=0.3,  # so that sizes differ
    )
    BertModel(config).save_pretrained(folder)
