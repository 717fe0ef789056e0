"""`dynabert store-outputs`: the folder that it leaves, by value, and what it refuses."""

import json

import pytest
import torch
from helpers.tiny import make_model, make_tokenizer
from transformers import AutoTokenizer

from dynabert_cli import main
from dynabert_hf import StoredOutputs

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
    assert json.loads(capsys.readouterr().out) == {"folder": str(folder / "outputs"), "texts": 4}
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
        (["--dtype", "int8"], "dtype='int8' is unknown. Possible is one of float32"),
        (["--text-column", "sentence"], "has no column ['sentence'], only ['text']"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(folder, capsys, options, message):
    assert main(command(folder, *options)) == 1
    assert message in capsys.readouterr().err
    assert not (folder / "outputs").exists()
