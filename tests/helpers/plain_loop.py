"""What evaluation has to give: predictions and losses of one row after the other, in the order of the data."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy, mse_loss

from helpers.tiny import make_small

LABELS = ("labels", "start_positions", "end_positions")
HEADS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "Regression",
)


def elastic(head, **config):
    """A tiny elastic model of four sizes and two layers."""
    num_labels = {"Regression": 1, "ForQuestionAnswering": 2}.get(head, 3)
    suffix = "ForSequenceClassification" if head == "Regression" else head
    return make_small(suffix, stock={"num_labels": num_labels}, **config)


def ragged_rows(head, size=9):
    """Rows of different lengths with the labels of a head; in a row of tokens the first and the last have none."""
    draw = np.random.default_rng(0)
    rows = []
    for number in range(size):
        length = 3 + int(draw.integers(0, 6))
        texts = [draw.integers(5, 99, length).tolist() for _ in range(3)]
        labels = {
            "ForSequenceClassification": {"labels": number % 3},
            "Regression": {"labels": number / 7},
            "ForTokenClassification": {"labels": [-100, *draw.integers(0, 3, length - 2).tolist(), -100]},
            "ForQuestionAnswering": {"start_positions": number % 2, "end_positions": 1 + number % 2},
            "ForMultipleChoice": {"labels": number % 3},
        }[head]
        if head == "ForMultipleChoice":
            rows.append({"input_ids": texts, "attention_mask": [[1] * length] * 3, **labels})
        else:
            rows.append({"input_ids": texts[0], "attention_mask": [1] * length, **labels})
    return rows


def pad(rows):
    """Collate rows to the longest, labels of tokens with what is ignored."""
    longest = max(np.asarray(row["input_ids"]).shape[-1] for row in rows)

    def filled(name, value):
        array = np.asarray(value)
        if name in LABELS and array.ndim == 0:
            return array
        missing = [(0, 0)] * (array.ndim - 1) + [(0, longest - array.shape[-1])]
        return np.pad(array, missing, constant_values=-100 if name == "labels" else 0)

    batch = {name: torch.tensor(np.stack([filled(name, row[name]) for row in rows])) for name in rows[0]}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in batch.items()}


@torch.no_grad()
def plain_loop(model, rows, *, batch_size=4):
    """Predictions of each row, a tuple of arrays, and the mean loss over all items; the model is at its size.

    The loss of question answering is that of batches: as in transformers, it gives padding a probability.
    """
    predictions, total, items = [], 0.0, 0
    for row in rows:
        batch = pad([row])
        output = model(**{name: tensor for name, tensor in batch.items() if name not in LABELS})
        if "start_logits" in output:
            predictions.append((output.start_logits[0].numpy(), output.end_logits[0].numpy()))
            continue
        predictions.append((output.logits[0].numpy(),))
        labels = batch["labels"]
        if labels.is_floating_point():
            total += mse_loss(output.logits.flatten(), labels, reduction="sum").item()
        else:
            total += cross_entropy(output.logits.flatten(0, -2), labels.flatten(), reduction="sum").item()
        items += int((labels != -100).sum())
    if items == 0:
        batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
        total, items = sum(model(**pad(batch)).loss.item() * len(batch) for batch in batches), len(rows)
    return predictions, total / items


def assert_equal_rows(predicted, expected):
    """Rows of an array, perhaps padded at their end, or of several, are the expected ones, to 1e-5."""
    arrays = predicted if isinstance(predicted, tuple) else (predicted,)
    assert {len(array) for array in arrays} == {len(expected)}
    for number, row in enumerate(expected):
        for array, wanted in zip(arrays, row, strict=True):
            found = array[number][tuple(map(slice, wanted.shape))]
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5, err_msg=f"row {number}")
