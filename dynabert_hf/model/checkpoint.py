"""Reading checkpoint files: what is wrong with them is said before anything is allocated, and parts are read alone.

Works on the shapes that the files announce and on the names of BERT's and RoBERTa's parameters. Finding, downloading
and assigning stay with transformers.
"""

from __future__ import annotations

import json
import math
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


_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The element types of safetensors that an encoder is saved in."""

_BLOCK = 2**20
"""Bytes read at a time where only some columns of a tensor are wanted."""


class FileTensor:
    """A tensor in a safetensors file, of which leading parts can be read into memory of their own.

    Mapping the file, as safetensors does, would leave every page that was touched among the memory of the process.

    Args:
        file: The file.
        offset: Where in it the values begin.
        dtype: Their type; None if it is none that an encoder is saved in.
        shape: Shape of the tensor.
    """

    def __init__(self, file: str, offset: int, dtype: torch.dtype | None, shape: Sequence[int]):
        self.file, self.offset, self.dtype, self.shape = file, offset, dtype, tuple(shape)

    def __getitem__(self, slices: tuple[slice, ...]) -> torch.Tensor:
        if self.dtype is None:
            raise TypeError(
                f"{self.file!r} holds elements of a type that cannot be read in part. Load the whole model."
            )
        part = torch.empty([each.stop for each in slices], dtype=self.dtype)
        with open(self.file, "rb", buffering=0) as file:
            file.seek(self.offset)
            if part.shape[1:] == self.shape[1:]:
                _read_into(file, part)
            else:
                rows = max(1, _BLOCK // (math.prod(self.shape[1:]) * part.element_size()))
                inner = tuple(slices[1:])
                for begin in range(0, len(part), rows):
                    block = torch.empty([min(rows, len(part) - begin), *self.shape[1:]], dtype=self.dtype)
                    _read_into(file, block)
                    part[begin : begin + rows] = block[(slice(None), *inner)]
        return part


def _read_into(file: Any, tensor: torch.Tensor) -> None:
    """Fill a tensor, in place, with the bytes that come next in a file."""
    buffer: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    rest = memoryview(buffer)
    while len(rest):
        count = file.readinto(rest)
        if not count:
            raise OSError(f"{file.name!r} ended while it was read. It may have been cut off; fetch it again.")
        rest = rest[count:]


class TensorPart:
    """The leading part of a tensor, read when transformers asks for `part[...]`.

    Args:
        source: What reads slices: a `FileTensor` or a tensor.
        shape: Size of the part, at most that of the tensor.
    """

    def __init__(self, source: Any, shape: Sequence[int]):
        self.source, self.shape = source, tuple(shape)

    def __getitem__(self, everything: Any) -> torch.Tensor:
        part = self.source[tuple(slice(size) for size in self.shape)]
        return part.clone() if isinstance(self.source, torch.Tensor) else part


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
            with safe_open(file, framework="pt"):
                pass  # it checks the file, its header and its length
            with open(file, "rb") as opened:
                length = int.from_bytes(opened.read(8), "little")
                header = json.loads(opened.read(length))
            for name, about in header.items():
                if name != "__metadata__":
                    offset, dtype = 8 + length + about["data_offsets"][0], _DTYPES.get(about["dtype"])
                    yield name, FileTensor(file, offset, dtype, about["shape"]), tuple(about["shape"])
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
        if parameter.device.type != "meta" and parameter.is_floating_point() and not _is_finite(parameter.detach()):
            warnings.warn(
                f"{name} holds NaN or infinite values, and so will the outputs. Training may have diverged: load an "
                "earlier checkpoint, or look at the data and the learning rate.",
                stacklevel=2,
            )
            return


def _is_finite(tensor: torch.Tensor) -> bool:
    """A sum is finite if all values are, and needs no memory; where it overflowed the values are looked at."""
    return bool(tensor.sum(dtype=torch.float32).isfinite()) or bool(tensor.isfinite().all())
