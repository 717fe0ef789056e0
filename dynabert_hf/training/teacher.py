"""The fine-tuned model that the recipe begins with: found and checked."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from ..data.sentence_encoder import SentenceEncoder
from ..families import (
    FAMILIES,
    ModelTypeError,
    elastic_classes,
    elastic_names,
    has_own_forward,
    how_to_load,
    not_elastic,
    read_config,
    stock_classes,
)
from ..messages import get_logger
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import SubNetworkError
from ..tasks import TASKS, is_sentence_encoder
from .teacher_facts import check_whole

logger = get_logger(__name__)

GRID = ("widths", "depths", "sizes", "kept_layers")
"""The fields of an elastic configuration that say which sizes there are."""

HEADS = tuple(task.head for task in TASKS.values() if task.label_names)
"""How classes end that have a head to learn from."""


def load_teacher(model: Any) -> tuple[PreTrainedModel, dict[str, Any], Any]:
    """The stock model that was given or named, in float32, what an elastic one has beside it, and a tokenizer.

    That is the grid of its sizes and what was cut of its vocabulary. An elastic model that was cut by extraction counts
    as a model of its own, without a grid. Only a sentence encoder comes with a tokenizer, by which its texts are
    prepared.

    Args:
        model: A stock or elastic model, a `SentenceTransformer`, or the folder or Hub id of one of these.

    Raises:
        TypeError: If it is no model of a supported class with a head, or its checkpoint does not say which.
        ValueError: If it is a sentence encoder with modules, a pooling or dimensions that the sizes cannot keep, or was
            cut in width by extraction.
    """
    encoder = SentenceEncoder.of(model)
    tokenizer = None if encoder is None else encoder.tokenizer
    if encoder is not None:
        model = encoder.model
    if not isinstance(model, PreTrainedModel):
        model = _from_pretrained(model)
    own: dict[str, Any] = {}
    if isinstance(model, ElasticModelMixin):
        names = ("trimmed_vocabulary", *(GRID if model.config.stored_shape is None else ()))
        own = {name: copy.deepcopy(getattr(model.config, name)) for name in names}
        origin, model = model.config.name_or_path, _stock(model)
        model.name_or_path = str(origin or "")
    check_teacher_class(model)
    if encoder is None and is_sentence_encoder(model):
        model = copy.deepcopy(model)  # a run may note its Matryoshka dimensions there
    return (model if model.dtype == torch.float32 else copy.deepcopy(model).float()), own, tokenizer


def _stock(model: ElasticModelMixin) -> Any:
    if has_own_forward(model):
        stock = model.backbone_class.__name__
        raise ModelTypeError(
            f"The model is a {type(model).__name__}, whose forward pass is its own, and the teacher and the sizes of "
            f"the recipe run as a {stock} does. Give a model of the class Dyna{stock}, or train the "
            "stages of this one by DynaBertTrainer."
        )
    try:
        return model.to_backbone()
    except SubNetworkError:  # which says what a stock model is, that nobody asked for
        check_whole(model)
        raise


def chosen_grid(*, sizes: Any = None, **given: Any) -> dict[str, Any]:
    """The fields of an elastic configuration that somebody chose: with `sizes` alone, these and the full size.

    Raises:
        ValueError: If `sizes` is empty.
    """
    if sizes is not None:
        if not sizes:
            raise ValueError("sizes is empty. Give at least one size, such as 'w0.5-d0.5', or leave it out for a grid.")
        given |= {name: given[name] or [1.0] for name in ("widths", "depths")}
    return {name: value for name, value in {**given, "sizes": sizes}.items() if value is not None}


def keep_dimensions(model: PreTrainedModel, dims: Sequence[int] | None) -> None:
    """Note in a sentence encoder how many leading numbers of its vectors are to be of use alone; None: nothing.

    Raises:
        ValueError: If it is no sentence encoder.
    """
    if dims is None:
        return
    if not is_sentence_encoder(model):
        raise ValueError(
            f"matryoshka_dims={dims!r} was given, but a {type(model).__name__} has no vectors of texts. Give a "
            "SentenceTransformer or its folder, or leave matryoshka_dims out."
        )
    model.config.matryoshka_dims = list(dims)


def check_teacher_class(model: PreTrainedModel) -> None:
    """Check that a model can be made elastic and has a head for a task.

    Raises:
        TypeError: If that is not so.
    """
    if type(model).__name__ in elastic_names():
        raise not_elastic(type(model))
    if type(model) not in stock_classes():
        raise ModelTypeError(f"The model is a {type(model).__name__}. {_supported()}")
    check_task(model)


def check_task(model: PreTrainedModel) -> None:
    """Check that a model says something that can be learned.

    Raises:
        TypeError: If it does not.
    """
    has_head = any(each.__name__.endswith(HEADS) for each in type(model).__mro__)
    if not (has_head or is_sentence_encoder(model)):
        raise ModelTypeError(f"The model is a {type(model).__name__}. {_supported()}")


def warn_of_untrained_head(model: PreTrainedModel) -> None:
    """Say so if the head looks as it is made, which is how a model comes that was pre-trained for something else."""
    base = {id(module) for module in model.base_model.modules()}
    linears = [each for each in model.modules() if isinstance(each, torch.nn.Linear) and id(each) not in base]
    bias = linears[-1].bias if linears else None
    if bias is not None and not bias.any():
        logger.warning(
            f"The head of the {type(model).__name__} looks untrained: all its biases are 0, as in a new head. All "
            "sizes learn from this model, so fine-tune it on the task first. If it was trained so, ignore this."
        )


def _from_pretrained(name: Any) -> PreTrainedModel:
    """The stock or elastic model of a folder or Hub id, with the head that its checkpoint was saved with."""
    if not isinstance(name, str | os.PathLike):
        raise TypeError(
            f"The model is a {type(name).__name__}. {_supported()} Of a model with adapters give what "
            "merge_and_unload() returns."
        )
    config = read_config(name)
    architectures = config.architectures
    if not architectures:
        raise ModelTypeError(f"{str(name)!r} holds no named architecture. {how_to_load(name, config.model_type)}")
    for elastic_class in elastic_classes():
        for model_class in (elastic_class.backbone_class, elastic_class):
            if model_class.__name__ in architectures:
                return model_class.from_pretrained(name, dtype=torch.float32)
    raise ModelTypeError(f"{str(name)!r} holds {architectures}. {_supported()}")


def _supported() -> str:
    return (
        f"Possible are fine-tuned models of {', '.join(FAMILIES)}, with a head whose class ends in {', '.join(HEADS)}, "
        "and sentence encoders: a SentenceTransformer, or its folder with modules.json. Fine-tune one of these first."
    )
