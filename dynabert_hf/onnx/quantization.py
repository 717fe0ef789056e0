"""The int8 version of an ONNX export, with what it does to the accuracy measured. Needs the extra `onnx`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..messages import require
from .session import INDEX, OnnxModel, quiet, read_index
from .weights import turn_stored, write_sharing_equal

WEIGHTS = "weights.int8.bin"
"""What several sizes in int8 have in common."""


@dataclass(frozen=True)
class QuantizedSize:
    """One size in int8, compared with float32.

    Args:
        path: The int8 graph.
        accuracy: What the evaluation returned for int8.
        float32_accuracy: What it returned for float32.
        size_mb: What it needs in int8, in units of 2**20 bytes: its file, and its part of the weights beside it.
    """

    path: Path
    accuracy: float
    float32_accuracy: float
    size_mb: float


def quantize_onnx(folder: str | os.PathLike, evaluate: Callable[[OnnxModel], float]) -> dict[str, QuantizedSize]:
    """Add an int8 version of every size to an export, and measure what that does to its accuracy.

    Weights are quantised now, activations while running (dynamic quantisation). What several sizes have in common, such
    as the embeddings and the layers of one width, is stored once, in `weights.int8.bin`.

    Args:
        folder: The result of `export_onnx`.
        evaluate: The accuracy of a model, one number; called with the float32 models of all sizes, then with those in
            int8.

    Returns:
        Files and accuracies by size; they are also added to `index.json`.

    Raises:
        FileNotFoundError: If the folder holds no export.
        TypeError: If `evaluate` returns no number.
    """
    require("ONNX", "onnx", "onnxruntime", extra="onnx")
    folder = Path(folder)
    index, results = read_index(folder), {}
    before = {name: _accuracy(evaluate, OnnxModel(folder / own["file"])) for name, own in index["sizes"].items()}
    files = {name: f"{Path(own['file']).stem}.int8.onnx" for name, own in index["sizes"].items()}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
        needed = _write_all(folder, Path(scratch), {files[name]: own["file"] for name, own in index["sizes"].items()})
        for name, entry in index["sizes"].items():
            runner = OnnxModel(Path(scratch) / files[name])
            runner.path = folder / files[name]  # where it will lie: beside configuration and tokenizer
            int8, size_mb = _accuracy(evaluate, runner), needed[files[name]] / 2**20
            results[name] = QuantizedSize(folder / files[name], int8, before[name], size_mb)
            entry["int8"] = {"file": files[name], "accuracy": int8, "float32_accuracy": before[name]}
        for made in Path(scratch).iterdir():
            made.replace(folder / made.name)
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return results


def _accuracy(evaluate: Callable[[OnnxModel], float], runner: OnnxModel) -> float:
    found = evaluate(runner)
    if isinstance(found, Mapping):
        raise TypeError(
            f"evaluate returned {found}. Possible is one number. Give one of these: "
            f"lambda runner: evaluate(runner)[{next(iter(found), 'accuracy')!r}]."
        )
    try:
        return float(found)
    except TypeError as error:
        raise TypeError(f"evaluate returned {found!r}. Possible is one number; return one, such as 0.87.") from error


def _write_all(source: Path, target: Path, files: Mapping[str, str]) -> dict[str, int]:
    """Write the int8 version of graphs of a folder into another; returns how many bytes each needs."""
    import onnx

    if len(files) == 1:
        [(name, graph)] = files.items()
        return {name: write_int8(source / graph, target / name).stat().st_size}
    graphs = {}
    for name, graph in files.items():
        graphs[name] = onnx.load(write_int8(source / graph, target / name))
    return write_sharing_equal(target, graphs, WEIGHTS)


def write_int8(source: Path, target: Path) -> Path:
    """Write the int8 version of a graph, its weights in the same file, and return its path."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    turn_stored(graph)
    with quiet():  # it recommends a preparation that the exporter's own optimiser has done
        # Unsigned weights: signed ones overflow 16 bits on processors without VNNI.
        quantize_dynamic(graph, target, weight_type=QuantType.QUInt8)
    return target
