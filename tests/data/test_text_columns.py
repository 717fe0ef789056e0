"""Which columns of text may be named for a head."""

import json
import re

import pytest
from helpers.texts import REVIEW_WORDS
from helpers.tiny import make_small, make_tokenizer

from dynabert_hf import LabelledText
from dynabert_hf.data.labelled_text import tokenised_texts
from dynabert_hf.data.reading import read_datasets
from dynabert_hf.data.text_columns import TEXTS

ROW = {"a": "good film", "b": "bad", "c": "very good", "tokens": ["good"], "tags": ["LABEL_0"], "label": 0}


@pytest.mark.parametrize("pair", [names for names in TEXTS if len(names) == 2])
def test_both_texts_of_a_pair_are_read_as_glue_names_them(tmp_path, pair):
    """Of QNLI's `question` and `sentence` the second alone was read."""
    row = {**dict(zip(pair, ["good", "bad"], strict=True)), "label": 0}
    model, tokenizer = make_small(), make_tokenizer(REVIEW_WORDS)
    ids = tokenizer("good", "bad")["input_ids"]
    [found] = read_datasets({"train_dataset": [row]}, model, tokenizer)[0]["train_dataset"]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert found["input_ids"] == tokenised_texts(path, model, tokenizer)[0]["input_ids"] == ids
    assert LabelledText.from_file(path, model, tokenizer).batches[0]["input_ids"].tolist() == [ids]


@pytest.mark.parametrize(
    ("head", "named", "message"),
    [
        ("ForSequenceClassification", ["a", "b", "c"], "3 columns of text were given, ['a', 'b', 'c']. A DynaBert"),
        ("ForSequenceClassification", ["a", "a"], "The columns of text ['a', 'a'] contain one twice. Name each"),
        ("ForTokenClassification", ["tokens", "a"], "reads 1; name these alone."),
        ("ForMaskedLM", ["a", "b", "c"], "reads 1 or 2; name these alone."),
        ("ForMultipleChoice", ["a"], "takes a text and the list of its choices; name both columns."),
        ("ForQuestionAnswering", ["a", "b", "c"], "reads 2; name these alone."),
    ],
)
def test_columns_that_a_head_would_pass_over_are_refused(tmp_path, head, named, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    model, tokenizer = make_small(head), make_tokenizer(REVIEW_WORDS)
    with pytest.raises(ValueError, match=re.escape(message)):
        LabelledText.from_file(path, model, tokenizer, text_columns=named)
    with pytest.raises(ValueError, match=re.escape(message)):
        tokenised_texts(path, model, tokenizer, text_columns=named)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_datasets({"train_dataset": [ROW]}, model, tokenizer, text_columns=named)


def test_what_reads_text_is_told_where_all_rows_are_tokenised(monkeypatch):
    said = []
    monkeypatch.setattr("dynabert_hf.data.reading.logger.warning", said.append)
    model, tokenizer = make_small(), make_tokenizer(REVIEW_WORDS)
    row = {"input_ids": [2, 5, 6, 3], "labels": 0}
    named = {"train_dataset": [row], "eval_dataset": None}
    assert read_datasets(named, model, tokenizer, max_length=3, text_columns=["text"])[0] == named
    assert said == ["All rows are tokenised, so text_columns, max_length changed nothing. Give rows of text instead."]
    named["eval_dataset"] = [{"text": "good film", "label": 0}]
    assert len(read_datasets(named, model, tokenizer, max_length=3)[0]["eval_dataset"][0]["input_ids"]) == 3
    read_datasets({"train_dataset": [row]}, model, tokenizer)
    assert len(said) == 1
    read_datasets({"train_dataset": [ROW]}, model, tokenizer, has_own_batches=True)
    assert len(said) == 1
    read_datasets({"train_dataset": [ROW]}, model, tokenizer, has_own_batches=True, max_length=3, label_column="label")
    assert said[1:] == [
        "data_collator makes batches of the rows as they are, so label_column, max_length changed nothing. Let it heed "
        "them itself, and leave them out here."
    ]
