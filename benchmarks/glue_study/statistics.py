"""Means over seeds, and the paired bootstrap over rows and seeds."""

import zlib
from dataclasses import dataclass, field

import numpy as np

from .metrics import METRICS

NUM_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Pair:
    """What two models of one task predicted, with the same seeds for the same rows.

    Args:
        task: Pairs of one task draw the same rows and seeds in each resample.
        metric: Name of the task's metric.
        labels: `(rows,)`.
        ours: Predictions `(seeds, rows)`.
        theirs: Those of the other model.
        known: What was resampled, for other claims about this pair.
    """

    task: str
    metric: str
    labels: np.ndarray
    ours: np.ndarray
    theirs: np.ndarray
    known: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        if not self.ours.shape == self.theirs.shape == (len(self.ours), len(self.labels)):
            shapes = self.ours.shape, self.theirs.shape, self.labels.shape
            raise ValueError(
                f"Predictions and labels of {self.task} have the shapes {shapes}. Paired are (seeds, rows), twice the "
                "same, and (rows,)."
            )

    def points(self, seeds=None, rows=slice(None)):
        """How far we are ahead on some rows, in points of the metric, averaged over some seeds; None: all."""
        metric, labels = METRICS[self.metric], self.labels[rows]
        seeds = range(len(self.ours)) if seeds is None else seeds
        ahead = [metric(self.ours[seed, rows], labels) - metric(self.theirs[seed, rows], labels) for seed in seeds]
        return 100 * float(np.mean(ahead))

    def resampled(self, num_resamples=NUM_RESAMPLES):
        """The same on draws of seeds and rows with replacement, alike for all pairs of a task: `(num_resamples,)`."""
        if num_resamples not in self.known:
            rng = np.random.default_rng([0, zlib.crc32(self.task.encode())])
            seeds, rows = self.ours.shape
            drawn = ((rng.integers(seeds, size=seeds), rng.integers(rows, size=rows)) for _ in range(num_resamples))
            self.known[num_resamples] = np.array([self.points(*draw) for draw in drawn])
        return self.known[num_resamples]


@dataclass(frozen=True)
class Claim:
    """How far ahead, in points, with the 95 % interval."""

    points: float
    low: float
    high: float

    def __str__(self):
        return f"{self.points:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def bootstrap(pairs, *, num_resamples=NUM_RESAMPLES):
    """The mean over tasks of the mean over the pairs of each: one claim, one interval.

    Every resample draws, for each task, seeds with replacement and rows with replacement, the same for both models.

    Args:
        pairs: What is compared.
        num_resamples: Number of resamples.
    """
    by_task = {}
    for pair in pairs:
        by_task.setdefault(pair.task, []).append(pair)
    points = np.mean([np.mean([pair.points() for pair in own]) for own in by_task.values()])
    resampled = np.mean([np.mean([pair.resampled(num_resamples) for pair in own], 0) for own in by_task.values()], 0)
    return Claim(float(points), *map(float, np.percentile(resampled, [2.5, 97.5])))


def mean_and_deviation(values, digits=1):
    """`81.2 ± 0.4`, the standard deviation over seeds; only the value where there is one seed."""
    values = np.asarray(list(values), float)
    own = f"{values.mean():.{digits}f}"
    return own if len(values) == 1 else f"{own} ± {values.std(ddof=1):.{digits}f}"
