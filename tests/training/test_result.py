"""What a run leaves: the table, its files, its pictures."""

import csv
import json
import math

import pytest
from helpers.tiny import make_model
from rich.console import Console

from dynabert_hf import DynaBertConfig, RecipeResult, SubNetwork, read_stored_metrics


def make_result(missing=(), **kwargs):
    """A result whose accuracy and mse differ for every size; `missing` sizes have nan instead."""
    model = make_model()
    metrics = {"eval_mean_accuracy": 0.5, "eval_runtime": 1.0}
    for number, size in enumerate(model.config.subnetworks):
        gone = str(size) in missing
        metrics[f"eval_{size}_accuracy"] = math.nan if gone else 0.70 + number / 100
        metrics[f"eval_{size}_mse"] = math.nan if gone else 0.40 - number / 100
    return RecipeResult.from_metrics(model, metrics, teacher_metrics={"accuracy": 0.9, "mse": 0.1}, **kwargs)


def test_a_result_has_the_metrics_and_costs_of_every_size():
    result = make_result()
    assert [row.subnetwork for row in result.rows] == list(result.model.config.subnetworks)
    assert result.rows[0].metrics == {"accuracy": 0.70, "mse": 0.40}
    assert result.rows[-1].parameters == sum(parameter.numel() for parameter in result.model.parameters())
    assert result.rows[0].flops < result.rows[-1].flops


def test_the_worst_of_an_error_is_the_highest():
    summary = make_result().summary
    assert summary["worst"] == {"accuracy": 0.70, "mse": 0.40}
    assert summary["mean"] == pytest.approx({"accuracy": 0.755, "mse": 0.345})


def test_files_hold_every_size_the_summary_the_teacher_and_the_settings(tmp_path):
    result = make_result(stages={"width": {"learning_rate": 2e-5}})
    result.save(tmp_path)
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["teacher"] == result.teacher_metrics
    assert content["worst"] == result.summary["worst"]
    assert content["stages"] == {"width": {"learning_rate": 2e-5}}
    table = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    for record, line, row in zip(content["sub_networks"], table, result.rows, strict=True):
        assert SubNetwork.parse(record["size"]) == row.subnetwork == SubNetwork.parse(line["size"])
        assert {name: record[name] for name in row.metrics} == row.metrics
        assert float(line["mse"]) == row.metrics["mse"]
        assert (record["parameters"], int(line["flops"])) == (row.parameters, row.flops)


def test_recorded_metrics_travel_with_the_checkpoint(tmp_path):
    result = make_result(missing=["w0.25-d0.5"])
    result.record()
    result.model.save_pretrained(tmp_path)
    config = DynaBertConfig.from_pretrained(tmp_path)
    assert config.metrics["teacher"] == {"accuracy": 0.9, "mse": 0.1}
    stored = read_stored_metrics(config, metric="mse")
    assert stored == {row.subnetwork: row.metrics["mse"] for row in result.rows[1:]}  # the first is not finite
    assert result.model.extract("w0.5-d0.5").config.extracted_from["metrics"] == config.metrics["w0.5-d0.5"]
    with pytest.raises(ValueError, match=r"stores no 'f1' of any size. It stores \['accuracy', 'mse'\]"):
        read_stored_metrics(config, metric="f1")
    with pytest.raises(ValueError, match="It stores no metrics"):
        read_stored_metrics(make_model().config)


def test_a_metric_that_is_not_finite_is_left_out_of_files_and_pictures(tmp_path, caplog):
    result = make_result(missing=["w0.25-d0.5"])
    result.save(tmp_path)
    content = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert content["sub_networks"][0]["accuracy"] is None
    result.write_card(tmp_path)
    assert "Sizes without a finite accuracy are not in the pictures: w0.25-d0.5." in caplog.text
    assert (tmp_path / "pareto.png").exists()


def test_without_matplotlib_a_word_says_why_there_are_no_pictures(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("dynabert_hf.training.result.find_spec", lambda name: None)
    make_result().write_card(tmp_path)
    assert 'pip install "dynabert_hf[plots]"' in caplog.text
    assert not (tmp_path / "pareto.png").exists()


def test_the_shown_table_has_every_size_the_summary_and_the_teacher(capsys):
    make_result().show(Console(width=100))
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    cells = {line[0]: line[1:] for line in lines if len(line) > 2}
    assert cells["w1-d1"][:2] == ["0.8100", "0.2900"]
    assert cells["w1-d1"][-1] == "100%"
    assert cells["mean"] == ["0.7550", "0.3450"]
    assert cells["worst"] == ["0.7000", "0.4000"]
    assert cells["teacher"] == ["0.9000", "0.1000"]
