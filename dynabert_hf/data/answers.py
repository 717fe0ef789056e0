"""What an answer to a question is worth: SQuAD's exact match and F1, of texts after its normalisation.

As SQuAD 2 has them, which for questions with an answer are those of SQuAD 1.1. Shares from 0 to 1, not percentages.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """A text in lower case, without punctuation, articles and blanks that say nothing."""
    text = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def answer_scores(answers: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """F1 and exact match of answers, each held against the best of its references.

    Args:
        answers: An answer a question; the empty text says that there is none.
        references: The right answers of each question; none where a question has no answer.

    Returns:
        The means over the questions, `"f1"` and `"exact_match"`.
    """
    f1, exact = 0.0, 0.0
    for answer, given in zip(answers, references, strict=True):
        right = [text for text in given if normalised(text)] or [""]
        f1 += max(_f1(answer, text) for text in right)
        exact += max(normalised(answer) == normalised(text) for text in right)
    return {"f1": f1 / len(answers), "exact_match": exact / len(answers)}


def _f1(answer: str, reference: str) -> float:
    """F1 of the words that an answer shares with a reference; of two empty texts 1."""
    found, right = normalised(answer).split(), normalised(reference).split()
    if not found or not right:
        return float(found == right)
    shared = sum((Counter(found) & Counter(right)).values())
    return 2 * shared / (len(found) + len(right))
