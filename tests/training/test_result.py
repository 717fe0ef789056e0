"""What a run leaves: the table, its files, its pictures."""

import csv
import json
import math
import re

import pytest
from helpers.cards import make_facts
from helpers.tiny import make_model
from rich.console import Console

from dynabert_hf import DynaBertConfig, RecipeResult, SizeRecord, SubNetwork, read_stored_metrics
from dynabert_hf.sizes.choosing import leading_metric
from dynabert_hf.sizes.evaluation import store_metrics
from dynabert_hf.training.result import draw_pictures


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
    assert [row.size for row in result.rows] == list(result.model.config.subnetworks)
    assert result.rows[0].metrics == {"accuracy": 0.70, "mse": 0.40}
    assert result.rows[-1].parameters == sum(parameter.numel() for parameter in result.model.parameters())
    assert result.rows[0].flops < result.rows[-1].flops


def test_the_worst_of_an_error_is_the_highest():
    summary = make_result().summary
    assert summary["worst"] == {"accuracy": 0.70, "mse": 0.40}
    assert summary["mean"] == pytest.approx({"accuracy": 0.755, "mse": 0.345})


@pytest.mark.parametrize(
    ("baseline", "told"),
    [({"accuracy": 0.72}, "3 of 12"), ({"mse": 0.38}, "3 of 12"), ({"accuracy": 0.6}, None), ({}, None)],
)
def test_sizes_that_are_no_better_than_the_baseline_are_counted_below_the_table(baseline, told):
    [*found] = re.findall(r"(.*) sizes are no better than the baseline", str(make_result(baseline_metrics=baseline)))
    assert found == ([told] if told else [])


def test_files_hold_every_size_the_summary_the_teacher_and_the_settings(tmp_path):
    result = make_result(stages={"width": {"learning_rate": 2e-5}})
    result.save(tmp_path)
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["teacher"] == result.teacher_metrics
    assert content["worst"] == result.summary["worst"]
    assert content["stages"] == {"width": {"learning_rate": 2e-5}}
    table = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    for record, line, row in zip(content["sub_networks"], table, result.rows, strict=True):
        assert SubNetwork.parse(record["size"]) == row.size == SubNetwork.parse(line["size"])
        assert {name: record[name] for name in row.metrics} == row.metrics
        assert float(line["mse"]) == row.metrics["mse"]
        assert (record["parameters"], int(line["flops"])) == (row.parameters, row.flops)


def test_metrics_that_are_called_as_other_columns_are_kept_beside_them(tmp_path):
    model, names = make_model(), ["latency_ms", "flops", "parameters", "size"]
    metrics = {f"eval_{size}_{name}": 0.5 + at for size in model.config.subnetworks for at, name in enumerate(names)}
    result = RecipeResult.from_metrics(model, metrics)
    result.save(tmp_path)
    records = json.loads((tmp_path / "results.json").read_text())["sub_networks"]
    lines = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    columns = ["latency_ms", "eval_flops", "eval_parameters", "eval_size"]
    for record, line, row in zip(records, lines, result.rows, strict=True):
        told = [record[name] for name in columns]
        assert told == [float(line[name]) for name in columns] == list(row.metrics.values())
        assert [record[name] for name in ("size", "flops", "parameters")] == [row.name, row.flops, row.parameters]
        assert re.search(rf"^ *{row.name} .* 3.5", str(result), re.MULTILINE)
    result.write_card(tmp_path)
    assert (tmp_path / "grid.png").exists()


def test_recorded_metrics_travel_with_the_checkpoint(tmp_path):
    result = make_result(missing=["w0.25-d0.5"])
    result.record()
    result.model.save_pretrained(tmp_path)
    config = DynaBertConfig.from_pretrained(tmp_path)
    assert config.metrics["teacher"] == {"accuracy": 0.9, "mse": 0.1}
    stored = read_stored_metrics(config, metric="mse")
    assert stored == {row.size: row.metrics["mse"] for row in result.rows[1:]}  # the first is not finite
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
    result = make_result()
    result.show(Console(width=80))
    shown = capsys.readouterr().out
    cells = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert cells["w1-d1"][:2] == ["0.8100", "0.2900"]
    assert cells["w1-d1"][-1] == "100%"
    assert cells["mean"] == ["0.7550", "0.3450"]
    assert cells["worst"] == ["0.7000", "0.4000"]
    assert cells["teacher"] == ["0.9000", "0.1000"]
    names = [name for name in cells if name.startswith("w") and "-d" in name]
    assert names == [row.name for row in reversed(result.rows)]
    assert str(result).split() == repr(result).split() == shown.split()
    assert "<td>w0.25-d0.5</td><td>0.7000</td>" in result._repr_html_()


