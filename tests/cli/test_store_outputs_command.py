"""`dynabert store-outputs`: the folder that it leaves, by value, and what it refuses."""

import json

import pytest
import torch
from datasets import Dataset
from helpers.tiny import make_model, make_tokenizer
from transformers import AutoTokenizer

from dynabert_cli import main
from dynabert_hf import StoredOutputs, store_teacher_outputs, train_dynabert

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "very"]
TEXTS = ["a good film", "very bad", "bad bad film", "good"]


@pytest.fixture
def folder(tmp_path):
    make_model().to_backbone().save_pretrained(tmp_path / "teacher")
    make_tokenizer(WORDS).save_pretrained(tmp_path / "teacher")
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return tmp_path


def command(folder, *more):
    paths = [str(folder / name) for name in ("teacher", "outputs")]
    return ["store-outputs", *paths, "--file", str(folder / "texts.jsonl"), *more]


def test_the_folder_holds_what_the_teacher_says(folder, capsys):
    assert main(command(folder, "--hidden-states", "--json")) == 0
    told = capsys.readouterr()
    assert "Asking" not in told.err  # a bar would fill a file
    assert json.loads(told.out) == {"folder": str(folder / "outputs"), "texts": 4}
    batch = AutoTokenizer.from_pretrained(folder / "teacher")(TEXTS[::-1], padding=True, return_tensors="pt")
    found = StoredOutputs(folder / "outputs").outputs(batch, hidden_states=True)
    with torch.no_grad():
        expected = make_model()(**batch, output_hidden_states=True)
    torch.testing.assert_close(found.logits, expected.logits)
    mask = batch["attention_mask"].bool()
    for ours, theirs in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours[mask], theirs[mask])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dtype", "int8"], "--dtype 'int8' is unknown. Possible is one of 'float32'"),
        (["--text-column", "sentence"], "has no column ['sentence'], only ['text']"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(folder, capsys, options, message):
    assert main(command(folder, *options)) == 1
    assert message in capsys.readouterr().err
    assert not (folder / "outputs").exists()


def test_a_folder_that_cannot_be_is_refused_with_nothing_said_of_training(folder, capsys):
    (folder / "outputs").write_text("")
    assert main(command(folder)) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "outputs' cannot be written to: " in told
    assert "The teacher was not asked. Give a folder that can be made and written to, on a disk with" in told
    assert "room for its outputs" in told
    assert "train" not in told.replace(str(folder), "")


def test_a_teacher_that_does_not_exist_is_told_by_its_name(folder, capsys):
    assert main(["store-outputs", "no/model", *command(folder)[2:]]) == 1
    told = capsys.readouterr().err
    assert "'no/model' holds no model: " in told
    assert told.endswith(". Give a folder that save_pretrained or train_dynabert wrote, or a Hub id.\n")
    assert not (folder / "outputs").exists()


def test_a_teacher_that_was_cut_is_refused_as_such(folder, capsys):
    small = make_model().extract("w0.5-d0.5")
    small.save_pretrained(folder / "teacher")
    message = (
        "that was cut by extraction was given to learn from. It does not hold its full size, which teaches. Give the"
    )
    assert main(command(folder)) == 1
    assert message in capsys.readouterr().err
    rows = [{"input_ids": [2, 5, 3], "labels": 0}]
    with pytest.raises(ValueError, match=message):
        store_teacher_outputs(small, rows, folder / "outputs")
    with pytest.raises(ValueError, match=message):
        train_dynabert(small, train_dataset=rows, output_dir=folder / "run")
    assert not {"outputs", "run"} & {path.name for path in folder.iterdir()}


def test_columns_of_usual_names_are_found_also_those_of_choices(tmp_path, capsys):
    rows = [{"text": "a good film", "choices": ["very", "bad film"]}, {"text": "bad", "choices": ["a", "good good a"]}]
    pairs = [{"sentence1": "very", "sentence2": "bad film"}]
    for head, given in (("ForMultipleChoice", rows), ("ForSequenceClassification", pairs)):
        folder = tmp_path / head
        make_model(head=head).to_backbone().save_pretrained(folder / "teacher")
        tokenizer = make_tokenizer(WORDS)
        tokenizer.save_pretrained(folder / "teacher")
        (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given))
        assert main(command(folder, "--json")) == 0, capsys.readouterr().err
        model, stored = make_model(head=head), StoredOutputs(folder / "outputs")
        for row in given:
            first, second = row.values()
            if head == "ForMultipleChoice":
                one = tokenizer([first] * len(second), second, padding=True, return_tensors="pt")
                batch = {name: each[None] for name, each in one.items()}
            else:
                batch = dict(tokenizer([first], [second], return_tensors="pt"))
            with torch.no_grad():
                expected = model(**batch).logits
            torch.testing.assert_close(stored.outputs(batch, hidden_states=False).logits, expected)
    one_column = command(tmp_path / "ForMultipleChoice", "--text-column", "text")
    assert main([each.replace("outputs", "more") if each.endswith("/outputs") else each for each in one_column]) == 1
    assert "takes a text and the list of its choices; name both columns" in capsys.readouterr().err


def test_long_questions_are_the_windows_that_training_reads(tmp_path, capsys):
    teacher = make_model(head="ForQuestionAnswering", stock={"num_labels": 2, "max_position_embeddings": 12})
    teacher = teacher.to_backbone()
    teacher.save_pretrained(tmp_path / "teacher")
    tokenizer = make_tokenizer(WORDS)
    tokenizer.save_pretrained(tmp_path / "teacher")
    long = " ".join(WORDS[4:] * 4)
    rows = [{"question": "very good", "context": long[:60]}, {"question": "bad", "context": "a film"}]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(command(tmp_path, "--json")) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["windows"] == 5
    loaded = AutoTokenizer.from_pretrained(tmp_path / "teacher")
    given = {"processing_class": loaded, "progress": False}
    called = store_teacher_outputs(teacher, Dataset.from_list(rows), tmp_path / "called", **given)
    assert StoredOutputs(tmp_path / "outputs").about == called.about


def test_words_that_training_masks_anew_are_refused_and_masked_rows_are_stored(tmp_path, capsys):
    teacher = make_model(head="ForMaskedLM")
    teacher.to_backbone().save_pretrained(tmp_path / "teacher")
    tokenizer = make_tokenizer([*WORDS, "[MASK]"])
    tokenizer.save_pretrained(tmp_path / "teacher")
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "a good film"}) + "\n")
    assert main(command(tmp_path)) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "training masks other words of them in every batch, and what a BertForMaskedLM says of one draw" in told
    assert "Give these, or give the teacher itself to the training" in told
    assert not (tmp_path / "outputs").exists()
    given = (([2, 9, 5, 3], [-100, 4, -100, -100]), ([2, 9, 3], [-100, 6, -100]))
    rows = [{"input_ids": ids, "labels": labels} for ids, labels in given]
    stored = store_teacher_outputs(teacher, rows, tmp_path / "masked", processing_class=tokenizer, progress=False)
    batch = {"input_ids": torch.tensor([[2, 9, 3]])}
    with torch.no_grad():
        torch.testing.assert_close(stored.outputs(batch, hidden_states=False).logits, teacher(**batch).logits)
