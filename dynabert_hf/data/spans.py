"""Where answers and words stand: places in a text, and the tokens of a window that hold them.

Places of a window are an array `(tokens, 2)`: for each token where it starts and ends in the text, -1 for others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

LONGEST_ANSWER = 30
"""Tokens of an answer at most."""


def token_places(encoded: Any, number: int) -> np.ndarray:
    """For each token of a window where it starts and ends in the text, -1 for others."""
    is_text = np.array([part == 1 for part in encoded.sequence_ids(number)])
    return np.where(is_text[:, None], np.array(encoded["offset_mapping"][number]), -1)


def answer_span(places: np.ndarray, answer: tuple[str, int] | None) -> tuple[int, int]:
    """The first and the last token of an answer; 0 and 0 where a window does not hold it whole."""
    if answer is None:
        return 0, 0
    text, start = answer
    start, end = start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    core = start + len(_without_marks(text.strip()))  # of the marks at its end a tokenizer may make no token
    tokens = np.flatnonzero(places[:, 0] >= 0)
    if not len(tokens) or places[tokens[0], 0] > start or places[tokens[-1], 1] < core:
        return 0, 0
    after, before = tokens[places[tokens, 1] > start], tokens[places[tokens, 0] < end]
    if not len(after) or not len(before):
        return 0, 0
    first = after[: max((places[after, 0] <= start).sum(), 1)][-1]
    last = before[-max((places[before, 1] >= end).sum(), 1) :][0]
    return int(first), int(max(first, last))


def _without_marks(text: str) -> str:
    """A text up to its last character that is no accent or other mark of one before it."""
    while text and unicodedata.category(text[-1]).startswith("M"):
        text = text[:-1]
    return text


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A part of a text without blanks around it, which some tokens take in, and with its marks, which others leave."""
    while end < len(text) and unicodedata.category(text[end]).startswith("M"):
        end += 1
    start = end - len(text[start:end].lstrip())
    return start, start + len(text[start:end].rstrip())


def best_spans(
    starts: np.ndarray, ends: np.ndarray, offsets: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each window the highest sum of logits of a span in its text, and its first and last token."""
    is_text = np.zeros(starts.shape, dtype=bool)
    for number, places in enumerate(offsets):
        is_text[number, : len(places)] = places[:, 0] >= 0
    starts, ends = (np.where(is_text, logits, -np.inf) for logits in (starts, ends))
    best = np.full(len(starts), -np.inf)
    first, last = np.zeros(len(starts), dtype=int), np.zeros(len(starts), dtype=int)
    for length in range(min(LONGEST_ANSWER, starts.shape[1])):
        sums = starts[:, : starts.shape[1] - length] + ends[:, length:]
        place = sums.argmax(1)
        score = sums[np.arange(len(sums)), place]
        is_better = score > best
        best[is_better], first[is_better] = score[is_better], place[is_better]
        last[is_better] = place[is_better] + length
    return best, first, last


def span_probability(starts: np.ndarray, ends: np.ndarray, places: np.ndarray, first: int, last: int) -> float:
    """The product of the probabilities of a start and an end among the tokens of the text."""
    is_text = np.flatnonzero(places[:, 0] >= 0)

    def share(logits: np.ndarray, token: int) -> float:
        return float(1 / np.exp(logits[is_text] - logits[token]).sum())

    return share(starts, first) * share(ends, last)
