"""The command `dynabert`, each of its parts on a real, tiny model with a tokenizer."""

import csv
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import weakref
from pathlib import Path

import pytest
import torch
from helpers.backbones import make_backbone
from helpers.cards import make_facts
from helpers.hub_server import TOKEN
from helpers.tiny import make_config, make_model, make_tokenizer
from huggingface_hub import EvalResult, ModelCard
from rich.console import Console
from sklearn.metrics import f1_score, matthews_corrcoef
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    BertTokenizer,
    T5Config,
)

import dynabert_cli
from dynabert_cli import main
from dynabert_hf import LabelledText, ProfileTable, RecipeResult, SizeRecord, count_flops, recommend
from dynabert_hf.cli import measurements, predictions, recommendation, tables
from dynabert_hf.cli.commands import _Console
from dynabert_hf.hub.card import render_model_card, write_model_card
from dynabert_hf.hub.facts import ModelCardFacts
from dynabert_hf.sizes.evaluation import store_metrics
from dynabert_hf.sizes.named_metrics import OF_LABELS
from dynabert_hf.sizes.tables import megabytes

LINE = "a size of the model in outputs/a/long/name: it is fast"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "very"]
METRICS = {
    "teacher": {"accuracy": 0.9},
    "w0.25-d0.5": {"accuracy": 0.8, "loss": 0.6},
    "w0.5-d1": {"accuracy": 0.85, "loss": 0.5},
    "w1-d1": {"accuracy": 0.88, "loss": 0.4},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved model with a tokenizer and the metrics of three of its sizes."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    model = make_model(stock={"num_labels": 2, "id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}})
    model.config.metrics = METRICS
    model.save_pretrained(folder)
    make_tokenizer(WORDS).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of that model for one test."""
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def reviews(tmp_path):
    """Labelled text whose labels are those that the full size gives."""
    path = tmp_path / "reviews.csv"
    texts = ["a good film", "very bad", "bad bad film", "good", "a very very good film", "film"]
    write(path, [{"text": text, "label": label} for text, label in zip(texts, ["good", "bad"] * 3, strict=True)])
    return path


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def run(capsys, *arguments):
    """Exit code and what was printed to each stream."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def run_json(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def assert_refused(capsys, message, *arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "")
    *bars, line = err.splitlines()
    assert all("|" in bar or not bar for bar in bars), err
    assert line.startswith(f"dynabert {arguments[0]}: ")
    assert message in line


def test_help_of_every_command_has_examples_and_loads_no_torch():
    code = """if True:
        import contextlib, io, sys, dynabert_cli
        names = "show evaluate predict profile recommend search augment cascade extract specialise store-outputs"
        names = [*names.split(), "trim", "export", "push", "demo"]
        for command in (*names, None):
            text = io.StringIO()
            with contextlib.suppress(SystemExit), contextlib.redirect_stdout(text):
                dynabert_cli.main([command, "--help"] if command else ["--help"])
            assert command is None or "examples:" in text.getvalue(), text.getvalue()
            assert max(map(len, text.getvalue().splitlines())) <= 80, text.getvalue()
        assert not {"torch", "transformers", "dynabert_hf"} & set(sys.modules)
    """
    place = Path(dynabert_cli.__file__).parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=place, env={**os.environ, "COLUMNS": "80"})


@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        ("trim MODEL small", "--file", ["train.csv", "test.csv"]),
        ("predict MODEL --file pairs.csv", "--text-column", ["premise", "hypothesis"]),
        ("evaluate MODEL --file test.csv", "--metric", ["accuracy", "macro_f1"]),
        ("evaluate MODEL --file test.csv", "--label-order", ["neg", "pos"]),
        ("search MODEL --file dev.csv", "--flops", [5e8, 1e9]),
        ("search MODEL --file dev.csv", "--latency-ms", [2.0, 5.0]),
        ("search MODEL --file dev.csv", "--parameters", [14e6, 15e6]),
        ("profile MODEL", "--batch-size", [1, 8]),
        ("profile MODEL", "--sequence-length", [32, 128]),
        ("profile MODEL", "--runtime", ["torch", "onnxruntime"]),
        ("profile MODEL", "--dtype", ["float32", "int8"]),
        ("push MODEL you/name", "--size", ["w0.5-d0.5", "w1-d1"]),
    ],
)
def test_an_option_of_several_values_takes_them_one_by_one_too(command, option, values):
    """All but the last were lost without a word."""
    one_by_one = [word for value in values for word in (option, str(value))]
    parser = dynabert_cli.build_parser()
    found = parser.parse_args([*command.split(), *one_by_one])
    assert found == parser.parse_args([*command.split(), option, *map(str, values)])
    assert values in vars(found).values()


