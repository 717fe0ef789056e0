"""Where the time of a GPU goes while something runs on it. `gpu.py` asks it."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile


def where_time_goes(run: Callable[[], Any], device: torch.device) -> dict[str, Any]:
    """The share of the time in which the card computes, the kernels that take most of it, and how many there are.

    On a CPU, where operations take the place of kernels, only to see that this works.
    """
    is_card = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_card else [])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the profiler's own, about its first cycle
        with torch_profile(activities=activities) as recorded:
            run()
            if is_card:
                torch.cuda.synchronize(device)
    events = list(recorded.events())
    kind = torch.autograd.DeviceType.CUDA if is_card else torch.autograd.DeviceType.CPU
    kernels = [event for event in events if event.device_type == kind]
    spans = [(event.time_range.start, event.time_range.end) for event in kernels]
    whole = max(event.time_range.end for event in events) - min(event.time_range.start for event in events)
    totals: dict[str, float] = {}
    for event in kernels:
        totals[event.name] = totals.get(event.name, 0.0) + event.time_range.elapsed_us()
    longest = sorted(totals, key=totals.__getitem__, reverse=True)[:12]
    return {
        "share_card_computes": busy(spans) / whole,
        "kernels": len(kernels),
        "longest_kernels_ms": {name: totals[name] / 1e3 for name in longest},
    }


def busy(spans: list[tuple[float, float]]) -> float:
    """How much of the time some span covers; overlaps count once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def waits(run: Callable[[], Any], device: torch.device) -> int | None:
    """How often the CPU waits for the card, as torch's own check of synchronisation tells; None on a CPU."""
    if device.type != "cuda":
        return None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        run()
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in told)
