"""The vocabulary of a fast tokenizer: which of its tokens texts need, and the same tokenizer with these tokens only.

Works on the description that a tokenizer saves as `tokenizer.json`. Models of language are left to `vocabulary`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast

_BATCH = 1000
"""How many texts are tokenised at once."""

_WAY_OUT = (
    "It does something with texts that its file does not tell. Keep the vocabulary as it is, or trim with another "
    "tokenizer of the same tokens."
)

Text = str | Sequence[str]
"""A text, or the words of one."""


def check_tokenizer(tokenizer: Any) -> None:
    """Whether a tokenizer can be trimmed.

    Raises:
        TypeError: If it is none, or a slow one.
        ValueError: If its model is of a kind that cannot be trimmed.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TypeError(
            f"A {type(tokenizer).__name__} cannot be trimmed: only a fast tokenizer tells all that it does with text. "
            "Give the one that AutoTokenizer.from_pretrained loads for this model."
        )
    kind = _described(tokenizer)["model"]["type"]
    if kind not in _COMPANIONS:
        raise ValueError(
            f"The tokenizer is of type {kind}, of which it is not known what a token needs beside it. Possible are "
            f"{', '.join(_COMPANIONS)}; trim a model whose tokenizer is one of these."
        )


def check_knows_words(tokenizer: Any) -> None:
    """Check that a tokenizer is none of those that transformers makes where no tokenizer is saved.

    Raises:
        ValueError: If it knows special tokens alone, so that all words would be unknown.
    """
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ValueError(
            f"The tokenizer knows no words, only {', '.join(tokenizer.all_special_tokens)}. transformers makes such a "
            "one of a folder without the files of a tokenizer. Give that of the model, or save it in the folder of the "
            "model: tokenizer.save_pretrained(folder)."
        )


def needed_tokens(tokenizer: PreTrainedTokenizerFast, texts: Iterable[Text]) -> list[int]:
    """The ids of all tokens without which these texts, or words of the same letters, would be tokenised otherwise.

    These are the tokens of the texts; what the tokenizer makes them of; single letters that occur in them, so that
    another word of these letters does not become the unknown token; and all special and added tokens.

    Raises:
        TypeError: If `texts` is a single text, or one of them is neither text nor words.
        ValueError: If there is no token in them.
    """
    if isinstance(texts, str):
        raise TypeError(
            f"texts is one text, {texts[:30]!r}. A vocabulary is trimmed to all texts that it is for: give a list."
        )
    described = _described(tokenizer)
    vocabulary = described["model"]["vocab"]
    ids = vocabulary if isinstance(vocabulary, dict) else {piece: at for at, (piece, _) in enumerate(vocabulary)}
    added = {token["id"] for token in described["added_tokens"]}
    reader = copy.deepcopy(tokenizer)  # whoever tokenises changes what a tokenizer cuts and pads
    used = {number for batch in _batches(texts) for row in _encode(reader, batch) for number in row} - added
    if not used:
        raise ValueError(
            "The texts hold no token, so nothing would be left of the vocabulary. Give the texts that the model is "
            "for, such as its training data."
        )
    names = {number: token for token, number in ids.items()}
    tokens = {names[number] for number in used}
    tokens |= _COMPANIONS[described["model"]["type"]](tokens, described, ids)
    return sorted(added | {ids[token] for token in tokens} | {*tokenizer.all_special_ids})


