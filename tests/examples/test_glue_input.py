"""What examples/run_glue.py refuses, before any work, and what it says."""

import json

import pytest
import run_glue
from datasets import Dataset, DatasetDict, Value
from glue_arguments import GlueArguments
from glue_data import load_free_form
from helpers.glue_tasks import WORDS, glue, make_task, save_model, write_csv
from helpers.tiny import make_tokenizer
from recipe_arguments import parse_arguments
from recipe_data import InputError
from transformers import GPT2Config

import dynabert_hf
from dynabert_hf.data.text_columns import TEXTS
from dynabert_hf.data.text_files import read_rows

SST2 = ["--task_name", "sst2"]
GOOD = ["a good film,good", "a bad film,bad", "never dull,good", "too long,bad"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "There are no data. Give --task_name, --dataset_name, or --train_file"),
        (["--task_name", "ax"], "--task_name 'ax' is unknown. Possible is one of 'cola', 'sst2', 'mrpc'"),
        ([*SST2, "--train_file", "a.csv"], "--task_name and --train_file were given. Give the one or the other"),
        (["--validation_file", "a.csv"], "--validation_file was given without --train_file"),
        (["--train_file", "a.csv"], "no --validation_file to evaluate on. Give one, or --validation_split_percentage"),
        (["--train_file", "a.csv", "--do_predict"], "--do_predict was given without --test_file"),
        (["--train_file", "a.csv", "--validation_split_percentage", "100"], "100 is not possible. Give 1 to 99"),
        (
            [*SST2, "--validation_split_percentage", "5"],
            "was given with --task_name, whose data have a part to evaluate",
        ),
        ([*SST2, "--text_column_names", "a"], "--text_column_names was given with --task_name, whose data have"),
        ([*SST2, "--max_train_samples", "0"], "--max_train_samples 0 is not possible. Give at least 1"),
        ([*SST2, "--stage", "length"], "--stage 'length' is unknown. Possible is one of 'width', 'depth', 'finetune'"),
        ([*SST2, "--strategy", "some"], "--strategy 'some' is unknown. Possible is one of 'grid', 'sandwich'"),
        ([*SST2, "--hidden_weight", "-1"], "--hidden_weight -1.0 is not possible. Give a number of at least 0"),
        ([*SST2, "--stages", "width"], "--stages width is not possible. Give depth, or width depth"),
        ([*SST2, "--dropout", "2"], "--dropout 2.0 is not possible. Give a probability in"),
        ([*SST2, "--stage_arguments", "{"], "--stage_arguments is not json"),
        (
            [*SST2, "--stage_arguments", '{"all": {}}'],
            "--stage_arguments {'all': {}} is not possible. Possible are training arguments for each of ['teacher', '",
        ),
        ([*SST2, "--stage_arguments", '{"depth": 3}'], "--stage_arguments {'depth': 3} is not possible"),
        ([*SST2, "--stage_arguments", '{"teacher": {"fp16": true}}'], "['teacher'] has fp16, which is one for all"),
        ([*SST2, "--stage_arguments", '{"teacher": {"lr": 1}}'], "lr is no argument of train_dynabert"),
        ([*SST2, "--stage_arguments", '{"depth": {"logit_weight": -1}}'], "--logit_weight -1 is not possible"),
        ([*SST2, "--stage_arguments", '{"depth": {"optim": "best"}}'], "best is not a valid OptimizerNames"),
        ([*SST2, "--seed", "-1"], "--seed -1 is not possible. Give a whole number from 0 to 4294967295"),
        ([*SST2, "--batch_eval_metrics"], "--batch_eval_metrics True is not possible in this script: its metrics are"),
        ([*SST2, "--eval_do_concat_batches", "false"], "--eval_do_concat_batches False is not possible in this script"),
        ([*SST2, "--resume_from_checkpoint", "old"], "--resume_from_checkpoint old is not possible in this script: a"),
        ([*SST2, "--teacher_name_or_path", "t"], "--teacher_name_or_path is heeded with --stage width or depth only"),
        ([*SST2, "--finetune", "--stage", "depth"], "--finetune was given with --stage depth"),
        ([*SST2, "--stages", "width", "depth", "--stage", "depth"], "--stages was given with --stage depth, which"),
        ([*SST2, "--finetune_teacher", "--stage", "finetune"], "which has no teacher. Leave it out"),
        ([*SST2, "--do_eval", "--stage", "depth"], "--stage was given without --do_train"),
        ([*SST2, "--do_eval", "--push_to_hub"], "--push_to_hub was given without --do_train"),
        ([*SST2, "--widhts", "1.0"], "unrecognized arguments: --widhts"),
        ([*SST2, "--learning_rate", "fast"], "--learning_rate/--learning-rate: invalid float value: 'fast'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        glue(*arguments, "--model_name_or_path", "none", "--output_dir", tmp_path / "out")
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) < 6
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("usual", [*TEXTS, ("title", "review"), ("review",)])
def test_texts_are_those_that_the_library_reads_whatever_else_a_file_holds(usual):
    """The name of a class stood beside its text, where neither is called as usual."""
    columns = ["id", *(reversed(usual) if usual in TEXTS else usual), "label_text"]
    rows = Dataset.from_dict({**{name: [name, name] for name in columns}, "label": ["good", "bad"]})
    given = {"text_columns": None, "label_column": "label", "regression": None}
    [first, _] = load_free_form(DatasetDict(train=rows), **given).splits["train"]
    assert first == {**dict(zip(("text", "text_pair"), usual, strict=False)), "label": 1}


