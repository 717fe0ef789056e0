"""What sizes of a sentence encoder learn from its vectors: where each text lies, and how alike two texts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from ..data.pooling import Pooling, sentence_vectors
from ..tasks import without_labels


def vector_losses(
    student: Any, teacher: Any, attention_mask: torch.Tensor | None, *, config: Any, args: Any
) -> dict[str, tuple[float, torch.Tensor]]:
    """What a size of a sentence encoder learns from the vectors of its teacher: by name the weight and the loss.

    Args:
        student: Output of the encoder.
        teacher: Output of the encoder that teaches, for the same texts.
        attention_mask: `(texts, seq)`, 1 for real tokens; None: all are real.
        config: Configuration of the student, which says how it pools and its Matryoshka dimensions.
        args: `DynaBertTrainingArguments`, with the weights.
    """
    pooling = Pooling.of(config)
    ours, theirs = (pooling(each.last_hidden_state, attention_mask) for each in (student, teacher))
    losses = {}
    if args.logit_weight > 0:
        losses["vector_loss"] = args.logit_weight, vector_loss(ours, theirs, kind=args.vector_loss)
    if args.similarity_weight > 0:
        dims = getattr(config, "matryoshka_dims", None) or ()
        losses["similarity_loss"] = args.similarity_weight, similarity_loss(ours, theirs, dims=dims)
    return losses


def vector_loss(student: torch.Tensor, teacher: torch.Tensor, *, kind: str = "cosine") -> torch.Tensor:
    """How far the vectors of the student are from those of the teacher, the mean over texts.

    Args:
        student: Vectors `(texts, hidden)`.
        teacher: Vectors of the same texts.
        kind: `"cosine"`, one minus the cosine of the two vectors of a text; or `"mse"`, their mean squared error.
    """
    if kind == "mse":
        return functional.mse_loss(student, teacher)
    return (1 - functional.cosine_similarity(student, teacher, dim=-1)).mean()


def similarity_loss(student: torch.Tensor, teacher: torch.Tensor, *, dims: Sequence[int] = ()) -> torch.Tensor:
    """How far the similarities within a batch are from the teacher's: the mean squared error of cosines over pairs.

    Args:
        student: Vectors `(texts, hidden)`.
        teacher: Vectors of the same texts.
        dims: Matryoshka dimensions: as many leading numbers of the student's vectors alone, with the length 1 again,
            are to have the similarities of the teacher's whole vectors, too; the loss is the mean over them and the
            whole vectors.

    Returns:
        A scalar; 0 for a single text, which is like no other.
    """
    count = len(student)
    if count < 2:
        return student.sum() * 0
    wanted = _cosines(teacher)
    lengths = sorted({student.shape[-1], *dims})
    errors = [(_cosines(student[:, :length]) - wanted).square().sum() for length in lengths]
    return torch.stack(errors).mean() / (count * (count - 1))  # a text is as like itself as possible in both


def _cosines(vectors: torch.Tensor) -> torch.Tensor:
    unit = functional.normalize(vectors.float(), dim=-1)
    return unit @ unit.T


def change_of_vectors(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What stands for the loss where importance of a sentence encoder is measured.

    All sizes learn the vectors of the full size, where the loss and all its derivatives are 0. To second order, the
    loss grows without a head by the squared change of the vectors. The square of the derivative of what is computed
    here, the sum of all their numbers with random signs, has that as its mean over the signs. These depend on the place
    in the batch alone.
    """
    vectors = sentence_vectors(model, without_labels(batch))
    vectors = functional.normalize(vectors, dim=-1)
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, vectors.shape, generator=generator).to(vectors) * 2 - 1
    return (signs * vectors).sum() / len(vectors) ** 0.5
