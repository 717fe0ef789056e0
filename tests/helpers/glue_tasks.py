"""Data with the columns and label features of every GLUE task, made on the spot, and a tiny model to train on them."""

import random
from pathlib import Path

import run_glue
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from glue_data import LABELS, TEXT_COLUMNS
from transformers import BertForSequenceClassification, BertModel, BertTokenizer

from helpers.tiny import BACKBONE_CONFIGS, TINY

WORDS = [
    "a",
    "film",
    "of",
    "the",
    "good",
    "bad",
    "dull",
    "warm",
    "is",
    "not",
    "never",
    "it",
    "was",
    "long",
    "too",
    "plot",
]
METRICS = {
    "cola": {"matthews_correlation"},
    "mrpc": {"accuracy", "f1", "combined_score"},
    "qqp": {"accuracy", "f1", "combined_score"},
    "stsb": {"pearson", "spearmanr", "combined_score"},
}
SMALL = ["--widths", "0.5", "1.0", "--depths", "0.5", "1.0"]
QUICK = [*SMALL, "--max_steps", "2", "--per_device_train_batch_size", "4", "--use_cpu", "--disable_tqdm", "true"]
QUICK += ["--max_seq_length", "16", "--learning_rate", "1e-3"]


def make_split(task, size, *, seed, hidden=False):
    """A split of a GLUE task; `hidden` labels are -1, as in its test splits."""
    draw = random.Random(f"{task}-{seed}")
    names = LABELS.get(task)
    rows = []
    for index in range(size):
        texts = {column: " ".join(draw.choices(WORDS, k=draw.randint(3, 6))) for column in TEXT_COLUMNS[task]}
        label = draw.uniform(0, 5) if names is None else draw.randrange(len(names))
        rows.append({**texts, "label": -1 if hidden else label, "idx": index})
    kind = Value("float32") if names is None else ClassLabel(names=list(names))
    texts = dict.fromkeys(TEXT_COLUMNS[task], Value("string"))
    return Dataset.from_list(rows, features=Features({**texts, "label": kind, "idx": Value("int32")}))


def make_task(task, *, train=16, evaluation=10, test=6):
    """All splits of a GLUE task under their names."""
    suffixes = ("_matched", "_mismatched") if task == "mnli" else ("",)
    splits = {"train": make_split(task, train, seed="train")}
    splits |= {f"validation{each}": make_split(task, evaluation, seed=f"dev{each}") for each in suffixes}
    splits |= {f"test{each}": make_split(task, test, seed=f"test{each}", hidden=True) for each in suffixes}
    return DatasetDict(splits)


def save_task(task, folder, **sizes):
    """The folder with a copy of a GLUE task, as `--dataset_name` takes it."""
    make_task(task, **sizes).save_to_disk(folder / task)
    return str(folder / task)


def save_model(folder, *, labels=2, head=True, **config):
    """The folder of a tiny BERT with its tokenizer, with a head for so many labels or none."""
    torch.manual_seed(0)
    settings = BACKBONE_CONFIGS["Bert"](**{**TINY, "num_hidden_layers": 2, "num_labels": labels, **config})
    model = (BertForSequenceClassification if head else BertModel)(settings)
    model.save_pretrained(folder)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizer(vocab={word: index for index, word in enumerate(vocabulary)}).save_pretrained(folder)
    return str(folder)


def write_csv(path, rows, header="text,label"):
    Path(path).write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def sentiment_rows(size, *, labels=("bad", "good"), seed=0):
    draw = random.Random(seed)
    return [f"{' '.join(draw.choices(WORDS, k=5))},{labels[row % len(labels)]}" for row in range(size)]


def glue(*arguments):
    run_glue.main([*map(str, arguments), *QUICK])
