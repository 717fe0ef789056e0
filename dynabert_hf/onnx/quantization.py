"""The int8 version of an ONNX export, with what it does to the accuracy measured. Needs the extra `onnx`."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .session import INDEX, OnnxModel, read_index, require
from .weights import turn_stored


@dataclass(frozen=True)
class QuantizedSize:
    """One size in int8 beside itself in float32.

    Args:
        path: The int8 graph, with its weights.
        accuracy: What the evaluation returned for int8.
        float32_accuracy: What it returned for float32.
        size_mb: Of the int8 file, in units of 2**20 bytes.
    """

    path: Path
    accuracy: float
    float32_accuracy: float
    size_mb: float


def quantize_onnx(folder: str | os.PathLike, evaluate: Callable[[OnnxModel], float]) -> dict[str, QuantizedSize]:
    """Add an int8 version of every size to an export, and measure what that does to its accuracy.

    Weights are quantised now, activations while running (dynamic quantisation). Each int8 file has its own weights.

    Args:
        folder: What `export_onnx` wrote.
        evaluate: The accuracy of a model; called with the float32 and the int8 model of every size.

    Returns:
        Files and accuracies by size; they are also added to `index.json`.

    Raises:
        FileNotFoundError: If the folder holds no export.
    """
    require("onnx", "onnxruntime")
    folder = Path(folder)
    index, results = read_index(folder), {}
    for name, entry in index["sizes"].items():
        file = f"{name}.int8.onnx"
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
            made = write_int8(folder / entry["file"], Path(scratch) / file)
            int8, float32 = (float(evaluate(OnnxModel(each))) for each in (made, folder / entry["file"]))
            made.replace(folder / file)
        size_mb = (folder / file).stat().st_size / 2**20
        results[name] = QuantizedSize(folder / file, int8, float32, size_mb)
        entry["int8"] = {"file": file, "accuracy": int8, "float32_accuracy": float32}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return results


def write_int8(source: Path, target: Path) -> Path:
    """Write the int8 version of a graph, its weights in the same file, and return its path."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    turn_stored(graph)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a preparation that the exporter's own optimiser has done
    try:
        # Unsigned weights: signed ones overflow 16 bits on processors without VNNI.
        quantize_dynamic(graph, target, weight_type=QuantType.QUInt8)
    finally:
        root.setLevel(level)
    return target
