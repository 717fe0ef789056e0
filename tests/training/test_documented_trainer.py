"""The examples of `DynaBertTrainer` in docs/training.md run as they are written."""

import copy
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from helpers.glue_tasks import WORDS, save_model
from transformers import AutoTokenizer, BertForSequenceClassification

from dynabert_hf import DynaBertForSequenceClassification, DynaBertTrainer, DynaBertTrainingArguments

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning")  # as on any machine without a GPU


def example_with(word):
    [code] = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if word in block]
    return code


def test_the_example_of_a_stage_runs_as_it_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "my-fine-tuned-bert", num_hidden_layers=4)
    rows = [{"input_ids": [2, 5 + row % len(WORDS), 3], "labels": row % 2} for row in range(12)]
    scope = {"train": Dataset.from_list(rows), "dev": Dataset.from_list(rows[:6])}
    exec(example_with("create_model_card"), scope)
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


def test_the_example_of_a_trial_gives_the_mean_loss_of_all_sizes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = BertForSequenceClassification.from_pretrained(save_model(tmp_path / "teacher"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "teacher")
    rows = [{**tokenizer(" ".join(WORDS[: 1 + row % 3])), "labels": row % 2} for row in range(6)]  # of several lengths
    model = DynaBertForSequenceClassification.from_backbone(teacher, depths=[0.5, 1.0])
    scope = {"DynaBertTrainer": DynaBertTrainer, "DynaBertTrainingArguments": DynaBertTrainingArguments}
    scope |= {"teacher": teacher, "tokenizer": tokenizer, "train": rows, "dev": rows, "make_model": lambda: model}
    exec(example_with("suggest_float"), scope)
    before = copy.deepcopy(model.state_dict())
    loss = scope["objective"](SimpleNamespace(suggest_float=lambda *bounds, log: 1e-4))
    assert not torch.equal(model.classifier.weight, before["classifier.weight"])
    batch, losses = tokenizer.pad(rows, return_tensors="pt"), []
    for size in model.config.subnetworks:
        with model.subnetwork(size), torch.no_grad():
            losses.append(model.eval()(**batch).loss.item())
    assert loss == pytest.approx(sum(losses) / 8, rel=1e-5)
