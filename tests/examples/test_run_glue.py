"""examples/run_glue.py on tiny models: every task, every way to give data, all stages at once and each alone."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import run_glue
import torch
from datasets import Dataset, DatasetDict
from glue_data import LABELS, TEXT_COLUMNS
from helpers.glue_tasks import METRICS, QUICK, SMALL, glue, save_model, save_task, sentiment_rows, write_csv
from helpers.processes import launch
from helpers.tiny import make_model
from recipe_data import Splits
from recipe_training import stage_arguments
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import dynabert_hf

SUFFIXES = {"mnli": ("", "_mm")}
BEST = ["--eval_strategy", "epoch", "--metric_for_best_model"]


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("task", TEXT_COLUMNS)
def test_every_task_is_evaluated_by_its_metrics_and_predicted_for_submission(tmp_path, task):
    labels = LABELS.get(task)
    model = save_model(tmp_path / "model", labels=1 if labels is None else len(labels))
    data = save_task(task, tmp_path / "data")
    out = tmp_path / "out"
    glue("--task_name", task, "--dataset_name", data, "--model_name_or_path", model, "--output_dir", out, "--do_eval",
        "--do_predict")  # fmt: skip
    [smallest, *_] = results_of(out)["sub_networks"]
    own = METRICS.get(task, {"accuracy"}) | {"loss"}
    expected = {f"{name}{suffix}" for name in own for suffix in SUFFIXES.get(task, ("",))}
    assert set(smallest) == expected | {"size", "width", "depth", "parameters", "flops"}
    if "combined_score" in own:
        official = [smallest[name] for name in own - {"combined_score", "loss"}]
        assert smallest["combined_score"] == pytest.approx(np.mean(official))
    names = {"mnli": ["MNLI-m.tsv", "MNLI-mm.tsv"], "stsb": ["STS-B.tsv"], "cola": ["CoLA.tsv"]}.get(task)
    written = sorted((out / "predictions" / "w0.5-d0.5").iterdir())
    assert names is None or [path.name for path in written] == names
    rows = list(csv.DictReader(written[0].read_text().splitlines(), delimiter="\t"))
    assert [row["index"] for row in rows] == [str(index) for index in range(6)]
    predicted = {row["prediction"] for row in rows}
    if labels is None:
        assert all(0 <= float(value) <= 5 for value in predicted)
    else:
        assert predicted <= (set(labels) if task in ("mnli", "qnli", "rte") else {"0", "1"})


def test_a_regression_runs_from_a_pretrained_model_to_all_sizes_in_one_command(tmp_path, pictures):
    model = save_model(tmp_path / "model", head=False)
    out = tmp_path / "out"
    glue("--task_name", "stsb", "--dataset_name", save_task("stsb", tmp_path / "data"), "--model_name_or_path", model,
        "--finetune_teacher", "--stages", "width", "depth", "--finetune", "--output_dir", out)  # fmt: skip
    results = results_of(out / "model")
    assert set(results["teacher"]) == {"loss", "pearson", "spearmanr", "combined_score"}
    assert len(results["sub_networks"]) == 4
    assert set(results["stages"]) == {"width", "depth", "finetune"}
    trained = AutoModelForSequenceClassification.from_pretrained(out / "model")
    assert (trained.config.num_labels, trained.config.problem_type) == (1, "regression")
    for name in ("0-teacher", "2-width", "3-depth", "4-finetune"):
        assert (out / name / "history.csv").exists()
    assert not [*(out / "0-teacher").rglob("README.md")]  # no card of an elastic model
    assert not [*out.rglob("checkpoint-*")]  # which only resuming needs
    teacher = AutoModelForSequenceClassification.from_pretrained(out / "0-teacher" / "model")
    assert teacher.config.model_type == "bert"
    tokenizers = [AutoTokenizer.from_pretrained(place) for place in (model, out / "0-teacher" / "model")]
    assert len({str(each("a good film").input_ids) for each in tokenizers}) == 1
    assert (out / "model" / "pareto.png").exists()


def test_mnli_reports_the_teacher_and_all_sizes_on_matched_and_mismatched(tmp_path):
    model = save_model(tmp_path / "model", labels=3)
    out = tmp_path / "out"
    glue("--task_name", "mnli", "--dataset_name", save_task("mnli", tmp_path / "data"), "--model_name_or_path", model,
        "--output_dir", out)  # fmt: skip
    results = results_of(out / "model")
    recorded = AutoModelForSequenceClassification.from_pretrained(out / "model").config.metrics
    assert recorded["w0.5-d0.5"]["accuracy_mm"] == results["sub_networks"][0]["accuracy_mm"]
    wanted = {"loss", "accuracy", "loss_mm", "accuracy_mm"}
    assert set(results["teacher"]) == wanted
    assert all(wanted <= set(row) for row in results["sub_networks"])
    assert results["sub_networks"][-1]["loss"] != results["sub_networks"][-1]["loss_mm"]


def test_all_evaluations_are_of_the_same_sizes_also_where_training_measures_one(tmp_path):
    model, out = save_model(tmp_path / "model", labels=3), tmp_path / "out"
    glue("--task_name", "mnli", "--dataset_name", save_task("mnli", tmp_path / "data"), "--model_name_or_path", model,
        "--output_dir", out, "--eval_sizes", "w0.5-d0.5")  # fmt: skip
    results = results_of(out / "model")
    for row in [results["teacher"], *results["sub_networks"]]:
        assert {"accuracy", "accuracy_mm"} <= set(row)
    losses = [row["loss_mm"] for row in results["sub_networks"]]
    assert len(losses) == 4
    assert results["mean"]["loss_mm"] == pytest.approx(np.mean(losses))


def test_the_best_teacher_is_that_of_its_own_size_whatever_sizes_are_measured_later(tmp_path, reviews, caplog):
    glue(*reviews, "--model_name_or_path", save_model(tmp_path / "model", head=False), "--finetune_teacher",
        "--eval_sizes", "w0.5-d0.5", "--views", "mask", *BEST, "loss", "--save_strategy", "epoch",
        "--load_best_model_at_end", "--output_dir", tmp_path / "out")  # fmt: skip
    for stage, size in (("0-teacher", "w1-d1"), ("3-depth", "w0.5-d0.5")):
        history = json.loads((tmp_path / "out" / stage / "history.json").read_text())
        measured = next(entry for entry in history if "eval_loss" in entry)
        assert {name for name in measured if name.startswith("eval_w")} >= {f"eval_{size}_loss"}
        assert measured["eval_loss"] == measured[f"eval_{size}_loss"] == measured["eval_worst_loss"]
    assert "no effect" not in caplog.text


def test_a_card_says_how_many_rows_were_used_and_that_some_were_drawn(tmp_path, capsys):
    command = ["--task_name", "mnli", "--dataset_name", save_task("mnli", tmp_path / "data"), "--model_name_or_path"]
    command += [save_model(tmp_path / "model", labels=3), "--stage", "finetune", "--output_dir", tmp_path / "out"]
    glue(*command, "--max_train_samples", 12, "--max_eval_samples", 7)
    assert capsys.readouterr().out.splitlines()[-1] == f"Model, card, table: {tmp_path / 'out'}"
    card = (tmp_path / "out" / "README.md").read_text()
    rows = "7 rows (validation_matched) and 7 rows (validation_mismatched)"
    drawn = "of GLUE's mnli, validation."
    assert f"Metrics were measured on {rows} {drawn}" in card
    assert "Training used 12 rows." in card
    results = results_of(tmp_path / "out")
    assert (results["train_rows"], results["eval_rows"]) == (
        12,
        {"validation_matched": 7, "validation_mismatched": 7},
    )


def test_single_stages_end_at_the_weights_of_the_one_command(tmp_path, reviews):
    model = save_model(tmp_path / "base", head=False)
    whole, width, depth, last = (tmp_path / name for name in ("whole", "width", "depth", "last"))
    reviews = [*reviews, "--dropout", "0.3"]
    glue(*reviews, "--model_name_or_path", model, "--finetune_teacher", "--stages", "width", "depth", "--finetune",
        "--keep_stages", "--output_dir", whole)  # fmt: skip
    glue(*reviews, "--stage", "width", "--model_name_or_path", whole / "0-teacher" / "model", "--tokenizer_name", model,
        "--output_dir", width)  # fmt: skip
    glue(*reviews, "--stage", "depth", "--model_name_or_path", width, "--teacher_name_or_path", width, "--output_dir",
        depth)  # fmt: skip
    glue(*reviews, "--stage", "finetune", "--model_name_or_path", depth, "--output_dir", last)
    for alone, step in ((width, "2-width"), (depth, "3-depth"), (last, "4-finetune")):
        expected = load_file(whole / step / "model" / "model.safetensors")
        for name, weight in load_file(alone / "model.safetensors").items():
            assert torch.equal(weight, expected[name]), (step, name)
    assert results_of(last)["sub_networks"] == results_of(whole / "model")["sub_networks"]


def test_a_single_stage_has_the_rate_of_the_recipe_and_a_stock_teacher_its_full_width():
    job = SimpleNamespace(output_dir=None, stage_arguments=lambda stage, output_dir, **own: own)
    student = make_model()  # of a hidden size of 32
    for stage, teacher, expected in (
        ("width", student.to_backbone(), {"learning_rate": 3e-4}),
        ("depth", student.to_backbone(), {"learning_rate": 3e-4, "teacher_width": "full"}),
        ("depth", student, {"learning_rate": 3e-4}),
        ("finetune", None, {}),
    ):
        assert stage_arguments(job, stage, student, teacher) == expected


def test_csv_json_and_parquet_give_the_same(tmp_path, reviews):
    model = save_model(tmp_path / "model")
    tables = {}
    for kind in ("csv", "tsv", "json", "parquet"):
        files = []
        for name in ("train", "validation"):
            data = Dataset.from_csv(str(tmp_path / f"{name}.csv"), cache_dir=tmp_path / "cache")
            path = tmp_path / f"{name}-again.{kind}"
            {"csv": data.to_csv, "json": data.to_json, "parquet": data.to_parquet}.get(
                kind, lambda to, data=data: data.to_csv(to, sep="\t")
            )(path)
            files += [f"--{name}_file", path]
        glue(*files, "--model_name_or_path", model, "--output_dir", tmp_path / kind, "--do_eval")
        tables[kind] = results_of(tmp_path / kind)["sub_networks"]
    assert tables["tsv"] == tables["json"] == tables["parquet"] == tables["csv"]


def test_a_test_file_with_labels_is_scored_and_predicted_by_name(tmp_path, reviews):
    model = save_model(tmp_path / "model")
    out = tmp_path / "out"
    glue(*reviews, "--model_name_or_path", model, "--output_dir", out, "--do_predict")
    scores = json.loads((out / "test_results.json").read_text())
    rows = list(csv.DictReader((out / "predictions" / "w1-d1" / "test.tsv").read_text().splitlines(), delimiter="\t"))
    right = [row["prediction"] == label for row, label in zip(rows, ("bad", "good") * 2, strict=True)]
    assert scores["test_w1-d1_accuracy"] == sum(right) / 4


@pytest.mark.parametrize(("labels", "values"), [((-1, 1), "false"), ((-1.0, 0.5), "true")])
def test_a_label_of_minus_1_among_others_is_a_label_also_in_a_test_file(tmp_path, labels, values):
    path = write_csv(tmp_path / "data.csv", sentiment_rows(8, labels=labels))
    model = save_model(tmp_path / "model", labels=1 if values == "true" else 2)
    glue("--train_file", path, "--test_file", path, "--do_regression", values, "--do_predict", "--model_name_or_path",
        model, "--output_dir", tmp_path / "out")  # fmt: skip
    metric = "pearson" if values == "true" else "accuracy"
    assert f"test_w1-d1_{metric}" in json.loads((tmp_path / "out" / "test_results.json").read_text())


@pytest.mark.parametrize("label", ["-1", ""])
def test_a_test_file_without_a_label_in_any_row_is_predicted_and_not_scored(tmp_path, reviews, label):
    write_csv(tmp_path / "test.csv", [f"a film,{label}", f"a plot,{label}"])
    glue(*reviews, "--do_predict", "--model_name_or_path", save_model(tmp_path / "model"), "--output_dir",
        tmp_path / "out")  # fmt: skip
    assert (tmp_path / "out" / "predictions" / "w1-d1" / "test.tsv").exists()
    assert not (tmp_path / "out" / "test_results.json").exists()


def test_labels_follow_the_order_of_a_model_that_names_them(tmp_path, reviews):
    names = {"id2label": {0: "GOOD", 1: "BAD"}, "label2id": {"GOOD": 0, "BAD": 1}}
    scores = {}
    for order, settings in (("theirs", names), ("ours", {})):
        model = save_model(tmp_path / order, **settings)
        glue(*reviews, "--model_name_or_path", model, "--output_dir", tmp_path / f"out-{order}", "--do_eval")
        scores[order] = results_of(tmp_path / f"out-{order}")["sub_networks"][-1]["accuracy"]
    assert scores["theirs"] == 1 - scores["ours"]


def test_f1_and_the_numbers_of_a_submission_do_not_depend_on_the_order_of_a_model(tmp_path):
    """A model that calls its first class what MRPC calls 1, with the outputs turned, says and is worth the same."""
    data, found = save_task("mrpc", tmp_path / "data"), {}
    for name, order in (("ours", LABELS["mrpc"]), ("turned", LABELS["mrpc"][::-1])):
        folder, out = save_model(tmp_path / name), tmp_path / f"out-{name}"
        if name == "turned":
            model = AutoModelForSequenceClassification.from_pretrained(folder)
            for parameter in model.classifier.parameters():
                parameter.data = parameter.data.flip(0)
            model.save_pretrained(folder)
        glue("--task_name", "mrpc", "--dataset_name", data, "--model_name_or_path", folder, "--output_dir", out,
            "--label_order", *order, "--do_eval", "--do_predict")  # fmt: skip
        sizes = [{name: row[name] for name in METRICS["mrpc"]} for row in results_of(out)["sub_networks"]]
        found[name] = sizes, [path.read_text() for path in sorted((out / "predictions").rglob("*.tsv"))]
    assert found["turned"] == found["ours"]


def test_numbers_in_a_file_are_labels_and_those_with_a_decimal_point_are_values(tmp_path):
    for name, labels, metric in (("int", (3, 7), "accuracy"), ("float", (0.5, 2.25), "pearson")):
        rows = [f"a good film {row},{labels[row % 2]},x" for row in range(8)]
        path = write_csv(tmp_path / f"{name}.csv", rows, "review,stars,unused")
        model = save_model(tmp_path / "model", labels=1 if name == "float" else 2)
        glue("--train_file", path, "--validation_file", path, "--text_column_names", "review", "--label_column_name",
            "stars", "--model_name_or_path", model, "--output_dir", tmp_path / name, "--do_eval")  # fmt: skip
        assert metric in results_of(tmp_path / name)["sub_networks"][0]


def test_predicted_values_have_the_digits_of_their_scale_and_those_for_glue_three():
    values = np.array([[0.000123], [1234567.0], [4.25]])
    data = Splits(DatasetDict())
    assert run_glue.written(values, data, None) == ["0.000123", "1.23457e+06", "4.25"]
    assert run_glue.written(values, data, "stsb") == ["0.000", "5.000", "4.250"]


def test_several_labels_that_hold_commas_are_told_apart_in_their_cell():
    data = Splits(DatasetDict(), ("a,b", "a", "b"), has_several=True)
    values = np.array([[1, -1, -1], [-1, 1, 1], [1, 1, -1], [-1, -1, -1]])
    cells = run_glue.written(values, data, None)
    assert cells == ['"a,b"', "a,b", '"a,b",a', ""]
    assert [next(csv.reader([cell]), []) for cell in cells] == [["a,b"], ["a", "b"], ["a,b", "a"], []]


def test_the_whole_recipe_keeps_the_sizes_of_an_elastic_model_unless_others_are_given(tmp_path, reviews):
    """As train_dynabert and --stage do."""
    elastic = dynabert_hf.DynaBertForSequenceClassification
    model = save_model(tmp_path / "model")
    elastic.from_pretrained(model, widths=[0.75, 1.0], depths=[1.0]).save_pretrained(model)
    quick = QUICK[len(SMALL) :]
    for given, sizes in (([], ["w0.75-d1", "w1-d1"]), (["--widths", "0.5", "1.0"], ["w0.5-d1", "w1-d1"])):
        out = tmp_path / "-".join(["out", *given])
        run_glue.main([*reviews, "--model_name_or_path", model, "--output_dir", str(out), *quick, *given])
        assert [row["size"] for row in results_of(out / "model")["sub_networks"]] == sizes


def test_an_extracted_model_is_evaluated_and_predicts_as_its_size_of_the_elastic_one(tmp_path, reviews):
    folders = {name: save_model(tmp_path / name) for name in ("elastic", "small")}
    load = dynabert_hf.DynaBertForSequenceClassification.from_pretrained
    elastic = load(folders["elastic"], widths=[0.5, 1.0], depths=[1.0])
    elastic.save_pretrained(folders["elastic"])
    elastic.extract("w0.5-d1").save_pretrained(folders["small"])
    found, predicted = {}, {}
    for name, folder in folders.items():
        out = tmp_path / f"of-{name}"
        command = [*reviews, "--model_name_or_path", folder, "--output_dir", str(out), "--do_eval", "--do_predict"]
        run_glue.main([*command, *QUICK[len(SMALL) :], "--eval_strategy", "epoch"])
        found[name] = {row["size"]: (row["accuracy"], row["loss"]) for row in results_of(out)["sub_networks"]}
        predicted[name] = {path.parent.name: path.read_text() for path in out.glob("predictions/*/test.tsv")}
    [(size, of_small)] = found["small"].items()
    assert of_small == pytest.approx(found["elastic"]["w0.5-d1"], rel=1e-5)
    assert predicted["small"] == {size: predicted["elastic"]["w0.5-d1"]}


def test_arguments_may_stand_in_a_json_file(tmp_path, reviews):
    given = dict(zip((name.removeprefix("--") for name in reviews[::2]), reviews[1::2], strict=True))
    given |= {"model_name_or_path": save_model(tmp_path / "model"), "output_dir": str(tmp_path / "out")}
    given |= {"do_eval": True, "use_cpu": True, "disable_tqdm": True, "widths": [0.5, 1.0], "depths": [1.0]}
    given["text_column_names"] = ["text"]
    (tmp_path / "arguments.json").write_text(json.dumps(given))
    run_glue.main([str(tmp_path / "arguments.json")])
    assert len(results_of(tmp_path / "out")["sub_networks"]) == 2


def test_a_second_run_takes_up_the_teacher_and_refuses_one_of_other_settings(tmp_path, reviews, monkeypatch):
    model = save_model(tmp_path / "model", head=False)
    out = tmp_path / "out"
    command = [*reviews, "--model_name_or_path", model, "--finetune_teacher", "--output_dir", out]
    command += ["--stages", "width", "depth"]
    own = {"teacher": {"max_steps": 1}, "depth": {"max_steps": 3}}
    glue(*command, "--stage_arguments", json.dumps(own))
    before = results_of(out / "model")
    histories = {name: out / name / "history.json" for name in ("0-teacher", "2-width", "3-depth")}
    steps = {name: json.loads(path.read_text())[-1]["step"] for name, path in histories.items()}
    assert steps == {"0-teacher": 1, "2-width": 2, "3-depth": 3}
    with monkeypatch.context() as patch:
        patch.setattr(dynabert_hf.DynaBertTrainer, "train", lambda *args, **kwargs: pytest.fail("trained again"))
        glue(*command, "--stage_arguments", json.dumps(own))
        glue(*command, "--stage_arguments", json.dumps(own), "--logging_steps", "7", "--save_steps", "9")
    assert results_of(out / "model") == before
    with pytest.raises(SystemExit, match=r"0-teacher' holds a training made with {'max_steps': 1}, now {'max_st"):
        glue(*command)


def test_a_teacher_of_other_weights_is_refused_though_the_model_has_its_name(tmp_path, reviews):
    """The teacher that an earlier run made of the weights before was taken up without a word."""
    model = save_model(tmp_path / "model", head=False)
    command = [*reviews[:2], "--model_name_or_path", model, "--finetune_teacher", "--do_train", "--output_dir"]
    glue(*command, tmp_path / "out")
    weights = load_file(Path(model) / "model.safetensors")
    save_file({name: tensor + 0.01 for name, tensor in weights.items()}, Path(model) / "model.safetensors")
    with pytest.raises(SystemExit, match=r"a training made with {'weights': '\w+'}, now {'weights': '\w+'} is asked"):
        glue(*command, tmp_path / "out")


def test_a_teacher_is_taken_up_where_everything_was_moved(tmp_path, reviews, monkeypatch):
    """The folder knew its model by a path that was another one then."""
    here, there = tmp_path / "here", tmp_path / "there"
    save_model(here / "model", head=False)
    command = [*reviews[:2], "--finetune_teacher", "--do_train"]
    monkeypatch.chdir(here)
    glue(*command, "--model_name_or_path", "model", "--output_dir", "out")
    before = results_of(here / "out" / "model")
    monkeypatch.chdir(tmp_path)
    here.rename(there)
    monkeypatch.setattr(dynabert_hf.DynaBertTrainer, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    glue(*command, "--model_name_or_path", there / "model", "--output_dir", there / "out")
    assert results_of(there / "out" / "model") == before


def test_a_teacher_of_other_rows_is_refused_though_there_are_as_many(tmp_path, reviews):
    """It was taken for that of the new rows, if the run had not come further."""
    command = ["--model_name_or_path", save_model(tmp_path / "model", head=False), "--finetune_teacher", "--do_train"]
    command += ["--output_dir", tmp_path / "out", "--learning_rate"]
    (tmp_path / "out" / "0-teacher").mkdir(parents=True)
    (tmp_path / "out" / "0-teacher" / "settings.json").write_text("{}")  # of a run that was stopped before its end
    glue(*reviews[:2], *command, "1e-3")
    write_csv(tmp_path / "train.csv", sentiment_rows(16, seed=5))
    with pytest.raises(SystemExit, match=r"a training made with {'rows': '\w+'}, now {'rows': '\w+'} is asked"):
        glue(*reviews[:2], *command, "1e-3")


def test_a_stage_is_taken_up_and_one_of_other_rows_or_another_model_is_refused(tmp_path, reviews):
    """Its checkpoint was taken for that of the new rows, which were then not trained on."""
    model, out = save_model(tmp_path / "model"), tmp_path / "out"
    command = [*reviews[:4], "--stage", "depth", "--output_dir", out, "--model_name_or_path"]
    glue(*command, model)
    before = load_file(out / "model.safetensors")
    glue(*command, model)
    assert all(torch.equal(weight, before[name]) for name, weight in load_file(out / "model.safetensors").items())
    other = save_model(tmp_path / "other", initializer_range=0.1)
    with pytest.raises(SystemExit, match=r"out' holds a training made with {'model': '\w+', 'teacher': '\w+'}, now"):
        glue(*command, other)
    write_csv(tmp_path / "train.csv", sentiment_rows(16, seed=5))
    with pytest.raises(SystemExit, match=r"out' holds a training made with {'rows': '\w+'}, now {'rows': '\w+'} is"):
        glue(*command, model)


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(tmp_path, reviews, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(dynabert_hf.DynaBertTrainer, "train", lambda *args, **kwargs: pytest.fail("trained"))
    model = save_model(tmp_path / "model", head=False)
    with pytest.raises(SystemExit, match=r"run_glue\.py: --output_dir '.*/file/out' cannot be written to: .* Nothing"):
        glue(*reviews, "--model_name_or_path", model, "--finetune_teacher", "--output_dir", tmp_path / "file" / "out")
    (tmp_path / "out" / "model").mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"out' holds a folder 'model' that no run of the recipe left.* Give another"):
        glue(*reviews, "--model_name_or_path", model, "--finetune_teacher", "--output_dir", tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--widths", "0.25", "0.5"], r"--widths \[0\.25, 0\.5\] and --depths \[0\.5, 1\.0\] do not hold the"),
        (["--depths", "1.0", "1.5"], r"depth=1\.5 is not a multiplier"),
        (["--logit_weight", "0", "--hidden_weight", "0"], "nothing would be learned from the teacher"),
        (["--adam_beta1", "2"], r"Stage 'depth' cannot begin with these arguments: Invalid beta parameter"),
        (["--stage", "width", "--report_to", "nowhere"], "Stage 'width' cannot begin .* nowhere is not supported"),
        (["--stage_arguments", '{"depth": {"learning_rate": 0}}'], "learning_rate 0 trains nothing"),
        (["--stage", "depth", "--teacher_width", "same"], "narrows its teacher to the student's width"),
        (["--stages", "width", "depth", "--depths", "0.5"], "do not hold the full network"),
        (
            [*BEST, "accurcy"],
            r"--metric_for_best_model 'accurcy' will not come .* are \['loss', 'accu",
        ),
        ([*BEST, "f1", "--stage", "depth"], r"'f1' will not come from an evaluation: metrics of a size are"),
        (
            ["--max_seq_length", "2"],
            r"--max_seq_length 2 leaves no text: a text has 2 special tokens",
        ),
    ],
)
def test_what_no_stage_can_train_is_refused_before_a_teacher_is_fine_tuned(
    tmp_path, reviews, monkeypatch, given, message
):
    monkeypatch.setattr(dynabert_hf.DynaBertTrainer, "train", lambda *args, **kwargs: pytest.fail("trained"))
    command = [*reviews, "--model_name_or_path", save_model(tmp_path / "model", head=False), "--finetune_teacher"]
    with pytest.raises(SystemExit, match=message):
        run_glue.main([*command, "--output_dir", str(tmp_path / "out"), *QUICK, *given])


def test_a_teacher_is_not_fine_tuned_in_shards_that_no_process_could_save(tmp_path, reviews, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setattr(dynabert_hf.DynaBertTrainer, "train", lambda *args, **kwargs: pytest.fail("trained"))
    command = [*reviews, "--model_name_or_path", save_model(tmp_path / "model", head=False), "--finetune_teacher"]
    with pytest.raises(SystemExit, match=r"--finetune_teacher was given with FSDP, .*\. Launch by one"):
        run_glue.main([*command, "--output_dir", str(tmp_path / "out"), *QUICK])


def test_what_a_stage_cannot_train_is_refused_before_importance_is_measured(tmp_path, reviews, monkeypatch):
    monkeypatch.setattr("recipe_training.importance_over_processes", lambda *args: pytest.fail("measured"))
    command = [*reviews, "--model_name_or_path", save_model(tmp_path / "model"), "--stage", "depth"]
    with pytest.raises(SystemExit, match="do not hold the full network"):
        run_glue.main([*command, "--output_dir", str(tmp_path / "out"), *QUICK, "--widths", "0.5"])


def test_a_page_that_no_run_wrote_is_not_replaced_by_the_card_of_a_stage(tmp_path, reviews):
    command = [*reviews, "--model_name_or_path", save_model(tmp_path / "model"), "--output_dir", tmp_path / "out"]
    page = tmp_path / "out" / "README.md"
    page.parent.mkdir()
    page.write_text("# My project\n")
    with pytest.raises(SystemExit, match=r"README\.md' is another page\. Give a folder of its own, or move that page"):
        glue(*command, "--stage", "finetune")
    assert page.read_text() == "# My project\n"
    assert list(page.parent.iterdir()) == [page]
    page.unlink()
    for seed in ("0", "1"):  # a card of a run before is no such page
        glue(*command, "--stage", "finetune", "--seed", seed, "--max_steps", "1", "--save_strategy", "no")
    assert "# DynaBERT in " in page.read_text()


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub to its HTTP library
@pytest.mark.parametrize("branch", [None, "try"])
def test_a_run_is_pushed_with_model_code_and_card_to_the_branch_that_was_named(tmp_path, reviews, hub, branch):
    named = [] if branch is None else ["--hub_revision", branch]
    glue(*reviews, "--model_name_or_path", save_model(tmp_path / "model"), "--stage", "finetune", "--output_dir",
        tmp_path / "reviews", "--push_to_hub", "--hub_model_id", "me/reviews", *named)  # fmt: skip
    files = hub.files("me/reviews", branch or "main")
    assert branch is None or "config.json" not in hub.files("me/reviews")
    assert {"model.safetensors", "modeling_dynabert.py", "README.md", "tokenizer.json", "results.csv"} <= set(files)
    assert b"accuracy of w0.5-d0.5" in files["README.md"]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_stage_is_pushed_without_its_teacher_and_its_answers_to_test_rows(tmp_path, reviews, hub):
    """Both lie beside its model, and the teacher is as large."""
    glue(*reviews, "--model_name_or_path", save_model(tmp_path / "model", head=False), "--finetune_teacher", "--stage",
        "depth", "--output_dir", tmp_path / "out", "--push_to_hub", "--do_train", "--do_predict")  # fmt: skip
    left = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert {"0-teacher", "predictions"} <= left
    assert [name for name in hub.files("me/out") if "/" in name] == []


def test_a_repository_that_cannot_be_made_stops_before_training(tmp_path, reviews, monkeypatch):
    model = save_model(tmp_path / "model")
    with pytest.raises(SystemExit, match=r"repository 'out' cannot be made: .* Nothing was trained"):
        glue(*reviews, "--model_name_or_path", model, "--output_dir", tmp_path / "out", "--push_to_hub")
    with pytest.raises(SystemExit, match=r"repository 'a/b/c' cannot be made: Repo id must be in the form"):
        glue(*reviews, "--model_name_or_path", model, "--output_dir", tmp_path / "out", "--push_to_hub",
            "--hub_model_id", "a/b/c")  # fmt: skip
    monkeypatch.setattr("recipe_job.HfApi.create_repo", Mock(side_effect=ConnectionError("Connection refused")))
    with pytest.raises(SystemExit, match=r"repository 'out' cannot be made: Connection refused\. Nothing was trained"):
        glue(*reviews, "--model_name_or_path", model, "--output_dir", tmp_path / "out", "--push_to_hub")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_launched_processes_run_all_stages_and_train_the_teacher_of_one(tmp_path, reviews):
    model = save_model(tmp_path / "model", head=False)
    command = [*reviews, "--model_name_or_path", model, "--finetune_teacher", *SMALL, "--use_cpu", "--disable_tqdm"]
    command += ["true", "--num_train_epochs", "1", "--optim", "sgd", "--learning_rate", "0.05", "--logging_steps", "1"]
    command += ["--train_sampling_strategy", "sequential", "--cache_dir", str(tmp_path / "cache")]
    printed = launch(
        run_glue.__file__, *command, "--per_device_train_batch_size", "4", "--output_dir", tmp_path / "two"
    )
    run_glue.main(
        [*command, "--per_device_train_batch_size", "8", "--output_dir", str(tmp_path / "one"), "--stage", "depth"]
    )
    for stage in ("0-teacher", "3-depth"):
        history = json.loads((tmp_path / "two" / stage / "history.json").read_text())
        assert history[-1]["step"] == 2  # 16 examples in batches of 4: 4 steps in one process
    assert len(results_of(tmp_path / "two" / "model")["sub_networks"]) == 4
    assert printed.count("4 sizes of one DynaBertForSequenceClassification") == 1
    one, both = (load_file(tmp_path / name / "0-teacher" / "model" / "model.safetensors") for name in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(both[name], weight, rtol=0, atol=1e-6, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("column", "metric"), [("rating", "pearson"), ("label", "accuracy")])
def test_a_real_model_learns_from_real_reviews(tmp_path, column, metric):
    import embedded

    files = []
    for name, part in embedded.movie_snippets(num_train=640).items():
        part.select(range(min(len(part), 640))).to_csv(tmp_path / f"{name}.csv", index=False)
        files += [f"--{name}_file", str(tmp_path / f"{name}.csv")]
    command = ["--label_column_name", column, "--model_name_or_path", embedded.model_folder(), "--finetune_teacher"]
    command += ["--strategy", "sandwich", "--learning_rate", "1e-4", "--max_steps", "10", "--use_cpu"]
    command += ["--stage_arguments", '{"teacher": {"max_steps": 60}}', "--max_importance_samples", "64"]
    run_glue.main([*files, *command, "--max_eval_samples", "200", "--output_dir", str(tmp_path / "out")])
    results = results_of(tmp_path / "out" / "model")
    full = results["sub_networks"][-1]
    assert full[metric] > {"pearson": 0.4, "accuracy": 0.65}[metric]
