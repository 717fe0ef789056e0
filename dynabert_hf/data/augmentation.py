"""More training text by TinyBERT's word replacement, with which the paper trained (arXiv 1909.10351, algorithm 1).

A word of one piece is replaced by what a masked language model thinks likely in its place, which reads the text beside
it as it is; a word of several pieces by its neighbours in a table of word vectors. Stop words, and what is not made of
letters alone, stay. TinyBERT's published script makes a pass for each word; here the words of many texts share a pass.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ..messages import check_counts
from ..tasks import evaluating
from .encoding import most_tokens
from .spans import trimmed
from .word_vectors import WordVectors, whole_words

_STOP_WORDS = """
    a about above after again against ain all am an and any are aren as at be because been before being below between
    both but by can couldn d did didn do does doesn doing don down during each few for from further had hadn has hasn
    have haven having he her here hers herself him himself his how i if in into is isn it its itself just ll m ma me
    mightn more most mustn my myself needn no nor not now o of off on once only or other our ours ourselves out over own
    re s same shan she should shouldn so some such t than that the their theirs them themselves then there these they
    this those through to too under until up ve very was wasn we were weren what when where which while who whom why
    will with won wouldn y you your yours yourself yourselves
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""English words that stay as they are: NLTK's list, as in TinyBERT."""

TOKENS_A_PASS = 4096
"""How many tokens the masked language model reads at once."""


MOST_UNUSED = 1000
"""Fewer rows of an embedding than this may have no token: some are padded, and multilingual DeBERTa-v3 has 898."""


@dataclass(frozen=True)
class Word:
    """A word of a text that may be replaced.

    Args:
        start: Where it begins in the text.
        end: Where it ends.
        candidates: What may stand in its place.
    """

    start: int
    end: int
    candidates: tuple[str, ...]


class WordReplacement:
    """Finds what words may be replaced by, and makes changed copies of texts.

    Args:
        model: A masked language model; it is used as it stands, in evaluation mode.
        tokenizer: Its tokenizer, a fast one.
        vectors: Word vectors for words of several pieces; None: the model's input embeddings.
        num_candidates: Candidates for a word, before pieces that begin no word are left out.
        probability: How often a word is replaced.
        stop_words: Words in small letters that stay.

    Raises:
        ValueError: If the model or tokenizer is not of that kind, or a number is not possible.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        *,
        vectors: WordVectors | None = None,
        num_candidates: int = 15,
        probability: float = 0.4,
        stop_words: frozenset[str] = STOP_WORDS,
    ):
        _check(model, tokenizer, num_candidates, probability)
        self.model, self.tokenizer = model, tokenizer
        self.num_candidates, self.probability, self.stop_words = num_candidates, probability, stop_words
        self.vectors = vectors or WordVectors.from_model(model, tokenizer)
        self.whole_words = whole_words(tokenizer)
        words = set(self.whole_words.values())
        blankless = {number: token for token, number in tokenizer.get_vocab().items() if token in words}
        self.words_anywhere = {**blankless, **self.whole_words}
        self.max_length = most_tokens(model, tokenizer)

    def words(self, texts: Sequence[str]) -> list[list[Word]]:
        """For each text the words that may be replaced, and by what; words that the model cannot read stay."""
        encoded = self.tokenizer(
            list(texts), list(texts), truncation=True, max_length=self.max_length, return_offsets_mapping=True
        )
        places = [list(self._replaceable(text, encoded.encodings[row])) for row, text in enumerate(texts)]
        single = [(row, tokens[0]) for row, own in enumerate(places) for _, _, tokens in own if len(tokens) == 1]
        likely = dict(
            zip(single, self._likely([(encoded.encodings[row], place) for row, place in single]), strict=True)
        )
        several = {
            texts[row][start:end] for row, own in enumerate(places) for start, end, tokens in own if len(tokens) > 1
        }
        near = self.vectors.neighbours(sorted(several), self.num_candidates)
        return [
            [
                Word(start, end, likely[row, tokens[0]] if len(tokens) == 1 else near[text[start:end]])
                for start, end, tokens in own
            ]
            for row, (text, own) in enumerate(zip(texts, places, strict=True))
        ]

    def copies(
        self, texts: Sequence[str], words: Sequence[Sequence[Word]], count: int, random: np.random.Generator
    ) -> list[tuple[str, ...]]:
        """Up to so many changed copies of a text, or of the texts of a pair: those that differ from it and each other.

        Args:
            texts: The text, or the texts of a pair, in each of which words are replaced.
            words: Their words, from `words`.
            count: How many copies are drawn.
            random: What draws.
        """
        drawn = {tuple(texts): None}
        for _ in range(count):
            drawn[tuple(self._copy(text, own, random) for text, own in zip(texts, words, strict=True))] = None
        return list(drawn)[1:]

    def _copy(self, text: str, words: Sequence[Word], random: np.random.Generator) -> str:
        parts, end = [], 0
        for word in words:
            if random.random() < self.probability and word.candidates:
                parts += [text[end : word.start], word.candidates[random.integers(len(word.candidates))]]
                end = word.end
        return "".join([*parts, text[end:]])

    def _replaceable(self, text: str, encoding: Any) -> Iterator[tuple[int, int, list[int]]]:
        """Where the words of a text begin and end that may be replaced, and where their tokens stand."""
        first = [place for place, number in enumerate(encoding.sequence_ids) if number == 0]
        for _, group in groupby(
            first, key=lambda place: (encoding.word_ids[place], _is_sign(text, *encoding.offsets[place]))
        ):
            tokens = list(group)
            start, end = trimmed(text, encoding.offsets[tokens[0]][0], encoding.offsets[tokens[-1]][1])
            word = text[start:end]
            is_cut = tokens[-1] == first[-1] and text[end : end + 1].isalnum()
            is_part = text[max(start - 1, 0) : start].isdigit() or text[end : end + 1].isdigit()  # such as th of 12th
            if word.isalpha() and word.lower() not in self.stop_words and not (is_cut or is_part):
                yield start, end, tokens

    def _likely(self, masks: Sequence[tuple[Any, int]]) -> list[tuple[str, ...]]:
        """For each token of an encoded text, what the model thinks likely in its place, the likeliest first."""
        found: dict[int, tuple[str, ...]] = {}
        order = sorted(range(len(masks)), key=lambda number: len(masks[number][0].ids))
        with _logits_at_masks(self.model) as logits_of:
            for length, group in groupby(order, key=lambda number: len(masks[number][0].ids)):
                numbers, in_a_pass = list(group), max(1, TOKENS_A_PASS // length)
                for start in range(0, len(numbers), in_a_pass):
                    chosen = numbers[start : start + in_a_pass]
                    logits = logits_of(*self._inputs([masks[number] for number in chosen]))
                    best = logits.topk(min(self.num_candidates, logits.shape[-1])).indices.tolist()
                    for number, row in zip(chosen, best, strict=True):
                        found[number] = self._named(row, *masks[number])
        return [found[number] for number in range(len(masks))]

    def _named(self, tokens: Sequence[int], encoding: Any, place: int) -> tuple[str, ...]:
        """The words among tokens for the place of another: those with a blank before them, unless that one has none.

        A word of RoBERTa has none at the start of a text and beside a bracket.
        """
        words = self.whole_words if encoding.ids[place] in self.whole_words else self.words_anywhere
        return tuple(dict.fromkeys(words[token] for token in tokens if token in words))

    def _inputs(self, masks: Sequence[tuple[Any, int]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Texts of one length, each with a token masked, and where that stands."""
        places = torch.tensor([place for _, place in masks], device=self.model.device)
        columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        inputs = {
            name: torch.tensor([getattr(encoding, column) for encoding, _ in masks], device=self.model.device)
            for name, column in columns.items()
            if name in self.tokenizer.model_input_names
        }
        inputs["input_ids"][torch.arange(len(masks)), places] = self.tokenizer.mask_token_id
        return inputs, places


