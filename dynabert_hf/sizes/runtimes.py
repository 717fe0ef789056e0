"""What runs an extracted size: torch, torch.compile or ONNX Runtime, each in a number format.

Timing is left to `profiling`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from ..messages import check_one_of
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import AnySize, size_name
from ..onnx.export import export_onnx
from ..onnx.quantization import write_int8
from ..onnx.session import OnnxModel

DTYPES = ("float32", "bfloat16", "float16", "int8")
"""The number formats of weights and computation, by name."""

RUNTIMES = {
    "torch": ("float32", "bfloat16", "float16"),
    "torch.compile": ("float32", "bfloat16", "float16"),
    "onnxruntime": ("float32", "int8"),
}
"""For each runtime the number formats that it runs."""

_NO_INT8 = (
    "the int8 of torch itself (torch.ao.quantization) is deprecated and about to be removed. onnxruntime runs int8"
)
_WHY_NOT = {
    ("torch", "int8"): _NO_INT8,
    ("torch.compile", "int8"): _NO_INT8,
    ("onnxruntime", "bfloat16"): "an export holds float32, or int8 made of it. torch runs bfloat16",
    ("onnxruntime", "float16"): "an export holds float32, or int8 made of it. torch runs float16",
}

_RESIDENT_GROWTH = """
import json, re, sys
from pathlib import Path
import numpy, onnxruntime

def resident(name):
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])

path, threads, inputs = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
inputs = {name: numpy.full(shape, value, dtype=numpy.int64) for name, (shape, value) in inputs.items()}
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
options.log_severity_level = 3
try:
    Path("/proc/self/clear_refs").write_text("5")  # the highest begins anew
except OSError:
    pass
before = resident("VmRSS")
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
session.run(None, inputs)
mapped = re.findall(r"weights\\.bin\\nSize: +(\\d+)(?:.*\\n)+?Rss: +(\\d+)", Path("/proc/self/smaps").read_text())
unread = sum(int(size) - int(read) for size, read in mapped)
print(resident("VmHWM") - before + 1024 * unread)
"""
"""A program of its own: this process holds far more than a device that runs one graph would.

Weights that are mapped from a file count whole: of the embedding, other texts read other rows.
"""


class Runner(Protocol):
    """One extracted size, ready to run."""

    device: str

    def __call__(self, input_ids: torch.Tensor) -> Any:
        """Run a batch `(batch, seq)` of full sequences that is on its device; a GPU may still be at it afterwards."""

    def peak_memory_mb(self, input_ids: torch.Tensor) -> float | None:
        """What running such a batch needs, weights included, in units of 2**20 bytes; None if it cannot be told."""


class TorchRunner:
    """An extracted model in torch, on its device; compiled for every shape of input if asked."""

    def __init__(self, model: Any, *, compiled: bool):
        self.model, self.device = model, str(model.device)
        self._run = torch.compile(model, dynamic=False) if compiled else model

    def __call__(self, input_ids: torch.Tensor) -> Any:
        mask = {"attention_mask": torch.ones_like(input_ids)} if input_ids.ndim == 3 else {}  # for ModernBERT's choices
        with torch.inference_mode():
            return self._run(input_ids=input_ids, **mask)

    def peak_memory_mb(self, input_ids: torch.Tensor) -> float:
        """Weights and buffers, and the most that one forward pass holds besides at any moment."""
        tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (*self.model.parameters(), *self.model.buffers())}
        peak = peak_allocation(lambda: self(input_ids), input_ids.device)
        return (sum(tensors.values()) + peak) / 2**20


class OnnxRunner:
    """A graph in ONNX Runtime on the CPU, with as many threads as torch uses now."""

    device = "cpu"

    def __init__(self, path: Path):
        self.path, self.threads = path, torch.get_num_threads()
        self.session = OnnxModel(path, num_threads=self.threads)

    def __call__(self, input_ids: torch.Tensor) -> Any:
        return self.session(input_ids.cpu())

    def peak_memory_mb(self, input_ids: torch.Tensor) -> float | None:
        """By how much a new process grows that loads the graph, all weights included, and runs it; Linux only."""
        if not sys.platform.startswith("linux"):
            return None
        values = {"input_ids": int(input_ids.flatten()[0]), "attention_mask": 1, "token_type_ids": 0}
        inputs = {name: (tuple(input_ids.shape), values[name]) for name in self.session.input_names}
        command = [sys.executable, "-c", _RESIDENT_GROWTH, str(self.path), str(self.threads), json.dumps(inputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout) / 2**20


def present_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        ValueError: If this machine has no such device.
    """
    cards = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name in ("cpu", *cards) or (name == "cuda" and cards):
        return torch.device(name)
    raise ValueError(
        f"device={name!r} is not in this machine, as far as torch {torch.__version__} sees. Possible is one of "
        f"{['cpu', *cards]}; give one of these, or see that torch is built for the card and the driver is installed."
    )


