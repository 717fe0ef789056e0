"""The names of metrics: of which evaluation, size and quantity they speak, and which direction is better.

`evaluate()` names a metric of a size `eval_w0.5-d0.75_accuracy`, over all sizes `eval_mean_accuracy` and
`eval_worst_accuracy`, and of one of several evaluation sets `eval_<set>_w0.5-d0.75_accuracy`. Everything that makes or
reads such names asks here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from ..model.subnetwork import SubNetwork, SubNetworkError, parse_size

SUMMARIES = ("mean", "worst")
"""What stands in place of a size where a metric is of all sizes."""

TIMING = (
    "runtime",
    "samples_per_second",
    "steps_per_second",
    "model_preparation_time",
    "jit_compilation_time",
)
"""What transformers reports beside metrics: how long an evaluation took."""

LOWER, HIGHER = "lower", "higher"
"""The two directions in which a metric can be better."""

_LOWER_ENDINGS = ("loss", "error", "perplexity", "mse", "mae", "entropy", "divergence", "distance", "deviance")
_LOWER_WORDS = {
    *("brier", "nll", "ppl", "wer", "cer", "ter", "ece", "mce", "eer", "fpr", "fnr", "mape", "smape", "bpb", "bpc"),
    "latency",
}
_HIGHER_WORDS = {
    *("accuracy", "acc", "f1", "fbeta", "precision", "recall", "sensitivity", "specificity", "auc", "auroc", "roc"),
    *("map", "ap", "mrr", "reciprocal", "ndcg", "bleu", "rouge", "rouge1", "rouge2", "rougel", "rougelsum", "meteor"),
    *("pearson", "pearsonr", "spearman", "spearmanr", "kendall", "kendalltau", "correlation", "matthews", "mcc"),
    *("kappa", "r2", "iou", "jaccard", "dice", "em", "exact", "match", "similarity", "agreement", "likelihood"),
}
_SIZE = r"w[0-9.e-]+-d[0-9.e-]+|l\d+h\d+n\d+(?:-l\d+h\d+n\d+)*"
_SUBJECT = re.compile(rf"(?:^|(?<=_))({'|'.join(SUMMARIES)}|{_SIZE})(?=_.)")


class MetricName(NamedTuple):
    """What a name says: `eval_w0.5-d0.75_accuracy` is the accuracy of a size in the evaluation `eval`.

    `size` is the text of a size, or `mean` or `worst`. `split` is empty for a name that begins with the size.
    """

    split: str
    size: str
    metric: str

    def __str__(self) -> str:
        return "_".join(part for part in self if part)


def parse_metric_name(name: str, splits: Iterable[str] = ()) -> MetricName | None:
    """What a name says; None for one without a size, mean or worst.

    The first part that can be a size, `mean` or `worst` counts as it; what follows is the metric, whatever it contains.

    Args:
        name: The name of a metric or loss.
        splits: Known beginnings, such as `eval_matched`. They are needed only for those that contain such a part.

    Example:
        >>> parse_metric_name("eval_mean_mean_reciprocal_rank")
        MetricName(split='eval', size='mean', metric='mean_reciprocal_rank')
    """
    for split in sorted(splits, key=len, reverse=True):
        if name.startswith(f"{split}_"):
            rest = name.removeprefix(f"{split}_")
            match = _SUBJECT.match(rest)
            if match and _is_subject(match[1]):
                return MetricName(split, match[1], rest[match.end() + 1 :])
            return None
    for match in _SUBJECT.finditer(name):
        is_summary = match[1] in SUMMARIES
        if _is_subject(match[1]) and not (is_summary and match.start() == 0):
            return MetricName(name[: max(match.start() - 1, 0)], match[1], name[match.end() + 1 :])
    return None


def _is_subject(text: str) -> bool:
    if text in SUMMARIES:
        return True
    try:
        parse_size(text)
    except SubNetworkError:
        return False
    return True


def can_begin(split: str) -> bool:
    """Whether names that begin so are read as they were made: it has no part that stands for sizes itself.

    Args:
        split: A beginning, such as `eval_matched`.
    """
    name = MetricName(split, str(SubNetwork()), "loss")
    return parse_metric_name(str(name)) == name


def metrics_by_size(metrics: Mapping[str, Any], split: str = "eval") -> dict[str, dict[str, float]]:
    """The metrics of every size that are numbers, by the text of the size, without how long the evaluation took.

    Those of one of several evaluation sets keep its name: `eval_matched_w1-d1_accuracy` is the `matched_accuracy`.

    Args:
        metrics: What `evaluate()` returns, or an entry of a log.
        split: What the names begin with.
    """
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for name, value in metrics.items():
        parsed = parse_metric_name(name)
        if parsed is None or parsed.size in SUMMARIES or not f"{parsed.split}_".startswith(f"{split}_"):
            continue
        of_set = parsed.split.removeprefix(split).removeprefix("_")
        if parsed.metric not in TIMING and is_number(value):
            found[parsed.size][f"{of_set}_{parsed.metric}" if of_set else parsed.metric] = value
    return dict(found)


def plain_metrics(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The metrics with a prefix that are numbers, without it, and without how long the evaluation took."""
    plain = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    return of_python({name: value for name, value in plain.items() if name not in TIMING and is_number(value)})