def trimmed_tokenizer(tokenizer: PreTrainedTokenizerFast, kept: Sequence[int]) -> PreTrainedTokenizerFast:
    """A new tokenizer that knows the tokens of these ids only, numbered in the order of `kept`.

    Args:
        tokenizer: The tokenizer, which stays as it is.
        kept: Ids of the tokens to keep, in ascending order; among them what `needed_tokens` gives for some texts.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        path = Path(folder, "tokenizer.json")
        path.write_text(json.dumps(_trimmed(json.loads(path.read_text("utf-8")), new_ids), ensure_ascii=False), "utf-8")
        path = Path(folder, "tokenizer_config.json")
        settings = json.loads(path.read_text("utf-8"))
        if "added_tokens_decoder" in settings:
            decoder = settings["added_tokens_decoder"].items()
            settings["added_tokens_decoder"] = {str(new_ids[int(old)]): token for old, token in decoder}
            path.write_text(json.dumps(settings, ensure_ascii=False), "utf-8")
        trimmed = type(tokenizer).from_pretrained(folder)
    trimmed.name_or_path = tokenizer.name_or_path
    return trimmed


def check_same_tokens(
    tokenizer: PreTrainedTokenizerFast, trimmed: PreTrainedTokenizerFast, kept: Sequence[int], texts: Iterable[Text]
) -> None:
    """Whether a trimmed tokenizer has the tokens that were kept, and texts the same as before, token by token.

    Raises:
        ValueError: If not.
    """
    all_tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    if trimmed.get_vocab() != {all_tokens.get(old): new for new, old in enumerate(kept)}:
        raise ValueError(
            f"A {type(tokenizer).__name__} made of the kept tokens numbers them otherwise, so that the model would "
            f"read others. {_WAY_OUT}"
        )
    before, after = copy.deepcopy(tokenizer), copy.deepcopy(trimmed)
    for batch in _batches(texts):
        for text, old, new in zip(batch, _encode(before, batch), _encode(after, batch), strict=True):
            if old != [kept[number] for number in new]:
                raise ValueError(
                    f"A {type(tokenizer).__name__} made of the kept tokens splits {text!r:.60} otherwise, so that the "
                    f"outputs of the model would change. {_WAY_OUT}"
                )


def _described(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return json.loads(tokenizer.backend_tokenizer.to_str())


def _batches(texts: Iterable[Text]) -> Iterable[list[Text]]:
    rest = iter(texts)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text]) -> list[list[int]]:
    """The ids of whole texts, without those that frame them."""
    for text in texts:
        if not isinstance(text, str) and not (isinstance(text, list | tuple) and all(isinstance(w, str) for w in text)):
            raise TypeError(f"{text!r:.60} is no text. Give each text as a str, or as a list of its words.")
    words = [not isinstance(text, str) for text in texts]
    if len(set(words)) > 1:
        return [_encode(tokenizer, [text])[0] for text in texts]
    settings = {"add_special_tokens": False, "truncation": False, "padding": False, "verbose": False}
    return tokenizer(list(texts), is_split_into_words=words[0], **settings)["input_ids"]


def _pieces(tokens: set[str], described: Mapping[str, Any], ids: Mapping[str, int]) -> set[str]:
    """WordPiece takes the longest piece that it knows: of what texts need, each letter, at a beginning and within."""
    prefix = described["model"]["continuing_subword_prefix"]
    letters = {letter for token in tokens for letter in token.removeprefix(prefix)}
    return {piece for letter in letters for piece in (letter, prefix + letter) if piece in ids}


def _merged(tokens: set[str], described: Mapping[str, Any], ids: Mapping[str, int]) -> set[str]:
    """Byte-pair encoding merges from the smallest on: all that a token may be merged of, and every byte."""
    model = described["model"]
    prefix = model["continuing_subword_prefix"] or ""
    made_of: dict[str, list[tuple[str, str]]] = {}
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        made_of.setdefault(left + right.removeprefix(prefix), []).append((left, right))
    found, open_ends = set(tokens), list(tokens)
    while open_ends:
        for pair in made_of.get(open_ends.pop(), ()):
            open_ends += [part for part in pair if part not in found]
            found.update(pair)
    return found | _bytes(described, ids)


def _subwords(tokens: set[str], described: Mapping[str, Any], ids: Mapping[str, int]) -> set[str]:
    """Unigram takes the likeliest split, in which the unknown costs what the least likely token costs, and more."""
    vocabulary = described["model"]["vocab"]
    least = min(vocabulary, key=lambda entry: entry[1])[0]
    unknown = {piece for piece, _ in vocabulary[: (described["model"]["unk_id"] or 0) + 1]}
    letters = {letter for token in tokens for letter in token if letter in ids}
    return {least} | unknown | letters | _bytes(described, ids)


def _bytes(described: Mapping[str, Any], ids: Mapping[str, int]) -> set[str]:
    """The tokens of single bytes, where a tokenizer falls back on them."""
    alphabet = {f"<0x{byte:02X}>" for byte in range(256)} if described["model"].get("byte_fallback") else set()
    if '"ByteLevel"' in json.dumps({**described, "model": None, "added_tokens": None}):
        alphabet |= {*pre_tokenizers.ByteLevel.alphabet()}
    return alphabet & ids.keys()


_COMPANIONS = {"WordPiece": _pieces, "BPE": _merged, "Unigram": _subwords}
"""For each kind of tokenizer the tokens that others need beside them."""


def _trimmed(described: dict[str, Any], new_ids: Mapping[int, int]) -> dict[str, Any]:
    """The description of a tokenizer, with the tokens of these old ids only and their new ones in all places."""
    model = {**described["model"]}
    if isinstance(model["vocab"], dict):
        model["vocab"] = {token: new_ids[old] for token, old in model["vocab"].items() if old in new_ids}
    else:
        model["vocab"] = [entry for old, entry in enumerate(model["vocab"]) if old in new_ids]
        if model["unk_id"] is not None:
            model["unk_id"] = new_ids[model["unk_id"]]
    if "merges" in model:
        known, prefix = model["vocab"], model["continuing_subword_prefix"] or ""
        pairs = [(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
        model["merges"] = [
            [left, right]
            for left, right in pairs
            if left in known and right in known and left + right.removeprefix(prefix) in known
        ]
    added = [{**token, "id": new_ids[token["id"]]} for token in described["added_tokens"]]
    padding = described["padding"]
    if padding is not None:
        padding = {**padding, "pad_id": new_ids[padding["pad_id"]]}
    frame = described["post_processor"]
    return {
        **described,
        "model": model,
        "added_tokens": added,
        "padding": padding,
        "post_processor": None if frame is None else _renumbered(frame, new_ids),
    }


def _renumbered(frame: dict[str, Any], new_ids: Mapping[int, int]) -> dict[str, Any]:
    """What puts special tokens around a text, with their new ids."""
    if frame["type"] == "Sequence":
        return {**frame, "processors": [_renumbered(each, new_ids) for each in frame["processors"]]}
    if frame["type"] in ("BertProcessing", "RobertaProcessing"):
        return {**frame, **{name: [frame[name][0], new_ids[frame[name][1]]] for name in ("sep", "cls")}}
    if frame["type"] == "TemplateProcessing":
        tokens = frame["special_tokens"].items()
        renumbered = {name: {**token, "ids": [new_ids[old] for old in token["ids"]]} for name, token in tokens}
        return {**frame, "special_tokens": renumbered}
    return frame
