"""Word replacement: the candidates of TinyBERT's script, word by word; its draws; and files that go on."""

import copy
import json
import re
import time

import datasets
import numpy as np
import pytest
import torch
from helpers.tiny import TINY, make_tokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertTokenizer,
    DebertaV2Tokenizer,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

from dynabert_hf.data import augmented_files
from dynabert_hf.data.augmentation import WordReplacement
from dynabert_hf.data.augmented_files import augment_file, augment_rows
from dynabert_hf.data.word_vectors import WordVectors, whole_words

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["film", "story", "good", "bad", "love", "hate", "plot", "actor", "scene", "very", "the", "is", "not", ",", "."]
PIECES = ["act", "un", "##ly", "##ed", "##ing", "##s"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
VOCABULARY = [*SPECIAL, *WORDS, *PIECES, *"abcdefghijklmnopqrstuvwxyz"]
TEXTS = ["The film is not good .", "a lovely plot, badly acted", "scene scene", "the is not"]
MASK = 4


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(VOCABULARY)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(**{**TINY, "vocab_size": len(VOCABULARY), "max_position_embeddings": 40}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def one_by_one(model, tokenizer, text, count=15):
    """For each word that may be replaced what may stand there: a pass a word, the text itself beside it."""
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    pieces = [tokenizer.tokenize(word) for word in words]
    flat = [piece for own in pieces for piece in own]
    embeddings = model.get_input_embeddings().weight.detach()
    letters = [number for number, word in enumerate(VOCABULARY) if number > MASK and word.isalpha()]
    found = {}
    for number, word in enumerate(words):
        if not word.isalpha() or word in ("the", "is", "not", "a"):
            continue
        if len(pieces[number]) == 1:
            place = 1 + sum(len(own) for own in pieces[:number])
            tokens = ["[CLS]", *flat, "[SEP]", *flat, "[SEP]"]
            tokens[place] = "[MASK]"
            ids = torch.tensor([tokenizer.convert_tokens_to_ids(tokens)])
            types = torch.tensor([[0] * (len(flat) + 2) + [1] * (len(flat) + 1)])
            with torch.no_grad():
                order = model(input_ids=ids, token_type_ids=types).logits[0, place].argsort(descending=True)
            names = [VOCABULARY[token] for token in order[:count]]
            found[number] = [name for name in names if name not in SPECIAL and not name.startswith("##")]
        else:
            own = embeddings[tokenizer.convert_tokens_to_ids(pieces[number])].mean(0)
            near = torch.cosine_similarity(embeddings[letters], own[None])
            found[number] = [VOCABULARY[letters[place]] for place in near.argsort(descending=True)[:count]]
    return found


def test_the_candidates_are_those_of_a_pass_a_word(model, tokenizer):
    for text, words in zip(TEXTS, WordReplacement(model, tokenizer).words(TEXTS), strict=True):
        expected = one_by_one(model, tokenizer, text)
        assert [list(word.candidates) for word in words] == list(expected.values())
        split = re.findall(r"\w+|[^\w\s]", text)
        assert [text[word.start : word.end] for word in words] == [split[number] for number in expected]


def test_a_model_that_is_configured_to_give_tuples_finds_the_same_candidates(model, tokenizer, monkeypatch):
    expected = WordReplacement(model, tokenizer).words(TEXTS)
    monkeypatch.setattr(model.config, "return_dict", False)
    assert WordReplacement(model, tokenizer).words(TEXTS) == expected


def test_a_golden_sample(model, tokenizer):
    rows = datasets.Dataset.from_dict({"text": TEXTS[:2], "label": [1, 0]})
    made = augment_rows(rows, WordReplacement(model, tokenizer), copies=3, seed=5)
    assert made["text"][:] == [
        "The film is not good .",
        "The film is not hate .",
        "The g is not good .",
        "a lovely plot, badly acted",
        "a lovely plot, c acted",
    ]
    assert made["label"][:] == [1, 1, 1, 0, 0]


def test_draws_follow_the_probability_and_the_candidates(model, tokenizer):
    replacement = WordReplacement(model, tokenizer, num_candidates=4, probability=0.4)
    [words] = replacement.words([TEXTS[0]])
    random = np.random.default_rng(0)
    copies = [replacement._copy(TEXTS[0], words, random) for _ in range(2000)]
    films = [copy.split()[1] for copy in copies]
    candidates = [word for word in words[0].candidates if word != "film"]
    assert set(films) == {"film", *candidates}
    for word in candidates:
        assert films.count(word) / 2000 == pytest.approx(0.4 / len(words[0].candidates), abs=0.03)
    assert all(copy.startswith("The ") and copy.endswith(" .") for copy in copies)


def test_pairs_labels_and_other_columns_are_kept(model, tokenizer):
    features = datasets.Features(
        {"id": datasets.Value("int32"), "one": datasets.Value("string"), "two": datasets.Value("large_string")}
        | {"label": datasets.ClassLabel(names=["no", "yes"]), "note": datasets.Value("string")}
    )
    data = {"id": [7, 8], "one": TEXTS[:2], "two": TEXTS[1:3], "label": [1, 0], "note": ["film", None]}
    rows = datasets.Dataset.from_dict(data, features=features)
    made = augment_rows(rows, WordReplacement(model, tokenizer), text_columns=["one", "two"], copies=6)
    assert made.features == features
    assert made["id"] == [7] * made["id"].count(7) + [8] * made["id"].count(8)
    assert (made["one"][0], made["two"][0]) == (TEXTS[0], TEXTS[1])
    assert len({tuple(pair) for pair in zip(made["one"], made["two"], strict=True)}) == len(made) > 8
    assert {(row["id"], row["label"], row["note"]) for row in made} == {(7, 1, "film"), (8, 0, None)}
    assert any(row["one"] not in data["one"] and row["two"] not in data["two"] for row in made)


def test_no_rows_give_no_rows(model, tokenizer):
    rows = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1, 0, 1]}).select([])
    made = augment_rows(rows, WordReplacement(model, tokenizer))
    assert (len(made), made.features) == (0, rows.features)


