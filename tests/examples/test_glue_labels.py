"""Whose label is whose, and which rows are drawn, in examples/run_glue.py."""

import csv
import json
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from glue_arguments import GlueArguments
from glue_data import label_names, load_free_form
from glue_labels import align_labels, load_classifier, load_teacher
from helpers.backbones import CONFIGS
from helpers.glue_tasks import glue, save_model, sentiment_rows, write_csv
from recipe_data import InputError, Splits, row_numbers, shortened
from recipe_job import Job
from run_glue import load_data
from transformers import DistilBertConfig, DistilBertForSequenceClassification, DistilBertModel

from dynabert_hf.data.columns import draw
from dynabert_hf.data.text_files import read_rows

NAMES = ("entailment", "neutral", "contradiction")


def load(folder, labels=NAMES, order=None, **config):
    arguments = SimpleNamespace(download={}, label_order=order)
    return load_classifier(save_model(folder, labels=len(labels), **config), labels, arguments, new_head=False)


def make_data(labels=NAMES):
    features = Dataset.from_dict({"text": ["a"] * 6, "label": [labels[row % len(labels)] for row in range(6)]})
    splits = DatasetDict(train=features.class_encode_column("label"))
    return Splits(splits, labels, {}, ())


def test_a_model_without_names_is_said_and_keeps_its_names(tmp_path):
    model, said = load(tmp_path), []
    data = align_labels(make_data(), model.config, said.append)
    assert data.labels == NAMES
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert "LABEL_0, LABEL_1, LABEL_2, which does not tell their order" in said[0]
    assert "give the right one by --label_order" in said[0]


def test_numbers_as_labels_have_an_order_of_their_own(tmp_path):
    said = []
    align_labels(make_data(("0", "1")), load(tmp_path, ("0", "1")).config, said.append)
    assert not said


@pytest.mark.parametrize(
    ("labels", "names", "order"),
    [
        (("Polish", "polish"), ("polish", "Polish"), ("polish", "Polish")),
        (("Polish", "polish", "x"), ("x", "Polish", "polish"), ("x", "Polish", "polish")),
        (("bad", "good"), ("GOOD", "BAD"), ("good", "bad")),
        (("US", "us"), ("Us", "uS"), None),
    ],
)
def test_names_that_only_case_tells_apart_are_told_apart_by_it(tmp_path, labels, names, order):
    named = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    model, data, said = load(tmp_path, labels, **named), make_data(labels), []
    written = [data.labels[label] for label in data.splits["train"]["label"]]
    data = align_labels(data, model.config, said.append)
    assert (data.labels, bool(said)) == (order or labels, order is None)
    assert [data.labels[label] for label in data.splits["train"]["label"]] == written


def test_a_teacher_whose_names_stand_in_another_order_is_refused_though_they_differ_by_case_alone(tmp_path):
    labels, names = ("Polish", "polish"), {"id2label": {0: "polish", 1: "Polish"}}
    folder = save_model(tmp_path, **names, label2id={"polish": 0, "Polish": 1})
    with pytest.raises(InputError, match=r"has the labels \['polish', 'Polish'\], the model \['Polish', 'polish'\]"):
        load_teacher(folder, make_data(labels), SimpleNamespace(download={}, label_order=None))


def test_the_order_that_was_given_names_the_classes_and_moves_the_labels(tmp_path):
    order = ["contradiction", "entailment", "neutral"]
    model, said = load(tmp_path, order=order), []
    assert list(model.config.id2label.values()) == order
    before = make_data()
    data = align_labels(before, model.config, said.append)
    train = data.splits["train"]
    names = before.splits["train"].features["label"].int2str(before.splits["train"]["label"][:])
    assert [order[label] for label in train["label"]] == names
    assert not said


@pytest.mark.parametrize(
    ("order", "config", "message"),
    [
        (
            ["yes", "no", "neutral"],
            {},
            r"--label_order yes no neutral was given, but the labels of the data are \['entail",
        ),
        (list(NAMES), {"id2label": dict(enumerate(NAMES[::-1]))}, r"itself calls its classes \['contra.*Leave it out"),
    ],
)
def test_an_order_that_cannot_be_is_refused(tmp_path, order, config, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, order=order, **config)