def _is_sign(text: str, start: int, end: int) -> bool:
    """Whether a token is punctuation, which some tokenizers count to the word that it stands at."""
    start, end = trimmed(text, start, end)
    return start < end and all(unicodedata.category(letter)[0] in "PS" for letter in text[start:end])


@contextmanager
def _logits_at_masks(model: PreTrainedModel) -> Iterator[Any]:
    """What gives logits `(batch, vocabulary)` of one place a text: only there is the vocabulary multiplied out."""
    output, places = model.get_output_embeddings(), torch.empty(0)

    def at_places(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (args[0][torch.arange(len(places)), places][:, None],)

    def logits_of(inputs: dict[str, torch.Tensor], at: torch.Tensor) -> torch.Tensor:
        nonlocal places
        places = at
        with torch.inference_mode():
            return model(**inputs, return_dict=True).logits[:, 0].float()

    hook = output.register_forward_pre_hook(at_places)
    try:
        with evaluating(model):
            yield logits_of
    finally:
        hook.remove()


def _check(model: PreTrainedModel, tokenizer: Any, num_candidates: int, probability: float) -> None:
    has_words = isinstance(model, PreTrainedModel) and type(model).__name__.endswith("ForMaskedLM")
    if not has_words or model.get_output_embeddings() is None:
        raise ValueError(
            f"The model is a {type(model).__name__}, which does not say what may stand in the place of a word. "
            "Possible are masked language models, whose class ends in ForMaskedLM. Give one, such as "
            "bert-base-uncased by AutoModelForMaskedLM."
        )
    if not tokenizer.is_fast or tokenizer.mask_token_id is None:
        raise ValueError(
            f"The tokenizer is a {type(tokenizer).__name__} that does not tell where tokens stand in a text, or has no "
            "mask token. Give the fast tokenizer of the masked language model, by AutoTokenizer."
        )
    unused = model.config.vocab_size - len(tokenizer)
    if not 0 <= unused < MOST_UNUSED:
        raise ValueError(
            f"The tokenizer has {len(tokenizer)} tokens, the model vocab_size={model.config.vocab_size}, so its "
            "vocabulary is another one. Possible is a tokenizer whose tokens the model has all, and hardly any others. "
            "Give the tokenizer of this very model."
        )
    check_counts(num_candidates=num_candidates)
    if not 0 < probability <= 1:
        raise ValueError(f"probability={probability} is not possible. Give a number above 0 and up to 1.")