def test_words_of_several_pieces_take_neighbours_of_a_file(model, tokenizer, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("film 1 0\nlovely 0.6 0.8\nnice 0.5 0.9\nugly 0 -1\nplot 0.9 0.1\n")
    vectors = WordVectors.from_file(path)
    assert vectors.neighbours(iter(["plot", "sad"]), 1) == {"plot": ("film",), "sad": ()}
    replacement = WordReplacement(model, tokenizer, vectors=vectors, num_candidates=2)
    [words] = replacement.words(["Lovely badly plot"])
    assert [word.candidates for word in words][:2] == [("Nice", "Plot"), ()]
    assert len(words[2].candidates) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("film 1 0\ngood 1 0 2\n", r"has 3 values in line 2, .*A line is a word and 2 numbers"),
        ("film 1 0\ngood 1\n", r"has 1 values in line 2"),
        ("film one two\n", r"has 2 values in line 1.*Give a text file of word vectors"),
        ("", "has no words. Give a text file"),
    ],
)
def test_a_file_of_vectors_that_is_none_is_refused(tmp_path, content, message):
    (tmp_path / "vectors.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        WordVectors.from_file(tmp_path / "vectors.txt")


def test_a_header_and_words_with_blanks_are_read(tmp_path):
    (tmp_path / "vectors.txt").write_text("3 2\nfilm 1 0\n. . 0 1\ngood 1 1\n")
    vectors = WordVectors.from_file(tmp_path / "vectors.txt", max_words=2)
    assert vectors.words == ["film", ". ."]
    assert vectors.vectors.tolist() == [[1, 0], [0, 1]]


def test_words_begin_as_most_tokens_of_a_vocabulary_tell():
    """Signs by which words begin in other vocabularies are letters and signs of texts, too."""
    letters, special = ["\u0120", "\u2581"], ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [*special, *(f"\u2581{word}" for word in WORDS[:4]), "ed", "##", "\u0120"]
    sentence_pieces = XLMRobertaTokenizer(vocab=[*((piece, -1.0) for piece in pieces), ("<mask>", 0.0)])
    assert set(whole_words(sentence_pieces).values()) == set(WORDS[:4])
    word_pieces = make_tokenizer([*VOCABULARY, *letters])
    assert set(whole_words(word_pieces).values()) == {*VOCABULARY, *letters} - {*SPECIAL, *PIECES[2:]}


def test_words_are_found_whose_tokens_take_in_the_blank_before_them(model):
    """As those of DeBERTa and ModernBERT do: no word was replaced but the first of a text."""
    pieces = [*SPECIAL, *(f"\u2581{word}" for word in WORDS), "s"]
    tokenizer = DebertaV2Tokenizer(vocab=[(piece, -1.0) for piece in pieces])
    model = copy.deepcopy(model)
    model.resize_token_embeddings(len(tokenizer))
    [words] = WordReplacement(model, tokenizer, probability=1.0).words(["the film is very good"])
    assert [(word.start, word.end) for word in words] == [(4, 8), (17, 21)]
    assert all(word.candidates and set(word.candidates) <= set(WORDS) for word in words)


def test_words_beside_punctuation_are_found_though_a_tokenizer_counts_both_to_one_word(model):
    """Those of DeBERTa and XLM-RoBERTa do: no word before a comma or a full stop was replaced."""
    pieces = [*SPECIAL, *(f"\u2581{word}" for word in WORDS), *"\u2581(),.!-", "film"]
    tokenizer = DebertaV2Tokenizer(vocab=[(piece, -1.0) for piece in pieces])
    model = copy.deepcopy(model)
    model.resize_token_embeddings(len(tokenizer))
    text = "(film), the plot - is good-bad.  not  love !"
    [words] = WordReplacement(model, tokenizer).words([text])
    assert [text[word.start : word.end] for word in words] == ["film", "plot", "good", "bad", "love"]


def test_a_word_is_not_replaced_by_a_blank_or_a_part_of_a_letter(model):
    """Vocabularies of bytes and of sentence pieces have such tokens, and a text of one word became an empty one."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789", "\u0120", "\u0120\u00e2", "\u0120film", "\u0120plot"]
    tokenizer = RobertaTokenizer(vocab={token: number for number, token in enumerate([*ROBERTA, *letters])}, merges=[])
    model = copy.deepcopy(model)
    model.resize_token_embeddings(len(tokenizer))
    text = "a b 12th c3"
    [words] = WordReplacement(model, tokenizer, num_candidates=len(tokenizer), stop_words=frozenset()).words([text])
    assert {token for word in words for token in word.candidates} == {"film", "plot"}
    assert [(word.start, word.end) for word in words] == [(0, 1), (2, 3)]  # "th" and "c" are parts of words


def test_a_word_is_not_replaced_by_a_place_for_another_word(model, tokenizer):
    """BERT's vocabulary has 994 of them, of which the model knows nothing."""
    unused = ["[unused0]", "[unused12]"]
    places = BertTokenizer(
        vocab={**tokenizer.get_vocab(), **{name: len(tokenizer) + n for n, name in enumerate(unused)}}
    )
    model = copy.deepcopy(model)
    model.resize_token_embeddings(len(places))
    [words] = WordReplacement(model, places, num_candidates=len(places), stop_words=frozenset()).words(["film"])
    assert words[0].candidates
    assert not set(unused) & set(words[0].candidates)


def test_a_word_without_a_blank_before_it_is_replaced_by_words_without_one(model):
    """At the start of a text or beside a bracket, RoBERTa proposes tokens that in other places are parts of words."""
    merges = "f i, l m, fi lm, p l, pl o, plo t, \u0120 film, \u0120 plot, \u0120 ("
    merges = [tuple(merge.split()) for merge in merges.split(", ")]
    tokens = [*ROBERTA, *"filmpotd(", "\u0120", "\u0120good", *map("".join, merges)]
    tokens = list(dict.fromkeys(tokens))
    tokenizer = RobertaTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)
    assert tokenizer.tokenize("film (film film") == ["film", "\u0120(", "film", "\u0120film"]
    model = copy.deepcopy(model)
    model.resize_token_embeddings(len(tokenizer))
    likely = torch.tensor([tokens.index(token) for token in ("plot", "d", "\u0120good", "\u0120plot", "film")])
    model.get_output_embeddings().bias.data[likely] += torch.tensor([50.0, 40.0, 30.0, 20.0, 10.0])
    [words] = WordReplacement(model, tokenizer, num_candidates=5).words(["film (film film"])
    assert [word.candidates for word in words] == [("plot", "good", "film"), ("plot", "good", "film"), ("good", "plot")]


