"""Labels are cast where that is safe, and refused where it is not, by row, value and limit."""

import re

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.tiny import make_model, make_small
from transformers import default_data_collator

from dynabert_hf.data.labels import CastLabels, check_labels

SEVERAL = {"problem_type": "multi_label_classification"}


def labelled(labels, as_list=False, **columns):
    rows = [{"input_ids": [5, 6], "labels": label} for label in labels]
    rows = [{**row, **{name: values[number] for name, values in columns.items()}} for number, row in enumerate(rows)]
    return rows if as_list else Dataset.from_list(rows)


def model_of(head="ForSequenceClassification", **stock):
    return make_small(head, stock=stock)


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize(
    ("labels", "stock", "message"),
    [
        ([0, 2, 3], {}, r"the label 3 in row 2\. Possible for this model are 0 to 2, since num_labels=3\. Remove"),
        ([-1, 0], {}, r"the label -1 in row 0\. Possible .* \(-1 often marks hidden labels\)"),
        ([-100, 0], {}, r"the label -100 in row 0\. Possible for this model are 0 to 2, since"),
        ([0.0, 1.5], {}, r"the label 1\.5 in row 1\. Possible"),
        ([0.0, float("nan")], {}, r"the label nan in row 1, which is not a finite number"),
        ([0.5, float("inf")], {"num_labels": 1}, r"the label inf in row 1, which is not a finite number"),
        ([0, None], {}, r"no label in 'labels' of row 1\. Give every row one, or leave the row out"),
        (
            ["good", "bad"],
            {},
            r"the label 'good' in row 0, which is not a finite number\. Number the classes as .*label2id",
        ),
        (["0", "1"], {}, r"the label '0' in row 0.* a number as text: dataset\.cast_column\('labels', datasets\.Value"),
        (
            [[0, 1], [1, 0]],
            {},
            r"the label \[0, 1\] in row 0\. .*'single_label_classification' with num_labels=3, takes one num",
        ),
        ([[1, 0, 0], [0, 1]], SEVERAL, r"the label \[0, 1\] in row 1\. .* takes a list of 3 numbers in a row"),
        ([1, 0], SEVERAL, r"the label 1 in row 0\. .* takes a list of 3 numbers"),
        (
            [[1, 0, 2]],
            SEVERAL,
            r"2 among the labels of row 0\. .* from 0 to 1\. Give 1 for the labels that a row has",
        ),
        ([[0, 0, -1]], {}, r"-1 among the labels of row 0"),
        ([[1.0, None, 0.0]], SEVERAL, r"no label in 'labels' of row 0"),
        (
            [0.5, 1.5],
            {"problem_type": "regression"},
            r"the label 0\.5 in row 0\. .*'regression' .* takes a list of 3 numbers",
        ),
        ([[[1.0]]], {"num_labels": 1}, r"the label \[\[1\.0\]\] in row 0"),
    ],
)
def test_labels_that_a_model_cannot_learn_are_refused(labels, stock, message, as_list):
    with pytest.raises(ValueError, match=f"train_dataset has {message}"):
        check_labels("train_dataset", labelled(labels, as_list), model_of(**stock))


def test_the_advice_for_numbers_as_text_makes_numbers_of_them():
    """That for a list of them named the type of a single one, which datasets refuses."""
    for labels, model in ((["0", "1"], model_of()), ([["0", "1.5", "2"]], model_of(problem_type="regression"))):
        dataset = labelled(labels)
        with pytest.raises(ValueError, match="It is a number as text") as error:
            check_labels("data", dataset, model)
        advice = str(error.value).rpartition("text: ")[2].rstrip(".")
        check_labels("data", eval(advice, {"dataset": dataset, "datasets": datasets}), model)


def test_labels_of_different_kinds_are_refused():
    with pytest.raises(
        ValueError, match=r"data: Column 'labels' holds values of different kinds.*Give every row values of"
    ):
        check_labels("data", labelled([1, [1]], as_list=True), model_of())


def test_every_column_that_a_batch_may_take_labels_from_is_checked():
    with pytest.raises(ValueError, match="the label 'good' in row 0"):
        check_labels("data", labelled([0, 1], label=["good", "bad"]), model_of())


