"""What tells data from others is all of their rows, however they are held."""

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets, load_from_disk

from dynabert_hf.data import fingerprints
from dynabert_hf.data.fingerprints import fingerprint_of_rows

ROWS = [{"input_ids": list(range(5, 8 + number % 4)), "labels": number % 2 or None} for number in range(20)]


@pytest.mark.parametrize("hold", [Dataset.from_list, list])
def test_no_row_may_differ(hold, monkeypatch):
    monkeypatch.setattr(fingerprints, "ROWS_AT_ONCE", 6)
    found = {fingerprint_of_rows(hold(ROWS))}
    for row in range(len(ROWS)):
        changed = [dict(each) for each in ROWS]
        changed[row]["input_ids"] = [9, *changed[row]["input_ids"][1:]]
        found.add(fingerprint_of_rows(hold(changed)))
    assert len(found) == len(ROWS) + 1


def test_the_order_counts_and_how_rows_lie_in_files_does_not(tmp_path):
    rows = Dataset.from_list(ROWS)
    rows.save_to_disk(tmp_path / "rows")
    mixed = rows.shuffle(seed=0)
    held = [
        load_from_disk(str(tmp_path / "rows")),
        concatenate_datasets([rows.select(range(7)), rows.select(range(7, 20))]),
        mixed.select(np.argsort(mixed._indices["indices"].to_numpy())),
        rows.with_format("torch"),
        rows.with_transform(lambda batch: batch),
        rows.select_columns(["labels", "input_ids"]),
    ]
    assert {fingerprint_of_rows(each) for each in held} == {fingerprint_of_rows(rows)}
    assert fingerprint_of_rows(mixed) != fingerprint_of_rows(rows)


def test_arrays_are_told_by_all_of_their_numbers():
    rows = [{"input_ids": np.arange(3000)}, {"input_ids": np.arange(3000)}]
    other = [rows[0], {"input_ids": np.where(np.arange(3000) == 1500, 7, np.arange(3000))}]
    assert fingerprint_of_rows(rows) != fingerprint_of_rows(other)
    assert fingerprint_of_rows([{"input_ids": row["input_ids"].tolist()} for row in rows]) == fingerprint_of_rows(rows)


def test_rows_that_are_made_anew_have_none():
    assert fingerprint_of_rows(Dataset.from_list(ROWS).to_iterable_dataset()) is None