def test_the_installed_command_runs():
    script = Path(sysconfig.get_path("scripts")) / "dynabert"
    done = subprocess.run([script, "show", "--help"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "usage: dynabert show" in done.stdout


@pytest.mark.parametrize(
    ("is_terminal", "printed"),
    [(True, "a size of the\nmodel in\noutputs/a/long/name:\nit is fast\n"), (False, f"{LINE}\n")],
)
def test_a_long_line_breaks_between_words_in_a_terminal_and_stays_whole_in_a_pipe(is_terminal, printed):
    file = io.StringIO()
    _Console(file=file, width=15, force_terminal=is_terminal, color_system=None).print(LINE, soft_wrap=True)
    assert "\n".join(line.rstrip() for line in file.getvalue().split("\n")) == printed


def test_show_fits_a_terminal(capsys, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run(capsys, "show", folder)
    assert (code, err) == (0, "")
    assert "DynaBertForSequenceClassification: 6 layers of 4 heads and 48 neurons" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "w0.25-d0.5" in out


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_goes_ends_the_command_quietly(capsys, folder, monkeypatch, form):
    read, write = os.pipe()
    os.close(read)
    capsys.readouterr()
    with open(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["show", str(folder), *form]) == 141
    assert capsys.readouterr().err == ""


def test_what_was_measured_is_kept_where_the_reader_has_gone(folder, reviews, tmp_path, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    short = ["--sequence-length", "5", "--rounds", "1", "--size", "w0.5-d1"]
    for command, name in (
        (["profile", folder, *short, "--output"], "p.md"),
        (["recommend", folder, "--flops", "1e9", "--plot"], "p.png"),
        (["predict", folder, "--file", reviews, "--json", "--output"], "p.jsonl"),
    ):
        with open(os.dup(write), "w", buffering=1) as pipe, monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", pipe)
            assert main([*map(str, command), str(tmp_path / name)]) == 141
        assert (tmp_path / name).stat().st_size > 0
    os.close(write)


def test_an_output_in_ascii_gets_all_but_the_signs_that_it_lacks(folder, tmp_path, monkeypatch):
    (tmp_path / "texts.txt").write_text("a good café", encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert dynabert_cli.main(["predict", str(folder), "--file", str(tmp_path / "texts.txt")]) == 0
    assert "a good caf?" in sys.stdout.buffer.getvalue().decode("ascii")


def test_an_output_that_was_closed_takes_nothing_and_harms_nothing(folder, reviews, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    told = ["evaluate", str(folder), "--file", str(reviews), "--size", "w1-d1"]
    assert [main([*told, *form]) for form in (["--json"], ["--store"])] == [0, 0]


def test_an_interruption_ends_with_130_also_while_the_package_loads(folder, monkeypatch, capsys):
    class Loading:
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "dynabert_hf.cli.commands", Loading())
    assert run(capsys, "show", folder) == (130, "", "")


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def terminate_in_a_callback():
    """Where Python drops what is raised, as in those of torch's exporter."""
    things = {1}
    gone = weakref.ref(things, lambda _: terminate())
    del things
    assert gone() is None
    time.sleep(60)  # which the signal ends


@pytest.mark.parametrize("how", [terminate, terminate_in_a_callback])
def test_a_termination_leaves_nothing_half_written(folder, monkeypatch, tmp_path, how):
    def end(*arguments, **options):
        assert len(list(tmp_path.iterdir())) == 2
        how()

    monkeypatch.setattr("dynabert_hf.cli.products.load_model", end)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit, match="143"):
            main(["extract", str(folder), str(tmp_path / "small"), "--size", "w0.5-d1"])
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert list(tmp_path.iterdir()) == [folder]


def test_show_lists_counts_metrics_and_what_is_active(capsys, folder):
    about = run_json(capsys, "show", folder)
    assert about["active"] == "w1-d1"
    assert about["teacher"] == {"accuracy": 0.9}
    sizes = {row["size"]: row for row in about["sizes"]}
    assert len(sizes) == 12
    assert sizes["w0.25-d0.5"]["metrics"] == METRICS["w0.25-d0.5"]
    model = make_model(stock={"num_labels": 2})
    assert sizes["w0.5-d0.5"]["parameters"] == model.extract("w0.5-d0.5").num_parameters()
    assert sizes["w0.5-d0.5"]["flops"] == count_flops(model, "w0.5-d0.5")
    assert [row["size"] for row in about["sizes"] if row["active"]] == ["w1-d1"]
    _, out, _ = run(capsys, "show", folder)
    assert "w1-d1 *" in out
    assert "teacher" in out


@pytest.mark.parametrize("family", ["DistilBert", "EuroBert"])
def test_show_counts_the_sizes_of_every_family(capsys, tmp_path, family):
    model = make_backbone(family, widths=(0.5, 1.0))
    model.save_pretrained(tmp_path)
    about = run_json(capsys, "show", tmp_path)
    assert about["model_class"] == f"Dyna{family}ForSequenceClassification"
    counted = {row["size"]: row["parameters"] for row in about["sizes"]}
    assert counted == {str(size): model.extract(size).num_parameters() for size in model.config.subnetworks}
    assert len(counted) == 6


def test_headings_break_where_a_table_would_lose_its_last_column():
    row = {"size": "w0.5-d0.5", "micro_f1": 0.46, "accuracy": 0.41, "macro_f1": 0.5, "parameters": "16.6 k"}
    row |= {"FLOPs": "5.92 M", "layers": 3, "heads": 2, "neurons": 24}
    console = Console(width=80, file=io.StringIO())
    console.print(tables.table_of([row], width=80, may_go=["accuracy", "macro_f1"]))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[-1].split() == ["w0.5-d0.5", "0.4600", "0.4100", "0.5000", "16.6", "k", "5.92", "M", "3", "2", "24"]
    assert " ".join(lines[:2]).split().count("neurons") == 1


def test_headings_stay_whole_where_a_table_has_room():
    """Of scikit-learn's names one was printed as "matthews correla- tion", in one line."""
    console = Console(width=80, file=io.StringIO())
    console.print(tables.table_of([{"size": "w1-d1", "macro_f1": 0.5, "matthews_correlation": 0.25}]))
    assert console.file.getvalue().splitlines()[0].split() == ["size", "macro", "f1", "matthews", "correlation"]


def test_what_rounding_left_of_zero_takes_no_digits_from_a_column():
    def lines(*values):
        console = Console(width=80, file=io.StringIO())
        console.print(tables.table_of([{"pearson": value} for value in values]))
        return console.file.getvalue().split()[2:]

    assert lines(0.7, 0.6986, 1.9e-17) == ["0.7000", "0.6986", "0.0000"]
    assert lines(0.7, 0.6986, 1.9e-7) == ["0.7", "0.6986", "1.9e-07"]


def test_megabytes_have_three_digits_each():
    """An int8 file of 0.39 MB was printed as 0.3900, and beside one of 120.4 MB it would be 0.4."""
    console = Console(width=80, file=io.StringIO())
    console.print(tables.table_of([{"int8_mb": 0.39, "f1": 0.5}, {"int8_mb": 120.4, "f1": 0.25}]))
    *_, small, large = console.file.getvalue().splitlines()
    assert (small.split(), large.split()) == (["0.39", "0.5000"], ["120", "0.2500"])
    shown = [megabytes(size) for size in (0.0312, 0.39, 12.345, 1234.5)]
    assert shown == ["0.0312 MB", "0.39 MB", "12.3 MB", "1234 MB"]


def test_predictions_share_the_columns_of_the_terminal():
    long = "ann met bob in rome . " * 5
    [row] = predictions._shown([{"question": "who came ?", "context": long, "answer": "ann", "score": 0.5}], 80)
    assert (row["question"], row["answer"], row["score"]) == ("who came ?", "ann", 0.5)
    assert row["context"] == long[: 80 - 3 * 2 - 10 - 10 - 3 - 1] + "…"


def test_names_of_sizes_stay_whole_in_80_columns():
    layers = [{"index": index, "heads": 9, "neurons": 2304} for index in range(12)]
    size = {"size": "w0.75-d0.75", "active": True, "layers": layers, "parameters": 109_483_778, "flops": 22.35e9}
    console = Console(width=80, file=io.StringIO())
    tables.print_sizes(console, [{**size, "metrics": {"accuracy": 0.8384, "loss": 0.3807}}], {})
    text = console.file.getvalue()
    assert "w0.75-d0.75 *  " in text
    assert "parameters" in text


def test_a_long_label_wraps_where_a_table_would_lose_its_last_column():
    layers = [{"index": index, "heads": 1 + index, "neurons": 64 * (1 + index)} for index in range(12)]
    size = "-".join(f"l{layer['index']}h{layer['heads']}n{layer['neurons']}" for layer in layers)
    row = {"size": size, "active": False, "layers": layers, "parameters": 109_483_778, "flops": 22.35e9}
    console = Console(width=80, file=io.StringIO())
    tables.print_sizes(console, [{**row, "metrics": {"accuracy": 0.8384}}], {})
    heading, _, *lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert heading.split()[-3:] == ["layers", "heads", "neurons"]
    assert lines[0].split()[-4:] == ["G", "12", "1-12", "64-768"]
    label = " ".join(line[: heading.index("accuracy")] for line in lines[:2])
    assert label.split() == ["12", "layers", "(78", "heads,", "4992", "neurons)"]

    thirds = {**row, "size": f"w{1 / 3}-d{2 / 3}", "metrics": {"accuracy": 0.8384}}
    console = Console(width=80, file=io.StringIO())
    tables.print_sizes(console, [thirds], {})
    heading, _, *lines = console.file.getvalue().splitlines()
    assert lines[0].split()[-1] == "64-768"
    assert "".join(line[: heading.index("accuracy")].strip() for line in lines[:2]) == thirds["size"]

    record = SizeRecord(size, {"accuracy": 0.8384}, {"latency_ms": 4.5, "flops": 1e9, "parameters": 1e8})
    console = Console(width=80, file=io.StringIO())
    tables.print_answer(console, recommend([record], latency_ms=5), [record], metric="accuracy", front=[record])
    assert any(line.rstrip().endswith("choice") for line in console.file.getvalue().splitlines()[1:])


def test_metrics_that_do_not_fit_are_left_out_by_name_the_loss_first():
    metrics = {"loss": 0.38, "accuracy": 0.8384, "f1": 0.88, "combined_score": 0.86, "matthews_correlation": 0.6}
    layers = [{"index": 0, "heads": 9, "neurons": 2304}]
    size = {"size": "w0.75-d0.75", "active": True, "layers": layers, "parameters": 109_483_778, "flops": 22.35e9}
    shown = {}
    for width in (80, 120):
        console = Console(width=width, file=io.StringIO())
        tables.print_sizes(console, [{**size, "metrics": metrics}], {})
        shown[width] = console.file.getvalue()
        assert max(map(len, shown[width].splitlines())) <= width
        assert all(word in shown[width] for word in ("accuracy", "parameters", "neurons", "w0.75-d0.75 *", "0.8384"))
    assert "No room for combined_score, matthews_correlation, loss." in " ".join(shown[80].split())
    assert "0.38" in shown[120]
    assert "No room" not in shown[120]


def test_profiles_are_listed_from_large_to_small(capsys, folder):
    given = ["--size", "w0.5-d1", "--size", "w1-d1", "--size", "w0.25-d0.5"]
    _, out, _ = run(capsys, "profile", folder, *given, "--sequence-length", 5, "--rounds", 1)
    assert out.index("w1-d1") < out.index("w0.5-d1") < out.index("w0.25-d0.5")


def test_a_speed_up_is_that_over_the_slowest_size(capsys):
    times = {"w1-d1": 8.0, "w0.5-d1": 5.0, "w0.25-d0.5": 2.0}
    setting = {"runtime": "torch", "dtype": "float32", "batch_size": 1, "sequence_length": 5}
    table = ProfileTable(
        tuple(SizeRecord(size, {}, {"latency_ms": ms, "latency_spread_ms": 0.1}, setting) for size, ms in times.items())
    )
    tables._print_profiles(Console(width=120), table)
    assert re.findall(r"\d\.\dx", capsys.readouterr().out) == ["1.0x", "1.6x", "4.0x"]


def test_an_extracted_size_is_shown_with_where_it_came_from(capsys, folder, tmp_path):
    small = tmp_path / "small"
    about = run_json(capsys, "extract", folder, small, "--size", "w0.5-d0.5")
    assert about["tokenizer"] is True
    model = AutoModelForSequenceClassification.from_pretrained(small)
    assert model.num_parameters() == about["parameters"]
    parent = AutoModelForSequenceClassification.from_pretrained(folder).set_active("w0.5-d0.5")
    ids = torch.tensor([[2, 4, 6, 3]])
    assert torch.equal(model.eval()(ids).logits, parent.eval()(ids).logits)
    _, out, _ = run(capsys, "show", small)
    assert f"extracted from {folder}, size w0.5-d0.5" in out.splitlines()  # a path is not wrapped
    assert_refused(capsys, "does not hold", "extract", small, tmp_path / "more", "--size", "w1-d1")
    assert not (tmp_path / "more").exists()


def test_an_extracted_size_has_a_card_with_what_is_known_of_it(capsys, folder, reviews, tmp_path):
    known = {"base_model": "google-bert/bert-base-uncased", "license": "apache-2.0", "language": "en"}
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    write_model_card(folder, ModelCardFacts.from_stored(model, **known))
    small = tmp_path / "small"
    about = run_json(capsys, "extract", folder, small, "--size", "w0.5-d1")
    card = ModelCard.load(small / "README.md")
    assert {name: getattr(card.data, name) for name in known} == known
    assert "One size, `w0.5-d1`, of an elastic BERT (DynaBERT), extracted to stand alone." in card.text
    assert f"| `w0.5-d1` | 0.5 | 1 | 0.8500 | 0.5000 | {about['parameters'] / 1e6:.2f} M |" in card.text
    assert "| teacher |  |  | 0.9000 |" in card.text
    assert "AutoTokenizer" in card.text
    assert str(tmp_path) not in str(card)
    run_json(capsys, "trim", small, tmp_path / "trimmed", "--file", reviews)
    assert ModelCard.load(tmp_path / "trimmed" / "README.md").data.license == "apache-2.0"


def test_a_depth_can_be_extracted_as_a_stock_model(capsys, folder, tmp_path):
    assert run(capsys, "extract", folder, tmp_path / "shallow", "--size", "w1-d0.5", "--stock")[0] == 0
    model = BertForSequenceClassification.from_pretrained(tmp_path / "shallow")
    assert model.config.model_type == "bert"
    assert len(model.bert.encoder.layer) == 3
    assert not (tmp_path / "shallow" / "README.md").exists()
    with pytest.raises(SystemExit):
        main(["extract", "--help"])
    assert "own class, without a card; possible" in " ".join(capsys.readouterr().out.split())
    assert_refused(
        capsys, "stock configuration cannot express", "extract", folder, tmp_path / "x", "--size", "w0.5-d1", "--stock"
    )
    assert_refused(capsys, "nothing is overwritten", "extract", folder, tmp_path / "shallow", "--size", "w1-d0.5")


def test_evaluate_measures_chosen_sizes_and_stores_them(capsys, folder, reviews):
    metrics = run_json(capsys, "evaluate", folder, "--file", reviews, "--size", "w0.5-d1", "--eval-batch-size", 4)
    assert list(metrics) == ["w0.5-d1"]
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval().set_active("w0.5-d1")
    tokenizer = BertTokenizer.from_pretrained(folder)
    correct = 0
    for row in csv.DictReader(reviews.read_text().splitlines()):
        logits = model(**tokenizer(row["text"], return_tensors="pt")).logits  # alone, without padding
        correct += int(logits.argmax()) == {"bad": 0, "good": 1}[row["label"]]
    assert metrics["w0.5-d1"]["accuracy"] == pytest.approx(correct / 6)
    code, out, _ = run(capsys, "evaluate", folder, "--file", reviews, "--store")
    assert code == 0
    assert "6 texts" in out
    sizes = run_json(capsys, "show", folder)["sizes"]
    assert all("accuracy" in row["metrics"] for row in sizes)
    assert sizes[0]["metrics"] != METRICS["w0.25-d0.5"]
    assert run_json(capsys, "show", folder)["teacher"] == {"accuracy": 0.9}


def test_evaluate_lists_sizes_in_the_order_given_and_the_baseline_last(capsys, folder, reviews):
    code, out, _ = run(
        capsys, "evaluate", folder, "--file", reviews, "--size", "w0.25-d0.5", "w1-d1", "--size", "w0.5-d1"
    )
    assert code == 0
    lines = [line.split() for line in out.splitlines() if line.strip()]
    firsts = [line[0] for line in lines]
    assert [name for name in firsts if name.startswith("w")] == ["w0.25-d0.5", "w1-d1", "w0.5-d1"]
    assert ["baseline", "0.5000"] in lines
    out = run(capsys, "evaluate", folder, "--file", reviews)[1]
    names = [line.split()[0] for line in out.splitlines() if line.startswith("w")]
    assert names == [str(size) for size in reversed(make_config().subnetworks)]


def test_evaluate_computes_the_metrics_that_were_named(capsys, folder, reviews):
    command = ["evaluate", folder, "--file", reviews, "--size", "w0.5-d1", "--metric"]
    names = ["macro_f1", "matthews_correlation", "accuracy"]
    found = run_json(capsys, *command, *names)["w0.5-d1"]
    assert list(found) == names
    said = [record["label"] for record in run_json(capsys, "predict", folder, "--file", reviews, "--size", "w0.5-d1")]
    true = [row["label"] for row in csv.DictReader(reviews.read_text().splitlines())]
    assert found["macro_f1"] == pytest.approx(f1_score(true, said, average="macro", zero_division=0.0))
    assert found["matthews_correlation"] == pytest.approx(matthews_corrcoef(true, said))
    assert found["accuracy"] == pytest.approx(sum(map(str.__eq__, true, said)) / 6)
    assert_refused(
        capsys, "The metric 'spearman' is not known for this model. Possible are ['accuracy',", *command, "spearman"
    )


def test_labels_may_be_numbers_pairs_or_values(capsys, folder, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"a": "good film", "b": "a film", "gold": 1}, {"a": "bad", "b": "very", "gold": 0}]
    pairs.write_text("\n".join(map(json.dumps, rows)))
    command = ["evaluate", folder, "--file", pairs, "--text-column", "a", "b", "--label-column", "gold"]
    assert run_json(capsys, *command, "--size", "w1-d1")["w1-d1"]["accuracy"] in (0, 0.5, 1)
    make_model(stock={"num_labels": 1}).save_pretrained(tmp_path / "regression")
    BertTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "regression")
    command[1] = tmp_path / "regression"
    assert set(run_json(capsys, *command, "--size", "w1-d1")["w1-d1"]) == {"mse", "pearson"}
    found = run_json(capsys, *command, "--size", "w1-d1", "--metric", "spearman", "rmse", "mse")["w1-d1"]
    assert abs(found["spearman"]) == pytest.approx(1.0)  # of two rows
    assert found["rmse"] == pytest.approx(found["mse"] ** 0.5)


def test_a_table_that_is_wider_than_the_terminal_keeps_its_last_column(capsys, folder, reviews, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = list(OF_LABELS)
    command = ["evaluate", folder, "--file", reviews, "--metric", *names]
    found = run_json(capsys, *command)
    _, out, _ = run(capsys, *command)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith("w")}
    assert rows == {size: [f"{own[name]:.4f}" for name in names] for size, own in found.items()}


def test_data_that_does_not_fit_is_refused(capsys, folder, reviews, tmp_path):
    evaluate = ["evaluate", folder, "--file"]
    assert_refused(capsys, "There is no file", *evaluate, tmp_path / "none.csv")
    (tmp_path / "reviews.doc").write_text("a good film")
    assert_refused(capsys, "ends in '.doc'", *evaluate, tmp_path / "reviews.doc")
    assert_refused(
        capsys, "has no column ['review'], only ['text', 'label']", *evaluate, reviews, "--text-column", "review"
    )
    assert_refused(capsys, "has the label 'a good film'", *evaluate, reviews, "--label-column", "text")
    assert_refused(capsys, "does not name a sub-network", *evaluate, reviews, "--size", "small")
    make_model(head="ForTokenClassification").save_pretrained(tmp_path / "tokens")
    assert_refused(capsys, "has no tokenizer", "evaluate", tmp_path / "tokens", "--file", reviews)
    BertTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "tokens")
    assert_refused(capsys, "has no column ['tokens', 'tags']", "evaluate", tmp_path / "tokens", "--file", reviews)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    assert_refused(capsys, "The model gives a text several labels or values", *evaluate, reviews)


def test_a_file_that_cannot_be_read_is_refused_in_one_line(capsys, folder, tmp_path):
    (tmp_path / "latin.csv").write_bytes(b"text,label\ncaf\xe9,bad\n")
    assert_refused(capsys, "cannot be read as csv: 'utf-8' codec", "evaluate", folder, "--file", tmp_path / "latin.csv")


def test_predict_says_what_a_size_predicts_for_each_text(capsys, folder, reviews, tmp_path):
    records = run_json(capsys, "predict", folder, "--file", reviews, "--size", "w0.5-d0.5", "--eval-batch-size", 4)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval().set_active("w0.5-d0.5")
    tokenizer = BertTokenizer.from_pretrained(folder)
    texts = [row["text"] for row in csv.DictReader(reviews.read_text().splitlines())]
    assert [record["text"] for record in records] == texts
    for record in records:
        with torch.no_grad():
            shares = model(**tokenizer(record["text"], return_tensors="pt")).logits[0].softmax(-1)  # without padding
        assert record["label"] == ["bad", "good"][int(shares.argmax())]
        assert record["score"] == pytest.approx(float(shares.max()), abs=1e-6)
    code, out, _ = run(capsys, "predict", folder, "--file", reviews, "--output", tmp_path / "said.jsonl")
    assert (code, out) == (0, "")
    written = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert [record["text"] for record in written] == texts
    _, out, _ = run(capsys, "predict", folder, "--file", reviews)
    assert "6 rows" in out
    assert "size w1-d1" in out
    assert max(map(len, out.splitlines()[:-1])) <= 80
    assert_refused(
        capsys, "is no name for predictions", "predict", folder, "--file", reviews, "--output", tmp_path / "x.txt"
    )


def test_predict_does_not_write_over_the_file_that_it_reads(capsys, folder, tmp_path, monkeypatch):
    """Its labels became those that were predicted, and its other columns were lost, without a word."""
    rows = '{"text": "a good film", "label": "bad", "id": 7}\n'
    (tmp_path / "rows.jsonl").write_text(rows)
    monkeypatch.chdir(tmp_path)
    message = "--output 'rows.jsonl' is the file of the texts itself. Give another path."
    assert_refused(capsys, message, "predict", folder, "--file", tmp_path / "rows.jsonl", "--output", "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_text() == rows


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_file_with_all_texts_in_one_list_is_no_row_of_one_text(capsys, folder, tmp_path, command):
    """As a table in JSON has them, whose texts were predicted as one; words of a list are for tags."""
    (tmp_path / "table.json").write_text(json.dumps({"text": ["good", "bad film"], "label": ["good", "bad"]}))
    message = "Row 0 has the list ['good', 'bad film'] in column 'text'. Possible is one text a row."
    assert_refused(capsys, message, command, folder, "--file", tmp_path / "table.json")


def test_predict_keeps_texts_whose_columns_have_names_of_predictions(capsys, folder, tmp_path):
    (tmp_path / "t.csv").write_text("label,score\na good film,it was\nbad,a film\n")
    told = ("--file", tmp_path / "t.csv", "--text-column", "label", "score")
    records = run_json(capsys, "predict", folder, *told)
    (tmp_path / "plain.csv").write_text("one,other\na good film,it was\nbad,a film\n")
    plain = run_json(capsys, "predict", folder, "--file", tmp_path / "plain.csv", "--text-column", "one", "other")
    assert [(row["label"], row["score"]) for row in records] == [("a good film", "it was"), ("bad", "a film")]
    for row, expected in zip(records, plain, strict=True):
        assert (row["predicted_label"], row["predicted_score"]) == (expected["label"], expected["score"])


def save_with_head(folder, place, head, **stock):
    model = make_model(head=head, stock=stock)
    model.save_pretrained(place)
    BertTokenizer.from_pretrained(folder).save_pretrained(place)
    return model.eval(), BertTokenizer.from_pretrained(folder)


def test_predict_answers_questions_with_the_likeliest_span(capsys, folder, tmp_path):
    model, tokenizer = save_with_head(folder, tmp_path / "qa", "ForQuestionAnswering", num_labels=2)
    write(tmp_path / "q.csv", [{"question": "very bad", "context": "a good film a bad film"}])
    command = ["predict", tmp_path / "qa", "--file", tmp_path / "q.csv", "--text-column", "question", "context"]
    [found] = run_json(capsys, *command)
    with torch.no_grad():
        outputs = model(**tokenizer("very bad", "a good film a bad film", return_tensors="pt"))
    start, end = (logits[0, 4:10] for logits in (outputs.start_logits, outputs.end_logits))  # after [CLS] q q [SEP]
    spans = [(float(start[i] + end[j]), i, j) for i in range(6) for j in range(i, 6)]
    _, first, last = max(spans)
    assert found["answer"] == " ".join(["a", "good", "film", "a", "bad", "film"][first : last + 1])
    assert_refused(
        capsys, "1 columns of text were given, ['question']. A DynaBertForQuestionAnswering reads 2", *command[:-1]
    )


def test_predict_tells_values_labels_and_entities(capsys, folder, tmp_path):
    write(tmp_path / "t.csv", [{"text": "a good film"}, {"text": "very bad"}])
    texts = ["a good film", "very bad"]

    def said(place):
        return run_json(capsys, "predict", tmp_path / place, "--file", tmp_path / "t.csv")

    model, tokenizer = save_with_head(folder, tmp_path / "value", "ForSequenceClassification", num_labels=1)
    with torch.no_grad():
        values = [float(model(**tokenizer(text, return_tensors="pt")).logits) for text in texts]
    assert [record["value"] for record in said("value")] == pytest.approx(values, abs=1e-5)
    several = {"num_labels": 3, "problem_type": "multi_label_classification"}
    model, tokenizer = save_with_head(folder, tmp_path / "several", "ForSequenceClassification", **several)
    for text, record in zip(texts, said("several"), strict=True):
        with torch.no_grad():
            shares = model(**tokenizer(text, return_tensors="pt")).logits[0].sigmoid().tolist()
        scores = {f"LABEL_{number}": share for number, share in enumerate(shares)}
        assert record["scores"] == pytest.approx(scores, abs=1e-5)
        assert list(record["scores"]) == list(scores)  # in the order of the model, as an export tells them
        assert record["labels"] == [name for name in scores if scores[name] > 0.5]
    model, tokenizer = save_with_head(folder, tmp_path / "tags", "ForTokenClassification", num_labels=3)
    for text, record in zip(texts, said("tags"), strict=True):
        with torch.no_grad():
            best = model(**tokenizer(text, return_tensors="pt")).logits[0, 1:-1].argmax(-1).tolist()
        assert [each["word"] for each in record["entities"]] == text.split()
        assert [each["entity"] for each in record["entities"]] == [f"LABEL_{number}" for number in best]
    write(tmp_path / "t.csv", [{"sentence": "a good film"}, {"sentence": "very bad film " * 20}])
    assert [len(record["entities"]) for record in said("tags")] == [3, 60]  # also beyond the 20 tokens of a pass
    save_with_head(folder, tmp_path / "states", "Model")
    told = ("predict", tmp_path / "states", "--file", tmp_path / "t.csv")
    assert_refused(capsys, "predicts nothing of texts. Possible are the tasks text-classification", *told)
    told = ("predict", tmp_path / "value", "--file", tmp_path / "t.csv", "--no-answer")
    assert_refused(capsys, "--no-answer was given for a DynaBertForSequenceClassification. Only questions may", *told)


def test_predict_chooses_what_a_text_goes_on_with(capsys, folder, tmp_path):
    model, tokenizer = save_with_head(folder, tmp_path / "choice", "ForMultipleChoice")
    rows = [
        {"text": "a good film", "choices": ["very", "bad film", "a"]},
        {"text": "very", "choices": ["a", "a", "good bad good"]},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for size, batch in ((1, "w1-d1"), (2, "w0.5-d0.5")):
        told = ("--size", batch, "--eval-batch-size", size)
        found = run_json(capsys, "predict", tmp_path / "choice", "--file", tmp_path / "c.jsonl", *told)
        model.set_active(batch)
        for row, one in zip(rows, found, strict=True):
            logits = []
            with torch.no_grad():
                for choice in row["choices"]:  # without padding
                    inputs = tokenizer(row["text"], choice, return_tensors="pt")
                    logits.append(model(**{name: each[None] for name, each in inputs.items()}).logits[0, 0])
            shares = torch.stack(logits).softmax(0)
            assert (one["text"], one["choices"]) == (row["text"], row["choices"])
            assert one["score"] == pytest.approx(float(shares.max()), abs=1e-6)
            assert one["choice"] == row["choices"][one["label"]]
            assert float(shares[one["label"]]) == pytest.approx(float(shares.max()), abs=1e-6)
    write(tmp_path / "c.csv", [{"text": "a", "choices": "good"}])
    told = ("predict", tmp_path / "choice", "--file", tmp_path / "c.csv")
    assert_refused(capsys, "Row 0 has the choices 'good' in column 'choices'", *told)


def test_predict_finds_the_word_of_every_mask(capsys, folder, tmp_path):
    model, tokenizer = save_with_head(folder, tmp_path / "words", "ForMaskedLM")
    texts = ["a [MASK] film", "[MASK] bad [MASK] good film", f"a [MASK] {'very ' * 40}"]
    write(tmp_path / "t.csv", [{"text": text} for text in texts])
    told = ("predict", tmp_path / "words", "--file", tmp_path / "t.csv")
    for batch in (1, 4):
        found = run_json(capsys, *told, "--eval-batch-size", batch)
        for text, one in zip(texts, found, strict=True):
            inputs = tokenizer(
                text, return_tensors="pt", truncation=True, max_length=model.config.max_position_embeddings
            )
            with torch.no_grad():
                shares = model(**inputs).logits[0].softmax(-1)[inputs["input_ids"][0] == tokenizer.mask_token_id]
            best = shares.max(-1)
            assert [each["word"] for each in one["words"]] == [tokenizer.decode([token]) for token in best.indices]
            assert [each["score"] for each in one["words"]] == pytest.approx(best.values.tolist(), abs=1e-6)
    _, out, _ = run(capsys, *told)
    for number, text in enumerate(texts[:2]):
        write(tmp_path / "one.csv", [{"text": text}])
        [alone] = run_json(capsys, *told[:2], "--file", tmp_path / "one.csv")
        assert [each["word"] for each in alone["words"]] == [each["word"] for each in found[number]["words"]]
    first = found[0]["words"][0]
    assert f"{first['word']} ({first['score']:.2f})" in out
    write(tmp_path / "t.csv", [{"text": texts[0], "text_pair": texts[1]}])
    assert_refused(capsys, "Pairs of texts were given, but words are filled into one text. Name its column", *told)
    write(tmp_path / "t.csv", [{"text": texts[0]}, {"text": f"{'very ' * 40} [MASK]"}])
    assert_refused(capsys, "Row 1 is 'very very", *told)
    write(tmp_path / "t.csv", [{"text": f"[MASK] film {'very ' * 40} [MASK]"}])
    assert_refused(capsys, "with 2 times [MASK], but only 1 in the 20 tokens that are read. Shorten", *told)
    write(tmp_path / "t.csv", [{"text": "a good film"}])
    assert_refused(capsys, "without a [MASK] in the", *told)


def test_stored_metrics_stand_on_the_card_with_the_rows_they_are_of(capsys, folder, reviews):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    facts = make_facts(model, base_model="google-bert/bert-base-uncased", stages={"width": {"seed": 7}}, eval_rows=300)
    before = write_model_card(folder, facts).read_text()
    assert "measured on 300 rows of Reviews" in before
    metrics = run_json(capsys, "evaluate", folder, "--file", reviews, "--store")
    after = (folder / "README.md").read_text()
    assert "6 rows of reviews.csv (accuracy of all sizes and baseline); the evaluation data (teacher, loss)." in after
    assert "300 rows" not in after
    assert (folder / "pareto.png").stat().st_size > 1000
    assert "| baseline |  |  | 0.5000 |" in after
    for size in metrics:
        [line] = [line for line in after.splitlines() if line.startswith(f"| `{size}` |")]
        assert line.split("|")[4].strip() == f"{metrics[size]['accuracy']:.4f}"
    results = {each.metric_name: each.metric_value for each in ModelCard.load(folder / "README.md").data.eval_results}
    ends = ("w1-d1", "w0.25-d0.5")
    assert results == {f"accuracy of {size}": round(metrics[size]["accuracy"], 4) for size in ends}
    rest = [text.partition("## How it was made")[2].splitlines() for text in (before, after)]
    was, now = ([line for line in lines if "`accuracy`" in line] for lines in rest)
    assert [line for line in rest[0] if line not in was] == [line for line in rest[1] if line not in now] != []
    values = sorted(f"{own['accuracy']:.4f}" for own in metrics.values())
    one = f"- All measured sizes have: `accuracy` {values[0]}."
    several = f"- The sizes differ: `accuracy` lies between {values[0]} and {values[-1]}."
    assert now == [one if values[0] == values[-1] else several]
    assert before.partition("# ")[2].partition("## Sizes")[0] in after


def test_a_stored_metric_is_among_those_that_the_hub_is_told(capsys, folder, reviews):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    card = write_model_card(folder, make_facts(model))
    assert ModelCard.load(card).data.metrics == ["accuracy"]
    one = ["--size", "w1-d1", "--metric", "macro_f1"]
    found = run_json(capsys, "evaluate", folder, "--file", reviews, "--store", *one)["w1-d1"]["macro_f1"]
    assert f"{found:.4f}" in card.read_text()
    assert ModelCard.load(card).data.metrics == ["accuracy", "macro_f1"]


def test_a_card_keeps_its_latencies_when_metrics_are_stored(capsys, folder, reviews, monkeypatch):
    drawn = []
    monkeypatch.setattr("dynabert_hf.training.result.draw_pictures", lambda facts, folder: drawn.append(facts) or {})
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    facts = make_facts(model, latency_setting="median of 0.5 s, batch 1", teacher_metrics={"accuracy": 0.9})
    card = write_model_card(folder, facts)
    run_json(capsys, "evaluate", folder, "--file", reviews, "--store")
    text = card.read_text()
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| `w")]
    found = {cells[0].strip(" `"): cells[-1].strip() for cells in rows}
    assert found == {one.name: f"{one.latency_ms:.1f} ms" for one in facts.sizes}
    assert " Latency: median of 0.5 s, batch 1. The teacher is" in text
    assert [one.latency_ms for one in drawn[0].sizes] == [float(found[one.name][:-3]) for one in facts.sizes]


def test_a_card_that_cannot_be_read_is_named_before_anything_is_stored(capsys, folder, reviews):
    card = write_model_card(folder, make_facts(AutoModelForSequenceClassification.from_pretrained(folder)))
    card.write_text(card.read_text().replace("---\n", "---\ntags: [open\n", 1))
    before = (folder / "config.json").read_text()
    told = ("evaluate", folder, "--file", reviews, "--store")
    assert_refused(capsys, "README.md' has metadata that cannot be read: ", *told)
    assert (folder / "config.json").read_text() == before


@pytest.mark.parametrize("size", ["l9h2n3", "nonsense"])
def test_stored_metrics_of_no_size_are_named_with_their_file_before_anything_is_measured(
    capsys, folder, reviews, size, monkeypatch
):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "metrics": {size: {"accuracy": 0.5}}}))
    monkeypatch.setattr(LabelledText, "evaluate", lambda *given: pytest.fail("measured before"))
    for told in (("show", folder), ("evaluate", folder, "--file", reviews, "--store")):
        assert_refused(
            capsys, f"The config.json of {str(folder)!r} stores metrics of {size!r}, which is no size", *told
        )


