"""Accuracy of every size of a model on a split, and which sentences it got right, for paired tests."""

import contextlib
import math
import time

import numpy as np
import torch

BATCH_SIZE = 128


@torch.no_grad()
def score(model, split, collator, sizes=None):
    """For each size (None: the one size of the model) accuracy, mean loss, and the right answers as hex digits."""
    model.eval()
    lengths = [len(ids) for ids in split["input_ids"]]
    order = np.argsort(lengths, kind="stable")
    logits = {str(size): np.zeros((len(split), model.config.num_labels)) for size in sizes or ["model"]}
    for start in range(0, len(order), BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        batch = collator([split[int(row)] for row in rows])
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        for size in sizes or ["model"]:
            with model.subnetwork(size) if sizes else contextlib.nullcontext():
                logits[str(size)][rows] = model(**inputs).logits.numpy()
    labels = np.array(split["label"])
    return {size: _summary(own, labels) for size, own in logits.items()}


def _summary(logits, labels):
    correct = logits.argmax(-1) == labels
    log_probabilities = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return {
        "accuracy": float(correct.mean()),
        "loss": float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        "correct": np.packbits(correct).tobytes().hex(),
    }


def right_answers(summary, count):
    """The answers of `score` as an array of booleans."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(summary["correct"]), np.uint8))[:count].astype(bool)


class CpuClock:
    """CPU seconds of this process, all threads, inside a `with` block; pauses of the process do not count."""

    seconds = math.nan

    def __enter__(self):
        self._start = time.process_time()
        return self

    def __exit__(self, *exception):
        self.seconds = time.process_time() - self._start