def test_a_word_of_several_pieces_has_the_mean_of_those_that_it_has_within_a_text(model):
    """RoBERTa has other tokens at the start of a text, where its words have no blank before them."""
    tokens = [*ROBERTA, *"afgi", "\u0120", "\u0120f"]
    tokenizer = RobertaTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[("\u0120", "f")])
    pieces = tokenizer("a fig", add_special_tokens=False)["input_ids"][1:]
    assert tokenizer.convert_ids_to_tokens(pieces) == ["\u0120f", "i", "g"]
    embeddings = model.get_input_embeddings().weight.detach()
    assert torch.equal(WordVectors.from_model(model, tokenizer).vector_of("fig"), embeddings[pieces].mean(0))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_a_file_becomes_a_file_of_the_same_columns(model, tokenizer, tmp_path, suffix):
    rows = datasets.Dataset.from_dict({"text": TEXTS[:3], "label": ["007", "n/a", "1"]})
    augmented_files.WRITERS[suffix](rows, tmp_path / f"train{suffix}")
    replacement, output = WordReplacement(model, tokenizer), tmp_path / f"more{suffix}"
    count = augment_file(tmp_path / f"train{suffix}", output, replacement, copies=4, seed=3, progress=False)
    expected = augment_rows(rows, replacement, copies=4, seed=3)
    found = augmented_files.read_rows(output, needed=["text", "label"], as_text=True)
    assert count == len(expected)
    assert found[:] == expected[:]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"more{suffix}", f"train{suffix}"]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_dates_and_numbers_of_other_columns_stay_as_they_are_written(model, tokenizer, tmp_path, suffix):
    days = [{"day": "2020-01-02", "time": "2020-01-02T03:04:05Z"}, {"day": "2021-02-03", "time": "2021-02-03 00:00:00"}]
    numbers = [{"score": 0.1 + 0.2, "small": 1e-12}, {"score": 2.0, "small": None}]
    rows = [{"text": text, **day, **own} for text, day, own in zip(TEXTS, days, numbers, strict=False)]
    source, output = tmp_path / "train.jsonl", tmp_path / f"more{suffix}"
    source.write_text("\n".join(map(json.dumps, rows)))
    augment_file(source, output, WordReplacement(model, tokenizer), copies=1, progress=False)
    if suffix == ".parquet":
        written = augmented_files.read_rows(output)
    else:
        written = map(json.loads, output.read_text().splitlines())
    found = {row.pop("text"): row for row in written}
    assert [{"text": row["text"], **found[row["text"]]} for row in rows] == rows


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_lists_are_not_written_where_they_cannot_stand(model, tokenizer, tmp_path, suffix):
    source, output = tmp_path / "train.jsonl", tmp_path / f"more{suffix}"
    source.write_text(json.dumps({"text": TEXTS[0], "label": ["a", "b"]}))
    with pytest.raises(ValueError, match=r"lists or the like in column 'label'.* ends in \.jsonl or \.parquet"):
        augment_file(source, output, WordReplacement(model, tokenizer), copies=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


@pytest.mark.parametrize("head", ["\ntext,label", ",text,label"])
def test_labels_stay_as_they_are_written_below_an_empty_line_and_beside_an_index(model, tokenizer, tmp_path, head):
    index = "0," if head.startswith(",") else ""
    (tmp_path / "train.csv").write_text(f"{head}\n{index}{TEXTS[0]},007\n")
    augment_file(
        tmp_path / "train.csv", tmp_path / "more.csv", WordReplacement(model, tokenizer), copies=1, progress=False
    )
    lines = (tmp_path / "more.csv").read_text().splitlines()
    assert lines[0].endswith("text,label")
    assert {line.rpartition(",")[2] for line in lines[1:]} == {"007"}


def test_an_interrupted_file_goes_on(model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(augmented_files, "ROWS_A_PART", 2)
    source, whole, output = (tmp_path / name for name in ("train.jsonl", "whole.jsonl", "more.jsonl"))
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*TEXTS, *TEXTS]))
    replacement = WordReplacement(model, tokenizer)
    augment_file(source, whole, replacement, copies=3, progress=False)
    read = []

    def interrupted(texts, words=replacement.words):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(texts)
        return words(texts)

    monkeypatch.setattr(replacement, "words", interrupted)
    with pytest.raises(KeyboardInterrupt):
        augment_file(source, output, replacement, copies=3, progress=False)
    assert not output.exists()
    with pytest.raises(
        ValueError, match=r"parts of an augmentation with \{'copies': 3\}, now \{'copies': 4\}.*begin anew"
    ):
        augment_file(source, output, replacement, copies=4, progress=False)
    moved = copy.deepcopy(model)
    moved.cls.predictions.bias.data += 1
    vectors = WordVectors(["film", "story"], torch.eye(2))
    others = [
        WordReplacement(each, tokenizer, **own)
        for each, own in (
            (model, {"probability": 0.5}),
            (model, {"num_candidates": 14}),
            (model, {"stop_words": frozenset({"film"})}),
            (model, {"vectors": vectors}),
            (moved, {}),
        )
    ]
    for other in others:
        with pytest.raises(ValueError, match="holds parts of an augmentation with"):
            augment_file(source, output, other, copies=3, progress=False)
    read.clear()
    augment_file(source, output, WordReplacement(model, tokenizer), copies=3, progress=False)
    assert output.read_text() == whole.read_text()
    monkeypatch.setattr(augmented_files, "ROWS_A_PART", 256)
    at_once = tmp_path / "at-once.jsonl"
    augment_file(source, at_once, WordReplacement(model, tokenizer), copies=3, progress=False)
    assert at_once.read_text() == whole.read_text()
    with pytest.raises(FileExistsError, match=r"nothing is overwritten. Give another path"):
        augment_file(source, output, replacement, progress=False)


