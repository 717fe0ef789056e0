"""What every size of a model answers, and what training cost."""

import contextlib
import time

import numpy as np
import torch

from .metrics import METRICS, divergence

BATCH_SIZE = 128


def in_batches(rows, collator):
    """The numbers of the rows of each batch, which are of like length, and the batch without labels."""
    order = np.argsort([len(ids) for ids in rows["input_ids"]], kind="stable")
    for start in range(0, len(order), BATCH_SIZE):
        chosen = order[start : start + BATCH_SIZE]
        batch = collator([rows[int(row)] for row in chosen])
        del batch["labels"]
        yield chosen, batch


@torch.no_grad()
def predict(model, rows, collator, sizes=None):
    """For each size (None: the one size of the model) the logits `(rows, labels)`, in the order of the rows."""
    model.eval()
    logits = {str(size): np.zeros((len(rows), model.config.num_labels), np.float32) for size in sizes or ["model"]}
    for chosen, batch in in_batches(rows, collator):
        batch = batch.to(model.device)
        for size in sizes or ["model"]:
            with model.subnetwork(size) if sizes else contextlib.nullcontext():
                logits[str(size)][chosen] = model(**batch).logits.float().cpu().numpy()
    return logits


def summarise(logits, labels, teacher, metric):
    """Numbers by size, and the arrays of predictions for paired tests.

    Args:
        logits: By size `(rows, labels)`.
        labels: Of the rows.
        teacher: Logits of the teacher.
        metric: Name of the official metric.
    """
    numbers, answers = {}, {}
    for size, own in logits.items():
        prediction = own[:, 0] if own.shape[1] == 1 else own.argmax(1).astype(np.uint8)
        apart = divergence(own, teacher).mean()
        numbers[size] = {"metric": METRICS[metric](prediction, labels), "divergence": float(apart)}
        answers[f"{size}.prediction"] = prediction
    return numbers, answers


class Clock:
    """Seconds on the wall and of the processor inside a `with` block."""

    def __enter__(self):
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exception):
        self.seconds = time.perf_counter() - self._start[0]
        self.cpu_seconds = time.process_time() - self._start[1]
