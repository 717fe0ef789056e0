"""The comparison of depth rules runs through at a tiny scale, and goes on where it stopped."""

import json

import pytest
from datasets import Dataset, DatasetDict
from helpers.sentences import make_texts

from benchmarks import depth_rules
from dynabert_hf import DynaModernBertConfig


def test_the_rule_by_kind_is_that_of_modernbert():
    for depth in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        config = DynaModernBertConfig(num_hidden_layers=10, depths=[depth])
        assert depth_rules.kinds(depth) == [layer.index for layer in config.resolve(f"w1-d{depth}")]


@pytest.mark.slow
def test_every_rule_is_measured_once(tmp_path, monkeypatch, capsys):
    rows = Dataset.from_list([{"text": text, "label": "abc"[row % 3]} for row, text in enumerate(make_texts(30))])
    monkeypatch.setattr(depth_rules, "load_dataset", lambda name: DatasetDict(train=rows, test=rows))
    words = ["--dataset", "texts", "--output", str(tmp_path), "--teacher-epochs", "1", "--epochs", "1"]
    depth_rules.main(words)
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "0").glob("*.json")}
    assert set(found) == {"plain", "kinds"}
    assert found["plain"]["w1-d0.7"]["layers"] == [0, 1, 2, 4, 5, 7, 8]
    assert found["plain"]["w1-d1"]["untrained"] == found["kinds"]["w1-d1"]["untrained"]
    monkeypatch.setattr(depth_rules, "measure", None)
    depth_rules.main(words)
    table = capsys.readouterr().out
    assert table.count("| 0.7 | kinds | 0 1 2 3 5 6 7 |") == 2
    assert "(0." in table
