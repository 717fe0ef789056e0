"""Questions about texts of any length: cut into windows that a model reads, and answered over all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction

from ..task_metrics import whole_arrays
from .answers import answer_scores
from .columns import as_plain, is_missing, short, unformatted
from .spans import answer_span, best_spans, span_probability, token_places, trimmed
from .text_files import read_rows

COLUMNS = ("question", "context")
"""The columns of the question and of the text with the answer, by default."""

ANSWERS = "answers"
"""The column of the answers, by default."""

WINDOW, STRIDE = 384, 128
"""Tokens of a window at most, and tokens that two windows of a text share, as usual with SQuAD."""

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Answer:
    """What a model answers to a question.

    Args:
        text: The answer; empty where it says that there is none.
        start: Where it starts in the text.
        end: Where it ends.
        score: The product of the probabilities of start and end among the tokens of the text, in their window.
    """

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Questions:
    """Questions about texts, in windows.

    Args:
        windows: Inputs of the model for each window; with answers also `start_positions` and `end_positions`, 0 and 0
            where the answer is not in the window.
        of: For each window the number of its question.
        offsets: For each window `(tokens, 2)`: where each token starts and ends in the text; -1 for other tokens.
        contexts: For each question its text.
        answers: For each question its right answers, none where it has no answer; None: they are not known.
    """

    windows: tuple[dict[str, Any], ...]
    of: tuple[int, ...]
    offsets: tuple[np.ndarray, ...]
    contexts: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...] | None

    @classmethod
    def from_rows(
        cls,
        rows: Any,
        tokenizer: Any,
        *,
        columns: Sequence[str] = COLUMNS,
        answer_column: str | None = ANSWERS,
        max_length: int = WINDOW,
        stride: int | None = None,
        may_lack_answers: bool = False,
        name: str = "The data",
    ) -> Questions:
        """Cut the texts of rows into windows.

        Args:
            rows: A data set, or a list of mappings.
            tokenizer: A fast tokenizer, which knows where each token stands in its text.
            columns: The columns of the question and of the text.
            answer_column: The column of the answers: as SQuAD has them, `{"text": [...], "answer_start": [...]}`; a
                list of such pairs; or texts, which start where `answer_start` says, else where they first stand in
                the text. An empty list or text says that a question has none. None: there are no answers.
            max_length: Tokens of a window at most.
            stride: Tokens that two windows of a text share; None: 128, of short windows a third of them.
            may_lack_answers: Whether a row may have None for its answers, which are not known then; its windows have no
                positions.
            name: What to call the data in errors.

        Raises:
            ValueError: If the tokenizer is slow, a question, a text or an answer is missing, a question leaves no room
                for its text, or an answer does not stand in its text.
        """
        check_fast(tokenizer)
        rows = unformatted(rows)
        examples = [rows[row] for row in range(len(rows))]
        questions, contexts = (_texts(name, examples, column) for column in columns)
        stride = min(STRIDE, max_length // 3) if stride is None else stride
        _check_room(name, questions, tokenizer, max_length=max_length, stride=stride)
        known = None
        if answer_column is not None:
            known = _known_answers(name, examples, columns[1], answer_column, may_lack=may_lack_answers)
        encoded = tokenizer(
            [question.lstrip() for question in questions],
            contexts,
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        of = encoded["overflow_to_sample_mapping"]
        windows, offsets = [], []
        for number, question in enumerate(of):
            places = token_places(encoded, number)
            window = {each: encoded[each][number] for each in INPUTS if each in encoded}
            if known is not None:
                own = known[question]
                span = (None, None) if own is None else answer_span(places, own[0] if own else None)
                window["start_positions"], window["end_positions"] = span
            windows.append(window)
            offsets.append(places)
        whole = [[text for text, _ in own] for own in known or () if own is not None]
        answers = tuple(map(tuple, whole)) if len(whole) == len(examples) else None
        return cls(tuple(windows), tuple(of), tuple(offsets), tuple(contexts), answers)

    @property
    def dataset(self) -> Dataset:
        """The windows as a data set."""
        return Dataset.from_list([dict(window) for window in self.windows])

    @property
    def may_have_no_answer(self) -> bool:
        """Whether a question is known to have no answer, as in SQuAD 2."""
        return self.answers is not None and any(not own for own in self.answers)

    def answered(self, start_logits: Any, end_logits: Any, *, may_be_none: bool | None = None) -> list[Answer]:
        """The best answer to each question over all windows of its text: the span with the highest sum of logits.

        Args:
            start_logits: `(windows, seq)`, in the order of the windows; what stands after a window does not matter.
            end_logits: Of the same shape.
            may_be_none: Whether to say that there is no answer where the first token, in all windows, is better than
                the best span; None: where a question is known to have none.

        Raises:
            ValueError: If there are logits for another number of windows.
        """
        allows_none = self.may_have_no_answer if may_be_none is None else may_be_none
        starts, ends = (self._of_windows(logits) for logits in (start_logits, end_logits))
        scores, first, last = best_spans(starts, ends, self.offsets)
        none = starts[:, 0] + ends[:, 0]
        found: list[Answer] = []
        for question, windows in enumerate(self._windows_of_questions()):
            best = windows[int(np.argmax(scores[windows]))]
            if allows_none and none[windows].min() > scores[best]:
                found.append(Answer("", 0, 0, 0.0))
                continue
            places, context = self.offsets[best], self.contexts[question]
            begins, ends_at = trimmed(context, int(places[first[best], 0]), int(places[last[best], 1]))
            probability = span_probability(starts[best], ends[best], places, first[best], last[best])
            found.append(Answer(context[begins:ends_at], begins, ends_at, probability))
        return found

    def metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """SQuAD's F1 and exact match of the text answers, as `compute_metrics` of a trainer."""
        predictions: Any = whole_arrays(prediction).predictions
        starts, ends = predictions[:2]
        return answer_scores([answer.text for answer in self.answered(starts, ends)], self.answers or ())

    def _of_windows(self, logits: Any) -> np.ndarray:
        logits = np.asarray(logits, dtype=np.float64)
        if len(logits) != len(self.windows):
            raise ValueError(
                f"There are logits of {len(logits)} windows for {len(self.windows)} windows of {len(self.contexts)} "
                "questions. Give those of all windows in their order."
            )
        missing = max(map(len, self.offsets)) - logits.shape[1]
        return np.pad(logits, ((0, 0), (0, max(missing, 0))), constant_values=-np.inf)

    def _windows_of_questions(self) -> list[list[int]]:
        windows: list[list[int]] = [[] for _ in self.contexts]
        for number, question in enumerate(self.of):
            windows[question].append(number)
        return windows


