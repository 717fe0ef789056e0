"""Run what `onnx_export` wrote, in ONNX Runtime. Needs the extra `onnx`."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

INDEX = "index.json"
"""The table of contents of an export."""


class OnnxModel:
    """A size in ONNX Runtime on the CPU: call it with arrays or tensors by name, get arrays by name."""

    def __init__(self, path: str | os.PathLike, *, num_threads: int | None = None):
        require("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        self.session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        self.input_names = [value.name for value in self.session.get_inputs()]
        self.output_names = [value.name for value in self.session.get_outputs()]

    def __call__(self, **inputs: Any) -> dict[str, np.ndarray]:
        """Outputs by name. Inputs that the graph does not know, such as labels, are passed over."""
        missing = [name for name in self.input_names if name not in inputs]
        if missing:
            raise ValueError(f"The inputs {sorted(inputs)} lack {missing}. Give all of {self.input_names}.")
        arrays = {name: np.asarray(inputs[name], dtype=np.int64) for name in self.input_names}
        return dict(zip(self.output_names, self.session.run(None, arrays), strict=True))


def load_onnx(
    folder: str | os.PathLike, size: str | None = None, *, int8: bool = False, num_threads: int | None = None
) -> OnnxModel:
    """A size from a folder that `export_onnx` wrote.

    Args:
        folder: The folder.
        size: The size by its text; None: the only one.
        int8: Whether to take what `quantize_onnx` added.
        num_threads: Threads within one operation; None: as ONNX Runtime decides.

    Raises:
        FileNotFoundError: If the folder holds no export.
        ValueError: If it does not hold this size, or holds several and none was named, or none in int8.
    """
    known = read_index(Path(folder))["sizes"]
    if size is None and len(known) == 1:
        size = next(iter(known))
    if size not in known:
        raise ValueError(f"size={size!r} is not in {str(folder)!r}. Give one of {list(known)}.")
    if int8 and "int8" not in known[size]:
        raise ValueError(f"{size} in {str(folder)!r} was not quantised. Run quantize_onnx on the folder first.")
    file = known[size]["int8"]["file"] if int8 else known[size]["file"]
    return OnnxModel(Path(folder) / file, num_threads=num_threads)


def require(*packages: str) -> None:
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ImportError(f'ONNX needs {missing}, not installed here. Install with `pip install "dynabert_hf[onnx]"`.')


def read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.exists():
        raise FileNotFoundError(f"{str(folder)!r} has no {INDEX}. Give a folder that export_onnx wrote.")
    return json.loads(path.read_text())