def test_a_card_that_somebody_wrote_stays_as_it_is(capsys, folder, reviews):
    (folder / "README.md").write_text("# Mine\n\nWords.\n")
    run_json(capsys, "evaluate", folder, "--file", reviews, "--store", "--size", "w1-d1")
    assert (folder / "README.md").read_text() == "# Mine\n\nWords.\n"


def test_stored_metrics_are_added_to_those_that_stay(capsys, folder, reviews):
    command = ["evaluate", folder, "--file", reviews, "--store", "--size", "w0.5-d1", "--size", "w0.5-d0.5"]
    code, _, err = run(capsys, *command)
    assert code == 0
    assert "All other stored metrics stay; `dynabert show` says of which rows they are." in err
    stored = json.loads((folder / "config.json").read_text())["metrics"]
    assert stored.pop("w0.5-d0.5").keys() == {"accuracy"}
    measured = stored["w0.5-d1"].pop("accuracy")
    assert measured in [number / 6 for number in range(7)]
    assert stored == {**METRICS, "w0.5-d1": {"loss": 0.5}, "baseline": {"accuracy": 0.5}}
    rows = json.loads((folder / "config.json").read_text())["metric_rows"]
    assert rows == {name: {"accuracy": "6 rows of reviews.csv"} for name in ("w0.5-d1", "w0.5-d0.5", "baseline")}


