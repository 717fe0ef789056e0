"""What the quickstart takes and refuses, data and teachers; the whole of it runs in its smoke form in CI."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import classify
import pytest
import quickstart
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from helpers.glue_tasks import make_split, save_model, write_csv
from helpers.tiny import TINY
from recipe_data import InputError
from transformers import AlbertConfig, AutoTokenizer, BertConfig, Trainer

from dynabert_hf import DynaBertForSequenceClassification
from dynabert_hf.training import result

ALL = {"num_train": None, "num_test": None}
ROWS = [f"film number {row},{'good' if row % 2 else 'bad'}" for row in range(8)]


def arguments(tmp_path, *, train=ROWS, test=ROWS, **kwargs):
    files = {
        f"{name}_file": write_csv(tmp_path / f"{name}.csv", rows, "review,verdict")
        for name, rows in (("train", train), ("test", test))
    }
    columns = {"text_column": "review", "label_column": "verdict"}
    return SimpleNamespace(**{"dataset": None, **files, **columns, "num_train": None, "seed": 0, **kwargs})


def test_a_csv_file_with_columns_of_any_name_is_taken(tmp_path):
    data = quickstart.load_data(arguments(tmp_path), {"num_train": 4, "num_test": 3})
    assert data["train"].column_names == ["text", "label"]
    assert data["train"].features["label"].names == ["bad", "good"]
    assert {split: len(part) for split, part in data.items()} == {"train": 4, "test": 3}


@pytest.mark.parametrize("names", [("bad", "fair", "good"), (1, 2, 10), (0.5, 1.5, 2.5), (-1, 0, 1)])
def test_labels_of_a_test_file_that_lacks_some_are_those_of_the_training_file(tmp_path, names):
    train, test = [f"a film,{name}" for name in names] * 2, [f"a plot,{names[2]}", f"a plot,{names[0]}"]
    data = quickstart.load_data(arguments(tmp_path, train=train, test=test), ALL)
    assert data["test"].features["label"] == data["train"].features["label"] == ClassLabel(names=list(map(str, names)))
    assert data["train"]["label"][:3] == [0, 1, 2]
    assert data["test"]["label"][:] == [2, 0]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (ROWS, ["a film,superb"], r"Column 'verdict' of split 'test' has the label 'superb'\. .* \['bad', 'good'\]"),
        (["a,0", "b,1"], ["a,0", "b,good"], r"of split 'test' has the label 'good'\. Possible is one of \['0', '1'\]"),
        (ROWS, ["a film,good", "a film,"], "of split 'test' has the label None"),
        (["a,0", "b,1"], ["a,-1", "b,-1"], "Column 'verdict' of the test data holds no labels, only -1 or nothing"),
        (ROWS, ["a film,", "a plot,"], "Column 'verdict' of the test data holds no labels.* Give test data with"),
        (ROWS, [*ROWS, ",good"], "Column 'review' of split 'test' is empty in 1 rows. Fill or remove them"),
        (["1,good", "2,bad"], ROWS, r"Column 'review' of split 'train' holds .*int64.*, not text"),
    ],
)
def test_test_data_that_cannot_be_scored_are_refused_before_fine_tuning(tmp_path, monkeypatch, train, test, message):
    files = arguments(tmp_path, train=train, test=test)
    monkeypatch.setattr(quickstart, "fine_tune", lambda *args: pytest.fail("fine-tuned"))
    command = ["quickstart.py", "--train-file", files.train_file, "--test-file", files.test_file, "--model", "none"]
    command += ["--output-dir", str(tmp_path), "--text-column", "review", "--label-column", "verdict"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=message):
        quickstart.main()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("albert", "AlbertConfig is neither .* Supported types are "),
        ("none", "none' holds no model"),
        ("bare", "bare' has no tokenizer. Save the one that it was trained with"),
    ],
)
def test_a_model_that_cannot_be_made_elastic_is_refused_before_fine_tuning(tmp_path, monkeypatch, name, message):
    files = arguments(tmp_path)
    AlbertConfig().save_pretrained(tmp_path / "albert")
    BertConfig(**TINY).save_pretrained(tmp_path / "bare")
    monkeypatch.setattr(quickstart, "fine_tune", lambda *args: pytest.fail("fine-tuned"))
    command = ["quickstart.py", "--train-file", files.train_file, "--test-file", files.test_file]
    command += ["--model", str(tmp_path / name), "--text-column", "review", "--label-column", "verdict"]
    monkeypatch.setattr(sys, "argv", [*command, "--output-dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=message):
        quickstart.main()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_data_set_without_a_part_to_train_or_measure_on_is_refused(tmp_path, split):
    DatasetDict({split: Dataset.from_dict({"text": ["a"], "label": ["good"]})}).save_to_disk(tmp_path)
    with pytest.raises(InputError, match=rf"has the splits \['{split}'\]; needed are train and test or validation"):
        quickstart.load_given(SimpleNamespace(dataset=str(tmp_path)))


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    with pytest.raises(InputError, match=r"train data has no column 'text', only \['review', 'verdict'\]"):
        quickstart.load_given(arguments(tmp_path, text_column="text"))
    files = arguments(tmp_path)
    write_csv(files.test_file, ["a film"], "review")
    with pytest.raises(InputError, match=r"test data has no column 'verdict', only \['review'\]"):
        quickstart.load_given(files)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--train-file", "a.csv"], "--train-file and --test-file go together. Give both."),
        (["--test-file", "a.csv"], "--train-file and --test-file go together. Give both."),
        (["--dataset", "imdb", "--train-file", "a.csv", "--test-file", "b.csv"], "--dataset was given beside files."),
        (["--text-column", "review"], "The embedded data have one text and one label column. Name data, too."),
        (["--smoke", "--num-train", "200"], "--num-train has no effect with --smoke. Leave one of them out."),
        (["--num-train", "1"], "--num-train 1 is not possible. Give at least 2."),
        (["--seed", "-1"], "--seed -1 is not possible. Give 0 to 4294967295."),
    ],
)
def test_what_cannot_be_or_would_not_be_heeded_is_refused(monkeypatch, capsys, given, message):
    monkeypatch.setattr(sys, "argv", ["quickstart.py", *given])
    with pytest.raises(SystemExit, match="2"):
        quickstart.parse_arguments()
    assert message in capsys.readouterr().err


def test_several_processes_would_write_over_each_other_and_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["quickstart.py"])
    monkeypatch.setenv("WORLD_SIZE", "1")
    quickstart.parse_arguments()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="2"):
        quickstart.parse_arguments()
    assert "this script is made for one. Start it by python, or train by run_glue.py" in capsys.readouterr().err


def fine_tune(
    folder, *, model="model", spread=0.02, num_train=16, data_seed="train", seed=0, num_held_out=0, **training
):
    """A teacher of a tiny model and a tiny data set, in the sub-folder `out`."""
    base = save_model(folder / model, head=False, initializer_range=spread)
    tokenizer = AutoTokenizer.from_pretrained(base)
    train = make_split("sst2", num_train, seed=data_seed)
    data = DatasetDict(train=train.map(lambda rows: tokenizer(rows["sentence"]), batched=True))
    settings = {
        "folder": folder / "out",
        "teacher": {"max_steps": 1, "use_cpu": True, "disable_tqdm": True, **training},
        "num_held_out": num_held_out,
    }
    return quickstart.fine_tune(base, data, tokenizer, settings, seed)


@pytest.mark.parametrize("model", ["model", "moved"])
def test_a_second_run_takes_up_its_teacher_wherever_the_model_lies(tmp_path, monkeypatch, model):
    first = fine_tune(tmp_path)
    monkeypatch.setattr(Trainer, "train", lambda self: pytest.fail("trained again"))
    again = fine_tune(tmp_path, model=model)
    for (name, weight), other in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, other), name


def labelled(num_rows, num_classes):
    names = [f"class {number}" for number in range(num_classes)]
    rows = {"text": ["a"] * num_rows, "label": [row % num_classes for row in range(num_rows)]}
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    return DatasetDict(train=Dataset.from_dict(rows, features=features))


@pytest.mark.parametrize(
    ("num_rows", "num_classes", "teacher", "sizes"),
    [(3000, 2, 3, 3), (1540, 77, 24, 6), (320, 2, 29, 29), (60, 77, 30, 30), (50_000, 2, 3, 3)],
)
def test_epochs_scale_with_sentences_and_classes(num_rows, num_classes, teacher, sizes):
    settings = {"teacher": {}, "training": dict(quickstart.TRAINING)}
    scaled = quickstart.scaled(settings, labelled(num_rows, num_classes))
    assert scaled["teacher"] == {"num_train_epochs": teacher}
    assert scaled["training"] == {**quickstart.TRAINING, "num_train_epochs": sizes}
    assert scaled["num_held_out"] == num_rows // 10
    assert settings == {"teacher": {}, "training": quickstart.TRAINING}


def test_rows_that_are_held_out_are_not_fine_tuned_on(tmp_path, monkeypatch):
    given = []

    def record(*args, train_dataset, eval_dataset=None, **kwargs):
        given.append([list(part["input_ids"]) for part in (train_dataset, eval_dataset) if part])
        return Trainer(*args, train_dataset=train_dataset, eval_dataset=eval_dataset, **kwargs)

    monkeypatch.setattr(quickstart, "Trainer", record)
    fine_tune(tmp_path / "all")
    fine_tune(tmp_path / "part", num_held_out=4)
    [rows], (trained, held_out) = given
    assert (len(trained), len(held_out)) == (12, 4)
    assert sorted(trained + held_out) == sorted(rows)


def test_the_seed_is_that_of_the_teacher_and_of_the_distillation(tmp_path, monkeypatch):
    model, seeds = save_model(tmp_path / "model", head=False), []
    monkeypatch.setattr(quickstart, "fine_tune", lambda *given: seeds.append(given[-1]))
    monkeypatch.setattr(quickstart, "train_dynabert", lambda *given, seed, **told: seeds.append(seed) or 1 / 0)
    given = ["--smoke", "--seed", "7", "--model", str(model), "--output-dir", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["quickstart.py", *given])
    with pytest.raises(ZeroDivisionError):
        quickstart.run(quickstart.parse_arguments())
    assert seeds == [7, 7]


def test_fine_tuning_ends_when_what_is_held_out_is_predicted_no_better(tmp_path):
    def tuned(name, **training):
        told = {"max_steps": -1, "num_train_epochs": 30, "learning_rate": 0.0, **training}
        fine_tune(tmp_path / name, num_held_out=4, **told)
        return json.loads((tmp_path / name / "out" / "settings.json").read_text())

    epochs = []
    counted = quickstart.EarlyStoppingCallback.on_evaluate

    def count(self, args, state, control, metrics, **kwargs):
        epochs.append(metrics["eval_loss"])
        return counted(self, args, state, control, metrics, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickstart.EarlyStoppingCallback, "on_evaluate", count)
        settings = tuned("out")
    assert len(epochs) == 1 + quickstart.PATIENCE
    assert settings["sentences"] == 16
    assert not (tmp_path / "out" / "out" / "teacher-training").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"spread": 0.1}, r"made with {'weights': '\w+'}, now {'weights': '\w+'} is asked\. Give the same"),
        ({"model": "other", "spread": 0.1}, r"made with {'model': '\S+/model', 'weights': .*/other', 'weights': "),
        ({"num_train": 12}, "made with {'sentences': 16, .* now {'sentences': 12, "),
        ({"data_seed": "another"}, "made with {'rows': "),
        ({"seed": 1}, "made with {'seed': 0}, now {'seed': 1} is asked"),
        ({"max_steps": 2}, "{'training': .*'max_steps': 1.* now .*'max_steps': 2"),
    ],
)
def test_a_teacher_of_another_model_or_data_is_refused(tmp_path, changed, message):
    fine_tune(tmp_path)
    with pytest.raises(InputError, match=message):
        fine_tune(tmp_path, **changed)


def test_a_teacher_of_which_nobody_knows_what_it_was_made_of_is_refused(tmp_path):
    fine_tune(tmp_path)
    (tmp_path / "out" / "settings.json").unlink()
    with pytest.raises(
        InputError, match=r"out' holds a teacher, but no settings.json .* another folder by --output-dir"
    ):
        fine_tune(tmp_path)


@pytest.mark.parametrize(("size", "name"), [([], "demo"), (["--smoke"], "smoke"), (["--full"], "full")])
def test_every_run_has_a_folder_of_its_own_or_the_one_that_was_named(tmp_path, monkeypatch, size, name):
    for given, expected in (([], Path("outputs") / name), (["--output-dir", str(tmp_path)], tmp_path)):
        monkeypatch.setattr(sys, "argv", ["quickstart.py", *size, *given])
        assert quickstart.settings_of(quickstart.parse_arguments())["folder"] == expected


def test_what_is_classified_at_the_end_are_given_sentences_or_those_of_the_callers_own_data(tmp_path):
    test = quickstart.load_data(arguments(tmp_path), ALL)["test"]
    sentences, labels = quickstart.shown(arguments(tmp_path, sentences=[]), test)
    own = dict(row.split(",") for row in ROWS)
    assert len(sentences) == quickstart.NUM_SHOWN
    assert labels == [own[sentence] for sentence in sentences]
    assert quickstart.shown(arguments(tmp_path, sentences=["Mine."]), test) == (["Mine."], [])
    embedded = SimpleNamespace(dataset=None, train_file=None, sentences=[])
    assert quickstart.shown(embedded, test) == (quickstart.SENTENCES, [])


@pytest.mark.parametrize(
    ("given", "hub_id", "name"),
    [
        ({"test_file": "{here}/test.csv"}, None, "test.csv"),
        ({"dataset": "{here}/folder/"}, None, "folder"),
        ({"dataset": "me/reviews"}, "me/reviews", "me/reviews"),
        ({}, None, "held-out movie-review snippets, rated by people and published with VADER"),
    ],
)
def test_a_card_names_data_by_their_id_and_those_of_this_machine_without_their_place(tmp_path, given, hub_id, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "test.csv").touch()
    named = {"test_file": None, "dataset": None} | {key: text.format(here=tmp_path) for key, text in given.items()}
    assert quickstart.about_data(SimpleNamespace(**named)) == {"dataset_id": hub_id, "dataset_name": name}


@pytest.mark.filterwarnings("ignore:Some sizes are the same network")
def test_a_run_on_a_file_of_a_bank_speaks_of_the_bank_alone(tmp_path, monkeypatch, capsys):
    def in_this_process(command, check):
        assert (command[0], check) == (sys.executable, True)
        monkeypatch.setattr(sys, "argv", command[1:])
        classify.main()

    rows = [f"-where is my [card] {row},{'[lost]' if row % 2 else '-late'}" for row in range(8)]
    files = arguments(tmp_path, train=[*rows, f"{'where is it ' * 20},-late"], test=rows[:5])
    out = tmp_path / "out [at]" / ("long" * 20)
    command = ["quickstart.py", "--train-file", files.train_file, "--test-file", files.test_file, "--smoke"]
    command += ["--text-column", "review", "--label-column", "verdict", "--output-dir", str(out)]
    monkeypatch.setattr(sys, "argv", [*command, "--model", str(save_model(tmp_path / "model [of]", head=False))])
    monkeypatch.setattr(result, "find_spec", lambda name: None)  # matplotlib is not installed
    monkeypatch.setattr(quickstart, "subprocess", SimpleNamespace(run=in_this_process))
    capsys.readouterr()
    quickstart.main()
    told, said = capsys.readouterr()
    assert not re.search("Loading weights|Map:|Writing model shards", said)  # bars would fill a file
    assert f"Fine-tuning the teacher, {tmp_path / 'model [of]'}\n" in told
    assert f"\nModel: {out / 'dynabert' / 'model'}\n" in told
    assert "Picture:" not in told
    card = (out / "dynabert" / "model" / "README.md").read_text()
    assert "Latency: median of one sentence of 20 tokens on" in card
    last = told.partition("4/4")[2]
    own = dict(row.split(",") for row in rows)
    shown = re.findall(r"(-where is my \[card\] \d)\nright: (.*)\n", last)
    assert len(shown) == quickstart.NUM_SHOWN
    assert all(own[text] == label.strip() for text, label in shown)
    answers = re.findall(r"(w[\d.]+-d[\d.]+) +│ (\[lost\]|-late) +│", last)
    assert len(answers) == 3 * quickstart.NUM_SHOWN
    assert "test.csv" in card
    assert not re.search("film|movie|snippet|VADER", told + card)


def test_classify_refuses_labels_that_are_not_one_for_each_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["classify.py", "--label=a", "--label=b", "model", "One sentence."])
    with pytest.raises(SystemExit):
        classify.main()
    assert "2 labels were given for 1 sentences. Give one --label for each sentence" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "kind", "headings"),
    [
        (3, "single_label_classification", ["label", "confidence"]),
        (3, "multi_label_classification", ["labels", "confidences"]),
        (1, "regression", ["value"]),
    ],
)
def test_classify_shows_what_predict_says_of_long_texts_and_of_any_labels(
    tmp_path, monkeypatch, capsys, labels, kind, headings
):
    names = {0: "warm", 1: "dull", 2: "long"}
    config = {"id2label": names, "label2id": {name: number for number, name in names.items()}} if labels > 1 else {}
    save_model(tmp_path / "stock", labels=labels, problem_type=kind, initializer_range=0.6, **config)
    model = DynaBertForSequenceClassification.from_pretrained(tmp_path / "stock", widths=[0.5, 1.0], depths=[1.0])
    model.save_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "stock")
    assert tokenizer.model_max_length > 10**6
    tokenizer.save_pretrained(tmp_path / "model")
    text = "a warm film that is too long " * 9
    monkeypatch.setattr(sys, "argv", ["classify.py", str(tmp_path / "model"), text])
    classify.main()
    told = capsys.readouterr().out
    lines = told.replace("┃", "│").splitlines()
    first, *rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert first == ["size", *headings]
    shown = {size: answer for size, *answer in rows}
    for size in ("w0.5-d1", "w1-d1"):
        model.set_active(size)
        read = tokenizer(text, truncation=True, max_length=20, return_tensors="pt")
        logits = model.eval()(**read).logits[0].detach().double()
        shares = logits.sigmoid() if kind.startswith("multi") else logits.softmax(-1)
        expected = {
            "label": [names[int(logits.argmax())], f"{shares.max():.3f}"],
            "labels": [
                ", ".join(names[at] for at, share in enumerate(shares) if share > 0.5),
                ", ".join(f"{names[at]} {share:.3f}" for at, share in enumerate(shares)),
            ],
            "value": [f"{logits[0]:.3f}"],
        }
        assert shown[size] == expected[headings[0]]


def test_classify_answers_at_layer_shapes_also_of_a_model_that_has_no_other_size(tmp_path, monkeypatch, capsys):
    name = save_model(tmp_path / "stock")
    model = DynaBertForSequenceClassification.from_pretrained(name, sizes=["l1h2n20"], widths=[1.0], depths=[1.0])
    for made, sizes in ((model, 2), (model.extract("l1h2n20"), 1)):
        made.save_pretrained(tmp_path / "model")
        AutoTokenizer.from_pretrained(name).save_pretrained(tmp_path / "model")
        monkeypatch.setattr(sys, "argv", ["classify.py", str(tmp_path / "model"), "a warm film"])
        classify.main()
        told = capsys.readouterr().out
        score = made.set_active("l1h2n20").eval()(
            **AutoTokenizer.from_pretrained(name)("a warm film", return_tensors="pt")
        )
        assert f"1 layers (2 heads, 20 neurons) │ LABEL_{int(score.logits.argmax())}" in told
        assert told.count("LABEL_") == sizes


@pytest.mark.parametrize("end", ["", EOFError])
def test_sentences_are_asked_for_until_an_empty_one_or_the_end_of_the_input(monkeypatch, end):
    monkeypatch.setattr("builtins.input", Mock(side_effect=["A film. ", "Another.", end]))
    assert list(classify.typed()) == ["A film.", "Another."]
