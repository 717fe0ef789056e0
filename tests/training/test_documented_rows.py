"""The rows of every task that docs/tasks.md shows: each trains and is measured in one call, as it stands there."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from helpers.recipes import run_recipe
from helpers.tiny import TINY, make_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"
ROWS = dict(re.findall(r"^\| ([a-z ]+) \| `(\{.*\})` \|$", PAGE.read_text(), re.M))
WORDS = ["a", "good", "film", "rome", "won", "who", "it", "is", "wet", "the", "door", "she", "plane", "book", "table"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def named(*names):
    return {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}


MODELS = {
    "one label": ("ForSequenceClassification", named("positive", "negative"), ["accuracy"]),
    "a pair of texts": ("ForSequenceClassification", named("contradiction", "entailment"), ["accuracy"]),
    "several labels": (
        "ForSequenceClassification",
        {**named("dining", "travel", "work"), "problem_type": "multi_label_classification"},
        ["micro_f1", "accuracy"],
    ),
    "a value": ("ForSequenceClassification", {"num_labels": 1}, ["pearson", "mse"]),
    "several values": (
        "ForSequenceClassification",
        {"num_labels": 2, "problem_type": "regression"},
        ["pearson", "mse"],
    ),
    "tags": ("ForTokenClassification", named("O", "B-LOC"), ["f1", "accuracy"]),
    "a question": ("ForQuestionAnswering", {}, ["f1", "exact_match"]),
    "choices": ("ForMultipleChoice", {}, ["accuracy"]),
    "masked words": ("ForMaskedLM", {}, ["accuracy", "perplexity"]),
}


def test_the_page_shows_a_row_of_every_task():
    assert list(ROWS) == list(MODELS)


@pytest.mark.parametrize("task", MODELS)
def test_a_row_of_the_page_trains_and_is_measured(tmp_path, task):
    head, settings, metrics = MODELS[task]
    torch.manual_seed(0)
    config = transformers.BertConfig(**{**TINY, "num_hidden_layers": 2, "max_position_embeddings": 40, **settings})
    rows = [json.loads(ROWS[task])] * 16
    result = run_recipe(
        tmp_path,
        getattr(transformers, f"Bert{head}")(config),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=make_tokenizer([*SPECIAL, *WORDS]),
        widths=[0.5, 1.0],
        depths=[1.0],
        max_steps=1,
    )
    assert [list(row.metrics) for row in result.rows] == [["loss", *metrics]] * 2


@pytest.mark.parametrize(("task", "column"), [("a question", "context"), ("masked words", "text")])
def test_rows_are_counted_as_they_were_given_though_a_long_text_becomes_several(tmp_path, task, column):
    head, settings, _ = MODELS[task]
    config = transformers.BertConfig(**{**TINY, "num_hidden_layers": 2, "max_position_embeddings": 40, **settings})
    row = json.loads(ROWS[task])
    row[column] = " ".join([row[column]] * 9)
    result = run_recipe(
        tmp_path,
        getattr(transformers, f"Bert{head}")(config),
        train_dataset=[row] * 16,
        eval_dataset=[row] * 5,
        processing_class=make_tokenizer([*SPECIAL, *WORDS]),
        max_length=14,
        max_steps=1,
    )
    assert (result.train_rows, result.eval_rows) == (16, 5)
    assert result.model.config.metric_rows["w1-d1"]["loss"] == "5 rows of the evaluation data"
