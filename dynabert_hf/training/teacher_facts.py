"""What has to be known of a teacher before it teaches: what it reads, what it predicts, and its shape."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import AnySize
from ..tasks import TASKS, task_of


@dataclass(frozen=True)
class TeacherFacts:
    """Facts of a model that teaches.

    Args:
        head: The suffix of its class.
        family: The model type of its encoder, such as `"bert"`.
        vocab_size: Tokens that it reads.
        num_labels: What it predicts for a text or token.
        labels: The names of these, in order.
        hidden_size: Length of its hidden states; None if its configuration does not tell.
        num_hidden_layers: Number of its layers; likewise.
        problem_type: What a head for sequences predicts; None if its configuration does not tell.
    """

    head: str
    family: str
    vocab_size: int
    num_labels: int
    labels: Sequence[str]
    hidden_size: int | None
    num_hidden_layers: int | None
    problem_type: str | None = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> TeacherFacts:
        """The facts of a stock or elastic model, at its full size."""
        config: Any = model.config
        family = config.backbone_config_class.model_type if isinstance(model, ElasticModelMixin) else config.model_type
        return cls(
            head=task_of(model).head,
            family=family,
            vocab_size=config.vocab_size,
            num_labels=config.num_labels,
            labels=[str(config.id2label[number]) for number in sorted(config.id2label)],
            hidden_size=getattr(config, "hidden_size", None),
            num_hidden_layers=getattr(config, "num_hidden_layers", None),
            problem_type=getattr(config, "problem_type", None),
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it predicts."""
        return TASKS[self.head].outputs

    @property
    def is_of_tokens(self) -> bool:
        """Whether it predicts something for every token."""
        return TASKS[self.head].predicts in ("token", "span", "state")

    def has_shape_of(self, other: TeacherFacts) -> bool:
        """Whether the hidden states of two models can be compared as they are."""
        names = ("family", "hidden_size", "num_hidden_layers")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def check_whole(model: PreTrainedModel) -> None:
    """Check that what is to teach is a model and, where it is elastic, holds its full size.

    Raises:
        TypeError: If it is no model.
        ValueError: If it does not hold that.
    """
    if not (isinstance(getattr(model, "config", None), PreTrainedConfig) and hasattr(model, "base_model")):
        raise TypeError(f"The teacher is a {type(model).__name__}. Give the model that from_pretrained loads.")
    if isinstance(model, ElasticModelMixin) and model.config.stored_shape is not None:
        raise ValueError(
            f"A {type(model).__name__} that was cut by extraction was given to learn from. It does not hold its full "
            "size, which teaches. Give the model that it was extracted from or, of a cut in depth alone, what its "
            "to_backbone() returns."
        )


def parameters_of(model: PreTrainedModel) -> set[str]:
    """The names of what a model reads."""
    return set(inspect.signature(model.forward).parameters)


def at_size(model: PreTrainedModel, size: AnySize) -> AbstractContextManager[Any]:
    """Inside, an elastic model has this size; a stock model has one size only, and stays as it is."""
    return model.subnetwork(size) if isinstance(model, ElasticModelMixin) else nullcontext()
