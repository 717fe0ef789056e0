"""`dynabert specialise`: the folder that it leaves, by value, and what it refuses."""

import json

import pytest
import torch
from helpers.tiny import make_model, make_tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertForSequenceClassification

from dynabert_cli import main
from dynabert_hf import specialise

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "very"]
TEXTS = ["a good film", "very bad", "bad bad film", "good", "a very very good film", "film"]


@pytest.fixture
def folder(tmp_path):
    """A saved elastic model with its tokenizer, the fine-tuned one beside it, and texts without labels."""
    model = make_model(stock={"num_labels": 2})
    model.save_pretrained(tmp_path / "model")
    model.to_backbone().save_pretrained(tmp_path / "teacher")
    make_tokenizer(WORDS).save_pretrained(tmp_path / "model")
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return tmp_path


def command(folder, *more):
    paths = [str(folder / name) for name in ("model", "small")]
    return ["specialise", *paths, "--file", str(folder / "texts.jsonl"), *more]


@pytest.mark.parametrize("with_teacher", [False, True])
def test_the_command_is_the_call(folder, capsys, with_teacher):
    options = ["--teacher", str(folder / "teacher")] if with_teacher else []
    sizes = ["--size", "w0.5-d0.5", "--epochs", "2", "--learning-rate", "1e-3", "--train-batch-size", "2"]
    assert main(command(folder, *sizes, *options, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["size"], told["texts"], told["epochs"]) == ("w0.5-d0.5", 6, 2)

    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    expected = specialise(
        model,
        "w0.5-d0.5",
        teacher=BertForSequenceClassification.from_pretrained(folder / "teacher") if with_teacher else None,
        train_dataset=[dict(tokenizer(text)) for text in TEXTS],
        processing_class=tokenizer,
        num_train_epochs=2,
        learning_rate=1e-3,
        per_device_train_batch_size=2,
        disable_tqdm=True,
        output_dir=folder / "training",
    )
    found = AutoModelForSequenceClassification.from_pretrained(folder / "small")
    assert found.config.stored_layers == expected.config.stored_layers
    assert all(torch.equal(found.state_dict()[name], weight) for name, weight in expected.state_dict().items())
    assert not torch.equal(found.classifier.weight, model.classifier.weight)
    assert AutoTokenizer.from_pretrained(folder / "small")("good film").input_ids == tokenizer("good film").input_ids
    card = (folder / "small" / "README.md").read_text()
    assert "# DynaBERT, w0.5-d0.5\n" in card
    assert "| `w0.5-d0.5` | 0.5 | 0.5 |" in card
    assert "Training used 6 rows. Stage `alone` distilled this size further. A teacher was the full size" in card
    for name, value in {"num_train_epochs": 2.0, "learning_rate": 0.001, "per_device_train_batch_size": 2}.items():
        assert f"| `{name}` | {value} |" in card


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "w7-d1"], "width"),
        (["--size", "w0.5-d0.5", "--text-column", "sentence"], "has no column ['sentence'], only ['text']"),
        (["--size", "w0.5-d0.5", "--teacher", "no/model"], "'no/model' holds no model: "),
        (["--size", "w0.5-d0.5", "--teacher", "."], "'.' holds no model: "),
        (["--size", "w0.5-d0.5", "--teacher", "untuned"], "'untuned' is no fine-tuned model of this task: bert"),
        (
            ["--size", "w0.5-d0.5", "--teacher", "other"],
            "The tokenizer of the teacher 'other' calls 'bad' number 4, that of the model 5. Both read the same",
        ),
        (["--size", "w0.5-d0.5", "--learning-rate", "1e30", "--epochs", "4"], "The loss of w0.5-d0.5 is nan at step "),
        (["--size", "w0.5-d0.5", "--learning-rate", "1e300", "--epochs", "2"], "finite after step 2. Nothing is kept"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(folder, capsys, monkeypatch, options, message):
    make_model(head="ForMaskedLM").to_backbone().save_pretrained(folder / "untuned")
    make_model(stock={"num_labels": 2}).to_backbone().save_pretrained(folder / "other")
    make_tokenizer([*WORDS[:4], "bad", "good", *WORDS[6:]]).save_pretrained(folder / "other")
    monkeypatch.chdir(folder)
    assert main(command(folder, *options)) == 1
    assert message in capsys.readouterr().err
    assert not (folder / "small").exists()


def test_of_long_questions_it_is_said_how_many_windows_were_read(tmp_path, capsys):
    stock = {"num_labels": 2, "max_position_embeddings": 12}
    make_model(head="ForQuestionAnswering", stock=stock).save_pretrained(tmp_path / "model")
    make_tokenizer(WORDS).save_pretrained(tmp_path / "model")
    rows = [{"question": "very good", "context": "good bad film a very " * 3}, {"question": "bad", "context": "a film"}]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(command(tmp_path, "--size", "w0.5-d0.5")) == 0
    assert "distilled on 5 windows for 0.5 epochs" in capsys.readouterr().out  # of two texts
    assert "Training used" not in (tmp_path / "small" / "README.md").read_text()
