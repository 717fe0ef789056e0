"""Means over seeds, and the paired bootstrap over rows and seeds."""

from dataclasses import dataclass

import numpy as np

from .metrics import METRICS

NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Pair:
    """What two models of one task predicted, with the same seeds for the same rows.

    Args:
        task: Pairs of one task draw the same rows and seeds in each resample.
        metric: Name of the task's metric.
        labels: `(rows,)`.
        ours: Predictions `(seeds, rows)`.
        theirs: Those of the other model.
    """

    task: str
    metric: str
    labels: np.ndarray
    ours: np.ndarray
    theirs: np.ndarray

    def points(self, seeds, rows):
        """How far we are ahead on some rows, in points of the metric, averaged over some seeds."""
        metric, labels = METRICS[self.metric], self.labels[rows]
        ahead = [metric(self.ours[seed, rows], labels) - metric(self.theirs[seed, rows], labels) for seed in seeds]
        return 100 * float(np.mean(ahead))


@dataclass(frozen=True)
class Claim:
    """How far ahead, in points, with the 95 % interval."""

    points: float
    low: float
    high: float

    def __str__(self):
        return f"{self.points:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def bootstrap(pairs, *, num_resamples=NUM_RESAMPLES, seed=0):
    """The mean over tasks of the mean over the pairs of each: one claim, one interval.

    Every resample draws, for each task, seeds with replacement and rows with replacement, the same for both models.

    Args:
        pairs: What is compared.
        num_resamples: Number of resamples.
        seed: Of the draws.

    Raises:
        ValueError: If two models of a pair did not predict the same rows with as many seeds.
    """
    by_task = {}
    for pair in pairs:
        if not pair.ours.shape == pair.theirs.shape == (len(pair.ours), len(pair.labels)):
            shapes = pair.ours.shape, pair.theirs.shape, pair.labels.shape
            raise ValueError(
                f"Predictions and labels of {pair.task} have the shapes {shapes}. Paired are (seeds, rows), twice the "
                "same, and (rows,)."
            )
        by_task.setdefault(pair.task, []).append(pair)
    random = np.random.default_rng(seed)

    def mean(draw):
        drawn = {task: draw(*own[0].ours.shape) for task, own in by_task.items()}
        return np.mean([np.mean([pair.points(*drawn[task]) for pair in own]) for task, own in by_task.items()])

    points = mean(lambda seeds, rows: (np.arange(seeds), np.arange(rows)))
    resampled = [
        mean(lambda seeds, rows: (random.integers(seeds, size=seeds), random.integers(rows, size=rows)))
        for _ in range(num_resamples)
    ]
    return Claim(float(points), *map(float, np.percentile(resampled, [2.5, 97.5])))


def mean_and_deviation(values, digits=1):
    """`81.2 ± 0.4`, the standard deviation over seeds; only the value where there is one seed."""
    values = np.asarray(list(values), float)
    own = f"{values.mean():.{digits}f}"
    return own if len(values) == 1 else f"{own} ± {values.std(ddof=1):.{digits}f}"
