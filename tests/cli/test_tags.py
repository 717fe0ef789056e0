"""The tags and entities that predict tells of words, as the head is trained and measured: by their first piece."""

import json

import pytest
import torch
from helpers.tiny import make_model, make_tokenizer

from dynabert_cli import main
from dynabert_hf.cli.tags import TaggedWord, _entities, _entity, tag_texts

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(letter for letter in "abcdef"), *(f"##{letter}" for letter in "abcdef")]
TAGS = ["O", "B-X", "I-X", "B-Y", "I-Y"]
WORDS = [["fade", "a", "bed", "cab-fee"], ["add"], ["bead", "facade", "ace", "fed", "dad", "be"] * 8]


def make_tagger(tags=TAGS):
    names = {
        "num_labels": len(tags),
        "id2label": dict(enumerate(tags)),
        "label2id": {tag: number for number, tag in enumerate(tags)},
    }
    return make_model(head="ForTokenClassification", stock=names), make_tokenizer(PIECES)


def first_pieces(model, tokenizer, words):
    """The tag of every word of a text that fits into the model, one text at a time."""
    encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        best = model(**encoded).logits[0].argmax(-1).tolist()
    places = encoded.word_ids()
    return [model.config.id2label[best[places.index(number)]] for number in range(len(words))]


def test_the_entities_of_words_are_those_that_seqeval_scores(tmp_path, capsys):
    get_entities = pytest.importorskip("seqeval.metrics.sequence_labeling").get_entities
    model, tokenizer = make_tagger()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [*WORDS[:2], ["fee", "bad", "a"], ["dead", "e", "f", "cafe"]]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"tokens": row}) + "\n" for row in rows))
    assert main(["predict", str(tmp_path / "model"), "--file", str(tmp_path / "t.jsonl"), "--json"]) == 0
    found, whole = json.loads(capsys.readouterr().out), 0
    for row, record in zip(rows, found, strict=True):
        expected = get_entities(first_pieces(model, tokenizer, row))
        text = " ".join(row)
        assert record["tokens"] == text
        told = [(each["entity_group"], each["word"]) for each in record["entities"]]
        assert told == [(kind, " ".join(row[first : last + 1])) for kind, first, last in expected]
        assert all(text[each["start"] : each["end"]] == each["word"] for each in record["entities"])
        whole += len(expected)
    assert whole > 3


def test_of_a_long_text_each_word_is_read_where_most_stands_around_it():
    model, tokenizer = make_tagger(["p", "q", "r"])
    words = WORDS[2]
    pieces = [(number, piece) for number, word in enumerate(words) for piece in tokenizer.tokenize(word)]
    ids = tokenizer.convert_tokens_to_ids([piece for _, piece in pieces])
    room, step = 18, 13  # of 20 tokens two are special, and windows share 5
    best = {}
    for start in range(0, len(ids) - 5, step):
        own = ids[start : start + room]
        with torch.no_grad():
            shares = model(torch.tensor([[2, *own, 3]])).logits[0].softmax(-1)
        for at in range(1, len(own) + 1):
            number = pieces[start + at - 1][0]
            is_first = start + at == 1 or pieces[start + at - 2][0] != number
            around = min(at, len(own) + 1 - at)
            if is_first and around > best.get(number, (0,))[0]:
                best[number] = around, *(each.item() for each in shares[at].max(-1))
    [found] = tag_texts(model, tokenizer, [words], batch_size=3)
    assert [each["word"] for each in found] == words
    assert [each["entity"] for each in found] == ["pqr"[best[number][2]] for number in range(len(words))]
    assert [each["score"] for each in found] == pytest.approx([best[n][1] for n in range(len(words))], abs=1e-5)
    assert tag_texts(model, tokenizer, [" ".join(words)], batch_size=2)[0] == [
        {**each, "score": pytest.approx(each["score"], abs=1e-5)} for each in found
    ]


@pytest.mark.parametrize(
    "tags",
    [
        "B-X I-X I-Y B-Y I-Y O I-X",
        "S-X I-X E-X B-Y E-Y I-Y B-X S-X",
        "B-X L-X U-X U-X B-X I-X L-X B-X L-Y",
        "O O",
        "B-X-Y I-X-Y I-X",
    ],
)
def test_words_are_parted_into_entities_as_seqeval_parts_them(tags):
    get_entities = pytest.importorskip("seqeval.metrics.sequence_labeling").get_entities
    words = [TaggedWord(number, number + 1, tag, 1.0) for number, tag in enumerate(tags.split())]
    found = [(each[0].tag.partition("-")[2], each[0].start, each[-1].start) for each in _entities(words)]
    assert found == get_entities(tags.replace("L-", "E-").replace("U-", "S-").split())


def test_an_entity_is_as_sure_as_its_words_in_the_mean():
    found = _entity([TaggedWord(0, 3, "B-X", 0.9), TaggedWord(4, 8, "I-X", 0.5)], "New York is")
    assert found == {"entity_group": "X", "word": "New York", "score": pytest.approx(0.7), "start": 0, "end": 8}


@pytest.mark.parametrize("words", [[], ["a", None], None])
def test_rows_that_hold_no_words_are_named(tmp_path, capsys, words):
    model, tokenizer = make_tagger()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"tokens": row}) + "\n" for row in (["a"], words)))
    assert main(["predict", str(tmp_path / "model"), "--file", str(tmp_path / "t.jsonl")]) == 1
    assert "dynabert predict: Row 1 has " in capsys.readouterr().err


def test_the_words_of_a_list_are_those_of_training_and_of_a_text_those_of_the_tokenizer():
    model, tokenizer = make_tagger(["p", "q", "r"])
    found = [
        [each["word"] for each in own]
        for given in (["a B.C. bed"], [["a", "B.C.", "bed"]])
        for own in tag_texts(model, tokenizer, given, batch_size=1)
    ]
    assert found == [["a", "B", ".", "C", ".", "bed"], ["a", "B.C.", "bed"]]


def test_tags_are_those_of_each_text_alone_wherever_the_tokenizer_pads():
    model, tokenizer = make_tagger(["p", "q", "r"])
    alone = [tag_texts(model, tokenizer, [words], batch_size=1)[0] for words in WORDS]
    tokenizer.padding_side = "left"
    together = tag_texts(model, tokenizer, WORDS, batch_size=9)
    for ours, theirs in zip(together, alone, strict=True):
        assert ours == [{**each, "score": pytest.approx(each["score"], abs=1e-5)} for each in theirs]


def test_tags_are_told_of_a_model_that_is_configured_to_give_tuples():
    model, tokenizer = make_tagger(["p", "q", "r"])
    expected = tag_texts(model, tokenizer, WORDS, batch_size=2)
    model.config.return_dict = False
    assert tag_texts(model, tokenizer, WORDS, batch_size=2) == expected


def test_a_word_of_a_text_keeps_the_accents_that_the_tokenizer_drops():
    model, tokenizer = make_tagger(["p", "q", "r"])
    text = "a fade\u0301 de\u0301cade\u0301"
    [found] = tag_texts(model, tokenizer, [text], batch_size=1)
    assert [each["word"] for each in found] == text.split()
    assert [text[each["start"] : each["end"]] for each in found] == text.split()
