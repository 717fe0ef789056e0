"""What sub-networks cost when they run: latency and peak memory over sizes and settings.

Counts come from `counting`, what runs a size from `runtimes`; choosing among the costs is left to `choosing`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ..families import check_elastic, longest_input, parsed_sizes, sizes_of
from ..messages import check_counts
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import Size
from ..tasks import task_of
from .profile_table import ProfileTable
from .records import SizeRecord
from .runtimes import Runner, prepared, present_device, why_not


def profile(
    model: ElasticModelMixin,
    sizes: Sequence[Size] | None = None,
    *,
    batch_sizes: Sequence[int] | int = (1,),
    sequence_lengths: Sequence[int] | int = (128,),
    runtimes: Sequence[str] | str = ("torch",),
    dtypes: Sequence[str] | str = ("float32",),
    device: str | None = None,
    rounds: int = 30,
    warmup: int = 3,
    progress: bool = True,
) -> ProfileTable:
    """The costs of every extracted size, under every setting, in one table.

    A single value may be given in place of a list.

    The sizes take turns, one forward pass each a round, so that a slow moment of the machine affects all of them. Each
    is timed alone, without padding, with the threads that torch uses now. On a CUDA device its own events time a pass.

    Args:
        model: An elastic model; it stays as it is, and where it is.
        sizes: The sizes to measure; None: all that `model` was trained for.
        batch_sizes: Sequences per forward pass; in multiple choice every choice is a sequence.
        sequence_lengths: Tokens per sequence.
        runtimes: Any of `torch`, `torch.compile` (which compiles every size, for minutes) and `onnxruntime` (which
            exports every size first).
        dtypes: Any of `float32`, `bfloat16`, `float16` and `int8`, whatever the format of `model` is; what a runtime
            does not run is in `left_out`.
        device: Where torch runs, such as `cpu` or `cuda`; None: where the model is. ONNX Runtime runs on the CPU.
        rounds: Timed forward passes of each size.
        warmup: Forward passes of each size before the timed ones.
        progress: Whether to show a progress bar.

    Raises:
        TypeError: If the model is not elastic.
        SubNetworkError: If the model does not hold a size.
        ValueError: If there is no size, a count is below one (`warmup` below 0), a sequence is longer than the model
            has positions, a runtime or number format is unknown, this machine has no such device, or no runtime runs
            any number format.
        ImportError: If the extra of a runtime is not installed.

    Example:
        >>> table = profile(model, batch_sizes=(1, 8), runtimes=("torch", "onnxruntime"))  # doctest: +SKIP
        >>> table.select(runtime="torch", batch_size=1).with_metrics(model.config.metrics)  # doctest: +SKIP
    """
    check_elastic(model)
    chosen = sizes_of(model) if sizes is None else parsed_sizes(sizes, model.config, once=False)
    place = model.device if device is None else present_device(device)
    check_counts(0, warmup=warmup)
    by_shape = {}
    for batch_size, length in product(_listed(batch_sizes), _listed(sequence_lengths)):
        check_setting(model, batch_size=batch_size, sequence_length=length, rounds=rounds)
        counted = partial(SizeRecord.counted, model, batch_size=batch_size, sequence_length=length)
        by_shape[batch_size, length] = [counted(size) for size in chosen]
    possible, left_out = _possible_runs(_listed(runtimes), _listed(dtypes))
    measured: list[SizeRecord] = []
    with tqdm(total=len(possible) * len(by_shape) * (warmup + rounds), disable=None if progress else True) as bar:
        for runtime, dtype in possible:
            bar.set_description(f"Preparing {len(chosen)} sizes for {runtime} in {dtype}")
            with prepared(model, chosen, runtime=runtime, dtype=dtype, device=place) as runners:
                for shape, records in by_shape.items():
                    bar.set_description(f"{runtime} {dtype}, {shape[0]} x {shape[1]} tokens")
                    run = {"runtime": runtime, "dtype": dtype}
                    records = [replace(one, setting={**one.setting, **run}) for one in records]
                    measured += _measured(runners, records, _inputs(model, *shape), (warmup, rounds), bar)
    return ProfileTable(tuple(measured), left_out, machine(place))


def measure_latency(
    model: ElasticModelMixin,
    sizes: Sequence[Size] | None = None,
    *,
    batch_size: int = 1,
    sequence_length: int = 128,
    runtime: str = "torch",
    dtype: str | None = None,
    device: str | None = None,
    rounds: int = 30,
    warmup: int = 3,
    progress: bool = False,
) -> list[SizeRecord]:
    """Measure sizes as `profile` does, under one setting: a `SizeRecord` for each given size, in the given order.

    Args:
        model: An elastic model.
        sizes: The sizes to measure; None: all that `model` was trained for.
        batch_size: Sequences per forward pass.
        sequence_length: Tokens per sequence, without padding.
        runtime: `torch`, `torch.compile` or `onnxruntime`.
        dtype: Number format of weights and computation; None: that of the model.
        device: Where torch runs; None: where the model is.
        rounds: Timed forward passes of each size.
        warmup: Forward passes of each size before the timed ones.
        progress: Whether to show a progress bar.

    Raises:
        SubNetworkError: If the model does not hold a size.
        ValueError: If there is no size, a count is below one, the sequence is longer than the model has positions, the
            runtime is unknown or cannot run the number format, or this machine has no such device.
        ImportError: If the extra of the runtime is not installed.
    """
    check_elastic(model)
    table = profile(
        model,
        sizes,
        batch_sizes=(batch_size,),
        sequence_lengths=(sequence_length,),
        runtimes=(runtime,),
        dtypes=(dtype or str(model.dtype).removeprefix("torch."),),
        device=device,
        rounds=rounds,
        warmup=warmup,
        progress=progress,
    )
    return list(table)


def wall_ms(call: Callable[[], Any]) -> float:
    """Milliseconds on the clock that a call takes."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def event_ms(call: Callable[[], Any], device: torch.device | str = "cuda") -> float:
    """Milliseconds on the clock of a CUDA device from the begin of a call to the end of what it started there."""
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)