def read_questions(path: str | PathLike, *, columns: Sequence[str] = COLUMNS, needed: Sequence[str] = ()) -> Dataset:
    """The questions of a file: a row each, or SQuAD's own json, with texts in `data` and questions in `qas`.

    Args:
        path: The file.
        columns: The columns of the question and of the text.
        needed: More columns that it has to have.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, has no rows, or lacks a column.
    """
    nested = _squad(Path(path))
    if nested is None:
        return read_rows(path, needed=[*columns, *needed], as_text=True)
    rows = list(_flat(nested))
    if not rows:
        raise ValueError(f"{str(path)!r} has no questions. Give a file with at least one.")
    return Dataset.from_list(rows)


def check_fast(tokenizer: Any) -> None:
    """Check that a tokenizer knows where its tokens stand in a text.

    Raises:
        ValueError: If it does not.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"The tokenizer is a {type(tokenizer).__name__}, which does not tell where its tokens stand in a text. "
            "Answers need a fast tokenizer. Load it by AutoTokenizer.from_pretrained(..., use_fast=True), with the "
            "tokenizer.json of the model."
        )


def _squad(path: Path) -> Any:
    """The content of a json file in SQuAD's own form; None of any other file."""
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        return None
    is_squad = isinstance(content, dict) and isinstance(content.get("data"), list)
    return content if is_squad and all("paragraphs" in each for each in content["data"]) else None