def test_a_table_with_many_metrics_fits_80_columns_and_ends_with_the_loss():
    model = make_model()
    names = ("loss", "matthews_correlation", "spearman_correlation", "accuracy")
    metrics = {f"eval_{size}_{name}": 0.5 for size in model.config.subnetworks for name in names}
    lines = str(RecipeResult.from_metrics(model, metrics)).splitlines()
    assert max(map(len, lines)) <= 80
    assert all(any(line.startswith(f"{size} ") for line in lines) for size in model.config.subnetworks)
    header = " ".join(lines[1:4]).split()
    assert header.index("accuracy") < header.index("loss") < header.index("params")


def test_a_direction_that_was_told_travels_with_the_checkpoint(tmp_path):
    model = make_model(widths=[0.5, 1.0], depths=[1.0])
    metrics = {"eval_w0.5-d1_hurt": 0.1, "eval_w1-d1_hurt": 0.3}
    result = RecipeResult.from_metrics(model, metrics, directions={"hurt": "lower"})
    assert result.summary["worst"] == {"hurt": 0.3}
    result.record()
    result.model.save_pretrained(tmp_path)
    assert DynaBertConfig.from_pretrained(tmp_path).metric_directions == {"hurt": "lower"}
    text = result.write_card(tmp_path).read_text()
    assert "Lower is better for hurt." in text


def test_sizes_of_layer_shapes_have_table_files_card_and_pictures(tmp_path):
    model = make_model()
    sizes = ("l0h1n7-l3h2n5", "l0h4n48-l2h1n7-l5h3n20")
    rows = tuple(SizeRecord.counted(model, size, {"f1": 0.25 + n / 2}) for n, size in enumerate(sizes))
    result = RecipeResult(model, rows, {"f1": 0.9})
    result.save(tmp_path)
    text = result.write_card(tmp_path, dataset_name="tags").read_text()
    assert "| `l0h1n7-l3h2n5` | 1-2 heads | 2 layers | 0.2500 |" in text
    assert "| `l0h4n48-l2h1n7-l5h3n20` | 1-4 heads | 3 layers | 0.7500 |" in text
    assert 'model.set_active("l0h1n7-l3h2n5")' in text
    assert "2 layers (3 heads, 12 neurons)" in str(result)
    assert [line.split(",")[:3] for line in (tmp_path / "results.csv").read_text().splitlines()[1:]] == [
        [size, "", ""] for size in sizes
    ]
    assert (tmp_path / "pareto.png").exists()
    assert not (tmp_path / "grid.png").exists()


def test_the_most_telling_metric_still_leads_after_a_file_of_json_has_sorted_names(tmp_path):
    model = make_model(head="ForTokenClassification", widths=[1.0], depths=[0.5, 1.0])
    rows = tuple(
        SizeRecord.counted(model, size, {"loss": 0.5, "f1": 0.3, "accuracy": 0.9}) for size in model.config.subnetworks
    )
    RecipeResult(model, rows, {}).record()
    model.save_pretrained(tmp_path)
    assert list(json.loads((tmp_path / "config.json").read_text())["metrics"]["w1-d1"]) == ["accuracy", "f1", "loss"]
    config = type(model.config).from_pretrained(tmp_path)
    assert list(config.metrics["w1-d1"]) == ["f1", "accuracy", "loss"]
    assert leading_metric(config) == "f1"
    store_metrics(tmp_path / "config.json", {"w1-d1": {"micro_f1": 0.8}}, "3 rows of dev.csv")
    config = type(model.config).from_pretrained(tmp_path)
    assert list(config.metrics["w1-d1"]) == ["f1", "accuracy", "micro_f1", "loss"]
    assert config.metric_rows["w1-d1"]["micro_f1"] == "3 rows of dev.csv"


def test_a_first_metric_that_is_stored_leads_over_the_alphabet(tmp_path):
    make_model(head="ForTokenClassification").save_pretrained(tmp_path)
    store_metrics(tmp_path / "config.json", {"w1-d1": {"f1": 0.8, "accuracy": 0.9}}, "3 rows of dev.csv")
    assert leading_metric(DynaBertConfig.from_pretrained(tmp_path)) == "f1"


@pytest.mark.parametrize(("rows", "expected"), [({}, 0.9), ({"teacher": {"accuracy": "7 rows of other.csv"}}, None)])
def test_pictures_show_the_teacher_of_the_rows_of_the_sizes_alone(tmp_path, monkeypatch, rows, expected):
    pytest.importorskip("matplotlib")
    shown = []
    for name in ("plot_pareto", "plot_grid"):
        monkeypatch.setattr(
            f"dynabert_hf.training.result.{name}", lambda *args, teacher, **kwargs: shown.append(teacher)
        )
    facts = make_facts(make_model(), teacher_metrics={"accuracy": 0.9}, metric_rows=rows)
    draw_pictures(facts, tmp_path)
    assert shown == [expected, expected]
