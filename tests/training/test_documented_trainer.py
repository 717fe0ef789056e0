"""The example of `DynaBertTrainer` in docs/training.md runs as it is written."""

import json
import re
from pathlib import Path

import pytest
from datasets import Dataset
from helpers.glue_tasks import WORDS, save_model

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning")  # as on any machine without a GPU
def test_the_example_of_a_stage_runs_as_it_is_written(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    [code] = [block for block in blocks if "create_model_card" in block]
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "my-fine-tuned-bert", num_hidden_layers=4)
    rows = [{"input_ids": [2, 5 + row % len(WORDS), 3], "labels": row % 2} for row in range(12)]
    scope = {"train": Dataset.from_list(rows), "dev": Dataset.from_list(rows[:6])}
    exec(code, scope)
    mean = float(capsys.readouterr().out.splitlines()[-1])
    folder = tmp_path / "outputs" / "depth"
    metrics = json.loads((folder / "config.json").read_text())["metrics"]
    assert sum(own["accuracy"] for own in metrics.values()) / 12 == pytest.approx(mean)
    card = (folder / "README.md").read_text()
    assert "Metrics were measured on 6 rows of my reviews." in card
    assert "Training began with [google-bert/bert-base-uncased]" in card
    assert "ordered by importance" in card
    for size, own in metrics.items():
        assert re.search(rf"^\| `{size}` \| [\d.]+ \| [\d.]+ \| {own['accuracy']:.4f} \|", card, re.M)
    assert (folder / "tokenizer_config.json").exists()
    assert (folder / "modeling_dynabert.py").exists()
