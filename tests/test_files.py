"""Files and folders are written whole or not at all, also where the disk is full."""

import errno
import json
import math
import re
from pathlib import Path

import pytest
from helpers.texts import save_reviews
from safetensors import SafetensorError

from dynabert_cli import main
from dynabert_hf import ProfileTable
from dynabert_hf.files import check_writable_file, json_text, new_folder, write_whole
from dynabert_hf.sizes.plots import plot_pareto
from dynabert_hf.sizes.records import SizeRecord

FULL = OSError(errno.ENOSPC, "No space left on device")
RECORDS = [
    SizeRecord("w1-d1", costs={"flops": 2.0}, metrics={"accuracy": 0.9}),
    SizeRecord("w0.5-d1", costs={"flops": 1.0}, metrics={"accuracy": 0.8}),
]


def test_json_has_null_for_what_is_not_finite():
    content = {"a": [math.nan, 1.5, (math.inf, 2)], "b": {"c": -math.inf, "d": "NaN"}, "e": True}
    expected = {"a": [None, 1.5, [None, 2]], "b": {"c": None, "d": "NaN"}, "e": True}
    assert json.loads(json_text(content, indent=2), parse_constant=pytest.fail) == expected
    assert math.isnan(content["a"][0])


def test_two_processes_of_a_launcher_may_make_the_same_file(tmp_path, monkeypatch):
    """As both do in a script that stores a teacher's outputs: one renamed what the other was about to."""
    path = tmp_path / "part"

    def write(partial):
        partial.write_text("whole")
        with monkeypatch.context() as other:
            other.setenv("RANK", "1")
            write_whole(path, lambda own: own.write_text("whole"))
        assert partial.exists()

    write_whole(path, write)
    assert [each.name for each in tmp_path.iterdir()] == ["part"]
    assert path.read_text() == "whole"


@pytest.fixture
def full_disk(monkeypatch):
    """What makes every file of text get its first half from then on."""

    def half(path, text, **given):
        with path.open("w") as file:
            file.write(text[: len(text) // 2])
        raise FULL

    return lambda: monkeypatch.setattr(Path, "write_text", half)


def test_predictions_on_a_full_disk_leave_what_was_there(tmp_path, capsys, full_disk):
    save_reviews(tmp_path)
    (tmp_path / "told.jsonl").write_text("before\n")
    full_disk()
    told = ["--file", str(tmp_path / "dev.csv"), "--output", str(tmp_path / "told.jsonl")]
    assert main(["predict", str(tmp_path / "model"), *told]) == 1
    assert "told.jsonl' could not be written: [Errno 28] No space left on device. All that" in capsys.readouterr().err
    assert (tmp_path / "told.jsonl").read_text() == "before\n"
    assert not list(tmp_path.glob("*partial*"))


@pytest.mark.parametrize("name", ["table.json", "table.csv", "table.md"])
def test_a_table_on_a_full_disk_leaves_nothing(tmp_path, full_disk, name):
    full_disk()
    with pytest.raises(OSError, match="No space left on device"):
        ProfileTable(tuple(RECORDS)).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_picture_on_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure").Figure

    def half(self, path, **given):
        Path(path).write_bytes(b"half")
        raise FULL

    monkeypatch.setattr(figure, "savefig", half)
    with pytest.raises(OSError, match="No space left on device"):
        plot_pareto(RECORDS, tmp_path / "sizes.png", metric="accuracy", cost="flops")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "begin"), [("a.PNG", b"\x89PNG"), ("b.svg", b"<?xml"), ("c", b"\x89PNG")])
def test_a_picture_has_the_form_that_its_name_says(tmp_path, name, begin):
    pytest.importorskip("matplotlib")
    plot_pareto(RECORDS, tmp_path / name, metric="accuracy", cost="flops")
    [made] = tmp_path.iterdir()
    assert made.name == (name if "." in name else f"{name}.png")
    assert made.read_bytes().startswith(begin)


@pytest.mark.parametrize("error", [SafetensorError("I/O error: No space left on device"), FULL])
def test_a_folder_on_a_full_disk_is_named_and_leaves_nothing(tmp_path, error):
    reason = "No space left on device. Nothing is left of it. Make room, or give"
    message = f"{str(tmp_path / 'small')!r} could not be written: {reason}"

    def fail():
        with new_folder(tmp_path / "small") as folder, new_folder(folder / "inner") as inner:
            (inner / "config.json").write_text("half")
            raise error

    with pytest.raises(OSError, match=f"^{re.escape(message)}"):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_broken_model_is_not_taken_for_a_full_disk(tmp_path, capsys):
    save_reviews(tmp_path)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"cut")
    before = sorted(tmp_path.iterdir())
    assert main(["extract", str(tmp_path / "model"), str(tmp_path / "small"), "--size", "w0.5-d1"]) == 1
    said = capsys.readouterr().err
    assert "model' cannot be read: Error while deserializing" in said
    assert "written:" not in said
    assert sorted(tmp_path.iterdir()) == before


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupted(partial):
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "made.json", interrupted)
    assert not list(tmp_path.iterdir())


def test_a_file_in_a_folder_that_takes_no_other_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "made.json").write_text("before")
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(PermissionError, match=r"made\.json' cannot be written"):
        check_writable_file(tmp_path / "made.json")
