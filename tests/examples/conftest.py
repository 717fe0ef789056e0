"""Fixtures of the tests of examples."""

import pytest
from helpers.glue_tasks import sentiment_rows, write_csv


@pytest.fixture(autouse=True)
def _caches(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def pictures():
    """Asked for by a test that looks at the pictures of a card."""


@pytest.fixture(autouse=True)
def _no_pictures(request, monkeypatch):
    """To draw them takes longer than to train a tiny model."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("dynabert_hf.training.result.draw_pictures", lambda card, folder: {})


@pytest.fixture
def reviews(tmp_path):
    """Arguments that name csv files of sentences that are good or bad."""
    files = {"train": sentiment_rows(16), "validation": sentiment_rows(8, seed=1), "test": sentiment_rows(4, seed=2)}
    return [
        word for name, rows in files.items() for word in (f"--{name}_file", write_csv(tmp_path / f"{name}.csv", rows))
    ]
