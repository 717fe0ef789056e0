"""A model and its tokenizer with the tokens only that texts need: embeddings are most of a small size.

The layers stay as they are; sizes of them are the matter of `set_active` and `extract`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..families import anatomy_of
from ..tasks import is_sentence_encoder
from .sentence_encoder import behind_all_prompts
from .tokens import Text, check_same_tokens, check_tokenizer, needed_tokens, trimmed_tokenizer

BEFORE_THE_CUT = ", before the vocabulary was cut"
"""What is said of metrics that a model had before: of other texts, and of masked words, it would have others now."""


@dataclass(frozen=True)
class TrimmedVocabulary:
    """A model and its tokenizer with fewer tokens; may be unpacked into these two.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        kept: For each token the id that it had before.
        before: Of model and tokenizer as they were the `tokens`, `parameters`, `weights_mb` and `tokenizer_mb`.
        after: The same of these here.
    """

    model: Any
    tokenizer: PreTrainedTokenizerFast
    kept: tuple[int, ...]
    before: dict[str, float]
    after: dict[str, float]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.model, self.tokenizer))


def trim_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Iterable[Text]
) -> TrimmedVocabulary:
    """A new model and tokenizer with only the tokens that these texts need; the given ones do not change.

    On these texts every token, and every output of the model, is as before. Special and added tokens stay, and so does
    each letter that occurs, so that another word of these letters does not become the unknown token. A letter that
    does not occur becomes it, or in byte-level tokenizers its bytes; so give all texts that the model is for.

    Args:
        model: An elastic or stock model of a supported family, with any head, of any size.
        tokenizer: Its fast tokenizer, which splits words by WordPiece, byte-pair encoding or Unigram.
        texts: The texts, each a `str` or the list of its words. They are gone through twice, and held if they can be
            gone through once only. Of pairs give both texts, one after the other. The prompts of a sentence encoder
            stand before each of them, too.

    Returns:
        Model and tokenizer, which unpack as these two, and what they cost before and after.

    Raises:
        TypeError: If the model's family is not supported, the tokenizer is a slow one, or a text is none.
        ValueError: If the tokenizer is of a kind that cannot be trimmed, has more tokens than the model, or there is
            no token in the texts.

    Example:
        >>> small, tokenizer = trim_vocabulary(model.extract("w0.5-d0.5"), tokenizer, texts)  # doctest: +SKIP
    """
    anatomy, embeddings = anatomy_of(model), _embeddings(model)
    check_tokenizer(tokenizer)
    if not isinstance(texts, Sequence):
        texts = list(texts)
    if is_sentence_encoder(model) and not isinstance(texts, str):
        texts = behind_all_prompts(model.config, texts)
    size = embeddings.weight.shape[0]
    needed = needed_tokens(tokenizer, texts)
    if needed[-1] >= size:
        raise ValueError(
            f"The tokenizer has a token of id {needed[-1]}, and the model has embeddings for {size} tokens. Give the "
            "tokenizer that belongs to the model, or call resize_token_embeddings first."
        )
    of_model = set(_token_ids(model.config).values()) & set(tokenizer.get_vocab().values())
    if anatomy.skips_padding_positions:  # positions are counted from the id of the padding token, which has to stay
        of_model |= set(range(embeddings.padding_idx + 1))
    kept = sorted(of_model.union(needed))
    trimmed = trimmed_tokenizer(tokenizer, kept)
    check_same_tokens(tokenizer, trimmed, kept, texts)
    small = _with_tokens(model, kept)
    before, after = _costs(model, tokenizer), _costs(small, trimmed)
    small.config.trimmed_vocabulary = {"before": before, "after": after}
    _tell_of_metrics(small.config)
    return TrimmedVocabulary(small, trimmed, tuple(kept), before, after)


def _tell_of_metrics(config: Any) -> None:
    """Note, in place, that what was measured was measured before."""
    noted = getattr(config, "metric_rows", None)
    if noted:
        config.metric_rows = {
            name: {metric: rows.removesuffix(BEFORE_THE_CUT) + BEFORE_THE_CUT for metric, rows in own.items()}
            for name, own in noted.items()
        }


def _with_tokens(model: PreTrainedModel, kept: Sequence[int]) -> Any:
    """A copy of a model whose embeddings and outputs are those of these tokens, in this order."""
    rows = torch.tensor(kept, device=_embeddings(model).weight.device)
    chosen = {}
    for parameter in _parameters_of_tokens(model):
        part = nn.Parameter(parameter.detach()[rows], requires_grad=parameter.requires_grad)
        chosen[id(parameter)] = part
    small: Any = copy.deepcopy(model, dict(chosen))  # who meets such a parameter takes its part instead of a copy
    embeddings, outputs = small.get_input_embeddings(), small.get_output_embeddings()
    embeddings.num_embeddings = len(kept)
    if outputs is not None and outputs.weight.shape[0] == len(kept):
        outputs.out_features = len(kept)
    new_ids = {old: new for new, old in enumerate(kept)}
    if embeddings.padding_idx is not None:
        embeddings.padding_idx = new_ids.get(embeddings.padding_idx)
    small.config.vocab_size = len(kept)
    for name, old in _token_ids(model.config).items():
        if old in new_ids or name == "pad_token_id":  # embeddings cannot be made again with one beyond their end
            setattr(small.config, name, new_ids.get(old))
    return small


def _parameters_of_tokens(model: PreTrainedModel) -> list[nn.Parameter]:
    """The parameters with a row for each token: embeddings, and the weight and biases of outputs over tokens."""
    found: list[Any] = [_embeddings(model).weight]
    outputs: Any = model.get_output_embeddings()
    if outputs is not None:
        head = next(name for name, module in model.named_modules() if module is outputs).rpartition(".")[0]
        found += [outputs.weight, outputs.bias, getattr(model.get_submodule(head), "bias", None)]
    size = found[0].shape[0]  # DeBERTa may name a linear that stands before its outputs
    return list({id(each): each for each in found if each is not None and each.shape[0] == size}.values())


def _embeddings(model: PreTrainedModel) -> Any:
    return model.get_input_embeddings()


def _token_ids(config: Any) -> dict[str, int]:
    """The fields of a configuration that name a token by its id."""
    named = {name: value for name, value in config.to_dict().items() if name.endswith("_token_id")}
    return {name: value for name, value in named.items() if isinstance(value, int) and value >= 0}


def _costs(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """What a model and its tokenizer hold; a weight that stands in two places is saved, and counts, once."""
    tensors = {each.data_ptr(): each for each in model.state_dict().values()}.values()
    text = tokenizer.backend_tokenizer.to_str(pretty=True)
    return {
        "tokens": _embeddings(model).weight.shape[0],
        "parameters": model.num_parameters(),
        "weights_mb": round(sum(each.numel() * each.element_size() for each in tensors) / 2**20, 2),
        "tokenizer_mb": round(len(text.encode()) / 2**20, 2),
    }