def test_long_texts_are_read_as_far_as_the_model_can(model, tokenizer):
    text = " ".join(["film"] * 30)
    [words] = WordReplacement(model, tokenizer).words([text])
    assert len(words) == 18  # of 40 positions three are special and each word takes two
    assert words[-1].end == 18 * 5 - 1


def test_the_model_is_as_before(model, tokenizer):
    model.train().base_model.embeddings.eval()
    modes = [module.training for module in model.modules()]
    WordReplacement(model, tokenizer).words(TEXTS)
    assert [module.training for module in model.modules()] == modes
    assert model.eval()(torch.tensor([[5, 6, 7]])).logits.shape == (1, 3, len(VOCABULARY))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": BertForSequenceClassification(BertConfig(**TINY))},
            r"is a BertForSequenceClassification.*ForMaskedLM",
        ),
        (
            {"tokenizer": make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], mask_token=None)},
            r"no mask token. Give the",
        ),
        (
            {"tokenizer": make_tokenizer([*VOCABULARY, "more"])},
            r"has 53 tokens, the model vocab_size=52.*this very model",
        ),
        (
            {"model": BertForMaskedLM(BertConfig(**{**TINY, "vocab_size": len(VOCABULARY) + 1000}))},
            r"has 52 tokens, the model vocab_size=1052, so its vocabulary is another one\. .* of this very model",
        ),
        ({"num_candidates": 0}, "num_candidates=0 is not possible. Give a whole number of at least 1"),
        ({"num_candidates": 1.5}, "num_candidates=1.5 is not possible. Give a whole number of at least 1"),
        ({"probability": 1.5}, "probability=1.5 is not possible. Give a number above 0 and up to 1"),
    ],
)
def test_what_cannot_be_is_refused(model, tokenizer, change, message):
    with pytest.raises(ValueError, match=message):
        WordReplacement(**{"model": model, "tokenizer": tokenizer, **change})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "more.txt"}, r"ends in '.txt'. Possible is one of .csv"),
        ({"text_columns": ["sentence"]}, r"no column \['sentence'\]"),
        ({"copies": 0}, "copies=0 is not possible. Give a whole number of at least 1"),
        ({"copies": 2.5}, "copies=2.5 is not possible. Give a whole number of at least 1"),
        ({"seed": 0.5}, "seed=0.5 is not possible. Give a whole number of at least 0"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(model, tokenizer, tmp_path, settings, message):
    (tmp_path / "train.csv").write_text("text,label\ngood film,1\n")
    given = {"path": tmp_path / "train.csv", "output": tmp_path / settings.pop("output", "more.csv"), **settings}
    with pytest.raises(ValueError, match=message):
        augment_file(replacement=WordReplacement(model, tokenizer), **given)
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]