def test_a_card_keeps_the_numbers_of_sizes_that_were_not_measured_again_and_says_their_rows(
    capsys, folder, reviews, monkeypatch
):
    # to draw takes longer than all else
    monkeypatch.setattr("dynabert_hf.training.result.draw_pictures", lambda facts, folder: {})
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    facts = make_facts(model, eval_rows=300, teacher_metrics={"accuracy": 0.9})
    result = RecipeResult(model, facts.sizes, {"accuracy": 0.9}, eval_rows=300)
    result.record("Reviews")
    model.config.save_pretrained(folder)
    write_model_card(folder, facts)
    metrics = run_json(capsys, "evaluate", folder, "--file", reviews, "--store", "--size", "w1-d1")
    card = (folder / "README.md").read_text()
    cells = {line.split("|")[1].strip(" `"): line.split("|")[4].strip() for line in card.splitlines() if "| " in line}
    before = {row.name: f"{row.metrics['accuracy']:.4f}" for row in facts.sizes}
    now = f"{metrics['w1-d1']['accuracy']:.4f}"
    assert {size: cells[size] for size in before} == {**before, "w1-d1": now}
    assert (cells["teacher"], cells["baseline"]) == ("0.9000", "0.5000")
    assert "mean of the sizes" not in cells or cells["mean of the sizes"] == ""  # of other rows there is no mean
    assert "The sizes differ" not in card
    *others, smallest = [row.name for row in reversed(facts.sizes) if row.name != "w1-d1"]
    sentence = (
        "Metrics are of different rows, and only those of the same compare: 6 rows of reviews.csv (accuracy of w1-d1 "
        f"and baseline); 300 rows of Reviews (accuracy of {', '.join([*others, smallest])} and teacher, loss)."
    )
    assert sentence in card
    code, out, _ = run(capsys, "show", folder)
    assert code == 0
    assert sentence in out
    note = run_json(capsys, "recommend", folder, "--max-drop", "1")["note"]
    assert note.startswith("The stored accuracy of the sizes is of different rows, which cannot be compared.")
    run_json(capsys, "evaluate", folder, "--file", reviews, "--store")
    results = ModelCard.load(folder / "README.md").data.eval_results
    assert {(one.dataset_type, one.dataset_name) for one in results} == {("unknown", "6 rows of reviews.csv")}
    card = (folder / "README.md").read_text()
    assert "6 rows of reviews.csv (accuracy of all sizes and baseline); 300 rows of Reviews (" in card
    assert run_json(capsys, "recommend", folder, "--max-drop", "1")["note"] is None
    assert card.count("The sizes differ: `accuracy`") + card.count("All measured sizes have: `accuracy`") == 1


