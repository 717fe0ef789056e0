"""run_glue.py on rows with any number of labels, and on data of which a share is held back to evaluate on."""

import csv
import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value
from glue_data import load_free_form
from helpers.glue_tasks import glue, save_model, sentiment_rows, write_csv
from recipe_data import InputError
from sklearn.metrics import f1_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import dynabert_hf  # noqa: F401  makes the elastic classes known

LABELS = [["dull", "long"], ["good"], [], ["good", "warm"], ["dull"], ["long", "warm"]]
NAMES = ["dull", "good", "long", "warm"]
TEXTS = ["a dull long film", "a good plot", "the film", "a good warm film", "the plot is dull", "too long and warm"]
ROWS = [{"text": text, "label": labels} for text, labels in zip(TEXTS, LABELS, strict=True)] * 2


@pytest.fixture
def model(tmp_path):
    return save_model(tmp_path / "model", head=False)


def write_json(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_with_several_labels_are_learned_scored_and_predicted_by_name(tmp_path, model):
    path, out = write_json(tmp_path / "rows.jsonl", ROWS), tmp_path / "out"
    glue("--train_file", path, "--validation_file", path, "--test_file", path, "--model_name_or_path", model,
        "--finetune_teacher", "--do_train", "--do_eval", "--do_predict", "--output_dir", out)  # fmt: skip
    trained = AutoModelForSequenceClassification.from_pretrained(out / "model").eval()
    assert trained.config.problem_type == "multi_label_classification"
    assert [trained.config.id2label[at] for at in range(4)] == NAMES
    trained.set_active(width=0.5, depth=0.5)
    inputs = AutoTokenizer.from_pretrained(model)(TEXTS * 2, padding=True, return_tensors="pt")
    yes = trained(**inputs).logits.detach().numpy() > 0
    true = np.array([[name in row["label"] for name in NAMES] for row in ROWS])
    [own] = [each for each in json.loads((out / "model" / "results.json").read_text())["sub_networks"]
        if each["size"] == "w0.5-d0.5"]  # fmt: skip
    assert own["micro_f1"] == pytest.approx(f1_score(true, yes, average="micro", zero_division=0))
    assert own["accuracy"] == pytest.approx((yes == true).mean())
    with (out / "predictions" / "w0.5-d0.5" / "test.tsv").open() as file:
        told = [row["prediction"] for row in csv.DictReader(file, delimiter="\t")]
    assert told == [",".join(name for name, is_own in zip(NAMES, row, strict=True) if is_own) for row in yes]


def test_names_of_a_data_set_give_several_labels_in_its_order(tmp_path, model):
    kind = Features({"text": Value("string"), "label": Sequence(ClassLabel(names=NAMES[::-1]))})
    numbers = [{**row, "label": [NAMES[::-1].index(label) for label in row["label"]]} for row in ROWS]
    DatasetDict(train=Dataset.from_list(numbers, features=kind)).save_to_disk(tmp_path / "data")
    glue("--dataset_name", tmp_path / "data", "--model_name_or_path", model, "--finetune_teacher", "--do_train",
        "--output_dir", tmp_path / "out")  # fmt: skip
    config = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "model").config
    assert list(config.id2label.values()) == NAMES[::-1]


@pytest.mark.parametrize(
    ("label", "arguments", "message"),
    [
        (
            ["lively"],
            [],
            r"split 'validation' has the label 'lively' in row 12\. Possible is a list of some of \['dull'",
        ),
        (None, [], r"has the label None in row 12\. .* where a row has none, give an empty list"),
        ([], ["--metric_name", "mrpc"], r"--metric_name mrpc was given, but rows have lists of labels.* Leave it out"),
    ],
)
def test_lists_of_labels_that_cannot_be_are_refused(tmp_path, model, label, arguments, message):
    train = write_json(tmp_path / "train.jsonl", ROWS)
    dev = write_json(tmp_path / "dev.jsonl", [*ROWS, {"text": "a film", "label": label}])
    with pytest.raises(SystemExit, match=message):
        glue("--train_file", train, "--validation_file", dev, "--model_name_or_path", model, "--finetune_teacher",
            "--output_dir", tmp_path / "out", *arguments)  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("label", ["ab", 1])
def test_one_label_where_the_training_data_have_lists_is_refused(label):
    labels = {"train": [["a"], ["b", "a"]], "validation": [label, label]}
    raw = DatasetDict({split: Dataset.from_dict({"text": ["x", "y"], "label": own}) for split, own in labels.items()})
    with pytest.raises(InputError, match=r"'validation' holds Value\(.*, and lists of labels in the training data"):
        load_free_form(raw, text_columns=None, label_column="label", regression=None)


def test_lists_of_numbers_without_names_are_refused(tmp_path, model):
    train = write_json(tmp_path / "train.jsonl", [{"text": "a film", "label": [0, 1]}] * 4)
    with pytest.raises(SystemExit, match=r"holds lists of Value\('int64'\)\. Possible are lists of the names"):
        glue("--train_file", train, "--do_train", "--model_name_or_path", model, "--output_dir", tmp_path / "out")


def test_a_share_of_the_training_rows_is_held_back_to_evaluate_on(tmp_path):
    train, out = write_csv(tmp_path / "train.csv", sentiment_rows(20)), tmp_path / "out"
    glue("--train_file", train, "--validation_split_percentage", 25, "--output_dir", out, "--model_name_or_path",
        save_model(tmp_path / "model"))  # fmt: skip
    results = json.loads((out / "model" / "results.json").read_text())
    assert (results["train_rows"], results["eval_rows"]) == (15, 5)


@pytest.mark.parametrize(
    ("share", "more", "message"),
    [
        (
            25,
            True,
            r"--validation_split_percentage 25 was given, but the data have a part .* of 20 rows\. Leave it out",
        ),
        (1, False, r"--validation_split_percentage 1 of 20 training rows leaves none on one side\. Give more rows"),
    ],
)
def test_a_share_that_cannot_be_held_back_is_refused(tmp_path, share, more, message):
    train = write_csv(tmp_path / "train.csv", sentiment_rows(20))
    with pytest.raises(SystemExit, match=message):
        glue("--train_file", train, *(["--validation_file", train] if more else []), "--model_name_or_path", "none",
            "--validation_split_percentage", share, "--output_dir", tmp_path / "out")  # fmt: skip