@pytest.mark.slow
def test_many_texts_at_once_are_ten_times_as_fast_as_a_pass_a_word(model, tokenizer):
    texts, replacement = [f"{first} {second} film" for first in WORDS[:9] for second in WORDS[:9]], None

    def seconds(work):
        start = time.process_time()
        work()
        return time.process_time() - start

    replacement = WordReplacement(model, tokenizer)
    replacement.words(texts)
    together = min(seconds(lambda: replacement.words(texts)) for _ in range(3))
    alone = min(seconds(lambda: [one_by_one(model, tokenizer, text) for text in texts]) for _ in range(2))
    assert alone > 10 * together


def test_columns_of_text_are_named_one_by_one_or_alone_and_have_to_be_there(model, tokenizer):
    replacement = WordReplacement(model, tokenizer)
    rows = datasets.Dataset.from_dict({"text": ["the film is good"], "label": [1]})
    one, two = (augment_rows(rows, replacement, text_columns=named, copies=2) for named in ("text", ["text"]))
    assert one.to_list() == two.to_list()
    with pytest.raises(ValueError, match=r"='sentence' was given for rows with the columns \['text', 'label'\]"):
        augment_rows(rows, replacement, text_columns="sentence")
    with pytest.raises(TypeError, match=r"The rows are a list\. Give a Dataset: datasets\.Dataset\.from_list"):
        augment_rows(rows.to_list(), replacement)
