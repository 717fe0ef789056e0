"""What the predictions of each head are scored by, where nobody says otherwise; `tasks` says which head has which."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction, PreTrainedModel
from transformers.trainer_pt_utils import nested_concat

from .messages import get_logger

logger = get_logger(__name__)

Metrics = Callable[[EvalPrediction], dict[str, float]]

IGNORED = -100
"""The label of tokens that do not count."""

OF_BIOES = {"L": "E", "U": "S"}
"""What the marks of BILOU, which seqeval parts wrongly by default, are called in BIOES."""


def problem_type(config: Any) -> str:
    """What a head for sequences predicts, where nothing says otherwise: a value if it has one output, else a class."""
    if getattr(config, "problem_type", None) is not None:
        return config.problem_type
    return "regression" if config.num_labels == 1 else "single_label_classification"


def has_entities(config: Any) -> bool:
    """Whether the labels of tokens mark entities, as in `B-PER`, `I-PER` and `O`, also by BIOES or BILOU."""
    names = [str(name) for name in (config.id2label or {}).values()]
    return any(name != "O" for name in names) and all(name == "O" or re.match("[BIESLU]-", name) for name in names)


def has_generic_names(config: Any) -> bool:
    """Whether nobody named the classes, so that they are `LABEL_0`, `LABEL_1` and so on."""
    return all(name == f"LABEL_{number}" for number, name in (config.id2label or {}).items())


def _first(prediction: EvalPrediction) -> np.ndarray:
    """The predictions of a head with one output, also where other outputs came along."""
    found = prediction.predictions
    return np.asarray(found[0] if isinstance(found, tuple) else found)


def text_metrics(model: PreTrainedModel) -> Metrics:
    kind = problem_type(model.config)
    if kind == "regression":
        return _regression_metrics
    return _answer_metrics if kind == "multi_label_classification" else _class_metrics


def _class_metrics(prediction: EvalPrediction) -> dict[str, float]:
    logits, labels = _first(prediction), np.asarray(prediction.label_ids)
    if labels.shape == logits.shape and labels.ndim == 2:  # several labels a text, as the configuration need not say
        return _answer_metrics(prediction)
    return {"accuracy": float((_chosen(logits, ndim=1) == labels.reshape(-1)).mean())}


def _chosen(logits: np.ndarray, *, ndim: int) -> np.ndarray:
    """The number of the best class of each prediction, also where `preprocess_logits_for_metrics` took it before."""
    return logits.argmax(-1) if logits.ndim > ndim else logits


def _answer_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Of yes-or-no answers `(texts, labels)`: F1 of all yeses together, and the share of right answers.

    The share alone hides a model that always says no. A logit above 0 is a yes.
    """
    yes, true = _first(prediction) > 0, np.asarray(prediction.label_ids) > 0.5
    return {"micro_f1": _f1((yes & true).sum(), yes.sum(), true.sum()), "accuracy": float((yes == true).mean())}


def _f1(right: float, found: float, wanted: float) -> float:
    return float(2 * right / (found + wanted)) if found + wanted else 0.0


def _regression_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Pearson's correlation, of several values a text the mean of those of each, and the mean squared error."""
    labels = np.asarray(prediction.label_ids, dtype=np.float64)
    labels = labels.reshape(len(labels), -1)
    predicted = _first(prediction).astype(np.float64).reshape(labels.shape)
    correlations = [correlation(ours, theirs) for ours, theirs in zip(predicted.T, labels.T, strict=True)]
    return {"pearson": float(np.mean(correlations)), "mse": float(np.square(predicted - labels).mean())}