@pytest.mark.parametrize("data", ["Reviews", "the evaluation data"])
def test_a_card_says_of_metrics_that_stay_what_it_said_of_their_data(capsys, folder, reviews, monkeypatch, data):
    monkeypatch.setattr("dynabert_hf.training.result.draw_pictures", lambda facts, folder: {})
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    facts = make_facts(model, eval_rows=300)
    RecipeResult(model, facts.sizes, {}, eval_rows=300).record(data)
    model.config.save_pretrained(folder)
    path = write_model_card(folder, facts)
    card = ModelCard.load(path)
    for each in card.data.eval_results:
        each.dataset_split = "validation"  # as somebody may add by hand
    own = {"task_type": "text-classification", "dataset_type": "glue", "dataset_name": "SST-2", "metric_type": "f1"}
    card.data.eval_results.append(EvalResult(**own, metric_value=0.81))
    card.save(path)
    before = ModelCard.load(path).data.eval_results
    run_json(capsys, "evaluate", folder, "--file", reviews, "--store", "--size", "w0.5-d1")
    assert ModelCard.load(path).data.eval_results == before
    assert [each.dataset_type for each in before] == ["me/reviews", "me/reviews", "glue"]


def test_a_measured_size_off_the_grid_stands_where_it_belongs(capsys, folder, reviews, monkeypatch):
    monkeypatch.setattr("dynabert_hf.training.result.draw_pictures", lambda facts, folder: {})
    card = write_model_card(folder, make_facts(AutoModelForSequenceClassification.from_pretrained(folder)))
    run_json(capsys, "evaluate", folder, "--file", reviews, "--store")
    found = run_json(capsys, "evaluate", folder, "--file", reviews, "--store", "--size", "w0.5-d0.3")["w0.5-d0.3"]
    rows = run_json(capsys, "show", folder)["sizes"]
    assert [row["metrics"] for row in rows if row["size"] == "w0.5-d0.3"] == [found]
    shares = [sum(each["heads"] / 4 + each["neurons"] / 48 for each in row["layers"]) for row in rows]
    assert shares == sorted(shares)
    assert len(shares) == 13
    on_card = [line.split("`")[1] for line in card.read_text().splitlines() if line.startswith("| `")]
    assert on_card == [row["size"] for row in reversed(rows)]
    told = [each.metric_name for each in ModelCard.load(card).data.eval_results]
    assert told == ["accuracy of w1-d1", "accuracy of w0.25-d0.5"]


