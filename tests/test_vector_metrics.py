"""Metrics of vectors, against a loop over texts and against scipy."""

from types import SimpleNamespace

import numpy as np
import pytest
from transformers import EvalPrediction

from dynabert_hf.tasks import SENTENCE_ENCODER


def metrics_of(vectors, labels, **config):
    model = SimpleNamespace(config=SimpleNamespace(**config))
    return SENTENCE_ENCODER.metrics(model)(EvalPrediction(vectors, labels))


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_pairs_are_measured_by_the_correlation_of_their_cosines():
    stats = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(30, 2, 8)).astype(np.float32)
    scores = draw.integers(0, 6, 30).astype(float)  # with ties
    for dims, suffix in ((8, ""), (3, "_3")):
        cosines = [cosine(*pair[:, :dims]) for pair in vectors]
        found = metrics_of(vectors, scores, matryoshka_dims=[3, 8])
        assert found[f"spearman{suffix}"] == pytest.approx(stats.spearmanr(cosines, scores).statistic, abs=1e-6)
    assert list(found) == ["spearman", "spearman_3"]
    cut = metrics_of(vectors[..., :4], scores, matryoshka_dims=[3, 6], hidden_size=8)
    assert list(cut) == ["spearman", "spearman_3"]  # of vectors of 4 numbers the first 6 are no part
    assert cut["spearman_3"] == found["spearman_3"]


def test_retrieval_is_that_of_a_loop_over_texts():
    draw = np.random.default_rng(0)
    labels = np.array([*draw.integers(0, 6, 40), 99])  # the last one is alone
    vectors = draw.normal(size=(41, 5)) + draw.normal(size=(100, 5))[labels]
    ranks = []
    for query in range(40):
        others = [row for row in range(41) if row != query]
        others.sort(key=lambda row: -cosine(vectors[query], vectors[row]))
        ranks.append(1 + next(rank for rank, row in enumerate(others) if labels[row] == labels[query]))
    assert metrics_of(vectors, labels) == pytest.approx(
        {"accuracy_at_1": np.mean(np.array(ranks) == 1), "mrr": np.mean(1 / np.array(ranks))}
    )
    assert 0.3 < metrics_of(vectors, labels)["accuracy_at_1"] < 1


@pytest.mark.parametrize(
    ("name", "similarity"),
    [
        ("dot", np.dot),
        ("euclidean", lambda one, other: -np.sqrt(np.square(one - other).sum())),
        ("manhattan", lambda one, other: -np.abs(one - other).sum()),
    ],
)
def test_an_encoder_is_measured_by_what_it_compares_by(name, similarity):
    stats = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(0)
    vectors, scores = draw.normal(size=(30, 2, 8)) * draw.uniform(0.1, 9, size=(30, 2, 1)), draw.normal(size=30)
    told = {"sentence_encoder": {"config_sentence_transformers.json": {"similarity_fn_name": name}}}
    for dims, suffix in ((8, ""), (3, "_3")):
        alike = [similarity(one[:dims], other[:dims]) for one, other in vectors]
        found = metrics_of(vectors, scores, matryoshka_dims=[3], **told)
        assert found[f"spearman{suffix}"] == pytest.approx(stats.spearmanr(alike, scores).statistic, abs=1e-9)
    assert found["spearman"] != pytest.approx(metrics_of(vectors, scores)["spearman"], abs=1e-3)
    texts, labels = vectors[:, 0], np.arange(30) % 3
    alike = np.array([[similarity(one, other) for other in texts] for one in texts])
    nearest = (alike - np.diag(np.full(30, np.inf))).argmax(1)
    assert metrics_of(texts, labels, **told)["accuracy_at_1"] == np.mean(labels[nearest] == labels)


def test_vectors_that_are_all_alike_find_nothing():
    found = metrics_of(np.ones((6, 4)), np.array([0, 0, 0, 1, 1, 1]))
    assert found == {"accuracy_at_1": 0, "mrr": pytest.approx(1 / 4)}


def test_without_scipy_values_are_correlated_and_a_warning_says_so(monkeypatch):
    said = []
    monkeypatch.setattr("dynabert_hf.task_metrics.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("dynabert_hf.task_metrics.logger.warning_once", said.append)
    draw = np.random.default_rng(0)
    vectors, scores = draw.normal(size=(9, 2, 4)), draw.normal(size=9)
    expected = np.corrcoef([cosine(*pair) for pair in vectors], scores)[0, 1]
    assert metrics_of(vectors, scores) == {"pearson": pytest.approx(expected)}
    assert "Spearman's correlation needs scipy, which is not installed. Pearson's is measured instead" in said[0]