def correlation(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's, of values `(rows,)`; 0 where one side is the same for all rows."""
    says_nothing = np.ptp(predicted) == 0 or np.ptp(labels) == 0  # the correlation with a constant is undefined
    return 0.0 if says_nothing else float(np.corrcoef(predicted, labels)[0, 1])


def token_metrics(model: PreTrainedModel) -> Metrics:
    if not has_entities(model.config):
        return _token_accuracy
    if importlib.util.find_spec("seqeval") is None:
        logger.warning_once(
            "The labels mark entities, whose F1 needs seqeval, which is not installed. The accuracy of tokens is "
            'measured instead. Install it with `pip install "dynabert_hf[metrics]"`, or give compute_metrics.'
        )
        return _token_accuracy
    names = {
        number: OF_BIOES.get(name[0], name[0]) + name[1:] for number, name in (model.config.id2label or {}).items()
    }
    return partial(_entity_metrics, names)


def _token_accuracy(prediction: EvalPrediction) -> dict[str, float]:
    labels = np.asarray(prediction.label_ids)
    counts = labels != IGNORED
    right = _chosen(_first(prediction), ndim=labels.ndim)[counts] == labels[counts]
    return {"accuracy": float(right.mean()) if right.size else 0.0}


def _entity_metrics(names: Mapping[Any, str], prediction: EvalPrediction) -> dict[str, float]:
    """F1 of whole entities as CoNLL's shared tasks have it, and the accuracy of tokens."""
    from seqeval.metrics import f1_score

    labels = np.asarray(prediction.label_ids)
    predicted = _chosen(_first(prediction), ndim=labels.ndim)
    counts = labels != IGNORED

    def tags(ids: np.ndarray) -> list[list[str]]:
        return [[names[int(tag)] for tag in row[own]] for row, own in zip(ids, counts, strict=True)]

    f1 = f1_score(tags(labels), tags(predicted), zero_division=0)
    return {"f1": float(f1), **_token_accuracy(prediction)}


def span_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Exact match and F1 of answers as spans of tokens, each row for itself.

    A row is what the model reads at once: of a long text that is one window, and an answer outside of it is the span
    that its labels say, usually the first token. SQuAD's metrics, of texts after their normalisation, need the texts.
    """
    start_logits, end_logits = (np.asarray(each) for each in prediction.predictions[:2])
    starts, ends = (np.asarray(each).reshape(-1) for each in prediction.label_ids)
    best_until = np.maximum.accumulate(start_logits, axis=1)
    found_ends = (best_until + end_logits).argmax(1)
    upto = np.arange(start_logits.shape[1]) <= found_ends[:, None]
    found_starts = np.where(upto, start_logits, -np.inf).argmax(1)
    shared = np.minimum(ends, found_ends) - np.maximum(starts, found_starts) + 1
    f1 = 2 * shared.clip(0) / (ends - starts + found_ends - found_starts + 2)
    return {"f1": float(f1.mean()), "exact_match": float(((found_starts == starts) & (found_ends == ends)).mean())}


def choice_metrics(prediction: EvalPrediction) -> dict[str, float]:
    chosen = _chosen(_first(prediction), ndim=1)
    return {"accuracy": float((chosen == np.asarray(prediction.label_ids).reshape(-1)).mean())}


_SIMILARITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "cosine": lambda ours, theirs: _unit(ours) @ _unit(theirs).swapaxes(-1, -2),
    "dot": lambda ours, theirs: ours @ theirs.swapaxes(-1, -2),
    "euclidean": lambda ours, theirs: -_distances(ours, theirs, p=2),
    "manhattan": lambda ours, theirs: -_distances(ours, theirs, p=1),
}
"""How alike vectors `(..., ours, hidden)` and `(..., theirs, hidden)` are, as sentence-transformers names it."""


def encoder_file(config: Any, name: str) -> Any:
    """What the configuration of a sentence encoder holds of a file of sentence-transformers; empty if nothing."""
    return (getattr(config, "sentence_encoder", None) or {}).get(name, {})


def vector_metrics(model: PreTrainedModel) -> Metrics:
    dims = getattr(model.config, "matryoshka_dims", None) or ()
    compares_by = encoder_file(model.config, "config_sentence_transformers.json").get("similarity_fn_name")
    similarity = _SIMILARITIES.get(compares_by, _SIMILARITIES["cosine"])
    return partial(_similarity_metrics, tuple(dims), similarity)


def _similarity_metrics(
    dims: Sequence[int], similarity: Callable[[np.ndarray, np.ndarray], np.ndarray], prediction: EvalPrediction
) -> dict[str, float]:
    """How well vectors tell what is alike: of pairs by their scores, of texts by their labels; of leading parts, too.

    Args:
        dims: How many numbers the leading parts have, whose metrics end in it, such as `spearman_64`.
        similarity: One of `_SIMILARITIES`.
        prediction: Vectors `(pairs, 2, hidden)` with scores, or `(texts, hidden)` with labels.
    """
    vectors, labels = _first(prediction).astype(np.float64), np.asarray(prediction.label_ids).reshape(-1)
    score = _pair_scores if vectors.ndim == 3 else _neighbour_scores
    found = score(vectors, labels, similarity)
    for dim in (each for each in dims if each < vectors.shape[-1]):
        found |= {f"{name}_{dim}": value for name, value in score(vectors[..., :dim], labels, similarity).items()}
    return found


def _pair_scores(vectors: np.ndarray, scores: np.ndarray, similarity: Callable) -> dict[str, float]:
    """Spearman's correlation of how alike the vectors of two texts are with the score of their similarity."""
    alike = similarity(vectors[:, :1], vectors[:, 1:]).reshape(-1)
    if importlib.util.find_spec("scipy") is None:
        logger.warning_once(
            "Spearman's correlation needs scipy, which is not installed. Pearson's is measured instead. Install it "
            'with `pip install "dynabert_hf[metrics]"`, or give compute_metrics.'
        )
        return {"pearson": correlation(alike, scores)}
    from scipy.stats import rankdata

    return {"spearman": correlation(rankdata(alike), rankdata(scores))}


def _neighbour_scores(vectors: np.ndarray, labels: np.ndarray, similarity: Callable) -> dict[str, float]:
    """Retrieval among the texts: whether the nearest other has the same label, and the reciprocal of the first rank.

    Texts whose label no other has are not looked for. Of equally near texts those with another label come first.
    """
    ranks = []
    for start in range(0, len(vectors), 1024):
        own = np.arange(start, min(start + 1024, len(vectors)))
        alike, same = similarity(vectors[own], vectors), labels[own, None] == labels
        alike[own - start, own], same[own - start, own] = -np.inf, False
        best = np.where(same, alike, -np.inf).max(1, keepdims=True)
        ranks.append(1 + ((alike >= best) & ~same).sum(1)[same.any(1)])
    rank = np.concatenate(ranks)
    return {"accuracy_at_1": float((rank == 1).mean()), "mrr": float((1 / rank).mean())} if rank.size else {}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12)


