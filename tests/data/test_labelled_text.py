"""Labelled text: what a file says, and what predictions are measured by."""

import csv
import json

import pytest
from helpers.tiny import make_model, make_tokenizer

from dynabert_hf import LabelledText

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "film", "null", "none", "7", "##7", "0", "##0"]
BAD, GOOD = "bad", "good"


@pytest.fixture
def tokenizer():
    return make_tokenizer(WORDS)


def model_of(names, **fields):
    return make_model(stock={"id2label": dict(enumerate(names)), "num_labels": len(names), **fields})


def write(folder, suffix, labels, texts=None):
    """A file of texts of one length, so that their order stays."""
    path = folder / f"texts{suffix}"
    rows = [{"text": text, "label": label} for text, label in zip(texts or ["film"] * len(labels), labels, strict=True)]
    with path.open("w", newline="") as file:
        if suffix == ".csv":
            csv.writer(file).writerows([["text", "label"], *(row.values() for row in rows)])
        else:
            file.write("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize(
    ("names", "labels", "ids"),
    [
        (["1", "0"], [0, 1], [1, 0]),
        (["1", "2", "3"], [1.0, 2.0], [0, 1]),
        (["1.0", "2.0", "3.0"], [1.0, 2.0], [0, 1]),
        (["None", "some"], ["some", "None"], [1, 0]),
        ([BAD, GOOD], [1, 0], [1, 0]),
        ([BAD, GOOD], [1.0, 0.0], [1, 0]),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_labels_are_names_where_all_of_them_are_and_else_numbers(tmp_path, tokenizer, suffix, names, labels, ids):
    text = LabelledText.from_file(write(tmp_path, suffix, labels), model_of(names), tokenizer)
    assert text.labels.tolist() == ids


@pytest.mark.parametrize(
    ("names", "ids"), [(["False", "True"], [1, 0]), (["true", "false"], [0, 1]), ([BAD, GOOD], [1, 0])]
)
def test_booleans_are_names_or_else_numbers(tmp_path, tokenizer, names, ids):
    text = LabelledText.from_file(write(tmp_path, ".jsonl", [True, False]), model_of(names), tokenizer)
    assert text.labels.tolist() == ids


def test_a_csv_is_read_as_it_is_written(tmp_path, tokenizer):
    texts = ["007", "null", "None", ""]
    path = write(tmp_path, ".csv", ["01", "02", "01", "02"], texts)
    text = LabelledText.from_file(path, model_of(["00", "01", "02"]), tokenizer, batch_size=1)
    read = [tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True) for batch in text.batches]
    assert read == ["007", "null", "none", ""]
    assert text.labels.tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("names", "labels", "message"),
    [
        ([BAD, GOOD], ["good", "awful", "bad"], r"label 'awful' in row 2. The model knows \{0: 'bad', 1: 'good'\}"),
        ([BAD, GOOD], [1, 7, 0], r"label '?7'? in row 2"),
        (["1", "2", "3"], [3, 0], r"label '?0'? in row 2.*names of all labels, or the numbers of all"),
        ([BAD, GOOD], ["good", ""], "Row 2 has no label in column 'label'"),
        (["None", "some"], ["some", "None", None], "Row 3 has no label"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_the_first_label_that_is_unknown_or_missing_is_named(tmp_path, tokenizer, suffix, names, labels, message):
    with pytest.raises(ValueError, match=message):
        LabelledText.from_file(write(tmp_path, suffix, labels), model_of(names), tokenizer)


def test_a_missing_text_is_named(tmp_path, tokenizer):
    path = write(tmp_path, ".jsonl", [BAD, GOOD], ["film", None])
    with pytest.raises(ValueError, match=r"Row 2 has no text in column 'text'. Fill it, or leave the row out"):
        LabelledText.from_file(path, model_of([BAD, GOOD]), tokenizer)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "cannot be read as csv: No columns to parse from file. Give a file of that form, in UTF-8"),
        ("ragged.csv", b"text,label\nfilm,bad\na,film,bad\n", "cannot be read as csv: .*Expected 2 fields in line 3"),
        ("latin.csv", b"text,label\ncaf\xe9,bad\n", "cannot be read as csv: 'utf-8' codec"),
        ("broken.json", b'{"text": "film", ', "cannot be read as json"),
        ("empty.json", b"", "cannot be read as json"),
        ("header.csv", b"text,label\n", "has no rows. Give at least one labelled text"),
        ("header.jsonl", b"[]", "has no rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, tokenizer, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}' {message}") as refused:
        LabelledText.from_file(tmp_path / name, model_of([BAD, GOOD]), tokenizer)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_a_file_of_one_label_is_refused_where_a_text_has_several(tmp_path, tokenizer, problem):
    message = f"problem type '{problem}' does not give one label a text, and a file has one column of labels"
    with pytest.raises(ValueError, match=message):
        LabelledText.from_file(write(tmp_path, ".csv", ["a"]), model_of(["a", "b"], problem_type=problem), tokenizer)
