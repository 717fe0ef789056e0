"""The tags of words in texts of any length, as the head for tokens is trained and measured, and the entities they tell.

The first piece of a word says its tag. transformers' pipeline takes every piece for itself, of which the others were
never trained, and knows no words of a list. The words of a text are the tokenizer's: of `U.S.` that of BERT makes four.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.encoding import most_tokens
from ..data.questions import INPUTS, check_fast
from ..data.spans import trimmed
from ..task_metrics import has_entities
from .passes import outputs_of

OUTSIDE = "O"
"""The tag of a word that is of no entity, which is not told."""


@dataclass(frozen=True)
class TaggedWord:
    """A word and its tag.

    Args:
        start: Where it starts in the text.
        end: Where it ends.
        tag: The likeliest tag of its first piece.
        score: The probability of that tag.
    """

    start: int
    end: int
    tag: str
    score: float


def tag_texts(
    model: Any, tokenizer: Any, texts: Sequence[str | list[str]], *, batch_size: int
) -> list[list[dict[str, Any]]]:
    """The entities of each text; where labels name none, the tag of each of its words.

    Args:
        model: A model with a head for tokens, in evaluation mode.
        tokenizer: Its tokenizer, a fast one.
        texts: Texts, or the words of each; places are counted in the words joined by blanks.
        batch_size: Windows a batch; a text that does not fit into the model is read in several.

    Raises:
        ValueError: If the tokenizer is slow.
    """
    tagged = _tagged_words(model, tokenizer, texts, batch_size)
    whole = [as_text(text) for text in texts]
    if has_entities(model.config):
        return [[_entity(group, text) for group in _entities(own)] for own, text in zip(tagged, whole, strict=True)]
    return [
        [
            {"entity": each.tag, "word": text[each.start : each.end], "score": each.score, **_place([each])}
            for each in own
            if each.tag != OUTSIDE
        ]
        for own, text in zip(tagged, whole, strict=True)
    ]


def as_text(words: str | list[str]) -> str:
    """A text as it is, and words joined by blanks."""
    return words if isinstance(words, str) else " ".join(words)


def _entities(words: Sequence[TaggedWord]) -> Iterator[list[TaggedWord]]:
    """The words of each entity, as seqeval parts them: I, E and L go on with B and I of the same kind."""
    group: list[TaggedWord] = []
    for word in words:
        position, _, kind = word.tag.partition("-")
        before, _, kind_before = group[-1].tag.partition("-") if group else ("", "", "")
        if group and not (position in "IEL" and before in "BI" and kind == kind_before):
            yield group
            group = []
        if word.tag != OUTSIDE:
            group.append(word)
    if group:
        yield group


def _entity(words: Sequence[TaggedWord], text: str) -> dict[str, Any]:
    place, score = _place(words), sum(each.score for each in words) / len(words)
    word = text[place["start"] : place["end"]]
    return {"entity_group": words[0].tag.partition("-")[2], "word": word, "score": score, **place}


def _place(words: Sequence[TaggedWord]) -> dict[str, int]:
    return {"start": words[0].start, "end": words[-1].end}


def _tagged_words(
    model: Any, tokenizer: Any, texts: Sequence[str | list[str]], batch_size: int
) -> list[list[TaggedWord]]:
    """The words of each text in their order, each read in the window where most stands around its first piece."""
    check_fast(tokenizer)
    limit, are_words = most_tokens(model, tokenizer), not isinstance(texts[0], str)
    cut = {"truncation": True, "max_length": limit, "stride": limit // 4, "return_overflowing_tokens": True}
    encoded = tokenizer(list(texts), is_split_into_words=are_words, return_offsets_mapping=True, **cut)
    of = encoded["overflow_to_sample_mapping"]
    windows = [{name: encoded[name][number] for name in INPUTS if name in encoded} for number in range(len(of))]
    pieces = [
        (number, at, (text, word), encoded["offset_mapping"][number][at])
        for number, text in enumerate(of)
        for at, word in enumerate(encoded.word_ids(number))
        if word is not None
    ]
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    for _, _, word, (start, end) in pieces:
        first, last = spans.get(word, (start, end))
        spans[word] = min(first, start), max(last, end)
    firsts: dict[tuple[Any, int], int] = {}
    for number, at, word, (start, _) in pieces:
        if start == spans[word][0]:  # else the window begins within the word
            firsts.setdefault((word, number), at)
    best: dict[tuple[int, int], tuple[int, int, int]] = {}
    for (word, number), at in firsts.items():
        around = min(at, len(windows[number]["input_ids"]) - 1 - at)
        if word not in best or around > best[word][0]:
            best[word] = around, number, at
    passes = outputs_of(model, tokenizer, windows, batch_size=batch_size)
    shares = [own for outputs in passes for own in outputs.logits.float().softmax(-1).cpu()]
    found: list[list[TaggedWord]] = [[] for _ in texts]
    for word in sorted(best):
        _, number, at = best[word]
        score, label = shares[number][at].max(-1)
        start, end = _place_in(texts[word[0]], word[1], spans[word])
        found[word[0]].append(TaggedWord(start, end, str(model.config.id2label[int(label)]), float(score)))
    return found


def _place_in(text: str | list[str], word: int, span: tuple[int, int]) -> tuple[int, int]:
    """Where a word stands in its text, or in its words joined by blanks."""
    if isinstance(text, str):
        return trimmed(text, *span)
    start = sum(len(each) + 1 for each in text[:word])
    return start, start + len(text[word])
