"""Reading checkpoint files: what is wrong with them is said before anything is allocated, and parts are read alone.

Works on the shapes that the files announce. Finding, downloading and assigning stay with transformers.
"""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors import safe_open
from torch import nn

from .anatomy import layer_axes, leading_part, linear_shape
from .subnetwork import LayerShape, SubNetworkError

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_DTYPES |= {"I64": torch.int64, "I32": torch.int32, "U8": torch.uint8, "BOOL": torch.bool}
"""The element types of safetensors that an encoder is saved in."""

_BLOCK = 2**20
"""Bytes read at a time where only some columns of a tensor are wanted."""


class FileTensor:
    """A tensor in a safetensors file, of which some rows and leading columns can be read into memory of their own.

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
            raise TypeError(f"{self.file!r} has elements of a type that cannot be read in part. Load the whole model.")
        first = slices[0].start or 0 if slices else 0
        part = torch.empty([each.stop - (each.start or 0) for each in slices], dtype=self.dtype)
        with open(self.file, "rb", buffering=0) as file:
            file.seek(self.offset + first * math.prod(self.shape[1:]) * part.element_size())
            if part.shape[1:] == self.shape[1:]:
                _read_into(file, part)
            else:
                rows = max(1, _BLOCK // (math.prod(self.shape[1:]) * part.element_size()))
                for begin in range(0, len(part), rows):
                    block = torch.empty([min(rows, len(part) - begin), *self.shape[1:]], dtype=self.dtype)
                    _read_into(file, block)
                    part[begin : begin + rows] = block[(slice(None), *slices[1:])]
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
        blocks: Number of blocks of rows, of each of which the first are read.
    """

    def __init__(self, source: Any, shape: Sequence[int], *, blocks: int = 1):
        self.source, self.shape, self.blocks = source, tuple(shape), blocks

    def __getitem__(self, everything: Any) -> torch.Tensor:
        part = leading_part(self.source, self.shape, blocks=self.blocks)
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
            with safe_open(file, framework="pt"), open(file, "rb") as opened:  # the first checks header and length
                length = int.from_bytes(opened.read(8), "little")
                header = json.loads(opened.read(length))
            for name, about in header.items():
                if name != "__metadata__":
                    offset, dtype = 8 + length + about["data_offsets"][0], _DTYPES.get(about["dtype"])
                    yield name, FileTensor(file, offset, dtype, about["shape"]), tuple(about["shape"])
        else:
            for name, tensor in torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file)).items():
                yield name, tensor, tuple(tensor.shape)


def _plain_name(name: str, prefix: str) -> str:
    """The name that a parameter has today, without the prefix that only models with a head have."""
    name = name.removeprefix(f"{prefix}.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _layer_pattern(config: Any) -> re.Pattern[str]:
    """Finds in the name of a tensor the number of its layer, and its path there."""
    return re.compile(rf"(?:^|(?<=\.)){re.escape(config.anatomy.layers)}\.(\d+)\.(.+)")


def check_shapes(config: Any, base: nn.Module, tensors: Iterable[tuple[str, Any, tuple[int, ...]]]) -> None:
    """Compare the sizes of the encoder that the configuration promises with those that the files announce.

    Args:
        config: The configuration.
        base: The base model that it describes.
        tensors: From `open_tensors`.

    Raises:
        RuntimeError: If the files hold another size than the configuration says.
    """
    found = {_plain_name(name, str(base.base_model_prefix)): shape for name, _, shape in tensors}
    expected = {name: tuple(tensor.shape) for name, tensor in base.state_dict().items()}
    find = _layer_pattern(config).match
    numbers, promised = ({match[1] for match in map(find, names) if match} for names in (found, expected))
    if not numbers:
        return  # no encoder at all; transformers reports what is missing
    if config.stored_shape is not None and len(numbers) > len(promised):
        raise RuntimeError(
            f"The configuration says {len(promised)} layers are stored, the checkpoint holds {len(numbers)}. {_ADVICE}"
        )
    for name, size in expected.items():
        given = found.get(name)
        if given != size and not (given is None and not name.startswith(f"{config.anatomy.layers}.")):
            holds = "does not hold it" if given is None else f"holds it as {given}"
            raise RuntimeError(
                f"The configuration says that {name} is of size {size}, the checkpoint {holds}. {_ADVICE}"
            )


_ADVICE = (
    "Configuration and weights belong to different models, or one of them was changed. Load both as they were saved "
    "together; to load only a part of the layers on purpose, use active_depth."
)


def active_parts(
    config: Any,
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

    Raises:
        SubNetworkError: If the files name the weights otherwise than the model does.
    """
    position = {layer.index: number for number, layer in enumerate(kept)}
    pattern, seen = _layer_pattern(config), set()
    parts = {}
    for name, source, shape in tensors:
        match, role = pattern.search(name), None
        if match:
            number = position.get(stored[int(match[1])].index)
            if number is None:
                continue
            path, _, kind = match[2].rpartition(".")
            role = config.anatomy.linears.get(path)
            if role is not None:
                seen.add(path)
                shape = linear_shape(role, layer_axes(config, kept[number]))[: 2 if kind == "weight" else 1]
            name = f"{name[: match.start(1)]}{number}{name[match.end(1) :]}"
        parts[name] = TensorPart(source, shape, blocks=role.blocks if role else 1)
    unseen = [path for path, role in config.anatomy.linears.items() if path not in seen and not role.is_optional]
    if unseen:
        raise SubNetworkError(
            f"only_active=True cannot cut this checkpoint: it does not hold {unseen[0]} under that name. Load the "
            "whole model, save it, and load the part from there."
        )
    return parts


def check_finite(model: nn.Module) -> None:
    """Warn if a weight is NaN or infinite. A sum needs no memory; where it is not finite, it may have overflowed."""
    for name, parameter in model.named_parameters():
        weight = parameter.detach()
        is_number = weight.device.type != "meta" and weight.is_floating_point()
        if is_number and not (weight.sum(dtype=torch.float32).isfinite() or weight.isfinite().all()):
            warnings.warn(
                f"{name} holds NaN or infinite values, and so will the outputs. Training may have diverged: load an "
                "earlier checkpoint, or look at the data and the learning rate.",
                stacklevel=2,
            )
            return
