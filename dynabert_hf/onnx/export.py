"""Write sizes of an elastic model as ONNX and prove that they agree with torch. Needs the extra `onnx`.

An export is a folder: a graph for each size, `index.json`, the configuration and the tokenizer. Several sizes share one
file of weights: a small size is the beginning of a large one, so each graph points into the same bytes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..families import elastic_class_name, longest_input, not_elastic, parsed_sizes, sizes_of
from ..files import new_folder
from ..messages import require
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import Size, as_size, size_name
from ..tasks import task_of
from .session import INDEX, LIMITS, OnnxModel, quiet
from .weights import WeightPool

TOLERANCE = 1e-4
"""Largest allowed difference from torch, in units of the largest output or of 1, whichever is more."""

WEIGHTS = "weights.bin"

_LONGEST_NAME = 200
"""Letters of the text of a size in the name of a file: 255 is the most that file systems take."""

_MOST_CHECKED = 1024
"""Tokens of a text in the check at most: the attention of a model for 8,192 would take gigabytes for each layer."""


@dataclass(frozen=True)
class OnnxExport:
    """The result of `export_onnx`.

    Args:
        folder: Where it is.
        files: For each size, by its text, its graph.
        max_differences: For each size the largest difference from torch over the checked batches.
    """

    folder: Path
    files: dict[str, Path]
    max_differences: dict[str, float]


def export_onnx(
    model: ElasticModelMixin,
    path: str | os.PathLike,
    *,
    size: Size | None = None,
    sizes: str | Sequence[Size] | None = None,
    tokenizer: Any = None,
) -> OnnxExport:
    """Write one size, or several, as ONNX with dynamic batch and sequence axes, and check each against torch.

    Weights become float32. Every graph is compared with torch on ragged batches of other shapes than it was traced
    with. Unless all agree within `TOLERANCE`, nothing is left at `path`.

    Args:
        model: An elastic model; it stays as it is.
        path: Folder to make.
        size: The size to write; None: the active one.
        sizes: Instead of `size`: several, or `"all"` that it was trained for; their weights are stored once.
        tokenizer: Saved into the folder.

    Raises:
        FileExistsError: If `path` exists.
        OSError: If `path` cannot be written.
        ImportError: If the extra is not installed.
        TypeError: If the model is not elastic.
        SubNetworkError: If the model does not hold a size.
        ValueError: If the model has no weights, or both `size` and `sizes` were given.
        RuntimeError: If ONNX Runtime and torch disagree.
    """
    require("ONNX", "onnx", "onnxscript", "onnxruntime", extra="onnx")
    if not isinstance(model, ElasticModelMixin):
        raise not_elastic(type(model))
    chosen = _chosen_sizes(model, size, sizes)
    with new_folder(Path(path)) as folder:
        names = [size_name(each) for each in chosen]
        differences = _write_graphs(model, chosen, folder, shared=sizes is not None)
        config = copy.deepcopy(model.config)
        config.architectures = [elastic_class_name(model)]  # which a model that was never saved does not know
        config.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        index = {
            "model_class": elastic_class_name(model),
            "tolerance": TOLERANCE,
            "sizes": {n: {"file": graph_file(n), "max_difference": differences[n]} for n in names},
        }
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return OnnxExport(Path(path), {name: Path(path) / graph_file(name) for name in names}, differences)


def _chosen_sizes(model: ElasticModelMixin, size: Size | None, sizes: str | Sequence[Size] | None) -> Sequence[Any]:
    if size is not None and sizes is not None:
        raise ValueError(f"Both size={size!r} and sizes={sizes!r} were given. Give one of them.")
    if sizes is None:
        return [model.active if size is None else as_size(size)]
    if isinstance(sizes, str) and sizes != "all":
        raise ValueError(f"sizes={sizes!r} is not possible. Give 'all' or a list of sizes; for one size, size=.")
    return sizes_of(model) if isinstance(sizes, str) else parsed_sizes(sizes, model.config)


def _write_graphs(model: ElasticModelMixin, sizes: Sequence[Any], folder: Path, *, shared: bool) -> dict[str, float]:
    """The largest difference from torch of each size, by its text, once every size is written and agrees."""
    pool = WeightPool(model) if shared else None
    graphs = {}
    for size in sizes:
        small = _extracted(model, size)
        path = folder / graph_file(size_name(size))
        program = _trace(small)
        program.model.metadata_props.update(_limits(model.config))
        for node in program.model.graph:  # stack traces, with the paths of this machine
            node.metadata_props.clear()
        if pool is None:
            program.save(path)
        else:
            graphs[path] = pool.take(program.model_proto)
    if pool is not None:
        pool.write(folder / WEIGHTS, graphs)
    names = map(size_name, sizes)
    return {
        name: _checked_difference(model, size, folder / graph_file(name))
        for name, size in zip(names, sizes, strict=True)
    }


def _extracted(model: ElasticModelMixin, size: Any) -> Any:
    """A size on its own in float32, of operations that depend on no value.

    It has no chunks of feed-forward layers, which only texts of some lengths fit. Its rotary frequencies are fixed, as
    growing ones (`dynamic`) change only for inputs that are longer than an export takes.
    """
    small = model.extract(size).float().cpu().eval()
    for module in small.modules():
        if hasattr(module, "chunk_size_feed_forward"):
            module.chunk_size_feed_forward = 0
        match getattr(module, "rope_type", None):
            case "dynamic":
                module.rope_type = "default"
            case dict() as kinds:  # one for each kind of layer
                module.rope_type = {layer: "default" if kind == "dynamic" else kind for layer, kind in kinds.items()}
    return small


def graph_file(name: str) -> str:
    """The file of the graph of a size, by the text of the size, which for many layers is longer than names may be."""
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return f"{name}.onnx"


def _limits(config: Any) -> dict[str, str]:
    values = {"longest_input": longest_input(config), **{name: getattr(config, name, None) for name in LIMITS[1:]}}
    return {name: str(value) for name, value in values.items() if value is not None}


class _Positional(nn.Module):
    """A model as the exporter wants it: tensors in, a tuple of tensors out."""

    def __init__(self, model: Any, names: Sequence[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(_outputs(self.model, dict(zip(self.names, inputs, strict=True))).values())


def _outputs(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The predictions by name, without the states that a configuration may ask for beside them."""
    return dict(model(**inputs, output_hidden_states=False, output_attentions=False, return_dict=True))


