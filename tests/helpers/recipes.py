"""The recipe on a tiny model."""

from contextlib import nullcontext
from functools import cache
from unittest.mock import patch

import torch
from datasets import Dataset
from transformers import BertForSequenceClassification, RobertaForSequenceClassification

from dynabert_hf import train_dynabert
from dynabert_hf.training import result
from helpers.tiny import BACKBONE_CONFIGS, TINY

STOCK_CLASSES = {"Bert": BertForSequenceClassification, "Roberta": RobertaForSequenceClassification}
SHALLOW = {**TINY, "num_hidden_layers": 2}
"""Two layers, of which a depth of one half keeps one: the recipe asks no more of them, and six take twice as long."""
GRID = {"widths": (0.5, 1.0), "depths": (0.5, 1.0)}
"""Four sizes, unless a test asks for others: to build, count and measure the usual twelve takes most of the time."""
SETTINGS = {"max_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True, "disable_tqdm": True, "logging_steps": 1}


def make_teacher(family="Bert", num_labels=2, **config):
    torch.manual_seed(0)
    return STOCK_CLASSES[family](BACKBONE_CONFIGS[family](**{**SHALLOW, "num_labels": num_labels, **config}))


@cache
def make_sentences(size=12, regression=False):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 99, (size, 7), generator=generator)
    labels = [row / size if regression else row % 2 for row in range(size)]
    return Dataset.from_dict({"input_ids": ids.tolist(), "labels": labels})


def run_recipe(tmp_path, teacher=None, *, taught_by=None, pictures=False, **kwargs):
    """Train in the folder `run`. To draw the pictures of the card takes longer than that, so only few tests do."""
    teacher = teacher or make_teacher()
    has_sizes = "sizes" in kwargs or not type(teacher).__module__.startswith("transformers.")
    kwargs = {
        "train_dataset": make_sentences(),
        "eval_dataset": make_sentences(8),
        **({} if has_sizes else GRID),
        **SETTINGS,
        **kwargs,
    }
    drawn = nullcontext() if pictures else patch.object(result, "draw_pictures", return_value={})
    with drawn:
        return train_dynabert(teacher, output_dir=tmp_path / "run", teacher=taught_by, **kwargs)