def why_not(runtime: str, dtype: str) -> str | None:
    """Why a runtime cannot run a number format; None if it can.

    Raises:
        ValueError: If there is no such runtime or number format.
    """
    check_one_of("runtime", runtime, RUNTIMES)
    check_one_of("dtype", dtype, DTYPES)
    return _WHY_NOT.get((runtime, dtype))


@contextmanager
def prepared(
    model: ElasticModelMixin,
    sizes: Sequence[AnySize],
    *,
    runtime: str,
    dtype: str,
    device: torch.device | None = None,
) -> Iterator[list[Runner]]:
    """Every size, extracted and made ready to run inside the block.

    Args:
        model: The elastic model; it stays as it is.
        sizes: The sizes.
        runtime: One of `RUNTIMES`.
        dtype: One of the number formats of that runtime.
        device: Where torch runs; None: where the model is.

    Raises:
        ValueError: If the runtime is unknown or cannot run the number format.
        ImportError: If the extra of the runtime is not installed.
    """
    reason = why_not(runtime, dtype)
    if reason:
        raise ValueError(f"{runtime} cannot run {dtype}: {reason}. It runs {list(RUNTIMES[runtime])}.")
    if runtime == "onnxruntime":
        with tempfile.TemporaryDirectory() as folder:
            yield _onnx_runners(model, sizes, Path(folder), int8=dtype == "int8")
    else:
        form: dict[str, Any] = {"device": device or model.device, "dtype": getattr(torch, dtype)}
        models = [model.extract(size).eval().to(**form) for size in sizes]
        # Each size is one compilation of the same code; past the limit, torch would silently run it uncompiled.
        many: dict[str, Any] = {
            "recompile_limit": 10_000,
            "accumulated_recompile_limit": 10_000,
            "fail_on_recompile_limit_hit": True,
        }
        with torch._dynamo.config.patch(many):
            yield [TorchRunner(each, compiled=runtime == "torch.compile") for each in models]


def _onnx_runners(model: ElasticModelMixin, sizes: Sequence[Any], folder: Path, *, int8: bool) -> list[Runner]:
    export = export_onnx(model, folder / "export", sizes=sizes)
    paths = [export.files[size_name(size)] for size in sizes]
    if int8:
        paths = [write_int8(path, path.with_suffix(".int8.onnx")) for path in paths]
    return [OnnxRunner(path) for path in paths]


def peak_allocation(run: Callable[[], Any], device: torch.device) -> int:
    """The most bytes of tensors that `run` holds at any moment beyond those that were there before.

    On a GPU as its allocator counts them, on a CPU from the profiler's record of every allocation.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with _quiet(), torch_profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        outputs = run()
    del outputs
    changes = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())), default=0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the two lines that the profiler writes to stderr each time, unless somebody chose what it writes."""
    name = "KINETO_LOG_LEVEL"
    is_chosen = name in os.environ
    os.environ.setdefault(name, "6")
    try:
        yield
    finally:
        if not is_chosen:
            del os.environ[name]