def with_summary(
    by_size: Mapping[str, Mapping[str, Any]],
    split: str,
    *,
    asked: str | None = None,
    directions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """All metrics of all sizes under their full names, with the mean and the worst of each over the sizes.

    Of metrics that are no numbers, such as a report by class, there is no mean.

    Args:
        by_size: For the text of each size its metrics, by their full names or without what stands before them.
        split: What the names are to begin with.
        asked: `metric_for_best_model`. If it names a metric of one model, its mean over the sizes stands under it too.
        directions: For a metric, `lower` or `higher`, where its name does not tell; else higher is taken as better.
    """
    merged: dict[str, Any] = {}
    values: dict[str, list[float]] = defaultdict(list)
    for size, own in by_size.items():
        for name, value in own.items():
            metric = name.removeprefix(f"{split}_{size}_")
            if metric in TIMING:
                merged[f"{split}_{metric}"] = value
                continue
            merged[str(MetricName(split, size, metric))] = value
            if is_number(value):
                values[metric].append(float(value))
    for metric, numbers in values.items():
        merged[str(MetricName(split, "mean", metric))] = float(np.mean(numbers))
        merged[str(MetricName(split, "worst", metric))] = worst_of(metric, numbers, directions)
    if asked is not None and full_name(asked).startswith(f"{split}_"):
        named = full_name(asked)  # also of functions that return it as `eval_accuracy`, as transformers takes it
        means = (str(MetricName(split, "mean", own)) for own in (named.removeprefix(f"{split}_"), named))
        mean = next((mean for mean in means if mean in merged), None)
        if mean is not None:
            merged.setdefault(full_name(asked), merged[mean])
    return merged


def worst_of(metric: str, numbers: Iterable[float], directions: Mapping[str, str] | None = None) -> float:
    """The worst of some values of a metric; NaN where one is NaN, as their mean."""
    return float((np.max if is_lower_better(metric, directions) else np.min)(list(numbers)))


def full_name(asked: str) -> str:
    """The name under which transformers looks for `metric_for_best_model`."""
    return asked if asked.startswith("eval_") else f"eval_{asked}"


def direction_of(metric: str, directions: Mapping[str, str] | None = None) -> str | None:
    """In which direction a metric is better, `lower` or `higher`: as told, else as its name says; None: not known.

    Args:
        metric: Its name, with or without what stands before it.
        directions: What was told of metrics that their names do not say.

    Example:
        >>> direction_of("eval_worst_brier_score"), direction_of("usefulness")
        ('lower', None)
    """
    told = directions or {}
    if metric in told:
        return told[metric]
    words = re.split(r"[_\W]+", metric.lower())
    for at, word in reversed(list(enumerate(words))):
        if word.endswith(_LOWER_ENDINGS) or word in _LOWER_WORDS:  # scikit-learn names the negative of an error so
            return HIGHER if "neg" in words[:at] else LOWER
        if word in _HIGHER_WORDS:  # of a class called `neg`, its F1 is no negative
            return LOWER if word == "likelihood" and {"neg", "negative"} & set(words[:at]) else HIGHER
    return HIGHER if words[-1] == "score" else None


def is_lower_better(metric: str, greater_is_better: Mapping[str, str] | bool | None = None) -> bool:
    """Whether the lower of two values of a metric is the better one; of a name that does not say it is not.

    Args:
        metric: Its name.
        greater_is_better: What was told of it: a bool for this metric, or directions by metric; None: nothing.
    """
    if isinstance(greater_is_better, bool):
        return not greater_is_better
    return direction_of(metric, greater_is_better) == LOWER


def is_loss(metric: str) -> bool:
    """Whether a metric is the loss of training, which says least to people."""
    return metric == "loss" or metric.endswith("_loss")


def in_telling_order(metrics: Iterable[str]) -> list[str]:
    """The names of metrics, each once, in their order but losses last."""
    return sorted(dict.fromkeys(metrics), key=is_loss)


def told_directions(args: Any, sets: Iterable[str] = ()) -> dict[str, str]:
    """What training arguments tell of a metric by `metric_for_best_model` and `greater_is_better`.

    The name may stand for a metric of one model or for one with a size, so both are told of.

    Args:
        args: Training arguments.
        sets: Names of the evaluation sets, if there are several.
    """
    if args.metric_for_best_model is None or args.greater_is_better is None:
        return {}
    direction = HIGHER if args.greater_is_better else LOWER
    bare = [full_name(args.metric_for_best_model).removeprefix("eval_")]
    bare += [bare[0].removeprefix(f"{name}_") for name in sets if bare[0].startswith(f"{name}_")]
    bare += [parsed.metric for name in bare if (parsed := parse_metric_name(f"eval_{name}", ("eval",)))]
    return {name: direction for name in bare if direction_of(name) != direction}


def directions_by_name(names: Iterable[str], told: Mapping[str, str], sets: Iterable[str] = ()) -> dict[str, str]:
    """The directions of metrics where their names do not say them; of an evaluation set that of the metric alone.

    Args:
        names: The metrics; of one of several evaluation sets with its name before them.
        told: What was told of metrics.
        sets: Names of the evaluation sets, if there are several.

    Example:
        >>> directions_by_name(["pos_loss", "neg_loss"], {}, ["pos", "neg"])  # no negative loss, as `neg_log_loss` is
        {'neg_loss': 'lower'}
    """
    directions, longest_first = {}, sorted(sets, key=len, reverse=True)
    for name in names:
        begins = next((f"{each}_" for each in longest_first if name.startswith(f"{each}_")), "")
        direction = direction_of(name.removeprefix(begins), told)
        if direction is not None and direction != direction_of(name):
            directions[name] = direction
    return directions


def check_asked(asked: str | None, *, sets: Sequence[str], sizes: Sequence[str], known: Sequence[str] | None) -> None:
    """Whether the metric to choose the best checkpoint by can come, as far as that is known before it is measured.

    Args:
        asked: `metric_for_best_model`; None: none is needed.
        sets: Names of the evaluation sets, if there are several.
        sizes: The texts of the sizes that are evaluated.
        known: Names of all metrics of a size; None where a function of the user's own makes them.

    Raises:
        ValueError: If it cannot come.
    """
    if asked is None:
        return
    names = [full_name(asked).removeprefix("eval_")]
    if sets:
        names = [names[0].removeprefix(f"{name}_") for name in sets if names[0].startswith(f"{name}_")]
        if not names:
            each = ", ".join(f"'{name}_{(known or ['loss'])[0]}'" for name in sets)
            raise ValueError(
                f"metric_for_best_model={asked!r} names none of the evaluation sets {list(sets)}. Possible are such as "
                f"{each}, with 'mean_', 'worst_' or a size before the metric if you like; give one of these."
            )
    reasons = [_why_it_cannot_come(name, sizes, known) for name in names]
    if all(reasons):
        raise ValueError(f"metric_for_best_model={asked!r} will not come from an evaluation: {reasons[0]}")


def _why_it_cannot_come(name: str, sizes: Sequence[str], known: Sequence[str] | None) -> str | None:
    match = re.fullmatch(rf"({'|'.join(SUMMARIES)}|{_SIZE})_(.+)", name)
    if known is not None and name not in known and (match is None or match[2] not in known):
        return (
            f"metrics of a size are {list(known)}. Give one of them, with 'mean_', 'worst_' or a size before it if you "
            "like, or a compute_metrics that returns it."
        )
    if match is not None and match[1] not in (*SUMMARIES, *sizes):
        return (
            f"{match[1]} is none of the sizes that are evaluated, {', '.join(sizes)}. Give one of them, or let "
            "eval_sizes name it, if the model has it."
        )
    return None


def did_not_come(asked: str, metrics: Mapping[str, Any], *, saved: str) -> ValueError:
    """The error that the metric to choose the best checkpoint by is not among those that an evaluation returned.

    Args:
        asked: `metric_for_best_model`.
        metrics: What `evaluate()` returned.
        saved: Where the work up to now lies.
    """
    parsed = [parse_metric_name(name) for name, value in metrics.items() if is_number(value)]
    came = sorted({f"{one.split}_mean_{one.metric}" for one in parsed if one and one.metric not in TIMING})
    return ValueError(
        f"metric_for_best_model={asked!r} did not come from the evaluation, which returned for every size and over all "
        f"of them {came}. Give one of these, or a compute_metrics that returns it; the work up to here is kept: go on "
        f"with resume_from_checkpoint={saved!r}."
    )


def is_number(value: Any) -> bool:
    """Whether a value can be a metric to choose by, rather than a report or the like."""
    return isinstance(value, Real) and not isinstance(value, bool)


def of_python(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, with Python's own numbers in place of numpy's, which JSON does not take."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in numbers.items()}
