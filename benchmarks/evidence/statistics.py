"""Means over seeds, and the paired bootstrap over test sentences and seeds."""

from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """How much more accurate one model is than another, in points, with its 95 % interval and two-sided p value."""

    points: float
    low: float
    high: float
    p: float

    def __str__(self):
        return f"{self.points:+.1f} [{self.low:+.1f}, {self.high:+.1f}], p = {self.p:.3f}"


def paired_bootstrap(ours, theirs, *, num_resamples=NUM_RESAMPLES, seed=0):
    """The difference of two models that answered the same sentences with the same seeds.

    Every resample draws seeds with replacement and sentences with replacement, the same for both models.

    Args:
        ours: Right answers, booleans `(seeds, sentences)`.
        theirs: The same of the other model.
        num_resamples: Number of resamples.
        seed: Of the draws.

    Raises:
        ValueError: If the two are not of one shape.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if ours.shape != theirs.shape:
        raise ValueError(f"Paired answers must have one shape; given are {ours.shape} and {theirs.shape}.")
    differences = 100 * (ours - theirs)
    num_seeds, num_sentences = differences.shape
    random = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    for number in range(num_resamples):
        seeds = random.integers(num_seeds, size=num_seeds)
        counts = np.bincount(random.integers(num_sentences, size=num_sentences), minlength=num_sentences)
        means[number] = differences[seeds].mean(0) @ counts / num_sentences
    low, high = np.percentile(means, [2.5, 97.5])
    tail = min((means <= 0).mean(), (means >= 0).mean())
    return Difference(float(differences.mean()), float(low), float(high), float(min(1.0, 2 * tail)))


def mean_and_deviation(values, *, digits=3):
    """`0.812 ± 0.004`, the standard deviation over seeds; only the value where there is one seed."""
    values = np.asarray(list(values), float)
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"