@pytest.mark.parametrize(("columns", "count"), [(["message", "date"], 1), (["message"], 0), (["text", "date"], 0)])
def test_a_pair_that_was_guessed_is_said(columns, count, caplog):
    rows = DatasetDict(train=Dataset.from_dict({**{name: ["a", "b"] for name in columns}, "label": ["good", "bad"]}))
    for named in (None, columns[:1]):
        load_free_form(rows, text_columns=named, label_column="label", regression=None)
    assert caplog.text.count("The columns 'message' and 'date' are read as a pair of texts. Name other") == count


@pytest.mark.parametrize(("texts", "label"), [(["a", "a"], "label"), (["a", "label"], "label")])
def test_a_column_that_was_named_twice_is_refused(texts, label):
    rows = DatasetDict(train=Dataset.from_dict({"a": ["x", "y"], "label": ["good", "bad"]}))
    with pytest.raises(InputError, match=r"labels from 'label'\. Name a column of its own for each"):
        load_free_form(rows, text_columns=texts, label_column=label, regression=None)


def test_a_json_file_with_an_unknown_argument_is_refused(tmp_path, capsys):
    (tmp_path / "arguments.json").write_text('{"task_name": "sst2", "model_name_or_path": "m", "widhts": [1.0]}')
    with pytest.raises(SystemExit, match="2"):
        run_glue.main([str(tmp_path / "arguments.json")])
    assert "['widhts']" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"smoke": "false"}, "--smoke 'false' is not possible. Give true or false."),
        ({"do_train": "false"}, "--do_train 'false' is not possible. Give true or false."),
        ({"do_regression": "no"}, "--do_regression 'no' is not possible. Give true or false."),
        ({"finetune_teacher": 1}, "--finetune_teacher 1 is not possible. Give true or false."),
        ({"max_train_samples": "16"}, "--max_train_samples '16' is not possible. Give a whole number."),
        ({"max_seq_length": 16.5}, "--max_seq_length 16.5 is not possible. Give a whole number."),
        ({"dropout": "0.1"}, "--dropout '0.1' is not possible. Give a number."),
        ({"widths": 0.5}, "--widths 0.5 is not possible. Give a list."),
        ({"stages": "depth"}, "--stages 'depth' is not possible. Give a list."),
        (
            {"stage_arguments": {"depth": {"load_best_model_at_end": "no"}}},
            "--load_best_model_at_end 'no' is not possible. Give true or false.",
        ),
    ],
)
def test_a_json_file_with_a_value_of_another_type_is_refused(tmp_path, capsys, given, message):
    path = tmp_path / "arguments.json"
    command = {"task_name": "sst2", "model_name_or_path": "m", "output_dir": "out", "use_cpu": True}
    kinds = {"max_eval_samples": None, "num_train_epochs": 2, "dropout": None, "label_order": None}
    path.write_text(json.dumps({**command, **kinds}))
    data, model, training, _ = parse_arguments([str(path)], GlueArguments)
    assert (data.max_eval_samples, training.num_train_epochs, model.dropout) == (None, 2, None)
    path.write_text(json.dumps({**command, **given}))
    with pytest.raises(SystemExit, match="2"):
        run_glue.main([str(path)])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "header", "arguments", "message"),
    [
        (GOOD, "text,verdict", [], r"columns \['text', 'verdict'\] but no 'label'\. Name .* --label_column_name"),
        ([f"{row},x" for row in GOOD], "a,label,b", ["--text_column_names", "c"], r"columns .* but no 'c'"),
        ([f"x,y,{row}" for row in GOOD], "a,b,c,label", [], r"3 columns with text: \['a', 'b', 'c'\]"),
        (["1,0", "2,1"], "n,label", [], r"no column with text: \['n', 'label'\]"),
        (["1,0", "2,1"], "n,label", ["--text_column_names", "n"], "Column 'n' of .* holds .*int64.*, not text"),
        (GOOD, "text,label", ["--do_regression", "true"], "Column 'label' holds names, not values"),
        (GOOD[:1] * 2, "text,label", [], r"holds one label only, \['good'\]"),
        (["a film,1.5", "a plot,"], "text,label", [], "split 'train' has the label (nan|None). Possible are finite"),
        (["a film,good", "a plot,"], "text,label", [], "holds one label only|has the label None"),
        ([*GOOD, ",good"], "text,label", [], "Column 'text' of split 'train' is empty in 1 rows"),
        ([f"a film,{n}" for n in range(200)], "text,label", [], "holds 200 different labels .*do_regression"),
        ([], "text,label", [], "has no rows|cannot be read"),
        (GOOD, "text,label", ["--text_column_names", "a,b,c"], r"names 3 columns, \['a', 'b', 'c'\]\. Name"),
    ],
)
def test_files_that_cannot_be_worked_with_are_refused_with_what_to_do(tmp_path, rows, header, arguments, message):
    path = write_csv(tmp_path / "train.csv", rows, header)
    with pytest.raises(SystemExit, match=message):
        glue("--train_file", path, "--do_train", "--model_name_or_path", "none", "--output_dir", tmp_path, *arguments)


