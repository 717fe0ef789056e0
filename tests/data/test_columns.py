"""Columns of any kind of data set, and rows drawn from it."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from datasets import Array2D, ClassLabel, Dataset, Features, Value

from dynabert_hf.data.columns import column, column_names, draw, drawn_rows, label_column, lacks_labels, values_of

ROWS = [{"input_ids": [5, 6], "labels": 0}, {"input_ids": [7], "labels": 2}]


class OnDemand(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, row):
        return ROWS[row]


def transformed(rows):
    return Dataset.from_dict({"text": ["a b", "c"]}).with_transform(
        lambda batch: {"input_ids": [[5, 6]] * len(batch["text"])}
    )


FORMS = {
    "Dataset": Dataset.from_list,
    "selected": lambda rows: Dataset.from_list([*rows, *rows]).select([2, 1]),
    "torch": lambda rows: Dataset.from_list(rows).with_format("torch"),
    "numpy": lambda rows: Dataset.from_list(rows).with_format("numpy"),
    "list": list,
    "tensors": lambda rows: [{name: torch.tensor(value) for name, value in row.items()} for row in rows],
    "arrays": lambda rows: [{name: np.array(value) for name, value in row.items()} for row in rows],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_column_is_whole_whatever_holds_the_rows(form):
    dataset = form(ROWS)
    assert column(dataset, "input_ids").to_pylist() == [[5, 6], [7]]
    assert column(dataset, "labels").to_pylist() == [0, 2]
    assert column(dataset, "start_positions") is None
    assert label_column(dataset) == "labels"


@pytest.mark.parametrize("dataset", [transformed(ROWS), OnDemand()])
def test_of_rows_that_are_made_on_demand_the_first_is_read(dataset):
    assert column(dataset, "input_ids").to_pylist() == [[5, 6]]
    assert "text" not in column_names(dataset)


def test_a_row_of_a_list_has_no_value_where_pandas_says_so():
    rows = [{"label": label} for label in pd.array([1, None], dtype="Int64")]
    assert values_of(rows, "label") == column(rows, "label").to_pylist() == [1, None]
    assert lacks_labels(rows)


@pytest.mark.parametrize("container", [list, tuple])
def test_a_column_that_the_first_row_lacks_is_one(container):
    rows = container([{"input_ids": [5]}, {"input_ids": [6], "labels": 1}])
    assert column_names(rows) == ["input_ids", "labels"]
    assert column(rows, "labels").to_pylist() == [None, 1]
    assert lacks_labels(rows)
    assert not lacks_labels(rows, everywhere=True)


def test_data_without_rows_to_read_have_no_columns():
    for dataset in (Dataset.from_list(ROWS).to_iterable_dataset(), iter(ROWS), []):
        assert column_names(dataset) == []
        assert column(dataset, "labels") is None


def test_arrays_of_two_dimensions_are_lists_of_lists():
    features = Features({"input_ids": Array2D((2, 2), "int64")})
    found = column(Dataset.from_dict({"input_ids": [[[1, 2], [3, 4]]]}, features=features), "input_ids")
    assert found.to_pylist() == [[[1, 2], [3, 4]]]
    assert isinstance(found, pa.Array)


def test_values_of_different_kinds_are_refused():
    with pytest.raises(TypeError, match="Column 'labels' holds values of different kinds"):
        column([{"labels": 1}, {"labels": [1]}], "labels")


def sorted_by_label(label=int):
    return Dataset.from_dict({"input_ids": [[5]] * 1000, "labels": [label(row // 10) for row in range(1000)]})


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("label", [int, str])
def test_every_label_has_its_share_of_the_drawn_rows(label, as_list):
    dataset = sorted_by_label(label)
    dataset = dataset.to_list() if as_list else dataset
    drawn = [row["labels"] for row in draw(dataset, 250, seed=3)]
    counts = [drawn.count(label(number)) for number in range(100)]
    assert len(drawn) == 250
    assert set(counts) <= {2, 3}
    assert drawn != sorted(drawn)


@pytest.mark.parametrize("kind", ["string", "large_string"])
def test_names_of_labels_have_their_share_however_a_file_writes_text(kind):
    features = Features({"text": Value("string"), "intent": Value(kind)})
    rare = Dataset.from_dict({"text": ["a"] * 500, "intent": ["pay"] * 490 + ["refund"] * 10}, features=features)
    for seed in range(20):
        drawn = [rare[row]["intent"] for row in drawn_rows(rare, 50, seed, label="intent")]
        assert drawn.count("refund") == 1


def test_labels_do_not_take_turns_in_what_is_drawn():
    """The least of all ranks hold the classes in turn: batches in that order would be more alike than by chance."""
    two = Dataset.from_dict({"labels": [row % 2 for row in range(200)]})
    drawn = np.array(draw(two, 100, seed=3)["labels"][:])
    assert 30 < (drawn[1:] == drawn[:-1]).sum() < 70


def test_a_rare_label_is_drawn_as_often_as_its_share_says():
    features = Features({"input_ids": [Value("int64")], "labels": ClassLabel(names=["no", "yes"])})
    rare = Dataset.from_dict({"input_ids": [[5]] * 100, "labels": [0] * 90 + [1] * 10}, features=features)
    shares = [sum(draw(rare, 25, seed=seed)["labels"]) for seed in range(40)]
    assert set(shares) == {2, 3}
    assert 2.2 < np.mean(shares) < 2.8


def test_a_draw_depends_on_the_seed_alone():
    dataset = sorted_by_label()
    assert drawn_rows(dataset, 40, 1) == drawn_rows(dataset, 40, 1)
    assert drawn_rows(dataset, 40, 1) != drawn_rows(dataset, 40, 2)
    assert len(set(drawn_rows(dataset, 40, 1))) == 40


@pytest.mark.parametrize("labels", [[row / 7 for row in range(50)], [[row, 1] for row in range(50)], None])
def test_without_classes_rows_are_drawn_evenly(labels):
    rows = Dataset.from_dict({"input_ids": [[row] for row in range(50)], **({"labels": labels} if labels else {})})
    seen = np.zeros(50)
    for seed in range(200):
        seen[drawn_rows(rows, 10, seed)] += 1
    assert seen.sum() == 2000
    assert 15 < seen.min() <= seen.max() < 70


def test_data_of_ones_own_are_drawn_without_being_read():
    assert [row["labels"] for row in draw(OnDemand(), 1)] in ([0], [2])


def test_as_many_rows_as_there_are_stay_as_they_are():
    assert draw(ROWS, 2) is ROWS
