"""The comparison of sentence encoders runs through on tiny ones, and goes on where it stopped."""

import json
import sys

import pytest
from datasets import Dataset, DatasetDict
from helpers.sentences import make_pairs, make_texts, save_encoder

from dynabert_hf import DynaBertModel
from dynabert_hf.data.sentence_encoder import SentenceEncoder

pytest.importorskip("sentence_transformers")
from benchmarks import embeddings


@pytest.mark.slow
def test_every_row_is_measured_once(tmp_path, monkeypatch, capsys):
    encoder = SentenceEncoder.of(save_encoder(tmp_path / "encoder"))
    DynaBertModel.from_backbone(encoder.model, widths=[0.5, 1.0], depths=[1.0]).save_pretrained(tmp_path / "sizes")
    encoder.tokenizer.save_pretrained(tmp_path / "sizes")
    pairs = [{**pair, "label": pair.pop("score")} for pair in make_pairs(40)]
    texts = [{"text": text, "label": "abc"[row % 3]} for row, text in enumerate(make_texts(30))]
    data = {"stsb": DatasetDict(train=Dataset.from_list(pairs), test=Dataset.from_list(pairs)),
            "banking": DatasetDict(test=Dataset.from_list(texts))}  # fmt: skip
    monkeypatch.setattr(embeddings.datasets, "load_dataset", lambda name, *config: data[name])
    words = ["embeddings", "--encoder", tmp_path / "encoder", "--sizes", tmp_path / "sizes", "--stsb", "stsb"]
    words += ["--banking", "banking", "--output", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    embeddings.main()
    rows = {path.stem.removeprefix("test-"): json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert set(rows) == {"teacher", "first-layers", "layer-reduction", "w0.5-d1", "w1-d1"}
    assert rows["w1-d1"] == pytest.approx(rows["teacher"])  # not trained, so the same
    assert rows["first-layers"] != rows["layer-reduction"]
    monkeypatch.setattr(embeddings, "measure", None)
    embeddings.main()
    assert capsys.readouterr().out.count("mean of sizes") == 2
