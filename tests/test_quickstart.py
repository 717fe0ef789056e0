"""The data that the quickstart takes besides the embedded one; the whole of it runs in its smoke form in CI."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import quickstart


def arguments(tmp_path, **kwargs):
    for name in ("train", "test"):
        rows = "".join(f"film number {row},{'good' if row % 2 else 'bad'}\n" for row in range(8))
        (tmp_path / f"{name}.csv").write_text("review,verdict\n" + rows)
    defaults = {
        "dataset": None,
        "train_file": str(tmp_path / "train.csv"),
        "test_file": str(tmp_path / "test.csv"),
        "text_column": "review",
        "label_column": "verdict",
        "num_train": None,
        "seed": 0,
    }
    return SimpleNamespace(**{**defaults, **kwargs})


def test_a_csv_file_with_columns_of_any_name_is_taken(tmp_path):
    data = quickstart.load_data(arguments(tmp_path), {"num_train": 4, "num_test": 3})
    assert data["train"].column_names == ["text", "label"]
    assert data["train"].features["label"].names == ["bad", "good"]
    assert {split: len(part) for split, part in data.items()} == {"train": 4, "test": 3}


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    with pytest.raises(SystemExit, match=r"no column 'text', only \['review', 'verdict'\]"):
        quickstart.load_named(arguments(tmp_path, text_column="text"))


def test_a_missing_test_file_is_asked_for(tmp_path):
    with pytest.raises(SystemExit, match="without --test-file"):
        quickstart.load_named(arguments(tmp_path, test_file=None))
