"""The official metrics of the GLUE tasks for `evaluate`, in numpy alone, so that they load without a network.

    evaluate.load("examples/metrics/glue_scores.py", "mrpc").compute(predictions=[0, 1], references=[0, 1])

Where a metric is not defined, for instance the correlation with predictions that are all alike, it is 0: such
predictions say nothing, and training can go on and choose its best checkpoint.
"""

import datasets
import evaluate
import numpy as np

CITATION = """\
@inproceedings{wang2019glue,
  title = {{GLUE}: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding},
  author = {Wang, Alex and Singh, Amanpreet and Michael, Julian and Hill, Felix and Levy, Omer and Bowman, Samuel R.},
  booktitle = {International Conference on Learning Representations},
  year = {2019}
}
"""
INPUTS = """
Args:
    predictions: The predicted label of every example, or its predicted value for `stsb`.
    references: The true labels or values.
"""
METRICS = {
    "cola": ("matthews_correlation",),
    "sst2": ("accuracy",),
    "mrpc": ("accuracy", "f1"),
    "qqp": ("accuracy", "f1"),
    "stsb": ("pearson", "spearmanr"),
    "mnli": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
}
"""For each task its metrics, the one that is looked at first before the other."""


def accuracy(predictions, references):
    return float((predictions == references).mean())


def f1(predictions, references):
    """Of label 1, which is paraphrase in `mrpc` and duplicate in `qqp`."""
    both = np.sum((predictions == 1) & (references == 1))
    either = np.sum(predictions == 1) + np.sum(references == 1)
    return float(2 * both / either) if either else 0.0


def matthews_correlation(predictions, references):
    """The correlation of predicted and true labels, of any number of labels."""
    labels = np.unique(np.concatenate([predictions, references]))
    predicted = predictions[:, None] == labels
    true = references[:, None] == labels
    return _ratio(_covariance(predicted, true), _covariance(predicted, predicted), _covariance(true, true))


def pearson(predictions, references):
    if np.ptp(predictions) == 0 or np.ptp(references) == 0:  # the variance of a constant is often not quite 0
        return 0.0
    predicted, true = (values.astype(np.float64)[:, None] for values in (predictions, references))
    return _ratio(_covariance(predicted, true), _covariance(predicted, predicted), _covariance(true, true))


def spearmanr(predictions, references):
    """Pearson correlation of the ranks, equal values sharing their mean rank."""
    return pearson(_ranks(predictions), _ranks(references))


def _covariance(one, other):
    """The covariance of two tables of as many columns, `(examples, columns)`, summed over the columns."""
    return float(((one - one.mean(0)) * (other - other.mean(0))).mean(0).sum())


def _ratio(covariance, first, second):
    return covariance / float(np.sqrt(first) * np.sqrt(second)) if first > 0 and second > 0 else 0.0


def _ranks(values):
    _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[position]


class GlueScores(evaluate.Metric):
    """The metrics of the GLUE task that is named as configuration."""

    def _info(self):
        if self.config_name not in METRICS:
            raise ValueError(f"{self.config_name!r} is no GLUE task. Possible is one of {', '.join(METRICS)}.")
        kind = datasets.Value("float64" if self.config_name == "stsb" else "int64")
        return evaluate.MetricInfo(
            description=__doc__,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": kind, "references": kind}),
            reference_urls=["https://gluebenchmark.com"],
        )

    def _compute(self, predictions, references):
        predictions, references = np.asarray(predictions), np.asarray(references)
        return {name: globals()[name](predictions, references) for name in METRICS[self.config_name]}