def test_a_model_that_was_saved_without_its_tokenizer_is_refused_before_any_work(tmp_path, reviews):
    """All words were unknown to the tokenizer that transformers made there, and sizes were trained on such texts."""
    folder = save_model(tmp_path / "model")
    for file in (tmp_path / "model").glob("tokenizer*"):
        file.unlink()
    with pytest.raises(SystemExit, match=r"The tokenizer '.*model' cannot be loaded: The tokenizer knows no words"):
        glue(*reviews, "--model_name_or_path", folder, "--output_dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_label_that_training_data_have_not_is_named(tmp_path, reviews):
    write_csv(tmp_path / "validation.csv", ["a film,superb", "a film,bad"])
    with pytest.raises(SystemExit, match=r"'validation' has the label 'superb'. Possible is one of \['bad', 'good'"):
        glue(*reviews, "--model_name_or_path", "none", "--output_dir", tmp_path / "out")


@pytest.mark.parametrize("label", ["-1", ""])
def test_a_test_file_with_labels_in_some_rows_only_is_refused(tmp_path, reviews, label):
    write_csv(tmp_path / "test.csv", ["a film,good", f"a plot,{label}"])
    with pytest.raises(SystemExit, match=r"'test' has the label .* Possible is .* Correct the label, or remove its ro"):
        glue(*reviews, "--model_name_or_path", "none", "--output_dir", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.csv", None, r"no file '.*missing\.csv'"),
        ("train.xlsx", b"x", r"ends in '\.xlsx'\. Possible is one of \.csv, \.tsv"),
        ("train.parquet", b"no parquet", r"train\.parquet' cannot be read as parquet"),
        ("train.json", b"{no json", r"train\.json' cannot be read as json"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        glue("--train_file", tmp_path / name, "--do_train", "--model_name_or_path", "none", "--output_dir", tmp_path)


def with_label(data, label, kind):
    """The data with another label everywhere, of its own type."""
    features = data.features.copy()
    features["label"] = Value(kind)
    return data.map(lambda row: {"label": label}, features=features)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.remove_columns("sentence"), r"columns \['label', 'idx'\] but no 'sentence'"),
        (lambda data: data.rename_column("label", "gold"), "but no 'label'"),
        (lambda data: with_label(data, "great", "string"), "has the label 'great'. Possible is one of"),
        (lambda data: with_label(data, 2, "int64"), "has the label 2. Possible is one of"),
        (lambda data: with_label(data, 0.5, "float32"), "has the label 0.5. Possible is one of"),
    ],
)
def test_a_copy_of_a_task_that_is_not_of_its_form_is_refused(tmp_path, change, message):
    DatasetDict({split: change(part) for split, part in make_task("sst2").items()}).save_to_disk(tmp_path / "data")
    with pytest.raises(SystemExit, match=message):
        glue(*SST2, "--dataset_name", tmp_path / "data", "--model_name_or_path", "none", "--output_dir", tmp_path)


def test_names_where_a_task_has_values_are_refused(tmp_path):
    data = {split: with_label(part, "like", "string") for split, part in make_task("stsb").items()}
    DatasetDict(data).save_to_disk(tmp_path / "data")
    command = ["--task_name", "stsb", "--dataset_name", tmp_path / "data", "--model_name_or_path", "none"]
    with pytest.raises(SystemExit, match="has the label 'like'"):
        glue(*command, "--output_dir", tmp_path)


