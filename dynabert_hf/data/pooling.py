"""How the states of tokens become the vector of a text, as sentence-transformers' modules after the encoder do it.

A model is a sentence encoder if its configuration holds the files of sentence-transformers (`sentence_encoder`).
Reading them from a folder is `sentence_encoder`'s; texts become rows in `sentences`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from ..task_metrics import encoder_file

POOLINGS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
}
"""The poolings that sizes keep, with the names that older files of sentence-transformers give them."""

POOLING_FILE = "1_Pooling/config.json"


@dataclass(frozen=True)
class Pooling:
    """What makes one vector of the states of a text.

    Args:
        mode: `"mean"` over the real tokens, `"cls"` (the first of them) or `"max"` over them.
        normalize: Whether vectors get the length 1.
        truncate_dim: How many leading numbers are left of vectors in the end; None: all.
    """

    mode: str = "mean"
    normalize: bool = False
    truncate_dim: int | None = None

    @classmethod
    def of(cls, config: Any) -> Pooling:
        """The pooling of a sentence encoder with this configuration.

        Raises:
            ValueError: If it is no sentence encoder, or pools in a way that the sizes do not keep.
        """
        told = encoder_file(config, POOLING_FILE)
        mode = pooling_mode(told) if told else None
        if mode not in POOLINGS:
            raise ValueError(
                f"The configuration has the pooling {mode!r}. Possible is one of {', '.join(POOLINGS)}. Give a "
                "SentenceTransformer, or its folder or Hub id, to train_dynabert, which keeps its pooling."
            )
        normalize = "Normalize" in map(module_kind, encoder_file(config, "modules.json"))
        return cls(mode, normalize, encoder_file(config, "config_sentence_transformers.json").get("truncate_dim"))

    def __call__(self, states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """The vectors `(texts, hidden)` of states `(texts, seq, hidden)`; the mask is 1 for real tokens, None: all."""
        mask = states.new_ones(states.shape[:2]) if attention_mask is None else attention_mask
        if self.mode == "cls":
            vectors = states[torch.arange(len(states), device=states.device), mask.int().argmax(1)]
        elif self.mode == "max":
            vectors = states.masked_fill(mask[..., None] == 0, -torch.inf).amax(1)
        else:
            weights = mask[..., None].float()
            vectors = (states * weights).sum(1) / weights.sum(1).clamp(min=1)
        return (functional.normalize(vectors, dim=-1) if self.normalize else vectors)[:, : self.truncate_dim]


def module_kind(module: Mapping[str, Any]) -> str:
    """The class of a module of a sentence encoder, without its package."""
    return module["type"].rpartition(".")[2]


def pooling_mode(config: Mapping[str, Any]) -> Any:
    """The mode that a file of a pooling names, in today's or in the older way; several as a tuple."""
    given = config.get("pooling_mode")
    if given is None:
        older = {old: new for new, old in POOLINGS.items()}
        given = [older.get(name, name) for name, value in config.items() if name.startswith("pooling_mode_") and value]
    if isinstance(given, str):
        return given
    return (given[0] if len(given) == 1 else tuple(given)) or "mean"


def sentence_vectors(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What a sentence encoder makes of a batch: vectors `(texts, hidden)`, of pairs of texts `(pairs, 2, hidden)`.

    Args:
        model: The encoder, stock or elastic, at its active size.
        batch: Inputs of the model, each `(texts, seq)` or `(pairs, 2, seq)`, and nothing else.
    """
    flat = single_texts(batch)
    states = model(**flat, return_dict=True).last_hidden_state
    vectors = Pooling.of(model.config)(states, flat.get("attention_mask"))
    return vectors.unflatten(0, batch["input_ids"].shape[:-1])


def single_texts(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of pairs of texts as one of single texts; one of single texts as it is."""
    shape = batch["input_ids"].shape
    return {
        name: value.flatten(0, -2) if getattr(value, "shape", None) == shape else value for name, value in batch.items()
    }
