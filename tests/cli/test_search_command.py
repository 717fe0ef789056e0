"""`dynabert search` on a tiny model: what it finds is what the package finds, kept with the model if asked."""

import json

import pytest
from helpers.texts import REVIEW_WORDS, make_review_model, save_reviews
from helpers.tiny import make_model, make_small, make_tokenizer
from transformers import AutoModelForSequenceClassification

from dynabert_cli import main
from dynabert_hf import LabelledText, ModelCardFacts, count_flops, measure_importance, search_layers, write_model_card

FEW = ("--evaluations", "8", "--sequence-length", "8")


@pytest.fixture
def folder(tmp_path):
    return save_reviews(tmp_path)


def run(folder, *arguments, file="dev.csv"):
    return main(["search", str(folder / "model"), "--file", str(folder / file), *arguments])


def test_what_is_found_is_what_the_package_finds_and_is_kept(folder, capsys):
    model = make_review_model()
    text = LabelledText.from_file(folder / "dev.csv", model, make_tokenizer(REVIEW_WORDS))
    budget = count_flops(model, "w0.5-d1", sequence_length=8)
    importance = measure_importance(model, text.labelled_batches(), progress=False)
    setting = {"evaluations": 8, "sequence_length": 8, "progress": False}
    expected = search_layers(model, text, importance, flops=[budget], **setting)
    assert run(folder, "--flops", str(budget), *FEW, "--store", "--json") == 0
    told = capsys.readouterr()
    assert "Searching" not in told.err  # a bar would fill a file
    found = json.loads(told.out)["found"]
    assert [row["size"] for row in found] == [one.name for one in expected.found]
    assert found[0]["accuracy"] == expected.found[0].metrics["accuracy"]
    assert found[0]["flops"] == expected.found[0].flops <= budget  # a number, as it was counted
    loaded = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    assert expected.found[0].size in loaded.config.subnetworks
    assert loaded.config.metrics[found[0]["size"]] == expected.found[0].metrics
    assert main(["recommend", str(folder / "model"), "--flops", str(budget), "--sequence-length", "8"]) == 0
    assert main(["show", str(folder / "model")]) == 0
    assert "layers (" in capsys.readouterr().out


