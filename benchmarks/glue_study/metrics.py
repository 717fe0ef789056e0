"""The official metric of a task, from predictions and labels, and the divergence from a teacher."""

import numpy as np


def accuracy(predictions, labels):
    """Share of right classes."""
    return float((predictions == labels).mean())


def accuracy_and_f1(predictions, labels):
    """Mean of accuracy and the F1 of class 1, as GLUE averages them for MRPC."""
    found, wanted = (predictions == 1).sum(), (labels == 1).sum()
    both = ((predictions == 1) & (labels == 1)).sum()
    f1 = 2 * both / (found + wanted) if found + wanted else 0.0
    return float((accuracy(predictions, labels) + f1) / 2)


def matthews(predictions, labels):
    """Matthews correlation of two classes; 0 where one side has one class only."""
    predictions, labels = predictions.astype(float), labels.astype(float)
    return _correlation(predictions, labels)


def correlation(predictions, labels):
    """Mean of Pearson's and Spearman's correlation, as GLUE averages them for STS-B."""
    pearson = _correlation(predictions, labels)
    return (pearson + _correlation(_ranks(predictions), _ranks(labels))) / 2


METRICS = {
    "accuracy": accuracy,
    "accuracy_and_f1": accuracy_and_f1,
    "matthews": matthews,
    "correlation": correlation,
}


def divergence(logits, teacher):
    """For each row the divergence of the predicted distribution from the teacher's, in nats; of one number its square.

    Args:
        logits: `(rows, labels)`.
        teacher: Logits of the teacher, of the same shape.
    """
    logits, teacher = np.asarray(logits, float), np.asarray(teacher, float)
    if logits.shape[1] == 1:
        return np.square(logits - teacher)[:, 0]
    log_p, log_q = (each - np.logaddexp.reduce(each, axis=1, keepdims=True) for each in (teacher, logits))
    return (np.exp(log_p) * (log_p - log_q)).sum(1)


def _correlation(left, right):
    left, right = left - left.mean(), right - right.mean()
    norm = np.sqrt((left @ left) * (right @ right))
    return float(left @ right / norm) if norm else 0.0


def _ranks(values):
    """Ranks from 0, those of equal values averaged."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]
