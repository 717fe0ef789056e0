"""How the command `dynabert` prints: tables that fit a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from ..files import json_text
from ..model.subnetwork import parse_size
from ..sizes.choosing import Recommendation
from ..sizes.metrics import in_telling_order
from ..sizes.profile_table import ProfileTable
from ..sizes.records import COSTS, COUNTS, SizeRecord, size_label
from ..sizes.tables import quantity, table_of


def print_sizes(
    console: Console, rows: Sequence[Mapping[str, Any]], references: Mapping[str, Mapping[str, Any]]
) -> None:
    """What `show` knows of every size, from large to small, and of what they are compared with."""
    names = in_telling_order(name for row in rows for name in row["metrics"])
    cells = [
        {
            "size": size_label(parse_size(row["size"])) + (" *" if row["active"] else ""),
            **{name: row["metrics"].get(name, "") for name in names},
            "parameters": quantity(row["parameters"]),
            "FLOPs": quantity(row["flops"]),
            "layers": len(row["layers"]),
            "heads": _one_or_range(layer["heads"] for layer in row["layers"]),
            "neurons": _one_or_range(layer["neurons"] for layer in row["layers"]),
        }
        for row in reversed(rows)
    ]
    last = [{"size": name, **own} for name, own in references.items()]
    console.print(table_of(cells, last=last, width=console.width, may_go=names[1:]))
    console.print("* active after loading. Parameters with head, as extracted; FLOPs of one text of 128 tokens.")


def print_table(console: Console, table: ProfileTable) -> None:
    """The costs under every setting, and what was not measured."""
    for setting in table.settings:
        _print_profiles(console, table.select(**setting))
    for name, reason in table.left_out.items():
        console.print(f"not measured: {name}: {reason}", soft_wrap=True)
    *names, version = table.machine.values()
    console.print(f"spread: between the quartiles. On {', '.join(names)}, torch {version}", soft_wrap=True)


def _print_profiles(console: Console, table: ProfileTable) -> None:
    """The sizes of one setting, from large to small."""
    slowest = max(one.latency_ms or 0 for one in table)
    print_setting(console, table.records[0])
    rows = [
        {
            "size": str(one),
            "parameters": "" if one.parameters is None else quantity(one.parameters),
            "FLOPs": "" if one.flops is None else quantity(one.flops),
            "ms": one.latency_ms,
            "spread ms": one.costs.get("latency_spread_ms"),
            "speed-up": f"{slowest / one.latency_ms:.1f}x" if one.latency_ms else "",
            "MB": "" if one.memory_mb is None else one.memory_mb,
        }
        for one in sorted(table.records, key=lambda one: (-(one.parameters or 0), -(one.flops or 0)))
    ]
    console.print(table_of(rows))


def print_setting(console: Console, one: SizeRecord) -> None:
    """What a table was measured, or counted, under."""
    setting = one.setting
    shape = f"{setting['batch_size']} x {setting['sequence_length']} tokens"
    if one.latency_ms is None:
        console.print(f"Counted for {shape}; nothing was run.")
        return
    console.print(
        f"{setting['runtime']}, {setting['dtype']}, {shape}, {setting.get('device')}, {setting.get('threads')} "
        f"thread(s): median of {setting.get('runs')} passes"
    )


def print_answer(
    console: Console,
    answer: Recommendation,
    records: Sequence[SizeRecord],
    *,
    metric: str,
    front: Collection[SizeRecord],
) -> None:
    """The reason, then every size with its part in the answer; `front` has those that no other beats."""
    console.print(answer.reason, soft_wrap=True)
    costs = [cost for cost in COSTS if all(cost in one.costs for one in records)]
    parts = {answer.choice: "choice", answer.runner_up: "runner-up", answer.nearest_miss: "nearest miss"}
    rows = [
        {
            "size": str(one),
            metric: one.metrics[metric],
            **{COSTS[cost] if cost == "flops" else cost: _amount(cost, one.costs[cost]) for cost in costs},
            "": parts.get(one, "on the front" if one in front else ""),
        }
        for one in sorted(records, key=lambda one: -one.costs[costs[0]])
    ]
    console.print(table_of(rows))
    nearest = answer.choice or answer.nearest_miss
    if nearest and nearest.name != str(nearest):  # a label does not tell which layers
        console.print(f"{nearest}: --size {nearest.name}", soft_wrap=True)


def precision_note(metric: str, setting: Mapping[str, Any], config: Any) -> str | None:
    """What to know where a size is chosen by costs in another number format than the metric was measured in.

    That is the one that the weights of the model are saved in.
    """
    own = str(config.dtype or "float32").removeprefix("torch.")
    dtype = setting.get("dtype", own)  # counts are of any
    if dtype == own:
        return None
    see = "; see `dynabert export --int8`" if dtype == "int8" else ""
    return f"The {metric} was measured in {own}; in {dtype} it may differ{see}."


def answer_as_json(answer: Recommendation, *, metric: str) -> dict[str, Any]:
    """A recommendation as what JSON can hold."""
    named = {"choice": answer.choice, "runner_up": answer.runner_up, "nearest_miss": answer.nearest_miss}
    return {
        **{name: None if one is None else _record(one, metric) for name, one in named.items()},
        "missed_by": dict(answer.missed_by),
        "reason": answer.reason,
    }


def _record(one: SizeRecord, metric: str) -> dict[str, Any]:
    return {"size": one.name, metric: one.metrics[metric], **{cost: one.costs.get(cost) for cost in COSTS}}


def _amount(cost: str, amount: float) -> Any:
    return quantity(amount) if cost in COUNTS else amount


def _one_or_range(counts: Iterable[int]) -> str:
    counts = sorted(set(counts))
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"


@contextmanager
def then(write: Callable[[], Any] | None) -> Iterator[None]:
    """Write a file after what the block prints, also where who read that has gone, as `head` does."""
    try:
        yield
    finally:
        if write is not None:
            write()


def print_json(content: Any) -> None:
    print(json_text(content, indent=2))