def time_in_turns(
    calls: Sequence[Callable[[], Any]],
    *,
    rounds: int,
    warmup: int = 3,
    step: Callable[[], Any] | None = None,
    timer: Callable[[Callable[[], Any]], float] = wall_ms,
) -> list[list[float]]:
    """The milliseconds of every call: each round makes every call once, so a slow moment falls on all of them alike.

    Args:
        calls: What to time.
        rounds: Timed calls of each.
        warmup: Calls of each before the timed ones.
        step: Called after each round.
        timer: Makes a call and gives its milliseconds.
    """
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(warmup + rounds):
        for call, taken in zip(calls, times, strict=True):
            milliseconds = timer(call)
            if turn >= warmup:
                taken.append(milliseconds)
        if step is not None:
            step()
    return times


def _listed(values: Any) -> Any:
    return [values] if isinstance(values, str | Integral) else values


def _possible_runs(runtimes: Iterable[str], dtypes: Iterable[str]) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The runtimes and number formats to measure together, and for those that do not go together the reason."""
    asked = list(product(runtimes, dtypes))
    reasons = {f"{runtime} {dtype}": why_not(runtime, dtype) for runtime, dtype in asked}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    if len(left_out) == len(asked):
        raise ValueError(f"Nothing is left to measure: {left_out or 'no runtime or no number format was given'}.")
    return [(runtime, dtype) for runtime, dtype in asked if f"{runtime} {dtype}" not in left_out], left_out


def _measured(
    runners: Sequence[Runner],
    records: Sequence[SizeRecord],
    inputs: torch.Tensor,
    turns: tuple[int, int],
    bar: Any,
) -> Iterable[SizeRecord]:
    place = runners[0].device  # of all: they are of one runtime
    inputs = inputs.to(place)
    calls = [lambda runner=runner: runner(inputs) for runner in runners]
    warmup, rounds = turns
    timer = partial(event_ms, device=place) if inputs.is_cuda else wall_ms
    times = time_in_turns(calls, warmup=warmup, rounds=rounds, step=bar.update, timer=timer)
    made = []
    for one, runner, taken in zip(records, runners, times, strict=True):
        lower, middle, upper = np.percentile(taken, [25, 50, 75]).tolist()
        costs = {
            "latency_ms": middle,
            "latency_spread_ms": upper - lower,
            "memory_mb": runner.peak_memory_mb(inputs),
        }
        where = {"device": runner.device, "threads": torch.get_num_threads(), "runs": rounds}
        made.append(replace(one, costs={**one.costs, **costs}, setting={**one.setting, **where}))
    return made


def check_setting(model: ElasticModelMixin, **counts: int) -> None:
    """Check the counts of a setting, `sequence_length` among them.

    Raises:
        ValueError: If one counts nothing, or a sequence is longer than the model has positions.
    """
    check_counts(**counts)
    longest = longest_input(model.config)
    if counts["sequence_length"] > longest:
        raise ValueError(
            f"sequence_length={counts['sequence_length']} is longer than the {longest} tokens that fit this model. "
            "Give at most that."
        )


def _inputs(model: ElasticModelMixin, batch_size: int, sequence_length: int) -> torch.Tensor:
    """Full sequences of a token that is not padding, each the only choice where the head takes choices."""
    token = 1 if model.config.pad_token_id != 1 else 2
    choices = (1,) if task_of(model).predicts == "choice" else ()
    return torch.full((batch_size, *choices, sequence_length), token)


def machine(device: torch.device | None = None) -> dict[str, str]:
    """The processor and, of a device of CUDA, the card as they call themselves, the system and the version of torch."""
    processor = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        names = [line.partition(":")[2] for line in described.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].strip() if names else processor
    card = {"card": torch.cuda.get_device_name(device)} if device is not None and device.type == "cuda" else {}
    return {"processor": processor, **card, "system": platform.system(), "torch": torch.__version__}
