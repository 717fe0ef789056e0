"""`dynabert cascade` on a tiny model: what it chooses is what the package chooses, and bad input is refused."""

import json
import shutil

import pytest
import torch
from helpers.texts import REVIEW_WORDS, make_review_model, save_reviews
from helpers.tiny import make_model, make_tokenizer
from transformers import AutoConfig

from dynabert_cli import main
from dynabert_hf import Cascade, LabelledText, count_flops, measure_cascade, recommend
from dynabert_hf.sizes.evaluation import store_metrics
from dynabert_hf.sizes.tables import quantity

SIZES = ("w0.25-d0.5", "w0.75-d1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_reviews(tmp_path_factory.mktemp("cascade"))


def run(folder, *arguments, file="dev.csv", sizes=SIZES):
    return main(["cascade", str(folder / "model"), *sizes, "--file", str(folder / file), *arguments])


def test_the_threshold_is_the_one_that_the_package_recommends(folder, capsys):
    assert run(folder, "--max-drop", "0.05", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    model = make_review_model()
    text = LabelledText.from_file(folder / "dev.csv", model, make_tokenizer(REVIEW_WORDS))
    records = measure_cascade(model, *SIZES, text)
    best = recommend(records, max_drop=0.05, reference=records[-1].metrics["accuracy"]).choice
    assert told["choice"]["threshold"] == best.threshold
    assert told["choice"]["asked_again"] == best.share
    assert [row["accuracy"] for row in told["thresholds"]] == [one.metrics["accuracy"] for one in records]


def test_a_drop_counts_from_the_larger_size(tmp_path, capsys):
    """On labels that are what the larger size says, of which the small one says only some."""
    folder, model = save_reviews(tmp_path), make_review_model()
    text = LabelledText.from_file(folder / "dev.csv", model, make_tokenizer(REVIEW_WORDS))
    with model.subnetwork(SIZES[1]):
        said = text.predict(model).argmax(-1)
    rows = [line.rpartition(",")[0] for line in (folder / "dev.csv").read_text().splitlines()[1:]]
    own = "".join(f"{row},{label}\n" for row, label in zip(rows, said, strict=True))
    (folder / "own.csv").write_text(f"text,label\n{own}")
    assert run(folder, "--max-drop", "0", "--json", file="own.csv") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["thresholds"][0]["accuracy"] < told["choice"]["accuracy"] == 1


def test_a_table_fits_a_terminal_and_temperatures_are_kept(folder, capsys):
    assert run(folder, "--latency-ms", "1000", "--rounds", "2", "--sequence-length", "8", "--store") == 0
    out = capsys.readouterr().out
    assert "asked again" in " ".join(out.split())
    last = next(line for line in out.splitlines() if line.split()[:2] == ["1.0000", "1.0000"])
    flops = sum(count_flops(make_review_model(), size, sequence_length=8) for size in SIZES)
    assert last.endswith(f" {quantity(flops)}")
    assert max(map(len, out.splitlines()[1:-2])) <= 80
    assert set(AutoConfig.from_pretrained(folder / "model").temperatures) == set(SIZES)


def test_times_of_another_number_format_come_with_a_word_on_the_metric(folder, capsys):
    note = "The accuracy was measured in float32; in bfloat16 it may differ."
    command = ["--latency-ms", "1000", "--rounds", "1", "--sequence-length", "8"]
    assert run(folder, *command, "--dtype", "bfloat16") == 0
    assert note in capsys.readouterr().out.splitlines()
    for dtype, expected in (("bfloat16", note), ("float32", None)):
        assert run(folder, *command, "--dtype", dtype, "--json") == 0
        assert json.loads(capsys.readouterr().out)["note"] == expected


def test_a_metric_is_of_the_number_format_that_the_model_is_saved_in(folder, tmp_path, capsys):
    model = make_review_model().bfloat16()
    model.save_pretrained(tmp_path / "model")
    make_tokenizer(REVIEW_WORDS).save_pretrained(tmp_path / "model")
    shutil.copy(folder / "dev.csv", tmp_path)
    text = LabelledText.from_file(tmp_path / "dev.csv", model, make_tokenizer(REVIEW_WORDS))
    with model.subnetwork(SIZES[1]):
        accuracy = text.evaluate(model)["accuracy"]
    note = "The accuracy was measured in bfloat16; in float32 it may differ."
    command = ["--latency-ms", "1000", "--rounds", "1", "--sequence-length", "8", "--json"]
    for dtype, expected in (([], note), (["--dtype", "bfloat16"], None)):
        assert run(tmp_path, *command, *dtype) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["note"] == expected
        assert told["thresholds"][-1]["accuracy"] == accuracy
    assert run(tmp_path, "--flops", "1e9", "--json") == 0
    assert json.loads(capsys.readouterr().out)["note"] is None
    store_metrics(tmp_path / "model" / "config.json", {SIZES[1]: {"accuracy": accuracy}}, "16 rows of dev.csv")
    assert main(["recommend", str(tmp_path / "model"), *command[:-2], "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["note"] == note.replace("accuracy", "stored accuracy")


def test_a_threshold_comes_with_the_temperatures_that_it_was_measured_at(folder, capsys):
    model = make_review_model()
    text = LabelledText.from_file(folder / "dev.csv", model, make_tokenizer(REVIEW_WORDS))
    assert model.config.temperatures is None
    assert run(folder, "--flops", "1e9", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    row = told["thresholds"][len(told["thresholds"]) // 2]
    assert 0 < row["asked_again"] < 1
    cascade = Cascade(model, *SIZES, threshold=row["threshold"], temperatures=tuple(told["temperatures"].values()))
    again = torch.cat([cascade(**batch).asked_again for batch in text.batches])
    assert float(again.double().mean()) == row["asked_again"]
    assert run(folder, "--flops", "1e9") == 0
    out = capsys.readouterr().out
    first, second = told["temperatures"].values()
    assert out.endswith(f"threshold={told['choice']['threshold']} goes with temperatures=({first}, {second})\n")


def test_what_cannot_be_chosen_is_said(folder, capsys):
    assert run(folder, "--flops", "10") == 3
    assert "Nearest is w0.25-d0.5>w0.75-d1@0 (" in capsys.readouterr().out
    assert run(folder) == 1
    assert "No budget was given. Possible are --latency-ms, --flops, --max-drop; give" in capsys.readouterr().err
    assert run(folder, "--flops", "1e9", "--sequence-length", "8", "16") == 1
    assert "A cascade is chosen under one setting, but --sequence-length [8, 16] was given" in capsys.readouterr().err
    for budget in ("--flops", "--latency-ms"):
        assert run(folder, budget, "1e9", "--batch-size", "8") == 1
        assert "--batch-size 8 was given, but a cascade is chosen by the cost of single" in capsys.readouterr().err
    assert run(folder, "--flops", "1e9", "--sequence-length", "21") == 1
    assert "--sequence-length 21 is longer than the 20 tokens that fit this model" in capsys.readouterr().err
    assert run(folder, "--flops", "1e9", file="empty.csv") == 1
    assert "has no rows. Give" in capsys.readouterr().err


def test_sizes_in_the_wrong_order_are_refused_before_anything_is_measured(folder, capsys, monkeypatch):
    monkeypatch.setattr("dynabert_hf.cli.cascades.measure", lambda *_: pytest.fail("measured before"))
    assert run(folder, "--latency-ms", "9", sizes=SIZES[::-1]) == 1
    assert "is asked first, but is no smaller than" in capsys.readouterr().err


def test_times_of_graphs_that_no_cascade_runs_are_refused_before_anything_is_measured(folder, capsys, monkeypatch):
    monkeypatch.setattr("dynabert_hf.cli.cascades.measure", lambda *_: pytest.fail("measured before"))
    assert run(folder, "--latency-ms", "9", "--runtime", "onnxruntime", "--dtype", "int8") == 1
    assert "--dtype int8 was given, but a cascade has no int8: in ONNX Runtime it runs" in capsys.readouterr().err


def test_a_model_that_is_never_unsure_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
    make_model(stock={"num_labels": 1}).save_pretrained(tmp_path / "model")
    make_tokenizer(REVIEW_WORDS).save_pretrained(tmp_path / "model")
    (tmp_path / "rows.csv").write_text("text,label\nw1,0.5\n")
    monkeypatch.setattr("dynabert_hf.cli.cascades.measure", lambda *_: pytest.fail("measured before"))
    assert run(tmp_path, "--latency-ms", "9", file="rows.csv") == 1
    assert "that predicts a value does not say how sure it is of a text. Possible are" in capsys.readouterr().err
