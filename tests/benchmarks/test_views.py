"""The comparison of views and copies runs through on a tiny model, and goes on where it stopped."""

import datasets
import numpy as np
import pytest
import torch
from helpers.tiny import TINY, make_tokenizer
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from benchmarks import views
from benchmarks.glue_study.metrics import accuracy
from benchmarks.glue_study.plan import Task

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["film", "story", "good", "bad", "plot", "actor", "scene", "hero", "end", "sound"]


@pytest.fixture
def backbone(tmp_path):
    """A folder with a tiny BERT and its tokenizer."""
    tokenizer = make_tokenizer([*SPECIAL, *WORDS])
    torch.manual_seed(0)
    config = BertConfig(**{**TINY, "vocab_size": len(tokenizer), "max_position_embeddings": 80})
    BertForMaskedLM(config).save_pretrained(tmp_path / "backbone")
    tokenizer.save_pretrained(tmp_path / "backbone")
    return tmp_path / "backbone"


def test_all_words_are_replaced_by_their_neighbours(backbone):
    replacement = views.Neighbours(
        BertForMaskedLM.from_pretrained(backbone), AutoTokenizer.from_pretrained(backbone), num_candidates=3
    )
    text = " ".join(WORDS[:4])
    [words] = replacement.words([text])
    assert {text[word.start : word.end]: word.candidates for word in words} == replacement.vectors.neighbours(
        WORDS[:4], 3
    )


@pytest.mark.slow
def test_every_way_is_measured_once(backbone, tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)
    rows = [{"sentence": " ".join(random.choice(WORDS, 6))} for _ in range(60)]
    rows = [{**row, "label": int("good" in row["sentence"])} for row in rows]
    for split, part in (("train", rows[:36]), ("validation", rows[36:])):
        (tmp_path / "data").mkdir(exist_ok=True)
        datasets.Dataset.from_list(part).to_parquet(tmp_path / "data" / f"{split}.parquet")
    monkeypatch.setitem(views.PLAN.tasks, "sst2", Task("tiny", ("sentence",), "accuracy"))
    words = ["--task", "sst2", "--dataset", str(tmp_path / "data"), "--backbone", str(backbone)]
    words += ["--output", str(tmp_path), "--teacher-epochs", "1"]
    views.main(words)
    table = capsys.readouterr().out
    labels = np.array([row["label"] for row in rows[36:]])
    means = {}
    for way in views.WAYS:
        answers = dict(np.load(tmp_path / "sst2-all-0" / f"{way}.npz"))
        assert len(answers) == 12
        means[way] = 100 * np.mean([accuracy(own, labels) for own in answers.values()])
        assert f"| {views.WAYS[way]} | {means[way]:.2f} |" in table
    assert f"| {means['views'] - means['plain']:+.1f} [" in table
    monkeypatch.setattr(views, "train_dynabert", None)
    views.main(words)
    assert capsys.readouterr().out.splitlines()[-3:] == table.splitlines()[-3:]
