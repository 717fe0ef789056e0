"""The rows of a task, tokenised, in the parts that choices and scores are made on."""

from dataclasses import dataclass

import numpy as np
from datasets import Dataset, concatenate_datasets, load_dataset

from .jobs import SCORE

MAX_LENGTH = 128


@dataclass(frozen=True)
class Rows:
    """Tokenised rows to train on and to score, and what is predicted: `labels` of the scored rows, and how many."""

    train: Dataset
    scored: Dataset
    num_labels: int
    labels: np.ndarray


def load_rows(task, part, seed, tokenizer, *, source=None):
    """The rows of a part.

    Held-out rows are the same for all seeds; the training rows of a choice are drawn by the seed.

    Args:
        task: `plan.Task`.
        part: As in `jobs.Job`.
        seed: Of the draw.
        tokenizer: What tokenises, to at most 128 tokens.
        source: A folder to read instead of the data set's id on the Hub.
    """
    splits = load_dataset(str(source or task.dataset), task.config)
    train, names = splits["train"], None
    if train.features["label"].dtype in ("string", "large_string"):
        names = {name: number for number, name in enumerate(sorted(train.unique("label")))}
    if part == SCORE:
        scored = [splits[name] for name in ("validation", "test") if name in splits and _is_labelled(splits[name])]
        scored = concatenate_datasets(scored)
    else:
        train = train.shuffle(seed=0)
        scored = train.select(range(task.num_held_out))
        train = train.select(range(task.num_held_out, len(train)))
        _, _, given = part.partition("-")
        count = min(int(given or task.num_choice or len(train)), len(train))
        train = train.shuffle(seed=seed).select(range(count))

    def tokenised(rows):
        columns = [rows[name] for name in task.text]
        labels = rows["label"] if names is None else [names[label] for label in rows["label"]]
        return {**tokenizer(*columns, truncation=True, max_length=MAX_LENGTH), "labels": labels}

    train, scored = (each.map(tokenised, batched=True, remove_columns=each.column_names) for each in (train, scored))
    labels = np.array(scored["labels"])
    num_labels = 1 if labels.dtype.kind == "f" else 1 + max(max(train["labels"]), int(labels.max()))
    return Rows(train, scored, num_labels, labels)


def _is_labelled(rows):
    """GLUE on the Hub marks the hidden labels of a test split by -1."""
    first = rows[0]["label"]
    return isinstance(first, str) or first >= 0
