"""Words that are near to a word in a table of word vectors: a file in GloVe's form, or the embeddings of a model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from .columns import short

MAX_WORDS = 100_000
"""Words of a file that are read by default, as in TinyBERT; such files begin with the most frequent ones."""


class WordVectors:
    """A table of word vectors.

    Args:
        words: The words.
        vectors: Their vectors `(words, dimensions)`.
        vector_of: Gives the vector of a word that is not among them, or None.
    """

    def __init__(
        self,
        words: Sequence[str],
        vectors: torch.Tensor,
        *,
        vector_of: Callable[[str], torch.Tensor | None] = lambda word: None,
    ):
        self.words, self.vector_of = list(words), vector_of
        self.vectors = torch.nn.functional.normalize(vectors.float(), dim=-1)
        self.number = {word: number for number, word in reversed(list(enumerate(self.words)))}

    @classmethod
    def from_file(cls, path: str | PathLike, *, max_words: int = MAX_WORDS) -> WordVectors:
        """Read a text file with a word and its numbers a line, as GloVe's are; one of word2vec's form has a header.

        Args:
            path: The file.
            max_words: How many of its first words to read.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If a line is no word with as many numbers as the others have, or there is none.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no file {str(path)!r}. Give a text file of word vectors, such as GloVe.")
        words: list[str] = []
        vectors: list[torch.Tensor] = []
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(islice(lines, max_words + 1), 1):
                items = line.rstrip().split(" ")
                if number == 1 and len(items) == 2 and all(item.isdigit() for item in items):
                    continue
                count = len(vectors[0]) if vectors else len(items) - 1
                word, vector = " ".join(items[: len(items) - count]), _numbers(items[len(items) - count :])
                if vector is None or not count or len(items) <= count or _numbers(items[1 : len(items) - count]):
                    raise ValueError(
                        f"{str(path)!r} has {len(items) - 1} values in line {number}, {short(line)}. A line is a word "
                        f"and {count or 'its'} numbers, parted by blanks. Give a text file of word vectors, such as "
                        "GloVe's."
                    )
                words.append(word)
                vectors.append(torch.tensor(vector))
        if not words:
            raise ValueError(f"{str(path)!r} has no words. Give a text file of word vectors, such as GloVe's.")
        return cls(words[:max_words], torch.stack(vectors[:max_words]))

    @classmethod
    def from_model(cls, model: Any, tokenizer: Any) -> WordVectors:
        """The input embeddings of a model: of its whole words, and for other words the means over their pieces."""
        embeddings = model.get_input_embeddings().weight.detach().float().cpu()
        whole = {number: word for number, word in whole_words(tokenizer).items() if word.isalpha()}
        whole = {number: word for number, word in whole.items() if number < len(embeddings)}

        def mean_of_pieces(word: str) -> torch.Tensor:
            pieces = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]  # as it stands within a text
            return embeddings[pieces].mean(0)

        return cls(list(whole.values()), embeddings[list(whole)], vector_of=mean_of_pieces)

    @property
    def fingerprint(self) -> str:
        """What tells these vectors from others."""
        digest = hashlib.sha256("\n".join(self.words).encode())
        digest.update(self.vectors.numpy().data)
        return digest.hexdigest()[:16]

    def neighbours(self, words: Iterable[str], count: int) -> dict[str, tuple[str, ...]]:
        """For each word so many others, the nearest first; none for a word without a vector.

        What is not there as it is written is looked up in small letters; a capitalised word has capitalised neighbours.
        """
        asked = list(dict.fromkeys(words))
        known = {word: vector for word in asked if (vector := self._vector(word)) is not None}
        if not known:
            return dict.fromkeys(asked, ())
        near = torch.nn.functional.normalize(torch.stack(list(known.values())), dim=-1) @ self.vectors.T
        own = [self._number(word) for word in known]
        for row, number in enumerate(own):
            if number is not None:
                near[row, number] = -torch.inf
        found = near.topk(min(count, len(self.words) - 1)).indices.tolist()
        named = {word: tuple(self.words[number] for number in row) for word, row in zip(known, found, strict=True)}
        cased = {word: tuple(map(str.title, row)) if word.istitle() else row for word, row in named.items()}
        return {word: cased.get(word, ()) for word in asked}

    def _number(self, word: str) -> int | None:
        return self.number.get(word, self.number.get(word.lower()))

    def _vector(self, word: str) -> torch.Tensor | None:
        number = self._number(word)
        return self.vector_of(word) if number is None else self.vectors[number]


def whole_words(tokenizer: Any) -> dict[int, str]:
    """The tokens that are whole words, or begin one, by their numbers.

    Left out are later pieces, special tokens, places for more words (`[unused5]`), and tokens that are no text alone: a
    blank, or a part of a letter.
    """
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    mark = max(("##", "\u0120", "\u2581"), key=lambda mark: sum(token.startswith(mark) for token in tokens))
    begins = "" if mark == "##" else mark  # the usual one: XLM-RoBERTa has \u0120 as a letter, too
    special = set(tokenizer.all_special_ids)
    words = {
        number: tokenizer.convert_tokens_to_string([token]).strip() if begins else token
        for number, token in enumerate(tokens)
        if number not in special and token.startswith(begins) and not token.startswith("##")
    }
    return {
        number: word
        for number, word in words.items()
        if word and "\ufffd" not in word and not re.fullmatch(r"[\[<]unused_?\d+[\]>]", word)
    }


def _numbers(items: Sequence[str]) -> list[float] | None:
    try:
        return [float(item) for item in items]
    except ValueError:
        return None