@pytest.mark.parametrize(
    ("labels", "stock"),
    [
        ([0.3, -4.0], {"num_labels": 1}),
        ([1, 5], {"num_labels": 1}),
        ([[0.3], [7.0]], {"num_labels": 1}),
        ([[0.3, 7.0, 1.0]], {"problem_type": "regression"}),
        ([[1.0, 0.0, 1.0], [0.0, 0.0, 0.5]], SEVERAL),
        ([[1, 0, 1], [0, 0, 1]], SEVERAL),
        ([[True, False, True]], SEVERAL),
        ([[1, 0, 1]], {}),
        ([0, 2], {}),
        ([[0], [2]], {}),
        ([0.0, 2.0], {}),
        ([True, False], {}),
        ([], {}),
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_labels_that_a_model_can_learn_give_a_loss(labels, stock, as_list):
    model, data = model_of(**stock), labelled(labels, as_list)
    check_labels("data", data, model)
    if labels:
        batch = CastLabels(default_data_collator, model)([dict(row) for row in data])
        assert torch.isfinite(model(**batch).loss)


@pytest.mark.parametrize(
    ("labels", "stock", "expected"),
    [
        ([1, 5], {"num_labels": 1}, torch.tensor([1.0, 5.0])),
        (np.array([1, 5.0]), {"num_labels": 1}, torch.tensor([1.0, 5.0])),
        ([0.0, 2.0], {}, torch.tensor([0, 2])),
        ([True, False], {}, torch.tensor([1, 0])),
        ([[0], [2]], {}, torch.tensor([0, 2])),
        ([[1, 0, 1]], SEVERAL, torch.tensor([[1.0, 0.0, 1.0]])),
        ([[1, 0, 1]], {}, torch.tensor([[1.0, 0.0, 1.0]])),
        ([1, 2], {"problem_type": "single_label_classification"}, torch.tensor([1, 2])),
    ],
)
def test_labels_are_cast_to_what_the_loss_takes(labels, stock, expected):
    collate = CastLabels(default_data_collator, model_of(**stock))
    found = collate([{"input_ids": [5], "labels": label} for label in labels])["labels"]
    assert torch.equal(found, expected)
    assert found.dtype == expected.dtype


@pytest.mark.parametrize(
    ("name", "labels", "stock"),
    [
        ("label", [3, 2.5, 0.25], {"num_labels": 1}),
        ("label_ids", [[1, 0], [0.5, 0.25]], {"num_labels": 2, "problem_type": "regression"}),
        ("label_ids", [[1, 0], [0.5, 0.25]], {"num_labels": 2, "problem_type": "multi_label_classification"}),
    ],
)
def test_floats_stay_what_they_are_after_a_whole_number(name, labels, stock):
    """The collator of transformers takes the type of the first label for all, and cut 2.5 to 2."""
    rows = [{"input_ids": [5, 6], name: label} for label in labels]
    assert CastLabels(default_data_collator, model_of(**stock))(rows)["labels"].tolist() == labels
    assert [row[name] for row in rows] == labels


def test_a_collator_is_wrapped_once_and_other_columns_stay():
    model = model_of()
    collate = CastLabels(CastLabels(default_data_collator, model), model)
    assert collate.collator is default_data_collator
    assert collate([{"input_ids": [5, 6]}])["input_ids"].tolist() == [[5, 6]]


@pytest.mark.parametrize(
    ("head", "labels", "message"),
    [
        (
            "ForTokenClassification",
            [[-100, 0], [1, 7]],
            r"the label 7 in row 1\. Possible .* 0 to 2 and -100, since num_labels",
        ),
        ("ForTokenClassification", [[0, 1], [0]], r"1 values of 'labels' for 2 tokens in row 1\. .*word_ids\(\)"),
        ("ForTokenClassification", [0, 1], r"'labels' of type int64 for 'input_ids' of type"),
        ("ForTokenClassification", [[0, 1], [0, None]], r"no label in 'labels' of row 1"),
        ("ForTokenClassification", [["O", "O"]], r"the label 'O' in row 0.*Number the classes"),
        ("ForMaskedLM", [[-100, 99]], r"the label 99 in row 0\. Possible .* 0 to 98 and -100, since vocab_size=99"),
    ],
)
def test_labels_of_tokens_are_checked_one_by_one(head, labels, message):
    with pytest.raises(ValueError, match=f"data has {message}"):
        check_labels("data", labelled(labels), model_of(head))


@pytest.mark.parametrize("kind", ["float16", "float64"])
@pytest.mark.parametrize("head", ["ForTokenClassification", "ForMaskedLM"])
def test_labels_of_tokens_may_be_floats_without_a_fraction(head, kind):
    data = labelled([[-100.0, 2.0], [0.0, 1.0]]).cast_column("labels", datasets.Sequence(datasets.Value(kind)))
    model = model_of(head)
    check_labels("data", data, model)
    assert torch.isfinite(model(**CastLabels(default_data_collator, model)([dict(row) for row in data])).loss)


@pytest.mark.parametrize(
    ("starts", "ends", "message"),
    [
        ([0, 1], [0, 2], r"an answer from token 1 to 2 in row 1, of 2 tokens\. Possible are tokens of the row"),
        ([0, 1], [0, 0], r"an answer from token 1 to 0 in row 1.* the end not before the start"),
        ([-1, 0], [0, 0], r"an answer from token -1 to 0 in row 0.* Give 0 and 0, the first token, where a row has no"),
        ([0, None], [0, 1], r"an answer from token None to 1 in row 1"),
        ([[0], [0]], [0, 1], r"'start_positions' of type .*list.* one number of a token there\. Give the first answer"),
        ([0, 1], None, r"no column 'end_positions', only the other end of each answer\. Give both"),
    ],
)
def test_answers_outside_of_their_row_are_refused(starts, ends, message):
    columns = {"start_positions": starts, **({} if ends is None else {"end_positions": ends})}
    data = labelled([0, 0], **columns).remove_columns("labels")
    with pytest.raises(ValueError, match=f"data has {message}"):
        check_labels("data", data, model_of("ForQuestionAnswering", num_labels=2))


def test_answers_within_their_row_pass():
    data = labelled([0, 0], start_positions=[0, 1], end_positions=[0, 1])
    check_labels("data", data, model_of("ForQuestionAnswering", num_labels=2))


def test_a_choice_is_one_of_those_of_its_row():
    rows = [{"input_ids": [[5], [6]], "labels": label} for label in (0, 2)]
    with pytest.raises(ValueError, match=r"the label 2 in row 1\. Possible for this model are 0 to 1, since choices=2"):
        check_labels("data", rows, model_of("ForMultipleChoice"))
    check_labels("data", rows[:1], model_of("ForMultipleChoice"))
    listed = [{**row, "labels": [1]} for row in rows]
    with pytest.raises(ValueError, match=r"the label \[1\] in row 0\. .* one is right: give its number, from 0"):
        check_labels("data", listed, model_of("ForMultipleChoice"))


def test_names_of_classes_have_to_be_numbered_as_the_outputs_are():
    model = make_model()
    model.config.id2label = {0: "a", 2: "b", 7: "c"}
    message = r"config\.id2label of the model is \{0: 'a', 2: 'b', 7: 'c'\}, but its outputs are numbered from 0 to 2"
    with pytest.raises(ValueError, match=message):
        check_labels("data", [{"labels": 1}], model)


def test_columns_of_labels_that_differ_are_refused():
    rows = [{"labels": 1, "label": 1}, {"labels": 0, "label": 2}]
    check_labels("data", rows[:1], make_model())
    with pytest.raises(ValueError, match=r"data has different labels in the columns \['labels', 'label'\], of which"):
        check_labels("data", rows, make_model())


def test_labels_of_tokens_of_which_none_counts_are_refused():
    rows = [{"input_ids": [5, 6], "labels": [-100, -100]}, {"input_ids": [5], "labels": [-100]}]
    model = make_model(head="ForTokenClassification")
    with pytest.raises(ValueError, match=r"has no label in 'labels' but -100, which does not count.* Give the first"):
        check_labels("data", rows, model)
    check_labels("data", [*rows, {"input_ids": [5], "labels": [2]}], model)


@pytest.mark.parametrize(
    ("head", "stock", "given", "wanted"),
    [
        ("ForSequenceClassification", {}, ["b", "a"], [0, 1]),
        ("ForTokenClassification", {}, [["c", "b"], ["a", "a"]], [[2, 0], [1, 1]]),
        (
            "ForSequenceClassification",
            {"problem_type": "multi_label_classification"},
            [["c", "b"], []],
            [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]],
        ),
    ],
)
def test_what_is_advised_for_names_numbers_them_as_the_model_does(head, stock, given, wanted):
    names = {"id2label": {0: "b", 1: "a", 2: "c"}, "label2id": {"a": 1, "b": 0, "c": 2}}  # as a saved model has them
    model = make_model("Bert", head, stock={**names, **stock})
    data = Dataset.from_dict({"input_ids": [[5, 6], [7, 8]], "labels": given})
    with pytest.raises(ValueError, match=r"Number the classes as the model does") as refused:
        check_labels("dataset", data, model)
    advised = re.search(r"dataset\.map\(.*\)", str(refused.value))
    numbered = eval(advised[0], {"dataset": data, "model": model})
    assert numbered["labels"][:] == wanted
    check_labels("dataset", numbered, model)
