"""Which columns of a data set hold its texts, and which their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from ..tasks import task_of
from .columns import LABEL_COLUMNS, are_rows, column_names
from .questions import ANSWERS
from .questions import COLUMNS as QUESTION_COLUMNS

TEXTS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text",),
    ("sentence",),
)
"""What columns of texts, or of the two texts of a pair, are called, as in GLUE; the first that are all there are read.
"""

NO_TEXTS = ("id", "label_text")
"""What columns are called that name a row or its class, as in data sets of MTEB and SetFit: nothing to read."""

WORDS, TAGS = ("tokens", "words"), ("tags", "ner_tags", "labels", "label")
"""What columns of words and of their labels are called."""

CHOICES = ("text", "choices")
"""The columns of a text and of the texts that it may go on with."""


@dataclass(frozen=True)
class TextColumns:
    """Where the texts of a data set are, and their labels.

    Args:
        texts: The column of the text, or the two of a pair, of a question and its text, or of a text and its choices.
        labels: The column of the labels; None: there are none.
    """

    texts: tuple[str, ...]
    labels: str | None

    @classmethod
    def found(
        cls,
        named: Mapping[str, Sequence[str]],
        model: PreTrainedModel,
        *,
        texts: Sequence[str] | str | None = None,
        labels: str | None = None,
    ) -> TextColumns:
        """The columns that were named, else those with the usual names.

        Args:
            named: The columns of data sets by what to call these in errors. The first one has the texts; any may have
                the labels, such as the one to evaluate on beside text without labels.
            model: The model that is to read them.
            texts: Column or columns that were named; None: the usual ones.
            labels: Column that was named; None: the usual one, if it is there.

        Raises:
            ValueError: If a column was named that is not there, or none has a usual name.
        """
        texts = named_texts(texts, model)
        name, names = next(iter(named.items()))
        every = list(dict.fromkeys(each for own in named.values() for each in own))
        missing = [each for each in texts or () if each not in names]
        missing += [each for each in ([labels] if labels else []) if each not in every]
        if missing:
            raise ValueError(f"{name} has the columns {sorted(names)} but no {missing[0]!r}. Name one that it has.")
        usual, of_labels = _usual_columns(model)
        chosen = tuple(texts or next((each for each in usual if set(each) <= set(names)), ()))
        if not chosen:
            possible = " or ".join(" and ".join(each) for each in usual)
            raise ValueError(
                f"{name} has the columns {sorted(names)} but no 'input_ids', nor a text by a usual name: {possible}. "
                "Name its columns by text_columns, or tokenise it: "
                "dataset.map(lambda rows: tokenizer(rows['text'], truncation=True), batched=True)."
            )
        return cls(chosen, labels or next((each for each in of_labels if each in every and each not in chosen), None))

    def or_usual(self, names: Sequence[str], model: PreTrainedModel) -> TextColumns:
        """The columns of some data by their usual names, as `found` takes them; without such texts, these columns.

        Args:
            names: The columns that the data have.
            model: The model that is to read them.
        """
        usual, of_labels = _usual_columns(model)
        texts = next((each for each in (*usual, self.texts) if set(each) <= set(names)), None)
        if texts is None:
            return self
        labels = next((each for each in (self.labels, *of_labels) if each in names and each not in texts), self.labels)
        return TextColumns(texts, None if self.labels is None else labels)

    def other_labels(self, names: Sequence[str], model: PreTrainedModel) -> list[str]:
        """The columns beside that of the labels which have a usual name of labels, too."""
        usual = () if self.labels is None else _usual_columns(model)[1]
        return [each for each in usual if each in names and each not in (self.labels, *self.texts)]

    def check_labels(self, name: str, names: Sequence[str], model: PreTrainedModel) -> None:
        """Check that another data set calls its labels by no other usual name; it may lack them.

        Raises:
            ValueError: If it does.
        """
        others = self.other_labels(names, model)
        if others and self.labels not in names:
            raise ValueError(
                f"{name} has labels in {others[0]!r}, but another data set has them in {self.labels!r}. Give all data "
                "sets the same columns, or name the column that counts by label_column."
            )

    def check(self, name: str, names: Sequence[str], *, found_in: str) -> None:
        """Check that another data set has the columns of the texts, too; it may lack that of the labels.

        Raises:
            ValueError: If it lacks one.
        """
        for each in self.texts:
            if each not in names:
                raise ValueError(
                    f"{name} has the columns {sorted(names)} but no {each!r}, which is a column of the text in "
                    f"{found_in}. Give all data sets the same columns."
                )


def as_names(given: Sequence[str] | str | None) -> Sequence[str] | None:
    """Names of columns, also where one was given alone.

    Raises:
        ValueError: If a column is named twice.
    """
    names = [given] if isinstance(given, str) else given
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"The columns of text {list(names)} contain one twice. Name each column once.")
    return names


def named_texts(given: Sequence[str] | str | None, model: PreTrainedModel) -> Sequence[str] | None:
    """The columns of text that were named, if any.

    Raises:
        ValueError: If the head of the model reads more or fewer of them, or one is named twice.
    """
    names, task = as_names(given), task_of(model)
    if not names:
        return None
    numbers = {"ForQuestionAnswering": (2,), "ForMultipleChoice": (2,), "ForTokenClassification": (1,)}
    possible = numbers.get(task.head, (1, 2))
    if len(names) not in possible:
        reads = f"reads {' or '.join(map(str, possible))}; name these alone."
        if task.predicts == "choice":
            reads = "takes a text and the list of its choices; name both columns."
        raise ValueError(f"{len(names)} columns of text were given, {list(names)}. A {type(model).__name__} {reads}")
    return names


def _usual_columns(model: PreTrainedModel) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    task = task_of(model)
    if task.predicts == "span":
        return (QUESTION_COLUMNS,), (ANSWERS,)
    if task.predicts == "choice":
        return (CHOICES,), LABEL_COLUMNS
    if task.head == "ForMaskedLM":
        return TEXTS, ()
    return (tuple((each,) for each in WORDS), TAGS) if task.predicts == "token" else (TEXTS, LABEL_COLUMNS)


def is_text(dataset: Any) -> bool:
    """Whether a data set of known length holds columns, but nothing that was tokenised."""
    names = column_names(dataset) if are_rows(dataset) and len(dataset) else []
    return bool(names) and not {"input_ids", "inputs_embeds"} & set(names)
