"""Reading checkpoint files: what is wrong with them is said before anything is allocated, and parts are read alone.

Works on the shapes that the files announce and on the names of BERT's and RoBERTa's parameters. Finding, downloading
and assigning stay with transformers.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedConfig

from .elastic import LINEARS
from .subnetwork import LayerShape

_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")


class TensorPart:
    """The leading part of a tensor in a file, read when transformers asks for `part[...]`.

    Args:
        source: What reads slices: a safetensors slice or a mapped tensor.
        shape: Size of the part, at most that of the tensor.
    """

    def __init__(self, source: Any, shape: Sequence[int]):
        self.source, self.shape = source, tuple(shape)

    def __getitem__(self, everything: Any) -> torch.Tensor:
        return self.source[tuple(slice(size) for size in self.shape)].clone()


def check_location(files: Iterable[str], folder: Any) -> None:
    """Refuse files outside the folder of the checkpoint, which an index of shards could name.

    Raises:
        OSError: If a file lies elsewhere.
    """
    if folder is None or not os.path.isdir(folder):
        return  # a Hub id: huggingface_hub refuses such names
    inside = os.path.abspath(folder)
    for file in files:
        if os.path.commonpath([inside, os.path.abspath(file)]) != inside:
            raise OSError(
                f"The checkpoint in {str(folder)!r} names the weight file {str(file)!r}, which lies outside of it. A "
                "checkpoint may only name files of its own folder. Do not trust it, and fetch it from its source again."
            )


def open_tensors(files: Iterable[str]) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """Name, reader and shape of every tensor in safetensors or PyTorch files, none of them read yet."""
    for file in files:
        if Path(file).suffix == ".safetensors":
            opened = safe_open(file, framework="pt")
            for name in opened.keys():  # noqa: SIM118 (no mapping)
                part = opened.get_slice(name)
                yield name, part, tuple(part.get_shape())
        else:
            for name, tensor in torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file)).items():
                yield name, tensor, tuple(tensor.shape)


def _is_zip(file: str) -> bool:
    with open(file, "rb") as opened:
        return opened.read(2) == b"PK"


def _plain_name(name: str, prefix: str) -> str:
    """The name of a parameter of BERT today, without the prefix that only models with a head have."""
    name = name.removeprefix(f"{prefix}.")
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda old: f"LayerNorm.{_TODAY[old[1]]}", name)


_TODAY = {"gamma": "weight", "beta": "bias"}


def check_shapes(
    config: PreTrainedConfig, stored: Sequence[LayerShape], shapes: Mapping[str, Sequence[int]], *, prefix: str
) -> None:
    """Compare the sizes of the encoder that the configuration promises with those that the files announce.

    Args:
        config: The configuration.
        stored: The layers that it says are stored.
        shapes: Shape of each tensor in the files.
        prefix: What the names of a model with a head begin with.

    Raises:
        RuntimeError: If the files hold another size than the configuration says.
    """
    found = {_plain_name(name, prefix): tuple(shape) for name, shape in shapes.items()}
    numbers = {int(match[1]) for match in map(_LAYER.fullmatch, found) if match}
    if not numbers:
        return  # no encoder at all; transformers reports what is missing
    if config.stored_shape is not None and len(numbers) > len(stored):
        raise RuntimeError(
            f"The configuration says that {len(stored)} layers are stored, the checkpoint holds {len(numbers)}. "
            + _ADVICE
        )
    for name, shape in _expected_shapes(config, stored):
        given = found.get(name)
        if given != shape and not (given is None and name.startswith("embeddings.")):
            holds = "does not hold it" if given is None else f"holds it as {given}"
            raise RuntimeError(
                f"The configuration says that {name} is of size {shape}, the checkpoint {holds}. {_ADVICE}"
            )


_ADVICE = (
    "Configuration and weights belong to different models, or one of them was changed. Load both as they were saved "
    "together; to load only a part of the layers on purpose, use active_depth."
)


def _linear_shape(config: PreTrainedConfig, layer: LayerShape, path: str, kind: str) -> tuple[int, ...]:
    """Shape of the weight or bias of one of the six linears of a layer."""
    head_size = config.hidden_size // config.num_attention_heads
    axes = (config.hidden_size, layer.heads * head_size, layer.neurons)
    in_axis, out_axis = LINEARS[path]
    return (axes[out_axis], axes[in_axis]) if kind == "weight" else (axes[out_axis],)


def _expected_shapes(config: PreTrainedConfig, stored: Sequence[LayerShape]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, size in (
        ("word", config.vocab_size),
        ("position", config.max_position_embeddings),
        ("token_type", config.type_vocab_size),
    ):
        yield f"embeddings.{name}_embeddings.weight", (size, config.hidden_size)
    for number, layer in enumerate(stored):
        for kind in ("weight", "bias"):
            for path in LINEARS:
                yield f"encoder.layer.{number}.{path}.{kind}", _linear_shape(config, layer, path, kind)
            for path in ("attention.output", "output"):
                yield f"encoder.layer.{number}.{path}.LayerNorm.{kind}", (config.hidden_size,)


def active_parts(
    config: PreTrainedConfig,
    tensors: Iterable[tuple[str, Any, tuple[int, ...]]],
    *,
    stored: Sequence[LayerShape],
    kept: Sequence[LayerShape],
) -> dict[str, TensorPart]:
    """Of the tensors of a network with the layers `stored`, the parts that a network with the layers `kept` has.

    Args:
        config: The configuration.
        tensors: From `open_tensors`.
        stored: Layers in the files.
        kept: Layers to read, each fitting into the stored layer of its index.
    """
    position = {layer.index: number for number, layer in enumerate(kept)}
    parts = {}
    for name, source, shape in tensors:
        match = _LAYER.search(name)
        if match:
            number = position.get(stored[int(match[1])].index)
            if number is None:
                continue
            path, _, kind = match[2].rpartition(".")
            if path in LINEARS:
                shape = _linear_shape(config, kept[number], path, kind)
            name = f"{name[: match.start(1)]}{number}{name[match.end(1) :]}"
        parts[name] = TensorPart(source, shape)
    return parts


def check_finite(model: nn.Module) -> None:
    """Warn if a weight is NaN or infinite."""
    for name, parameter in model.named_parameters():
        if parameter.device.type != "meta" and parameter.is_floating_point() and not torch.isfinite(parameter).all():
            warnings.warn(
                f"{name} holds NaN or infinite values, and so will the outputs. Training may have diverged: load an "
                "earlier checkpoint, or look at the data and the learning rate.",
                stacklevel=2,
            )
            return
