"""`dynabert trim`: the folder that it leaves, by value, and what it refuses."""

import json

import pytest
import torch
from helpers.tiny import make_model, make_tokenizer
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dynabert_cli import main
from dynabert_hf import trim_vocabulary
from dynabert_hf.cli import products

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "very", "un", "##used", "never"]
TEXTS = ["a good film", "very bad", "bad bad film", "a very very good film"]


@pytest.fixture
def folder(tmp_path):
    """A saved elastic model with its tokenizer and a metric, and texts."""
    model = make_model(stock={"num_labels": 2})
    model.config.metrics = {"w0.5-d0.5": {"accuracy": 0.75}}
    model.config.metric_rows = {"w0.5-d0.5": {"accuracy": "9 rows of dev.csv"}}
    model.save_pretrained(tmp_path / "model")
    make_tokenizer(WORDS).save_pretrained(tmp_path / "model")
    rows = [{"text": text, "words": text.split()} for text in TEXTS]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def command(folder, *more):
    paths = [str(folder / name) for name in ("model", "small")]
    return ["trim", *paths, "--file", str(folder / "texts.jsonl"), *more]


@pytest.mark.parametrize("column", ["text", "words"])
def test_the_command_is_the_call(folder, capsys, column):
    assert main(command(folder, "--text-column", column, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    expected = trim_vocabulary(model, tokenizer, TEXTS)
    assert (told["texts"], told["before"], told["after"]) == (len(TEXTS), expected.before, expected.after)
    assert told["after"]["tokens"] == len(WORDS) - 3

    small = AutoModelForSequenceClassification.from_pretrained(folder / "small").set_active("w0.5-d0.5")
    own = AutoTokenizer.from_pretrained(folder / "small")
    model.set_active("w0.5-d0.5")
    with torch.no_grad():
        before, after = (
            one(**reader(TEXTS, padding=True, return_tensors="pt")).logits
            for one, reader in ((model, tokenizer), (small, own))
        )
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("names", [("text", "text_pair"), ("sentence1", "sentence2")])
def test_both_texts_of_a_pair_keep_their_tokens(folder, capsys, names):
    rows = [dict(zip(names, TEXTS[at : at + 2], strict=True)) for at in (0, 2)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(command(folder, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["texts"] == len(TEXTS)
    kept = AutoTokenizer.from_pretrained(folder / "small").get_vocab()
    assert {word for text in TEXTS for word in text.split()} <= set(kept)


def test_the_card_and_show_tell_what_was_cut(folder, capsys):
    assert main(command(folder)) == 0
    assert "the tokens of 4 texts stay" in capsys.readouterr().out
    card = ModelCard.load(folder / "small" / "README.md")
    assert "cut from 99 tokens to the 10 that a corpus needs: 50.1 k parameters became 47.2 k" in card.text
    assert ", and 0.19 MB of weights 0.18 MB." in card.text
    assert "| `w0.5-d0.5` | 0.5 | 0.5 | 0.7500 |" in card.text
    told = "Metrics were measured on 9 rows of dev.csv, before the vocabulary was cut."
    assert told in card.text
    assert main(["show", str(folder / "small")]) == 0
    shown = capsys.readouterr().out
    assert "vocabulary trimmed to 10 of 99 tokens" in shown
    assert told in shown


def test_the_card_of_a_trimmed_model_of_the_hub_does_not_call_it_extracted(folder, monkeypatch):
    monkeypatch.setattr(products, "is_hub_id", lambda name: True)
    assert main(command(folder)) == 0
    text = (folder / "small" / "README.md").read_text()
    place = folder / "model"
    assert f"This model is a part of [{place}](https://huggingface.co/{place}), which holds the rest." in text
    assert "extracted" not in text


def test_a_file_without_texts_leaves_nothing(folder, capsys):
    (folder / "texts.jsonl").write_text(json.dumps({"text": " "}) + "\n")
    assert main(command(folder)) == 1
    assert "The texts hold no token" in capsys.readouterr().err
    assert not (folder / "small").exists()


def test_files_that_are_named_one_by_one_all_count(folder, capsys):
    """The last one alone did, and the tokens of the first were gone."""
    lines = (folder / "texts.jsonl").read_text().splitlines(keepends=True)
    (folder / "texts.jsonl").write_text("".join(lines[:1]))
    (folder / "more.jsonl").write_text("".join(lines[1:]))
    assert main(command(folder, "--file", str(folder / "more.jsonl"), "--text-column", "text", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["texts"] == len(TEXTS)
    kept = AutoTokenizer.from_pretrained(folder / "small").get_vocab()
    assert {word for text in TEXTS for word in text.split()} <= kept.keys()
