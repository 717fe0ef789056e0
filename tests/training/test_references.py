"""What sizes are compared with is measured and named, and a weak teacher is said before a single stage, too."""

import copy
import json
import random

import numpy as np
import pytest
import torch
from helpers.recipes import make_sentences, make_teacher, run_recipe
from helpers.tiny import make_model
from helpers.trainers import make_dataset, make_trainer
from transformers import AutoConfig

from dynabert_hf import DynaBertForSequenceClassification

WEAK = "The teacher is weak: accuracy 0."


def said_by(model, data):
    """The labels that a model gives to rows, each read alone."""
    with torch.no_grad():
        return [
            int(model.eval()(torch.tensor([row["input_ids"]]), torch.tensor([row["attention_mask"]])).logits.argmax())
            for row in data
        ]


def labelled(data, labels):
    return data.remove_columns("labels").add_column("labels", labels)


@pytest.mark.parametrize("stage", ["width", "depth"])
def test_a_weak_teacher_of_a_single_stage_is_said_before_its_first_step(tmp_path, caplog, stage):
    model, data = make_model(), make_dataset(8)
    said = said_by(copy.deepcopy(model), data)
    wrong = [(label + 1) % 3 for label in said]
    trainer = make_trainer(tmp_path, stage, model=model, train_dataset=data, eval_dataset=labelled(data, wrong))
    trainer.train()
    most = max(map(wrong.count, range(3))) / 8
    assert f"The teacher is weak: accuracy 0.0000, where always predicting the same has {most:.4f}." in caplog.text


def test_a_good_teacher_passes_in_silence_and_so_does_one_that_nobody_looks_at(tmp_path, caplog):
    model, data = make_model(), make_dataset(8)
    right = labelled(data, said_by(copy.deepcopy(model), data))
    make_trainer(tmp_path / "a", model=model, train_dataset=data, eval_dataset=right).train()
    trainer = make_trainer(tmp_path / "b", train_dataset=data, eval_dataset=data)
    trainer.looks_at_teachers = False
    trainer.train()
    make_trainer(tmp_path / "c", "finetune", train_dataset=data, eval_dataset=data).train()
    make_trainer(tmp_path / "d", train_dataset=data, eval_dataset=None).train()
    assert "weak" not in caplog.text


def test_an_untrained_head_is_said_without_data_to_measure_on(tmp_path, caplog):
    trainer = make_trainer(tmp_path, train_dataset=make_dataset(8))
    torch.nn.init.zeros_(trainer._teachers[0].classifier.bias)
    trainer.train()
    assert "looks untrained: all its biases are 0" in caplog.text


@pytest.mark.parametrize("is_mixed", [False, True])
def test_looking_at_a_teacher_changes_no_draw_and_no_weight(tmp_path, is_mixed):
    drawn, weights = [], []
    for looks in (True, False):
        model = make_model(stock={"hidden_dropout_prob": 0.2})
        data = make_dataset(8)
        teacher = copy.deepcopy(model)
        own = {"model": model, "teacher": teacher, "train_dataset": data, "eval_dataset": data, "bf16": is_mixed}
        trainer = make_trainer(tmp_path / str(looks), **own)
        trainer.looks_at_teachers, before = looks, dict(vars(teacher))
        random.seed(3), np.random.seed(3), torch.manual_seed(3)
        trainer.train()
        drawn.append((random.random(), np.random.rand(), torch.rand(2).tolist()))
        weights.append({name: weight.clone() for name, weight in model.named_parameters()})
        assert vars(teacher) == before  # accelerate would leave its forward pass in mixed precision
    assert drawn[0] == drawn[1]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_another_teacher_is_measured_as_the_teacher_and_the_fine_tuned_model_by_its_name(tmp_path, caplog):
    finetuned, other, rows = make_teacher(), make_teacher(), make_sentences(8)
    torch.manual_seed(5)
    for module in (finetuned.classifier, other.classifier):
        torch.nn.init.normal_(module.weight)
        torch.nn.init.normal_(module.bias)
    with torch.no_grad():
        said = {
            name: model.eval()(torch.tensor(rows["input_ids"])).logits.argmax(-1).tolist()
            for name, model in (("teacher", other), ("fine-tuned", finetuned))
        }
    share = {name: sum(a == b for a, b in zip(own, rows["labels"], strict=True)) / 8 for name, own in said.items()}
    result = run_recipe(tmp_path, finetuned, eval_dataset=rows, taught_by=other)
    assert result.teacher_metrics["accuracy"] == share["teacher"]
    assert result.finetuned_metrics["accuracy"] == share["fine-tuned"]
    folder = tmp_path / "run" / "model"
    saved = json.loads((folder / "results.json").read_text())
    stored = AutoConfig.from_pretrained(folder).metrics
    card = (folder / "README.md").read_text()
    for name, value in share.items():
        assert saved[name]["accuracy"] == stored[name]["accuracy"] == value
        assert f"| {name} |  |  | {value:.4f} |" in card
        assert [line.split()[1] for line in str(result).splitlines() if line.startswith(name)] == [f"{value:.4f}"]
    assert "Training began with the fine-tuned model. The sizes learned from another teacher." in card
    assert "is the fine-tuned model that all sizes learned from" not in card


def test_an_elastic_teacher_is_measured_at_the_full_size_that_teaches(tmp_path):
    other, rows = DynaBertForSequenceClassification.from_backbone(make_teacher()), make_sentences(8)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        batch = {name: torch.tensor(column) for name, column in rows[:].items()}
        loss = other.eval()(**batch).loss.item()
        assert other.set_active("w0.25-d0.5")(**batch).loss.item() != pytest.approx(loss, abs=1e-3)
    result = run_recipe(tmp_path, eval_dataset=rows, taught_by=other)
    assert result.teacher_metrics["loss"] == pytest.approx(loss, abs=1e-5)
    assert str(other.active) == "w0.25-d0.5"


def test_of_several_teachers_only_the_fine_tuned_model_is_measured(tmp_path):
    result = run_recipe(tmp_path, taught_by=[make_teacher(), make_teacher()])
    assert result.teacher_metrics == {}
    assert list(result.finetuned_metrics) == ["accuracy", "loss"] or "accuracy" in result.finetuned_metrics
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "| teacher |" not in card
    assert "| fine-tuned |" in card