def test_an_order_has_no_place_beside_a_new_head(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        glue("--task_name", "sst2", "--finetune_teacher", "--label_order", "bad", "good", "--model_name_or_path",
            "none", "--output_dir", tmp_path / "out")  # fmt: skip
    assert "--label_order was given with --finetune_teacher" in capsys.readouterr().err


def test_samples_are_drawn_over_all_labels_and_those_of_a_test_keep_their_numbers():
    rows = Dataset.from_dict({"text": [str(row) for row in range(60)], "label": [row // 20 for row in range(60)]})
    data = Splits(DatasetDict(train=rows, validation=rows, test=rows), NAMES, {"": "validation"}, ("test",))
    arguments = SimpleNamespace(max_train_samples=6, max_eval_samples=9, max_predict_samples=12)
    splits = shortened(data, arguments, seed=1)
    assert {split: len(part) for split, part in splits.items()} == {"train": 6, "validation": 9, "test": 12}
    assert sorted(splits["train"]["label"]) == [0, 0, 1, 1, 2, 2]
    assert row_numbers(splits["test"]) == sorted(row_numbers(splits["test"]))
    assert [int(text) for text in splits["test"]["text"]] == row_numbers(splits["test"])


def test_the_seed_draws_the_rows_to_train_on_and_those_that_importance_is_measured_on():
    rows = Dataset.from_dict({"text": [str(row) for row in range(60)], "label": [row % 3 for row in range(60)]})
    arguments = SimpleNamespace(max_train_samples=12, max_importance_samples=6)
    arguments.max_eval_samples = arguments.max_predict_samples = None
    drawn = {}
    for seed in (1, 2):
        data = Splits(DatasetDict(train=rows), NAMES)
        drawn[seed] = shortened(data, arguments, seed)["train"]["text"][:]
        assert drawn[seed] == draw(rows, 12, seed)["text"][:]
        job = SimpleNamespace(data=data, data_args=arguments, training_args=SimpleNamespace(seed=seed))
        assert Job.importance_data.fget(job)[:] == draw(data.splits["train"], 6, seed)[:]
    assert drawn[1] != drawn[2]


def test_rows_that_are_held_back_have_their_share_of_every_class(tmp_path):
    """Under any name of the column of classes, which parquet may hold as large strings."""
    names = ["pay"] * 180 + ["refund"] * 20
    texts = pa.array([f"w{row}" for row in range(200)])
    table = pa.table({"text": texts, "intent": pa.array(names, pa.large_string())})
    pq.write_table(table, tmp_path / "train.parquet")
    for seed in range(8):
        arguments = GlueArguments(
            train_file=str(tmp_path / "train.parquet"), label_column_name="intent", validation_split_percentage=10
        )
        data = load_data(arguments, seed, cache_dir=str(tmp_path / "cache"))
        assert data.labels == ("pay", "refund")
        assert {split: sum(part["label"]) for split, part in data.splits.items()} == {"train": 18, "validation": 2}


def test_a_label_all_rows_of_which_are_held_back_is_one_of_the_labels(tmp_path):
    """Of twelve classes of one row each, some are held back whatever the seed is."""
    names = [*["pay"] * 20, *["refund"] * 20, *(f"rare {number}" for number in range(10, 22))]
    for kind in (str, lambda name: [name]):
        rows = [{"text": f"w{row}", "label": kind(name)} for row, name in enumerate(names)]
        Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
        arguments = GlueArguments(train_file=str(tmp_path / "train.parquet"), validation_split_percentage=25)
        data = load_data(arguments, 0, cache_dir=str(tmp_path / kind("cache")[0]))
        assert data.labels == tuple(sorted(set(names)))
        own = {split: np.asarray(part["label"][:]) for split, part in data.splits.items()}
        own = {split: labels.argmax(-1) if labels.ndim == 2 else labels for split, labels in own.items()}
        told = {
            text: data.labels[label]
            for split, part in data.splits.items()
            for text, label in zip(part["text"], own[split], strict=True)
        }
        assert told == {f"w{row}": name for row, name in enumerate(names)}
        assert set(own["validation"]) - set(own["train"])


@pytest.mark.parametrize(("train", "is_said"), [(["good", "bad"], True), ([1, 0], False)])
def test_numbers_where_training_data_have_names_are_said_to_count_these(caplog, train, is_said):
    labels = {"train": train, "validation": [0, 1], "test": [-1, -1]}
    raw = DatasetDict({split: Dataset.from_dict({"text": ["a", "b"], "label": own}) for split, own in labels.items()})
    data = load_free_form(raw, text_columns=None, label_column="label", regression=None)
    assert [data.splits[split]["label"][:] for split in ("train", "validation")] == [[1, 0], [0, 1]]
    said = [each.getMessage() for each in caplog.records if "holds numbers in split" in each.getMessage()]
    assert len(said) == is_said
    assert all("split 'validation'" in each and "count ['bad', 'good'], from 0" in each for each in said)


@pytest.mark.parametrize("validation", [[1, 2, 2], [1.0, 2.0, 2.0]])
def test_numbers_that_are_names_of_labels_are_these_also_where_others_are_no_numbers(caplog, validation):
    labels = {"train": ["1", "2", "unknown"], "validation": validation, "test": [0, 1, 2]}
    raw = DatasetDict({split: Dataset.from_dict({"text": [*"abc"], "label": own}) for split, own in labels.items()})
    data = load_free_form(raw, text_columns=None, label_column="label", regression=None)
    assert data.labels == ("1", "2", "unknown")
    assert data.splits["validation"]["label"][:] == [0, 1, 1]
    assert data.splits["test"]["label"][:] == [0, 1, 2]  # 0 is no name, so these are places
    [said] = [each.getMessage() for each in caplog.records if "holds numbers in split" in each.getMessage()]
    assert "split 'test'" in said


@pytest.mark.parametrize("train", [["good", "bad"], [0.5, 1.5]])
def test_a_list_where_the_training_data_have_one_label_is_refused(train):
    labels = {"train": train, "validation": [["good"], ["bad"]]}
    raw = DatasetDict({split: Dataset.from_dict({"text": ["a", "b"], "label": own}) for split, own in labels.items()})
    with pytest.raises(InputError, match=r"'label' of split 'validation' holds List.*, not labels\. Give one"):
        load_free_form(raw, text_columns=None, label_column="label", regression=None)


@pytest.mark.parametrize(("scale", "labels", "own"), [(2, None, [4.25, 1.5, 0.0]), (0, ("0", "2", "4"), [2, 1, 0])])
def test_decimals_of_a_database_are_values_if_they_have_a_decimal_point(tmp_path, scale, labels, own):
    values = [Decimal("4.25"), Decimal("1.50"), Decimal("0.00")]
    column = pa.array([each.quantize(Decimal(10) ** -scale) for each in values], pa.decimal128(5, scale))
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": column}), tmp_path / "train.parquet")
    raw = DatasetDict(train=read_rows(tmp_path / "train.parquet"))
    data = load_free_form(raw, text_columns=None, label_column="label", regression=None)
    assert (data.labels, data.splits["train"]["label"][:]) == (labels, own)


def test_many_intents_of_few_rows_are_labels_and_as_many_numbers_are_values():
    intents = [f"intent {row // 5:03}" for row in range(750)]
    assert label_names(Dataset.from_dict({"label": intents}), "label") == tuple(sorted(set(intents)))
    for values in ([row // 5 for row in range(750)], [f"id {row}" for row in range(750)]):
        with pytest.raises(InputError, match=r"different labels in 750 rows\. Name the column with the labels"):
            label_names(Dataset.from_dict({"label": values}), "label")


def test_predictions_of_drawn_rows_stand_under_the_numbers_of_the_rows(tmp_path):
    model, path = save_model(tmp_path / "model"), write_csv(tmp_path / "data.csv", sentiment_rows(12))
    found = {}
    for name, more in (("all", []), ("some", ["--max_predict_samples", "5", "--seed", "3"])):
        out = tmp_path / name
        glue("--train_file", path, "--test_file", path, "--do_predict", "--model_name_or_path", model,
            "--output_dir", out, *more)  # fmt: skip
        table = (out / "predictions" / "w1-d1" / "test.tsv").read_text().splitlines()
        found[name] = {row["index"]: row["prediction"] for row in csv.DictReader(table, delimiter="\t")}
    assert len(found["some"]) == 5
    assert list(found["some"]) != [str(row) for row in range(5)]
    assert found["some"].items() <= found["all"].items()
    assert len(json.loads((tmp_path / "some" / "test_results.json").read_text())) > 1


def test_a_model_of_any_family_is_loaded_with_a_head_for_the_task(tmp_path):
    DistilBertModel(DistilBertConfig(**CONFIGS["DistilBert"])).save_pretrained(tmp_path)
    arguments = SimpleNamespace(download={}, label_order=None)
    model = load_classifier(tmp_path, NAMES, arguments, new_head=True)
    assert type(model) is DistilBertForSequenceClassification
    assert model.config.id2label == dict(enumerate(NAMES))