def _flat(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for document in content["data"]:
        for paragraph in document["paragraphs"]:
            for asked in paragraph["qas"]:
                given = asked.get("answers")
                yield {
                    **({"id": str(asked["id"])} if "id" in asked else {}),
                    "question": asked["question"],
                    "context": paragraph["context"],
                    "answers": given
                    if given is None
                    else {name: [each.get(name) for each in given] for name in ("text", "answer_start")},
                }


def _texts(name: str, examples: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    texts = [example.get(column) for example in examples]
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"{name} has {short(text)} in column {column!r} of row {row}. A question and the text with its answer "
                "are texts. Fill it, or leave the row out."
            )
    return [str(text) for text in texts]


def _check_room(name: str, questions: Sequence[str], tokenizer: Any, *, max_length: int, stride: int) -> None:
    if stride < 0:
        raise ValueError(f"{name}: windows that share {stride} tokens are not possible. Give a number of at least 0.")
    special = tokenizer.num_special_tokens_to_add(pair=True)
    room = max_length - special - stride - 1
    lengths = [len(ids) for ids in tokenizer(list(questions), add_special_tokens=False)["input_ids"]]
    longest = int(np.argmax(lengths))
    if lengths[longest] > room:
        raise ValueError(
            f"{name} has a question of {lengths[longest]} tokens in row {longest}. Of windows of {max_length} tokens, "
            f"which share {stride}, it may have {max(room, 0)}, so that some of its text is in each. Shorten it, or "
            "give longer windows."
        )


def _known_answers(
    name: str, examples: Sequence[Mapping[str, Any]], context_column: str, column: str, *, may_lack: bool
) -> list[list[tuple[str, int]] | None]:
    """The right answers of all rows, each checked; None for a row where they may lack and do."""
    row = next((row for row, each in enumerate(examples) if _is_missing(each.get(column))), None)
    if row is not None and not may_lack:
        raise ValueError(
            f"{name} has None in column {column!r} of row {row}. Possible is an answer, or an empty list where a "
            "question has none. Give one of these, or leave the row out."
        )
    return [_answers(name, row, each, context_column, column) for row, each in enumerate(examples)]


def _is_missing(given: Any) -> bool:
    return is_missing(given) or (isinstance(given, Mapping) and given.get("text") is None)


def _answers(
    name: str, row: int, example: Mapping[str, Any], context_column: str, answer_column: str
) -> list[tuple[str, int]] | None:
    """The right answers of a row and where they start in its text, each checked; None where they are not known."""
    context, given = example[context_column], example.get(answer_column)
    if _is_missing(given):
        return None
    found = []
    for text, start in _pairs(given, example.get("answer_start")):
        place = _place(text, start, context)
        if place < 0 or context[place : place + len(text)] != text:
            where = "" if start is None else f" at place {start}"
            raise ValueError(
                f"{name} has the answer {short(text)}{where} in column {answer_column!r} of row {row}, which does not "
                f"stand there in the text of column {context_column!r}. An answer is a part of its text, letter by "
                "letter. Correct it or its answer_start, or give none where a question has no answer."
            )
        found.append((text, place))
    return found


def _place(text: Any, start: Any, context: str) -> int:
    """Where an answer starts, -1 if nowhere; beside rows without one a csv gives a place as text or with a point."""
    if not isinstance(text, str) or not text.strip():
        return -1
    if is_missing(start) or start == "":
        return context.find(text)
    number = str(start).removesuffix(".0")
    return int(number) if number.isdecimal() else -1


def _pairs(given: Any, start: Any) -> list[tuple[Any, Any]]:
    given = as_plain(given)
    if given == "":
        return []
    if isinstance(given, Mapping):
        texts, starts = (as_plain(given.get(name)) for name in ("text", "answer_start"))
        texts = [texts] if isinstance(texts, str) else list(texts or [])
        starts = [starts] if isinstance(starts, int) else list(starts or [None] * len(texts))
        return list(zip(texts, [*starts, *[None] * len(texts)], strict=False))
    if isinstance(given, str):
        return [(given, start)]
    if isinstance(given, list):
        return [pair for each in given for pair in _pairs(each, None)]
    return [(given, None)]
