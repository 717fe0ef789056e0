"""What earlier code calls a size with numbers. All of it makes a `SizeRecord` now; new code makes that itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .records import SizeRecord, make_records

Profile = SizeRecord
"""A row of a `ProfileTable`."""


def Candidate(subnetwork: Any, accuracy: float, **costs: Any) -> SizeRecord:
    """A record of one metric, `accuracy`, and costs by name, such as `latency_ms`."""
    return SizeRecord(
        subnetwork, {"accuracy": accuracy}, {name: each for name, each in costs.items() if each is not None}
    )


def SizeFacts(
    subnetwork: Any,
    metrics: Mapping[str, float],
    parameters: int,
    flops: int,
    latency_ms: float | None = None,
) -> SizeRecord:
    """A record of metrics and counted costs, with a latency where it was measured."""
    latency = {} if latency_ms is None else {"latency_ms": latency_ms}
    return SizeRecord(subnetwork, metrics, {"parameters": parameters, "flops": flops, **latency})


def make_candidates(
    accuracy: Mapping[Any, float] | Callable[[Any], float], costs: Mapping[Any, Mapping[str, float]]
) -> tuple[SizeRecord, ...]:
    """`make_records` of the accuracy and the costs of sizes."""
    return make_records(accuracy, costs)