def test_an_extracted_size_off_the_grid_is_measured(capsys, folder, tmp_path):
    small = tmp_path / "small"
    run_json(capsys, "extract", folder, small, "--size", "l0h1n7-l3h2n5")
    twice = ["--size", "l0h1n7-l3h2n5", "l0h1n7-l3h2n5"]
    for named in ([], twice):
        measured = run_json(capsys, "profile", small, "--sequence-length", 5, "--rounds", 1, *named)
        assert [row["size"] for row in measured["profiles"]] == ["l0h1n7-l3h2n5"]


def test_profile_saves_what_recommend_reads(capsys, folder, tmp_path):
    saved = tmp_path / "profile.json"
    short = ["--sequence-length", 5, "--rounds", 2]
    code, out, _ = run(capsys, "profile", folder, *short, "--batch-size", 1, 2, "--output", saved)
    assert code == 0
    assert "torch, float32, 2 x 5 tokens, cpu, 1 thread(s): median of 2 passes" in out
    assert re.search(rf"spread: between the quartiles\. On .*, torch {re.escape(torch.__version__)}$", out)
    choose = ["recommend", folder, "--latency-ms", 1e6, "--profile", saved]
    assert_refused(capsys, "of several settings, {'batch_size': [1, 2]}", *choose)
    answer = run_json(capsys, *choose, "--batch-size", 2)
    assert answer["choice"]["size"] == "w1-d1"
    assert answer["runner_up"]["size"] == "w0.5-d1"
    run_under = {"runtime": "torch", "dtype": "float32", "batch_size": 2, "sequence_length": 5}
    assert answer["setting"] == {**run_under, "device": "cpu", "threads": torch.get_num_threads()}
    assert_refused(capsys, "No size was measured under {'runtime': 'onnxruntime'}", *choose, "--runtime", "onnxruntime")
    assert_refused(capsys, "No size was measured under {'threads': 64}", *choose, "--threads", 64)
    choose[-1] = tmp_path / "none.json"
    advice = "Give what `dynabert profile MODEL --output FILE.json` wrote"
    assert_refused(capsys, f"none.json' holds no saved costs: No such file or directory. {advice}", *choose)
    choose[-1].write_text("{")
    assert_refused(capsys, "none.json' holds no saved costs: JSONDecodeError('Expecting property name", *choose)
    choose[-1].write_text("{}")
    assert_refused(capsys, f"none.json' holds no saved costs: KeyError('profiles'). {advice}", *choose)


def test_saved_costs_of_a_model_with_other_layers_are_refused(capsys, folder, tmp_path):
    saved = tmp_path / "profile.json"
    run(capsys, "profile", folder, "--sequence-length", 5, "--rounds", 1, "--output", saved)
    profile = json.loads(saved.read_text())
    last = profile["profiles"][-1]
    choose = ["recommend", folder, "--latency-ms", 1e6, "--profile", saved]
    last["parameters"] += 7  # of another head
    saved.write_text(json.dumps(profile))
    assert run_json(capsys, *choose)["choice"]["size"] == "w1-d1"
    here = last["encoder_parameters"]
    last["encoder_parameters"] += 1
    saved.write_text(json.dumps(profile))
    told = f"costs of another model: its layers have {here + 1:,} parameters at w1-d1, those of this model {here:,}"
    assert_refused(capsys, told, *choose)


def test_saved_costs_of_two_devices_are_told_apart(capsys, folder, tmp_path):
    saved, setting = tmp_path / "profile.json", {"batch_size": 1, "sequence_length": 5}
    times = [("cpu", "w0.5-d1", 9.0), ("cpu", "w1-d1", 20.0), ("cuda:0", "w0.5-d1", 2.0), ("cuda:0", "w1-d1", 4.0)]
    run_by = {"runtime": "torch", "dtype": "float32", "threads": 1}
    ProfileTable(
        tuple(
            SizeRecord(size, {}, {"latency_ms": ms, "flops": 1}, {**setting, **run_by, "device": device})
            for device, size, ms in times
        )
    ).save(saved)
    choose = ["recommend", folder, "--latency-ms", 10, "--profile", saved]
    assert_refused(capsys, "{'device': ['cpu', 'cuda:0']}, whose costs cannot be compared", *choose)
    assert run_json(capsys, *choose, "--device", "cpu")["choice"]["size"] == "w0.5-d1"
    assert run_json(capsys, *choose, "--device", "cuda:0")["choice"]["size"] == "w1-d1"
    assert_refused(capsys, "--device 'cuda:9' is not in this machine", "profile", folder, "--device", "cuda:9")