def test_the_card_shows_what_a_search_stored(folder, capsys):
    model = make_review_model()
    model.config.metrics = {size: {"accuracy": 0.25} for size in ("w0.25-d0.5", "w1-d1")}
    model.save_pretrained(folder / "model")
    write_model_card(folder / "model", ModelCardFacts.from_stored(model, stages={"depth": {"seed": 1}}))
    assert run(folder, "--flops", "180000", *FEW, "--store", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    card = (folder / "model" / "README.md").read_text()
    cells = [[cell.strip(" `") for cell in line.split("|")] for line in card.splitlines() if line.count("|") > 4]
    table = {own[1]: own[4] for own in cells}
    measured = {row["size"]: f"{row['accuracy']:.4f}" for row in (*told["found"], *told["grid"])}
    assert told["found"][0]["size"].startswith("l0h")  # of no width and depth, so that it was not trained
    assert measured.items() <= table.items()
    assert table["w1-d1"] == "0.2500"  # above the budget, and so not measured
    assert "16 rows of dev.csv" in card
    assert "Sizes that are not in the table run, too, but were neither trained nor measured." in card
    assert "One BERT that holds 13 usable sizes (DynaBERT), some or all of which keep heads" in card
    assert ("\n# DynaBERT in 13 sizes\n" in card, "12 sizes" in card) == (True, False)


def test_questions_are_counted_as_such(tmp_path, capsys):
    make_small("ForQuestionAnswering", stock={"num_labels": 2}).save_pretrained(tmp_path / "model")
    make_tokenizer(REVIEW_WORDS).save_pretrained(tmp_path / "model")
    row = {"question": "good", "context": "a film", "answers": {"text": ["film"], "answer_start": [2]}}
    (tmp_path / "dev.jsonl").write_text((json.dumps(row) + "\n") * 3)
    assert run(tmp_path, "--parameters", "1e9", "--evaluations", "4", file="dev.jsonl") == 0
    assert "metrics of 3 questions of" in capsys.readouterr().out


def test_a_found_shape_that_is_recommended_is_named_as_other_commands_take_it(tmp_path, capsys):
    shape = "l0h2n24-l1h4n12"
    make_model(metrics={shape: {"accuracy": 0.9}}, sizes=[shape]).save_pretrained(tmp_path / "model")
    for flops, code in (("1e9", 0), ("1", 3)):
        assert main(["recommend", str(tmp_path / "model"), "--flops", flops, "--sequence-length", "8"]) == code
        assert f"\n2 layers (6 heads, 36 neurons): --size {shape}\n" in capsys.readouterr().out


def test_a_table_fits_a_terminal(folder, capsys):
    assert run(folder, "--latency-ms", "50", "100", *FEW, "--rounds", "2") == 0
    table, *_ = capsys.readouterr().out.split("latency_ms 50:")
    assert max(map(len, table.splitlines())) <= 80
    assert table.count("found") == 2


def test_times_of_another_number_format_come_with_a_word_on_the_metric(folder, capsys, monkeypatch):
    given = []

    def search(*arguments, runtime, dtype, **told):
        given.append((runtime, dtype))
        assert [told[name] for name in ("seed", "max_rows", "evaluations", "time_limit_s")] == [3, 8, 8, 120]
        return search_layers(*arguments, **told)  # a search in int8 takes long

    monkeypatch.setattr("dynabert_hf.cli.searches.search_layers", search)
    note = "The accuracy was measured in float32; in int8 it may differ; see `dynabert export --int8`."
    command = ["--latency-ms", "5000", *FEW, "--rounds", "1", "--seed", "3", "--max-rows", "8", "--minutes", "2"]
    int8 = [*command, "--runtime", "onnxruntime", "--dtype", "int8"]
    assert run(folder, *int8) == 0
    assert capsys.readouterr().out.splitlines()[-1] == note
    for each, expected in ((int8, note), (command, None)):
        assert run(folder, *each, "--json") == 0
        assert json.loads(capsys.readouterr().out)["note"] == expected
    assert given == [("onnxruntime", "int8")] * 2 + [("torch", "float32")]


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ((), "No budgets were given. Possible is one of"),
        (("--flops", "0"), "--flops [0.0] is not a budget. Give finite numbers above 0"),
        (("--flops", "1e6", "--latency-ms", "5"), "--latency-ms, --flops were given. Possible is one of"),
        (("--flops", "10"), "--flops 10 is out of reach: the smallest shape, l0h1n12, costs"),
        (("--latency-ms", "1e-9", "--rounds", "2"), "--latency-ms 1e-09 is out of reach: the smallest shape, l0h1n12"),
        (("--flops", "1e6", "--sequence-length", "21"), "--sequence-length 21 is longer than the 20 tokens"),
    ],
)
def test_budgets_that_cannot_be_are_refused_before_importance_is_measured(
    folder, capsys, monkeypatch, budgets, message
):
    monkeypatch.setattr("dynabert_hf.cli.searches.measure_importance", lambda *_: pytest.fail("measured before"))
    assert run(folder, *budgets) == 1
    assert message in capsys.readouterr().err


def test_what_cannot_be_searched_for_is_refused(folder, capsys):
    for message, arguments in {
        "Shapes are searched for under one setting": ("--flops", "1e6", "--batch-size", "1", "8"),
        "These have no effect where costs are counted from shapes: --runtime. Possible": (
            "--flops",
            "1e6",
            "--runtime",
            "onnxruntime",
        ),
    }.items():
        assert run(folder, *arguments) == 1
        assert message in capsys.readouterr().err
    for minutes in ("-1", "nan"):
        with pytest.raises(SystemExit, match="2"):
            run(folder, "--flops", "1e6", "--minutes", minutes)
        assert f"--minutes: {minutes} is not possible; give at least 0" in capsys.readouterr().err
    assert run(folder, "--flops", "1e6", file="empty.csv") == 1
    assert "has no rows. Give" in capsys.readouterr().err
