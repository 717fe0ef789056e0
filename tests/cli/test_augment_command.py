"""`dynabert augment`: the file that it leaves, by value, and what it refuses."""

import errno
import json

import pytest
import torch
from datasets.packaged_modules.parquet.parquet import Parquet
from helpers.tiny import TINY, make_tokenizer
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel

from dynabert_cli import main
from dynabert_hf.data import augmented_files
from dynabert_hf.data.augmentation import WordReplacement
from dynabert_hf.data.augmented_files import augment_file
from dynabert_hf.data.word_vectors import WordVectors

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "plot", "actor", "scene"]


@pytest.fixture
def folder(tmp_path):
    """A saved masked language model with its tokenizer, its encoder without the head, and a file of pairs."""
    torch.manual_seed(0)
    config = BertConfig(**{**TINY, "vocab_size": len(VOCABULARY), "initializer_range": 0.5})
    BertForMaskedLM(config).save_pretrained(tmp_path / "mlm")
    BertModel(config).save_pretrained(tmp_path / "encoder")
    for name in ("mlm", "encoder"):
        make_tokenizer(VOCABULARY).save_pretrained(tmp_path / name)
    rows = [{"one": "good film", "two": "bad plot", "label": 1}, {"one": "bad", "two": "scene", "label": 0}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def command(folder, *more, model="mlm"):
    files = ["augment", str(folder / "pairs.jsonl"), "--output", str(folder / "more.jsonl")]
    return [*files, "--model", str(folder / model), "--text-column", "one", "two", *more]


def test_the_command_is_the_call(folder, capsys):
    options = ["--copies", "9", "--probability", "0.5", "--candidates", "3", "--seed", "4", "--json"]
    assert main(command(folder, *options)) == 0
    printed = capsys.readouterr()
    assert "Augmenting" not in printed.err  # a bar would fill a file
    told = json.loads(printed.out)
    tokenizer, model = AutoTokenizer.from_pretrained(folder / "mlm"), BertForMaskedLM.from_pretrained(folder / "mlm")
    replacement = WordReplacement(model, tokenizer, num_candidates=3, probability=0.5)
    expected = folder / "expected.jsonl"
    count = augment_file(
        folder / "pairs.jsonl", expected, replacement, text_columns=["one", "two"], copies=9, seed=4, progress=False
    )
    assert told == {"file": str(folder / "more.jsonl"), "rows": count}
    assert (folder / "more.jsonl").read_text() == expected.read_text()
    assert count > 6


def test_words_with_tags_are_no_text_to_change(folder, capsys):
    (folder / "pairs.jsonl").write_text('{"one": ["good", "film"], "two": "bad", "label": ["O", "O"]}\n')
    assert main(command(folder)) == 1
    assert "Row 0 (counted from 0) has the list ['good', 'film'] in column 'one'. Words are" in capsys.readouterr().err


@pytest.mark.parametrize("names", [["text"], ["sentence"], ["question", "sentence"], ["text", "text_pair"]])
def test_columns_of_usual_names_are_found_as_evaluate_finds_them(folder, names, capsys):
    """Of a pair in `text` and `text_pair` only the first was changed; `sentence` was refused."""
    row = dict(zip(names, ["good film", "bad plot"], strict=False)) | {"label": 1}
    (folder / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    named = command(folder, "--probability", "1")
    at = named.index("--text-column")
    assert main([*named[:at], *named[at + 3 :]]) == 0
    rows = [json.loads(line) for line in (folder / "more.jsonl").read_text().splitlines()]
    assert all(len({each[name] for each in rows}) > 1 for name in names)
    (folder / "pairs.jsonl").write_text(json.dumps({"review": "good film"}) + "\n")
    (folder / "more.jsonl").unlink()
    assert main([*named[:at], *named[at + 3 :]]) == 1
    assert "has no column ['text'], only ['review']. Name the right columns" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["parts", "copy", "file"])
def test_a_full_disk_is_told_of_by_the_file_that_was_asked_for(folder, capsys, monkeypatch, written):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", str(arguments[-1]))

    before = sorted(folder.iterdir())
    with monkeypatch.context() as full:
        if written == "parts":
            full.setattr(augmented_files.pq, "write_table", fail)
        elif written == "copy":
            full.setattr(Parquet, "_generate_tables", fail)
        else:
            full.setitem(augmented_files.WRITERS, ".jsonl", fail)
        assert main(command(folder)) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    reason = "No space left on device. All that was saved before is kept. Make room, and run again to go on from there."
    assert told == f"dynabert augment: {str(folder / 'more.jsonl')!r} could not be written: {reason}"
    assert not (folder / "more.jsonl").exists()
    assert main(command(folder)) == 0
    assert sorted(folder.iterdir()) == sorted([*before, folder / "more.jsonl"])


@pytest.mark.parametrize(
    ("options", "model", "message"),
    [
        ([], "encoder", "is no masked language model, such as bert-base-uncased: "),
        ([], "nowhere", "nowhere' holds no model: "),
        (["--word-vectors", "nowhere.txt"], "mlm", "There is no file 'nowhere.txt'. Give a text file of word vectors"),
        (["--text-column", "three"], "mlm", "has no column ['three']"),
        (
            ["--output", "more.pdf", "--word-vectors", "nowhere.txt"],
            "mlm",
            "'more.pdf' ends in '.pdf'. Possible is one",
        ),
        (["--seed", "-1"], "mlm", "--seed -1 is not possible. Give a whole number of at least 0"),
        (["--probability", "2"], "mlm", "--probability 2.0 is not possible. Give a number above 0 and up to 1"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(folder, capsys, options, model, message):
    before = sorted(folder.iterdir())
    assert main(command(folder, *options, model=model)) == 1
    assert message in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--probability", "2"], "--probability 2.0 is not possible"),
        (["--seed", "-1"], "--seed -1 is not possible"),
        (["--text-column", "three"], "has no column ['three']"),
        ([], "Row 0 (counted from 0) has no text in column 'two'"),
    ],
)
def test_all_else_is_checked_before_vectors_are_read(folder, capsys, monkeypatch, options, message):
    """Reading vectors takes minutes."""
    monkeypatch.setattr(WordVectors, "from_file", lambda path: pytest.fail("the vectors were read"))
    if not options:
        (folder / "pairs.jsonl").write_text(json.dumps({"one": "good film", "two": " "}) + "\n")
    assert main(command(folder, "--word-vectors", "vectors.txt", *options)) == 1
    assert message in capsys.readouterr().err