def test_more_threads_than_processors_are_refused(capsys, folder, reviews):
    """Far too many ended the process without a word."""
    threads = os.cpu_count() + 1
    told = f"--threads {threads} is not possible. This machine has {threads - 1} processors. Give at most as many"
    assert_refused(capsys, told, "profile", folder, "--threads", threads)
    search = ["search", folder, "--file", reviews, "--latency-ms", 9, "--sequence-length", 5]
    assert_refused(capsys, told, *search, "--threads", threads)


def test_recommend_counts_what_needs_no_measuring_and_measures_what_does(capsys, folder, tmp_path):
    code, out, _ = run(capsys, "recommend", folder, "--max-accuracy-drop", 0.04, "--plot", tmp_path / "sizes.png")
    assert code == 0
    assert "w0.5-d1" in out
    assert "nothing was run" in out
    assert (tmp_path / "sizes.png").stat().st_size > 10_000
    by_loss = run_json(capsys, "recommend", folder, "--metric", "loss", "--max-accuracy-drop", 0.15)
    assert (by_loss["choice"]["size"], by_loss["choice"]["loss"]) == ("w0.5-d1", 0.5)
    measured = run_json(
        capsys, "recommend", folder, "--latency-ms", 1e6, "--memory-mb", 1e6, "--sequence-length", 5, "--rounds", 1
    )
    assert measured["choice"]["latency_ms"] > 0


@pytest.fixture
def two_profiled(capsys, folder, tmp_path):
    """A saved profile of all but the best size."""
    saved = tmp_path / "two.json"
    sizes = ["--size", "w0.25-d0.5", "--size", "w0.5-d1"]
    assert run(capsys, "profile", folder, *sizes, "--sequence-length", 5, "--rounds", 1, "--output", saved)[0] == 0
    return saved


def test_a_drop_counts_from_the_best_size_even_if_it_was_not_profiled(capsys, folder, two_profiled):
    command = ["recommend", folder, "--profile", two_profiled, "--max-accuracy-drop"]
    answer = run_json(capsys, *command, 0.06)
    assert answer["choice"]["size"] == "w0.5-d1"
    assert "accuracy at least 0.82" in answer["reason"]
    assert answer["note"] is None
    assert run(capsys, *command, 0.02)[0] == recommendation.NOTHING_FITS


def test_the_front_is_that_of_the_budget_in_the_table_as_in_the_picture(capsys, folder, tmp_path):
    """The smallest size was the slowest, so that it is on the front of parameters, but not on that of latency."""
    costs = {"w0.25-d0.5": (9.0, 10), "w0.5-d1": (5.0, 20), "w1-d1": (8.0, 30)}
    setting = {"batch_size": 1, "sequence_length": 5, "runtime": "torch", "dtype": "float32"}
    records = [SizeRecord(size, {}, {"latency_ms": ms, "parameters": n}, setting) for size, (ms, n) in costs.items()]
    ProfileTable(tuple(records)).save(tmp_path / "p.json")
    for budget, is_on_front in (("--latency-ms", False), ("--parameters", True)):
        _, out, _ = run(capsys, "recommend", folder, "--profile", tmp_path / "p.json", budget, 100)
        assert out.count("on the front") == is_on_front


def test_a_stored_metric_that_is_no_number_is_none(capsys, folder, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.config.metrics = {**METRICS, "teacher": {"accuracy": math.inf}, "w1-d1": {"accuracy": math.nan, "loss": 0.4}}
    model.save_pretrained(folder)
    shown = run_json(capsys, "show", folder)
    assert (shown["teacher"], shown["sizes"][-1]["metrics"]) == ({}, {"loss": 0.4})
    answer = run_json(capsys, "recommend", folder, "--parameters", "1e9", "--plot", tmp_path / "front.png")
    assert answer["choice"]["size"] == "w0.5-d1"
    facts = ModelCardFacts.from_stored(model)
    assert {one.name: one.metrics.get("accuracy") for one in facts.sizes if one.metrics} == {
        "w0.25-d0.5": 0.8,
        "w0.5-d1": 0.85,
        "w1-d1": None,
    }
    assert facts.teacher_metrics == {}
    assert "| nan |" not in render_model_card(facts).text
    store_metrics(folder / "config.json", {"w0.5-d1": {"accuracy": math.nan}}, "6 rows of reviews.csv")
    assert json.loads((folder / "config.json").read_text())["metrics"]["w0.5-d1"] == {"loss": 0.5}


def test_evaluate_says_which_metrics_it_does_not_store(capsys, folder, reviews, monkeypatch):
    monkeypatch.setattr(LabelledText, "evaluate", lambda self, model: {"accuracy": 0.5, "loss": math.nan})
    code, out, said = run(capsys, "evaluate", folder, "--file", reviews, "--store", "--size", "w0.5-d1", "--json")
    assert (code, json.loads(out)["w0.5-d1"]) == (0, {"accuracy": 0.5, "loss": None})
    assert "Not finite, and so not stored: loss of w0.5-d1." in said.splitlines()
    assert json.loads((folder / "config.json").read_text())["metrics"]["w0.5-d1"] == {"accuracy": 0.5}


def test_recommend_says_where_metrics_are_of_another_number_format(capsys, folder, two_profiled):
    two_profiled.write_text(two_profiled.read_text().replace('"float32"', '"int8"'))
    command = ["recommend", folder, "--profile", two_profiled, "--latency-ms", 1e6]
    note = "The stored accuracy was measured in float32; in int8 it may differ; see `dynabert export --int8`."
    assert run_json(capsys, *command)["note"] == note
    assert note in run(capsys, *command)[1].splitlines()


def test_recommend_asks_for_a_direction_that_nobody_told(capsys, folder):
    config = json.loads((folder / "config.json").read_text())
    metrics = {"w0.5-d1": {"hurt": 0.1}, "w1-d1": {"hurt": 0.3}}
    (folder / "config.json").write_text(json.dumps({**config, "metrics": metrics}))
    command = ["recommend", folder, "--flops", 1e9]
    assert_refused(capsys, "direction of the metric 'hurt' is not known", *command)
    assert run_json(capsys, *command, "--lower-is-better")["choice"]["size"] == "w0.5-d1"
    assert run_json(capsys, *command, "--higher-is-better")["choice"]["size"] == "w1-d1"
    told = {**config, "metrics": metrics, "metric_directions": {"hurt": "lower"}}
    (folder / "config.json").write_text(json.dumps(told))
    answer = run_json(capsys, *command, "--max-drop", 0.1)
    assert (answer["choice"]["size"], answer["choice"]["hurt"]) == ("w0.5-d1", 0.1)
    assert "hurt at most 0.2" in answer["reason"]


def test_recommend_shows_an_error_as_it_is(capsys, folder):
    command = ["recommend", folder, "--metric", "loss", "--max-accuracy-drop", 0.15]
    reason = run_json(capsys, *command)["reason"]
    assert reason.startswith("w0.5-d1 (loss 0.5, ")
    assert reason.endswith("loss at most 0.55.")
    assert reason in run(capsys, *command)[1].splitlines()


def test_outputs_that_cannot_be_written_are_refused_before_anything_runs(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(measurements, "profile", None)
    plot = ["recommend", folder, "--latency-ms", 5, "--plot"]
    assert_refused(capsys, "is no folder. Make it first", "profile", folder, "--output", tmp_path / "none" / "p.json")
    assert_refused(capsys, "is no folder. Make it first", *plot, tmp_path / "none" / "sizes.png")
    assert_refused(capsys, "sizes.txt' is no name for a picture. Possible suffixes are", *plot, tmp_path / "sizes.txt")
    (tmp_path / "taken.json").mkdir()
    assert_refused(capsys, "where you may write", "profile", folder, "--output", tmp_path / "taken.json")
    monkeypatch.setattr("dynabert_hf.messages.find_spec", lambda name: None)
    assert_refused(capsys, 'pip install "dynabert_hf[plots]"', *plot, tmp_path / "sizes.png")


def test_what_was_measured_is_printed_before_it_is_written(capsys, folder, tmp_path, monkeypatch):
    def fail(*arguments, **kwargs):
        raise OSError("the disk is full")

    monkeypatch.setattr(ProfileTable, "save", fail)
    monkeypatch.setattr(recommendation, "plot_pareto", fail)
    short = ["--sequence-length", 5, "--rounds", 1, "--size", "w0.5-d1"]
    for command in (["profile", *short, "--output", "p.json"], ["recommend", "--flops", 1e9, "--plot", "p.png"]):
        code, out, err = run(capsys, command[0], folder, *command[1:-1], tmp_path / command[-1])
        assert code == 1
        assert "w0.5-d1" in out
        assert "the disk is full" in err


def test_recommend_ends_with_three_where_nothing_fits(capsys, folder):
    code, out, err = run(capsys, "recommend", folder, "--parameters", 10)
    assert (code, err) == (recommendation.NOTHING_FITS, "")
    assert "Nearest is w0.25-d0.5" in " ".join(out.split())
    assert "nearest miss" in out


def test_budgets_and_settings_that_cannot_be_are_refused_before_anything_runs(capsys, folder, tmp_path):
    assert_refused(capsys, "No budget was given", "recommend", folder)
    assert_refused(capsys, "--latency-ms -1.0 is not a budget", "recommend", folder, "--latency-ms", -1)
    assert_refused(
        capsys,
        "but --batch-size [1, 2] was given. Give one value of it",
        "recommend",
        folder,
        "--flops",
        1e9,
        "--batch-size",
        1,
        2,
    )
    too_long = "--sequence-length 21 is longer than the 20 tokens that fit this model. Give at most that"
    counted = ["recommend", folder, "--flops", 1e9]
    assert_refused(capsys, too_long, *counted, "--sequence-length", 21)
    no_effect = "no effect where costs are counted from shapes: --dtype, --threads, --rounds. Possible are --batch"
    assert_refused(capsys, no_effect, *counted, "--dtype", "int8", "--threads", 2, "--rounds", 30)
    saved = ["recommend", folder, "--latency-ms", 5, "--profile", tmp_path / "profile.json"]
    assert_refused(capsys, "--rounds has no effect beside --profile", *saved, "--rounds", 2)
    assert_refused(capsys, "--runtime 'tpu' is unknown", "profile", folder, "--runtime", "tpu")
    assert_refused(capsys, "Nothing is left to measure", "profile", folder, "--dtype", "int8")
    assert_refused(capsys, "Possible suffixes are", "profile", folder, "--output", tmp_path / "profile.xls")
    make_model().save_pretrained(tmp_path / "untrained")
    assert_refused(capsys, "dynabert evaluate MODEL --file", "recommend", tmp_path / "untrained", "--flops", 1e9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "The tokenizer knows no words, only [UNK], [SEP]"),
        ("{", "model' cannot be read: Expecting property name"),
        ("{}", "model' cannot be read: "),
    ],
)
def test_a_tokenizer_whose_words_are_missing_is_refused(capsys, folder, reviews, tmp_path, content, message):
    """All words would be unknown, and the same for the model."""
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    assert_refused(capsys, message, "evaluate", folder, "--file", reviews)
    assert_refused(capsys, message, "predict", folder, "--file", reviews)
    assert_refused(capsys, message, "extract", folder, tmp_path / "small", "--size", "w0.5-d1")
    assert not (tmp_path / "small").exists()