def _trace(model: Any) -> Any:
    """The graph of an extracted model. Eager attention: its graph ran faster than that of sdpa in ONNX Runtime."""
    model.set_attn_implementation("eager")
    inputs = _inputs(model, batch_size=2, length=min(7, longest_input(model.config)))
    names = list(inputs)
    with torch.no_grad():
        output_names = list(_outputs(model, inputs))
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    if inputs["input_ids"].ndim == 3:
        axes[2] = torch.export.Dim.DYNAMIC
    with quiet("torch.onnx"):
        return torch.onnx.export(
            _Positional(model, names),
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=((axes,) * len(names),),
            input_names=names,
            output_names=output_names,
            verbose=False,
        )


def _inputs(model: Any, *, batch_size: int, length: int, choices: int = 3) -> dict[str, torch.Tensor]:
    """A ragged batch: every sequence but the first is padded, the last down to one token."""
    config = model.config
    generator = torch.Generator().manual_seed(batch_size * 1009 + length)
    shape = (batch_size, choices, length) if task_of(model).predicts == "choice" else (batch_size, length)
    input_ids = torch.randint(0, config.vocab_size, shape, generator=generator)
    padding = config.pad_token_id or 0
    input_ids[input_ids == padding] = (padding + 1) % config.vocab_size
    lengths = torch.linspace(length, 1, batch_size).round().long().view(-1, *(1,) * (len(shape) - 1))
    attention_mask = (torch.arange(length) < lengths).long().expand(shape).contiguous()
    input_ids = torch.where(attention_mask.bool(), input_ids, padding)
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if getattr(config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.randint(0, config.type_vocab_size, shape, generator=generator)
    return inputs


def _checked_difference(model: ElasticModelMixin, size: Any, path: Path) -> float:
    """The largest difference between a written graph and torch, over batches unlike the traced one.

    What is said of padding does not count: torch's own ways of attention differ where one sees nothing else.
    """
    small = _extracted(model, size)
    runner, worst = OnnxModel(path), 0.0
    longest = min(longest_input(small.config), _MOST_CHECKED)
    task = task_of(small)
    of_tokens = () if task.predicts in ("text", "choice") else task.outputs
    for batch_size, length in ((1, 1), (1, longest), (3, max(1, longest // 2)), (5, min(11, longest))):
        inputs = _inputs(small, batch_size=batch_size, length=length, choices=batch_size + 1)
        with torch.no_grad():
            expected = _outputs(small, inputs)
        given = runner(**inputs)
        for name, tensor in expected.items():
            counts: Any = inputs["attention_mask"].bool().numpy() if name in of_tokens else ...
            theirs, is_alike = tensor.numpy(), given[name].shape == tuple(tensor.shape)
            difference = float(np.abs(given[name] - theirs)[counts].max()) if is_alike else math.inf
            allowed = TOLERANCE * max(1.0, float(np.abs(theirs[counts]).max()))
            if not difference <= allowed:
                raise RuntimeError(
                    f"{size_name(size)}: {name} of ONNX Runtime differs from torch by {difference:.3g} on a batch of "
                    f"{batch_size} x {length}; allowed is {allowed:.3g}. Nothing was written. If the weights are "
                    "finite, please report it with the versions of torch, onnxscript and onnxruntime."
                )
            worst = max(worst, difference)
    return worst