def _distances(ours: np.ndarray, theirs: np.ndarray, *, p: int) -> np.ndarray:
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(torch.from_numpy(ours), torch.from_numpy(theirs), p=p, compute_mode=exact).numpy()


def scores_of_words(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """What metrics need of logits over a vocabulary: `(batch, seq, 2)`, the best word and the likelihood of the true.

    The likelihood is its logarithm. All logits of a data set would not fit into memory.
    """
    if isinstance(logits, tuple):
        logits = logits[0]
    true = labels.clamp(min=0)[..., None]
    return torch.stack([logits.argmax(-1).float(), logits.float().log_softmax(-1).gather(-1, true)[..., 0]], -1)


def word_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy on the masked tokens, and perplexity: the exponential of the mean loss on them."""
    scores, labels = _first(prediction), np.asarray(prediction.label_ids)
    if scores.shape[-1] != 2:
        scores = scores_of_words(torch.as_tensor(scores), torch.as_tensor(labels)).numpy()
    counts = labels != IGNORED
    if not counts.any():
        return {}
    best, likelihood = scores[counts].astype(np.float64).T
    return {"accuracy": float((best == labels[counts]).mean()), "perplexity": float(np.exp(-likelihood.mean()))}


def of_whole_arrays(make: Callable[[PreTrainedModel], Metrics | None]) -> Callable[[PreTrainedModel], Metrics | None]:
    """Metrics that take predictions in batches, too, as they come with `eval_do_concat_batches=False`."""

    def made(model: PreTrainedModel) -> Metrics | None:
        metrics = make(model)
        return None if metrics is None else lambda prediction: metrics(whole_arrays(prediction))

    return made


def whole_arrays(prediction: EvalPrediction) -> EvalPrediction:
    """Predictions and labels as one array each, also where they come in batches, -100 where one is shorter."""
    predictions, labels = (
        reduce(partial(nested_concat, padding_index=IGNORED), part) if isinstance(part, list) else part
        for part in (prediction.predictions, prediction.label_ids)
    )
    return EvalPrediction(predictions=predictions, label_ids=labels)