def test_models_that_are_none_are_refused(capsys, folder, tmp_path, monkeypatch):
    assert_refused(capsys, "has no config.json, so it is not the folder of a model", "show", tmp_path)
    (tmp_path / "adapter_config.json").touch()
    assert_refused(capsys, "It holds an adapter alone: load it with the model", "show", tmp_path)
    monkeypatch.chdir(folder.parent)
    for missing in ("/no/model", "./no", "outputs/demo/model", "~/model"):
        assert_refused(capsys, f"{missing!r} holds no model: there is no such folder. Give a folder", "show", missing)
    both = f"{folder.name}/no"
    assert_refused(capsys, f"{both!r} holds no model: there is no such folder, and on the Hub: ", "show", both)
    assert "no such folder" not in run(capsys, "show", "me/no")[2]
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert_refused(capsys, "nothing is overwritten", "extract", folder, tmp_path / "link", "--size", "w0.5-d1")
    BertForSequenceClassification(make_config().to_backbone()).save_pretrained(tmp_path / "stock")
    assert_refused(capsys, "one size only. Give an elastic model; train_dynabert makes", "show", tmp_path / "stock")
    T5Config().save_pretrained(tmp_path / "t5")
    assert_refused(capsys, "Give an elastic model; one can be made of these types: bert, ", "show", tmp_path / "t5")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Other"]}))
    assert_refused(capsys, "names the class 'Other'", "show", folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    (folder / "index.json").write_text("{}")
    assert_refused(
        capsys,
        "is an ONNX export, which has no weights for torch",
        "extract",
        folder,
        tmp_path / "x",
        "--size",
        "w1-d1",
    )


def test_export_writes_onnx_and_measures_int8(capsys, folder, reviews, tmp_path, traced_once, monkeypatch):
    pytest.importorskip("onnxruntime")
    arguments = ["export", folder, tmp_path / "onnx", "--size", "l0h2n24", "--int8", "--file", reviews]
    with monkeypatch.context() as patched:
        patched.setattr("dynabert_hf.cli.products.quantize_onnx", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(capsys, *arguments)
    assert not list(tmp_path.glob("*onnx*"))
    with monkeypatch.context() as patched:
        patched.setattr(LabelledText, "evaluate", lambda *given: pytest.fail("evaluated in torch, too"))
        made = run_json(capsys, *arguments)["sizes"]["l0h2n24"]
    assert (tmp_path / "onnx" / made["int8_file"]).stat().st_size / 2**20 == pytest.approx(made["int8_mb"], abs=0.01)
    accuracy = run_json(capsys, "evaluate", folder, "--file", reviews, "--size", "l0h2n24")["l0h2n24"]["accuracy"]
    assert made["accuracy"] == pytest.approx(accuracy)
    assert 0 <= made["int8_accuracy"] <= 1
    assert (tmp_path / "onnx" / "tokenizer.json").exists()
    with monkeypatch.context() as patched:
        patched.setattr("dynabert_hf.cli.products.load_model", lambda name: pytest.fail("loaded before"))
        assert_refused(capsys, "nothing is overwritten", *arguments)
    arguments[2] = tmp_path / "again"
    *_, numbers, _ = run(capsys, *arguments)[1].splitlines()
    assert [float(number) for number in numbers.split()[1:3]] == pytest.approx(
        [made["accuracy"], made["int8_accuracy"]], abs=1e-4
    )
    run_json(capsys, "extract", folder, tmp_path / "small", "--size", "l0h2n24")  # off the grid
    assert list(run_json(capsys, "export", tmp_path / "small", tmp_path / "of-small", "--all")["sizes"]) == ["l0h2n24"]


def test_a_missing_extra_is_named_with_its_command(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("dynabert_hf.messages.find_spec", lambda name: None)
    assert_refused(capsys, 'pip install "dynabert_hf[onnx]"', "export", folder, tmp_path / "onnx")
    assert_refused(capsys, 'pip install "dynabert_hf[onnx]"', "profile", folder, "--runtime", "onnxruntime")


def test_a_wrong_command_line_ends_with_two(capsys, folder, tmp_path):
    for arguments in (
        ["nonsense"],
        ["export", folder, tmp_path / "onnx", "--int8"],
        ["export", folder, tmp_path / "onnx", "--file", tmp_path / "test.csv"],
        ["profile", folder, "--rounds", "0"],
        ["demo", folder, "--json"],
        ["export", folder, tmp_path / "onnx", "--all", "--size", "w1-d1"],
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "give labelled text with --file" in told
    assert "--file has no effect without --int8" in told


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub to its HTTP library
def test_push_publishes_the_whole_model_and_chosen_sizes(capsys, folder, hub):
    done = run_json(capsys, "push", folder, "me/reviews", "--private")
    assert hub.url in done["all"]
    assert {"model.safetensors", "tokenizer.json", "modeling_dynabert.py"} <= set(hub.files("me/reviews"))
    done = run_json(capsys, "push", folder, "me/reviews", "--size", "w0.5-d1", "--size", "w0.25-d0.5")
    assert list(done) == ["w0.5-d1", "w0.25-d0.5"]
    assert "0.8500" in hub.files("me/reviews", "w0.5-d1")["README.md"].decode()
    assert TOKEN not in str(done)
    both = ["push", folder, "me/x", "--size", "w1-d1", "--revision", "v1"]
    assert_refused(capsys, "--revision goes with the whole model", *both)
    assert_refused(capsys, "not the folder of a model", "push", folder.parent, "me/x")
    hub.failures["commit"] = 1000
    assert_refused(capsys, "Nothing on this machine was changed", "push", folder, "me/other")
