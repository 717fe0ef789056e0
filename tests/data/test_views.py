"""Fresh views: what they change and what they leave, the same wherever and in whatever company a text is read."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.tiny import make_model, make_tokenizer

from dynabert_hf.data.views import FreshViews
from dynabert_hf.tasks import TASKS

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(5)
TOKENIZER = make_tokenizer([*SPECIAL, *(f"w{number}" for number in range(5, 99))])
ROWS = [{"input_ids": [CLS, *range(60, 60 + count), SEP]} for count in (5, 6, 7)]
"""Other texts, whose tokens are all above 60."""

FIRST, SECOND = [10, 11, 12, 13, 14, 15, 16, 17], [20, 21, 22]
PAIR = [CLS, *FIRST, SEP, *SECOND, SEP]


def views(*names, head="ForSequenceClassification", **kwargs):
    return FreshViews(names, TOKENIZER, make_model(head=head), **{"probability": 1.0, "dataset": ROWS, **kwargs})


def batch_of(*texts, **more):
    longest = max(map(len, texts))

    def padded(rows, filling):
        return torch.tensor([[*row, *[filling] * (longest - len(row))] for row in rows])

    types = [[0] * (text.index(SEP) + 1) + [1] * (len(text) - text.index(SEP) - 1) for text in texts]
    batch = {"input_ids": padded(texts, PAD), "attention_mask": padded([[1] * len(text) for text in texts], 0)}
    return {**batch, "token_type_ids": padded(types, 0), **{name: padded(rows, -100) for name, rows in more.items()}}


def text_of(batch, row=0):
    return batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist()


def sentences(tokens):
    inner = tokens[1:-1]
    return inner[: inner.index(SEP)], inner[inner.index(SEP) + 1 :]


def test_masking_changes_15_percent_of_the_words_and_nothing_else():
    batch = batch_of(PAIR)
    given = {name: value.clone() for name, value in batch.items()}
    masked = views("mask")
    seen = [masked(batch, epoch=epoch) for epoch in range(20)]
    for view in seen:
        changed = view["input_ids"] != batch["input_ids"]
        assert view["input_ids"][changed].tolist() == [MASK, MASK]  # of eleven words
        assert not torch.isin(batch["input_ids"][changed], torch.arange(5)).any()
        assert torch.equal(view["attention_mask"], batch["attention_mask"])
    assert len({tuple(text_of(view)) for view in seen}) > 10
    assert all(torch.equal(batch[name], value) for name, value in given.items())


def test_deleting_keeps_order_boundaries_and_a_word_of_each_sentence():
    short, deleted = [CLS, 10, SEP, 20, SEP], views("delete")
    for epoch in range(20):
        view = deleted(batch_of(PAIR, short), epoch=epoch)
        tokens = text_of(view)
        assert len(tokens) == len(PAIR) - 2
        assert tokens == [token for token in PAIR if token in tokens]
        types = view["token_type_ids"][0][: len(tokens)].tolist()
        assert types == [0] * (tokens.index(SEP) + 1) + [1] * (len(tokens) - tokens.index(SEP) - 1)
        assert view["input_ids"][0, len(tokens) :].unique().tolist() == [PAD]
        assert view["token_type_ids"][0, len(tokens) :].unique().tolist() == [0]
        assert text_of(view, 1) == short


def test_swapping_moves_neighbours_within_a_sentence():
    swapped = views("swap")
    for epoch in range(20):
        tokens = text_of(swapped(batch_of(PAIR), epoch=epoch))
        first, second = sentences(tokens)
        assert (sorted(first), sorted(second)) == (FIRST, SECOND)
        assert tokens != PAIR


def test_splicing_puts_a_run_of_another_row_into_one_sentence():
    lengths, spliced = set(), views("splice")
    for epoch in range(30):
        view = spliced(batch_of(PAIR), epoch=epoch)
        tokens = np.array(text_of(view))
        places = np.flatnonzero(tokens >= 60)
        assert np.array_equal(np.diff(places), np.ones(len(places) - 1))
        assert np.array_equal(np.diff(tokens[places]), np.ones(len(places) - 1))
        rest = np.delete(np.arange(len(PAIR)), places)
        assert np.array_equal(tokens[rest], np.array(PAIR)[rest])
        in_first = places[0] <= len(FIRST)
        assert in_first == (places[-1] <= len(FIRST))
        lengths.add((bool(in_first), len(places)))
    assert lengths <= {(True, 2), (True, 3), (True, 4), (False, 1), (False, 2)}
    assert {in_first for in_first, _ in lengths} == {True, False}


def test_an_unknown_word_ends_no_sentence():
    """What stood behind it was taken for the second sentence, and got parts of the second one of other rows."""
    text = [CLS, 10, UNK, *FIRST[2:], SEP, *SECOND, SEP]
    others = [{"input_ids": [CLS, *range(60, 66), SEP, *range(80, 86), SEP]}]
    for epoch in range(30):
        first, second = sentences(text_of(views("splice", dataset=others)(batch_of(text), epoch=epoch)))
        assert all(token < 80 for token in first)
        assert all(token < 60 or token >= 80 for token in second)
    changed = [text_of(views("delete")(batch_of(text), epoch=epoch)) for epoch in range(30)]
    assert any(UNK not in tokens for tokens in changed)


def test_labels_of_tokens_move_with_them():
    labels = [-100, *[token - 10 for token in FIRST], -100, *[token - 10 for token in SECOND], -100]
    for name in ("delete", "swap", "mask"):
        view = views(name, head="ForTokenClassification")(
            batch_of(PAIR, [CLS, SEP], labels=[labels, [-100] * 2]), epoch=1
        )
        tokens, moved = view["input_ids"][0], view["labels"][0]
        is_plain = tokens > MASK
        assert torch.equal(moved[is_plain], tokens[is_plain] - 10)
        if name == "mask":
            assert moved.tolist() == labels
        else:
            assert moved[~is_plain].unique().tolist() == [-100]
        assert not torch.equal(tokens, torch.tensor(PAIR))


def test_a_view_depends_on_seed_epoch_and_text_alone():
    other = [CLS, *range(30, 42), SEP, 50, 51, SEP]
    every = views("mask", "delete", "swap", "splice")
    alone = every(batch_of(PAIR), epoch=3)
    beside = every(batch_of(other, PAIR), epoch=3)  # another place, another padding
    assert text_of(alone) == text_of(beside, 1)
    again = views("mask", "delete", "swap", "splice")(batch_of(PAIR, other), epoch=3)
    assert text_of(again, 1) == text_of(beside, 0)
    assert text_of(every(batch_of(PAIR), epoch=4)) != text_of(alone)
    assert text_of(views("mask", "delete", "swap", "splice", seed=1)(batch_of(PAIR), epoch=3)) != text_of(alone)


def test_the_share_of_changed_texts_is_the_probability():
    texts = [[CLS, 5 + first, 5 + second, 70, SEP] for first in range(40) for second in range(20)]
    view = views("mask", probability=0.3)(batch_of(*texts), epoch=0)
    share = (view["input_ids"] == MASK).any(-1).float().mean()
    assert share == pytest.approx(0.3, abs=0.05)


def test_choices_are_texts_of_their_own_and_padding_may_be_left():
    batch = {"input_ids": torch.tensor([[[CLS, *FIRST, SEP], [PAD, PAD, CLS, *FIRST[:6], SEP]]])}
    batch["attention_mask"] = (batch["input_ids"] != PAD).long()
    tokenizer = make_tokenizer([*SPECIAL, *(f"w{number}" for number in range(5, 99))], padding_side="left")
    changes = FreshViews(["delete"], tokenizer, make_model(head="ForMultipleChoice"), probability=1.0)
    view = changes(batch, epoch=0)
    assert view["attention_mask"].tolist() == [[[0, *[1] * 9], [0, 0, 0, *[1] * 7]]]
    assert view["input_ids"][0, :, -1].tolist() == [SEP, SEP]


def test_tags_stay_before_the_padding_wherever_the_tokenizer_pads():
    tokenizer = make_tokenizer([*SPECIAL, *(f"w{number}" for number in range(5, 99))], padding_side="left")
    changes = FreshViews(["delete"], tokenizer, make_model(head="ForTokenClassification"), probability=1.0)
    rows = [{"input_ids": text, "labels": [1] * len(text)} for text in ([CLS, *FIRST, SEP], [CLS, *FIRST[:4], SEP])]
    view = changes(TASKS["ForTokenClassification"].collator(tokenizer)(rows), epoch=0)
    assert view["attention_mask"].tolist() == [[1] * 9 + [0], [1] * 5 + [0] * 5]
    assert view["input_ids"][:, 0].tolist() == [CLS, CLS]
    assert view["labels"].ne(-100).tolist() == view["attention_mask"].bool().tolist()


def test_without_an_attention_mask_deleting_makes_one():
    view = views("delete")({"input_ids": torch.tensor([[CLS, *FIRST, SEP]])}, epoch=0)
    assert view["attention_mask"].tolist() == [[1] * 9 + [0]]


@pytest.mark.parametrize(
    ("names", "head", "kwargs", "message"),
    [
        (["drop"], "ForSequenceClassification", {}, r"views=\['drop'\] is not possible. Give a list of some of 'mask'"),
        ([], "ForSequenceClassification", {}, r"views=\[\] is not possible"),
        (
            ["splice"],
            "ForTokenClassification",
            {},
            "'splice' was asked for a DynaBertForTokenClassification.*Possible are",
        ),
        (["delete"], "ForQuestionAnswering", {}, "'delete' was asked for.*Possible are mask. Leave 'delete' out"),
        (["mask"], "ForMaskedLM", {}, "masked anew in every batch. Leave 'mask' out"),
        (
            ["splice"],
            "ForSequenceClassification",
            {"dataset": iter(())},
            "takes parts of other rows.*leave 'splice' out",
        ),
    ],
)
def test_what_cannot_be_is_refused(names, head, kwargs, message):
    with pytest.raises(ValueError, match=message):
        views(*names, head=head, **kwargs)


def test_a_tokenizer_with_a_mask_token_is_needed():
    model = make_model()
    with pytest.raises(ValueError, match=r"without a tokenizer.*Give it as processing_class"):
        FreshViews(["mask"], None, model)
    without_mask = make_tokenizer(SPECIAL[:4], mask_token=None)
    with pytest.raises(ValueError, match=r"has no mask token, only .*Give another view"):
        FreshViews(["mask"], without_mask, model)


def test_what_stands_beside_each_token_is_known_or_refused():
    with pytest.raises(ValueError, match=r"'position_ids' of shape \(1, 14\).*Leave 'position_ids' out"):
        views("swap")({**batch_of(PAIR), "position_ids": torch.arange(14)[None]}, epoch=0)


@pytest.mark.parametrize("form", [None, "numpy", "torch"])
def test_an_encoder_of_sentences_takes_parts_of_the_first_text_of_pairs(form):
    model = make_model(head="Model")
    model.config.sentence_encoder = {}
    rows = [{"input_ids": [row["input_ids"], [CLS, 9, SEP]]} for row in ROWS]
    if form is not None:
        rows = Dataset.from_list(rows).with_format(form)
    spliced = FreshViews(["splice"], TOKENIZER, model, probability=1.0, dataset=rows)
    view = text_of(spliced(batch_of([CLS, *FIRST, SEP]), epoch=0))
    assert [token for token in view if token not in (CLS, *FIRST, SEP)]
    assert all(token >= 60 for token in view if token not in (CLS, *FIRST, SEP))
