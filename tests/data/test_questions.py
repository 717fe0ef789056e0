"""Questions about texts of any length: windows, answers over all of them, and SQuAD's scores."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from helpers.tiny import make_model, make_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import EvalPrediction, PreTrainedTokenizerFast

from dynabert_hf import LabelledText
from dynabert_hf.data.answers import answer_scores, normalised
from dynabert_hf.data.encoding import encoded_datasets
from dynabert_hf.data.questions import Questions, read_questions

CONTEXT = "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(90))]
ROWS = [
    {"question": "w20", "context": CONTEXT, "answers": {"text": ["w7 w8"], "answer_start": [18]}},
    {"question": "w21 w22", "context": "w1 w2", "answers": {"text": [], "answer_start": []}},
]


@pytest.fixture
def tokenizer():
    return make_tokenizer(WORDS)


def cut(tokenizer, rows=ROWS, **kwargs):
    return Questions.from_rows(rows, tokenizer, **{"max_length": 10, "stride": 2, **kwargs})


def one_hot(questions, places):
    """Logits that are high at one token of each window."""
    logits = np.zeros((len(questions.windows), 10))
    logits[np.arange(len(places)), places] = 5
    return logits


def test_every_window_that_holds_an_answer_points_at_it(tokenizer):
    questions = cut(tokenizer)
    assert questions.of == (0, 0, 0, 1)
    for window, question in zip(questions.windows, questions.of, strict=True):
        words = tokenizer.convert_ids_to_tokens(window["input_ids"])
        answer = words[window["start_positions"] : window["end_positions"] + 1]
        assert answer == (["w7", "w8"] if question == 0 and "w8" in words and "w7" in words else ["[CLS]"])
    assert any(window["start_positions"] for window in questions.windows)
    assert len(questions.windows[0]["input_ids"]) == 10


@pytest.mark.parametrize(("max_length", "given", "shared"), [(384, None, 128), (384, 200, 200), (30, None, 10)])
def test_neighbouring_windows_share_as_many_tokens_as_the_page_says(tokenizer, max_length, given, shared):
    row = {"question": "w20", "context": " ".join(f"w{number % 90}" for number in range(600))}
    told = {"max_length": max_length, "stride": given, "answer_column": None}
    first, second = (set(map(tuple, own[own[:, 0] >= 0])) for own in cut(tokenizer, [row], **told).offsets[:2])
    assert len(first & second) == shared


def test_windows_that_share_less_than_nothing_are_refused(tokenizer):
    with pytest.raises(
        ValueError, match=r"windows that share -1 tokens are not possible\. Give a number of at least 0"
    ):
        cut(tokenizer, stride=-1)


@pytest.mark.parametrize("form", ["numpy", "torch"])
def test_questions_are_read_alike_in_every_format_of_a_data_set(tokenizer, form):
    assert cut(tokenizer, Dataset.from_list(ROWS).with_format(form)).windows == cut(tokenizer).windows


def test_answers_of_a_list_of_rows_may_be_arrays_as_pandas_reads_them_from_parquet(tokenizer, tmp_path):
    rows = [*ROWS, {**ROWS[0], "answers": {"text": ["w1", "w7 w8"], "answer_start": [0, 18]}}]
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    read = pd.read_parquet(tmp_path / "rows.parquet").to_dict("records")
    as_list = [{**row, "answers": np.array(row["answers"]["text"], dtype=object)} for row in rows]
    for own in (read, as_list):
        assert cut(tokenizer, own).answers == (("w7 w8",), (), ("w1", "w7 w8"))
        assert cut(tokenizer, own).windows == cut(tokenizer, rows).windows


def test_the_best_span_over_all_windows_is_the_answer_whatever_padding_says(tokenizer):
    questions = cut(tokenizer)
    starts, ends = np.full((4, 14), 0.0), np.full((4, 14), 0.0)
    starts[:, 12], ends[:, 13] = 99, 99  # after the windows
    starts[1, 4], ends[1, 5] = 5, 5
    starts[0, 5], ends[0, 4] = 9, 9  # an end before its start is none
    starts[3, 0], ends[3, 0] = 1, 1
    first, second = questions.answered(starts, ends)
    words = tokenizer.convert_ids_to_tokens(questions.windows[1]["input_ids"])
    assert CONTEXT[first.start : first.end] == first.text
    assert first.text == " ".join(words[4:6])  # 5 + 5, where 9 of the first window goes with 0
    assert second.text == ""
    assert questions.answered(starts, ends, may_be_none=False)[1].text in ("w1", "w2", "w1 w2")


def test_none_is_the_answer_where_no_window_of_a_text_has_a_better_one(tokenizer):
    questions = cut(tokenizer)
    starts, ends = np.zeros((2, 4, 10))
    starts[1, 4] = ends[1, 4] = 5
    for none, is_none in (([7, 4, 7], False), ([7, 6, 7], True)):  # of each window; only the second has an answer
        starts[:3, 0] = ends[:3, 0] = none
        assert (questions.answered(starts, ends)[0].text == "") == is_none


@pytest.mark.parametrize(("count", "is_found"), [(30, True), (31, False)])
def test_an_answer_has_thirty_tokens_at_most(tokenizer, count, is_found):
    questions = cut(tokenizer, [{**ROWS[0], "context": "w1 " * 50, "answers": None}], max_length=60, answer_column=None)
    starts, ends = np.zeros((2, 1, 60))
    starts[0, 5] = ends[0, 5 + count - 1] = 9
    [answer] = questions.answered(starts, ends)
    assert (len(answer.text.split()) == count) == is_found


def test_the_answer_is_that_of_a_search_over_every_span(tokenizer):
    questions = cut(tokenizer)
    generator = np.random.default_rng(0)
    starts, ends = generator.normal(size=(2, 4, 10))
    found = questions.answered(starts, ends, may_be_none=False)
    for question in (0, 1):
        spans = [
            (starts[window, i] + ends[window, j], questions.offsets[window][i][0], questions.offsets[window][j][1])
            for window in range(4)
            if questions.of[window] == question
            for i in range(len(questions.offsets[window]))
            for j in range(i, len(questions.offsets[window]))
            if questions.offsets[window][i][0] >= 0 and questions.offsets[window][j][0] >= 0
        ]
        _, start, end = max(spans)
        assert (found[question].start, found[question].end) == (start, end)
        assert found[question].text == ROWS[question]["context"][start:end]


@pytest.mark.parametrize("pieces", ["words", "cased", "bytes", "blanks"])
@pytest.mark.parametrize(
    "answer", ["New York", " York", "York ", "Caf\u0301e\u0301", "Paris", "Paris \n", "\u2764\ufe0f", "in"]
)
def test_an_answer_is_its_words_whatever_blanks_and_marks_stand_around(pieces, answer):
    context = "New York has Caf\u0301e\u0301 of \u2764\ufe0f in  Paris \n"
    tokenizer = tokenizer_of(pieces, [context, "Who is"])
    start = context.index(answer)
    row = {"question": "Who is", "context": context, "answers": {"text": [answer], "answer_start": [start]}}
    questions = cut(tokenizer, [row], max_length=100)
    [window] = questions.windows
    starts, ends = np.zeros((2, 1, len(window["input_ids"])))
    starts[0, window["start_positions"]] = ends[0, window["end_positions"]] = 9
    [found] = questions.answered(starts, ends, may_be_none=True)
    begins = context.index(answer.strip(), start)
    assert (found.text, found.start, found.end) == (answer.strip(), begins, begins + len(answer.strip()))


def tokenizer_of(kind, texts):
    """A tokenizer of BERT's kind without accents or with them, of RoBERTa's, or whose pieces begin with a blank."""
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    symbols = pre_tokenizers.ByteLevel.alphabet()
    if kind in ("words", "cased"):
        inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        inner.normalizer = normalizers.BertNormalizer(lowercase=kind == "words")
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=[*special.values()])
    else:
        inner = Tokenizer(models.BPE(unk_token="[UNK]"))
        is_bytes = kind == "bytes"
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(False) if is_bytes else pre_tokenizers.Metaspace()
        alphabet = {"initial_alphabet": symbols} if is_bytes else {}
        trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=[*special.values()], **alphabet)
    inner.train_from_iterator(texts, trainer)
    cls, sep = (("[CLS]", inner.token_to_id("[CLS]")), ("[SEP]", inner.token_to_id("[SEP]")))
    if kind == "bytes":
        inner.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=False)
    else:
        template = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1"}
        inner.post_processor = processors.TemplateProcessing(**template, special_tokens=[cls, sep])
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def test_metrics_are_those_of_the_texts(tokenizer):
    questions = cut(tokenizer)
    right = [window["start_positions"] for window in questions.windows]
    last = [window["end_positions"] for window in questions.windows]
    logits = one_hot(questions, right), one_hot(questions, last)
    assert questions.metrics(EvalPrediction(logits, None)) == {"f1": 1.0, "exact_match": 1.0}
    first = one_hot(questions, right), one_hot(questions, right)  # one word of two, and none
    found = questions.metrics(EvalPrediction(first, None))
    assert found == {"f1": pytest.approx((2 / 3 + 1) / 2), "exact_match": 0.5}


def test_scores_are_those_of_squads_own_script():
    assert normalised("The  Beyoncé's, an A-side!") == "beyoncés aside"
    answers, references = ["the Denver Broncos!", "1976", "", "x"], [["Denver Broncos", "Broncos"], ["1977"], [], []]
    assert answer_scores(answers, references) == {"f1": 0.5, "exact_match": 0.5}
    for given in (["b c x", "y"], ["y", "b c x"]):
        assert answer_scores(["a b c d"], [given]) == {"f1": pytest.approx(2 * 2 / (3 + 3)), "exact_match": 0.0}
    assert answer_scores(["y"], [["b c x", "y"]]) == {"f1": 1.0, "exact_match": 1.0}


@pytest.mark.parametrize("form", ["squad", "flat", "pairs", "text"])
def test_a_file_may_have_squads_form_or_a_row_a_question(tmp_path, tokenizer, form, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    pairs = [{"text": "w7 w8", "answer_start": 18}]
    given = {"flat": ROWS[0]["answers"], "pairs": pairs, "text": "w7 w8"}
    content = {"question": "w20", "context": CONTEXT, "answers": given.get(form)}
    if form == "squad":
        asked = [{"id": "a", "question": "w20", "answers": pairs}]
        content = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": asked}]}]}
    (tmp_path / "questions.json").write_text(json.dumps(content))
    questions = cut(tokenizer, read_questions(tmp_path / "questions.json"))
    assert questions.answers == (("w7 w8",),)
    assert [one["start_positions"] for one in questions.windows] == [
        one["start_positions"] for one in cut(tokenizer).windows[:3]
    ]


@pytest.mark.parametrize("needed", [["answers"], []])
def test_a_csv_may_hold_places_and_questions_without_an_answer(tmp_path, tokenizer, monkeypatch, needed):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    head, context = "question,context,answers,answer_start\n", "w1 w2 w1"
    (tmp_path / "questions.csv").write_text(f"{head}w20,{context},w1,6\nw21,{context},,\n")
    questions = cut(tokenizer, read_questions(tmp_path / "questions.csv", needed=needed))
    assert questions.answers == (("w1",), ())
    assert [one["start_positions"] for one in questions.windows] == [5, 0]
    with_a_point = {"question": "w20", "context": context, "answers": "w1", "answer_start": 6.0}
    assert cut(tokenizer, [with_a_point]).windows == questions.windows[:1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"answers": {"text": ["w8 w7"], "answer_start": [18]}},
            r"has the answer 'w8 w7' at place 18 in column 'answers' of row 0, which does not .*Correct it",
        ),
        ({"answers": "w99"}, r"has the answer 'w99' in column 'answers' of row 0.*or give none where"),
        ({"answers": 3}, r"has the answer 3 in column"),
        ({"answers": "w7", "answer_start": "18.5"}, r"has the answer 'w7' at place 18\.5 in column"),
        ({"context": None}, r"has None in column 'context' of row 0\. A question .*Fill it"),
        ({"answers": None}, r"has None in column 'answers' of row 0\. Possible is .*an empty list where .*\. Give one"),
        ({"answers": {"text": None, "answer_start": None}}, r"has None in column 'answers' of row 0\."),
        ({"answers": [None]}, r"has the answer None in column 'answers' of row 0"),
        ({"question": "w1 " * 9}, r"question of 9 tokens in row 0\. Of windows of 10 tokens.*Shorten it"),
    ],
)
def test_questions_that_cannot_be_are_refused(tokenizer, changed, message):
    with pytest.raises(ValueError, match=message):
        cut(tokenizer, Dataset.from_list([{**ROWS[0], **changed}]))


def test_a_question_whose_answer_is_not_known_has_no_positions_in_training(tokenizer):
    rows = [*ROWS, {**ROWS[0], "answers": None}]
    model = make_model(head="ForQuestionAnswering", stock={"num_labels": 2})
    found, _ = encoded_datasets({"train_dataset": rows, "importance_dataset": rows[2:]}, model, tokenizer)
    assert found["train_dataset"]["start_positions"][:] == [9, 0, None]
    assert "start_positions" not in found["importance_dataset"].column_names
    with pytest.raises(ValueError, match=r"eval_dataset has None in column 'answers' of row 2"):
        encoded_datasets({"eval_dataset": rows}, model, tokenizer)
    found, _ = encoded_datasets({"eval_dataset": rows[2:]}, model, tokenizer)
    assert "start_positions" not in found["eval_dataset"].column_names


def test_a_csv_of_questions_says_by_an_empty_cell_that_there_is_no_answer(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "questions.csv").write_text("question,context,answers\nw20,w1 w2,\nw20,w1 null w2,null\n")
    questions = cut(tokenizer, read_questions(tmp_path / "questions.csv", needed=["answers"]))
    assert questions.answers == ((), ("null",))


def test_a_tokenizer_that_knows_no_places_and_logits_of_other_windows_are_refused(tokenizer):
    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match=r"is a Slow, which does not tell where .*fast tokenizer\. Load it by"):
        Questions.from_rows(ROWS, Slow())
    with pytest.raises(ValueError, match=r"logits of 2 windows for 4 windows of 2 questions\. Give those of all"):
        cut(tokenizer).answered(np.zeros((2, 10)), np.zeros((2, 10)))


def test_a_file_of_questions_is_scored_as_its_windows_one_by_one(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    model = make_model(head="ForQuestionAnswering", stock={"num_labels": 2})
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    text = LabelledText.from_file(tmp_path / "questions.jsonl", model, tokenizer, batch_size=2)
    assert len(text) == 2
    questions = Questions.from_rows(ROWS, tokenizer, max_length=20)
    alone = []
    for window in questions.windows:
        inputs = {name: torch.tensor([window[name]]) for name in ("input_ids", "attention_mask", "token_type_ids")}
        with torch.no_grad():
            outputs = model(**inputs)
        alone.append([outputs.start_logits[0].tolist(), outputs.end_logits[0].tolist()])
    starts, ends = (np.array([one[each] + [0.0] * (20 - len(one[each])) for one in alone]) for each in (0, 1))
    answers = questions.answered(starts, ends)
    assert text.evaluate(model) == answer_scores([one.text for one in answers], [["w7 w8"], []])
