"""What a sub-network costs when it runs.

Choosing among the costs is left to `search`.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import nn
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile
from tqdm.auto import tqdm

from .counting import count_flops, count_parameters
from .elastic_model import ElasticModelMixin
from .subnetwork import LayerShape, Size, SubNetwork, parse_size, size_name


@dataclass(frozen=True)
class Profile:
    """The costs of one sub-network under one setting. What was not measured is None.

    Args:
        subnetwork: The size, as layer shapes where no width and depth describe it.
        parameters: Number of parameters, the head included.
        embedding_parameters: Those of the embeddings.
        encoder_parameters: Those of the layers.
        flops: Floating-point operations of one forward pass, as `count_flops` counts them.
        batch_size: Sequences per forward pass.
        sequence_length: Tokens per sequence.
        runtime: What runs the model: `torch`, `torch.compile` or `onnxruntime`.
        dtype: Number format of weights and computation: `float32`, `bfloat16` or `int8`.
        device: Where it runs.
        threads: Threads used within one operation.
        latency_ms: Median time of a forward pass in milliseconds.
        latency_spread_ms: Interquartile range of that time in milliseconds.
        memory_mb: Weights and the peak of what a forward pass allocates, in units of 2**20 bytes.
        runs: Number of timed forward passes.
    """

    subnetwork: SubNetwork | tuple[LayerShape, ...]
    parameters: int
    embedding_parameters: int
    encoder_parameters: int
    flops: int
    batch_size: int
    sequence_length: int
    runtime: str = "torch"
    dtype: str = "float32"
    device: str = "cpu"
    threads: int | None = None
    latency_ms: float | None = None
    latency_spread_ms: float | None = None
    memory_mb: float | None = None
    runs: int | None = None

    @property
    def name(self) -> str:
        """The size as text, `w0.5-d0.75`."""
        return size_name(self.subnetwork)


def measure_latency(
    model: ElasticModelMixin,
    sizes: Sequence[Size] | None = None,
    *,
    batch_size: int = 1,
    sequence_length: int = 128,
    rounds: int = 30,
    warmup: int = 3,
    dtype: torch.dtype | None = None,
    compiled: bool = False,
    progress: bool = False,
) -> list[Profile]:
    """How long a forward pass of each size takes once extracted, and what memory it needs.

    The sizes take turns, one forward pass each a round, so that a slow moment of the machine falls on all of them
    alike; each is timed alone, after `warmup` rounds that do not count, in inference mode on the device of the model,
    with the threads that torch uses now (`torch.set_num_threads`).

    Args:
        model: An elastic model.
        sizes: The sizes to measure; None: all of `model.config.subnetworks`.
        batch_size: Sequences per forward pass.
        sequence_length: Tokens per sequence, without padding.
        rounds: Timed forward passes of each size.
        warmup: Forward passes of each size before the timed ones.
        dtype: Number format of weights and computation; None: that of the model.
        compiled: Whether to run through `torch.compile`; compiling happens during the warm-up.
        progress: Whether to show a progress bar.

    Returns:
        A `Profile` for each size, in the order given.

    Raises:
        SubNetworkError: If the model does not hold a size.
        ValueError: If a count is below one, or the sequence is longer than the model has positions.
    """
    sizes = list(model.config.subnetworks if sizes is None else sizes)
    _check_setting(model, batch_size=batch_size, sequence_length=sequence_length, rounds=rounds)
    models = [model.extract(size).eval().to(dtype=dtype or model.dtype) for size in sizes]
    runners = [torch.compile(each) if compiled else each for each in models]
    shape = (batch_size, 2, sequence_length) if type(model).__name__.endswith("MultipleChoice") else None
    inputs = torch.full(shape or (batch_size, sequence_length), _any_token(model), device=model.device)
    times: list[list[float]] = [[] for _ in sizes]
    with torch.inference_mode():
        for turn in tqdm(range(warmup + rounds), desc="Measuring latency", disable=not progress):
            for runner, taken in zip(runners, times, strict=True):
                elapsed = _time(runner, inputs)
                if turn >= warmup:
                    taken.append(elapsed)
        memory = [_peak_memory_mb(each, inputs) for each in models]
    return [
        replace(
            _counted(model, size, batch_size, sequence_length),
            runtime="torch.compile" if compiled else "torch",
            dtype=str(dtype or model.dtype).removeprefix("torch."),
            device=str(model.device),
            threads=torch.get_num_threads(),
            latency_ms=statistics.median(taken),
            latency_spread_ms=_interquartile_range(taken),
            memory_mb=peak,
            runs=rounds,
        )
        for size, taken, peak in zip(sizes, times, memory, strict=True)
    ]


def _check_setting(model: ElasticModelMixin, **counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}={count} is not possible. Give at least 1.")
    longest = model.config.max_position_embeddings
    if counts["sequence_length"] > longest:
        raise ValueError(
            f"sequence_length={counts['sequence_length']} is longer than the {longest} positions of this model. Give "
            "at most that."
        )


def _any_token(model: ElasticModelMixin) -> int:
    """A token that is not padding."""
    return 1 if model.config.pad_token_id != 1 else 2


def _time(runner: Callable, inputs: torch.Tensor) -> float:
    """Milliseconds of one forward pass."""
    _synchronise(inputs.device)
    start = time.perf_counter()
    runner(input_ids=inputs)
    _synchronise(inputs.device)
    return (time.perf_counter() - start) * 1e3


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _interquartile_range(times: list[float]) -> float:
    if len(times) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(times, n=4)
    return upper - lower


def _peak_memory_mb(model: nn.Module, inputs: torch.Tensor) -> float:
    """Weights and buffers, and the most that one forward pass holds besides at any moment, in units of 2**20 bytes."""
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    return (sum(tensors.values()) + _peak_allocation(model, inputs)) / 2**20


def _peak_allocation(model: nn.Module, inputs: torch.Tensor) -> int:
    """Bytes; on a GPU as its allocator counts them, on a CPU from the profiler's record of every allocation."""
    if inputs.device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        model(input_ids=inputs)
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler writes two lines to stderr each time
    with torch_profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        outputs = model(input_ids=inputs)
    del outputs
    changes = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())), default=0)


def _counted(model: ElasticModelMixin, size: Size, batch_size: int, sequence_length: int) -> Profile:
    """What can be said of a size without running it."""
    size = parse_size(size) if isinstance(size, str) else size
    count = count_parameters(model, size)
    return Profile(
        subnetwork=size if isinstance(size, SubNetwork) else tuple(size),
        parameters=count.total,
        embedding_parameters=count.embeddings,
        encoder_parameters=count.encoder,
        flops=count_flops(model, size, batch_size=batch_size, sequence_length=sequence_length),
        batch_size=batch_size,
        sequence_length=sequence_length,
    )