def test_a_copy_of_a_task_without_a_split_is_refused(tmp_path):
    DatasetDict(train=make_task("mnli")["train"]).save_to_disk(tmp_path / "data")
    command = ["--task_name", "mnli", "--dataset_name", tmp_path / "data", "--model_name_or_path", "none"]
    with pytest.raises(SystemExit, match=r"splits \['train'\] but no 'validation_matched', which task 'mnli' needs"):
        glue(*command, "--output_dir", tmp_path)


def test_without_a_network_the_data_set_that_cannot_be_had_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"'nyu-mll/glue' \(sst2\) cannot be loaded: .* --dataset_name a folder"):
        glue(*SST2, "--model_name_or_path", "none", "--output_dir", tmp_path)


def test_a_folder_whose_files_do_not_go_together_is_refused(tmp_path):
    for name, label in (("train", "label"), ("test", "target")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": "a film", label: "good"}))
    with pytest.raises(SystemExit, match=r"cannot be loaded: .* column names don't match\. .* --dataset_name a folder"):
        glue("--dataset_name", tmp_path, "--do_train", "--model_name_or_path", "none", "--output_dir", tmp_path / "o")


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"head": False}, [], r"\(BertModel\) has no head that was trained on a task. Give --finetune_teacher"),
        ({"labels": 3}, [], "tells 3 labels apart, the task has 2. Give --finetune_teacher"),
        ({}, ["--metric_name", "bleurgh"], "The metric 'bleurgh' cannot be loaded.* --metric_name one of cola"),
    ],
)
def test_a_model_or_metric_that_does_not_fit_is_refused(tmp_path, reviews, settings, arguments, message):
    model = save_model(tmp_path / "model", **settings)
    with pytest.raises(SystemExit, match=message):
        glue(*reviews, "--model_name_or_path", model, "--output_dir", tmp_path / "out", *arguments)


def test_a_model_of_another_architecture_or_none_is_refused(tmp_path, reviews):
    GPT2Config().save_pretrained(tmp_path / "gpt2")
    for name, message in ((tmp_path / "gpt2", "of type 'gpt2'.* Supported types are bert"), ("no/model", "cannot be")):
        with pytest.raises(SystemExit, match=message):
            glue(*reviews, "--model_name_or_path", name, "--output_dir", tmp_path / "out")


def test_sizes_that_an_elastic_model_does_not_hold_are_refused(tmp_path, reviews):
    model = save_model(tmp_path / "model")
    elastic = dynabert_hf.DynaBertForSequenceClassification.from_pretrained(model, widths=[0.5, 1.0], depths=[1.0])
    elastic.save_pretrained(model)
    with pytest.raises(SystemExit, match="the model holds its sizes already"):
        glue(*reviews, "--finetune_teacher", "--model_name_or_path", model, "--output_dir", tmp_path / "out")
    with pytest.raises(SystemExit, match=r"--depths \[0\.5, 1\.0\] was given, but the model holds \[1\.0\]"):
        glue(*reviews, "--do_eval", "--model_name_or_path", model, "--output_dir", tmp_path / "out")


def test_a_teacher_whose_labels_stand_in_another_order_is_refused(tmp_path, reviews):
    names = {"id2label": {0: "good", 1: "bad"}, "label2id": {"good": 0, "bad": 1}}
    model, teacher = save_model(tmp_path / "model"), save_model(tmp_path / "teacher", **names)
    command = [*reviews, "--stage", "width", "--model_name_or_path", model, "--teacher_name_or_path", teacher]
    with pytest.raises(SystemExit, match=r"has the labels \['good', 'bad'\], the model \['bad', 'good'\]"):
        glue(*command, "--output_dir", tmp_path / "out")


def test_a_teacher_of_a_stage_that_reads_other_tokens_is_refused_before_any_work(tmp_path, reviews):
    model, teacher = save_model(tmp_path / "model"), save_model(tmp_path / "teacher")
    make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *reversed(WORDS)]).save_pretrained(teacher)
    command = [*reviews, "--stage", "width", "--model_name_or_path", model, "--teacher_name_or_path", teacher]
    with pytest.raises(SystemExit, match=r"The tokenizer of the teacher '.*' calls 'a' number 20, that of the model 5"):
        glue(*command, "--output_dir", tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()


def test_rows_of_a_class_called_none_alone_have_a_label(tmp_path):
    train = write_csv(tmp_path / "train.csv", ["a film,None", "a plot,book", "warm,None"])
    test = write_csv(tmp_path / "test.csv", ["a film,None", "dull,None"])
    splits = DatasetDict(train=read_rows(train), test=read_rows(test))
    data = load_free_form(splits, text_columns=None, label_column="label", regression=None)
    assert data.labels == ("None", "book")
    assert data.splits["test"]["label"][:] == [0, 0]
