"""How the command `dynabert` prints: tables that fit a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..model.subnetwork import parse_size, size_name
from ..sizes.choosing import COSTS, Candidate, Recommendation, pareto_front, quality_sign, size_label
from ..sizes.profile_table import Profile, ProfileTable


def table_of(rows: Sequence[Mapping[str, Any]], *, last: Mapping[str, Any] | None = None) -> Table:
    """Rows as a table, numbers to the right; `last` stands below a line. A key that a row lacks is an empty cell."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in names:
        values = [row[name] for row in rows if name in row]
        number = all(isinstance(value, int | float) or value[:1].isdigit() or not value for value in values)
        table.add_column(name.replace("_", " "), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name, "")) for name in names))
    if last:
        table.add_section()
        table.add_row(*(_cell(last.get(name, "")) for name in names))
    return table


def quantity(count: float) -> str:
    """A count, shortened: `22.7 M`, `81 k`."""
    for factor, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= factor:
            return f"{count / factor:.3g}{suffix}"
    return f"{count:.0f}"


def print_sizes(console: Console, rows: Sequence[Mapping[str, Any]], teacher: Mapping[str, Any]) -> None:
    """What `show` knows of every size, from large to small."""
    cells = [
        {
            "size": _label(row["size"]) + (" *" if row["active"] else ""),
            "layers": len(row["layers"]),
            "heads": _one_or_range(layer["heads"] for layer in row["layers"]),
            "neurons": _one_or_range(layer["neurons"] for layer in row["layers"]),
            "parameters": quantity(row["parameters"]),
            "FLOPs": quantity(row["flops"]),
            **row["metrics"],
        }
        for row in reversed(rows)
    ]
    console.print(table_of(cells, last={"size": "teacher", **teacher} if teacher else None))
    console.print("* active after loading. Parameters with head, as extracted; FLOPs of one text of 128 tokens.")


def print_table(console: Console, table: ProfileTable) -> None:
    """The profiles of every setting, and what was not measured."""
    for setting in table.settings:
        _print_profiles(console, table.select(**setting))
    for name, reason in table.left_out.items():
        console.print(f"not measured: {name}: {reason}", soft_wrap=True)
    console.print(f"on {', '.join(table.machine.values())}", soft_wrap=True)


def _print_profiles(console: Console, table: ProfileTable) -> None:
    """The profiles of one setting, from large to small."""
    slowest = max(one.latency_ms or 0 for one in table)
    print_setting(console, table.profiles[0])
    rows = [
        {
            "size": size_label(one.subnetwork),
            "parameters": quantity(one.parameters),
            "FLOPs": quantity(one.flops),
            "ms": one.latency_ms,
            "± ms": one.latency_spread_ms,
            "speed-up": f"{slowest / one.latency_ms:.1f}x" if one.latency_ms else "",
            "MB": "" if one.memory_mb is None else f"{one.memory_mb:.1f}",
        }
        for one in sorted(table.profiles, key=lambda one: (-one.parameters, -one.flops))
    ]
    console.print(table_of(rows))


def print_setting(console: Console, one: Profile) -> None:
    """What a table was measured, or counted, under."""
    shape = f"{one.batch_size} x {one.sequence_length} tokens"
    if one.latency_ms is None:
        console.print(f"Counted for {shape}; nothing was run.")
        return
    console.print(
        f"{one.runtime}, {one.dtype}, {shape}, {one.device}, {one.threads} thread(s): median of {one.runs} passes"
    )


def print_answer(console: Console, answer: Recommendation, candidates: Sequence[Candidate], *, metric: str) -> None:
    """The reason, then every candidate with its part in the answer."""
    console.print(answer.reason, soft_wrap=True)
    costs = [cost for cost in COSTS if all(getattr(one, cost) is not None for one in candidates)]
    front = pareto_front(candidates, cost=costs[0])
    parts = {answer.choice: "choice", answer.runner_up: "runner-up", answer.nearest_miss: "nearest miss"}
    rows = [
        {
            "size": size_label(one.subnetwork),
            metric: quality_sign(metric) * one.accuracy,
            **{cost: _amount(cost, getattr(one, cost)) for cost in costs},
            "": parts.get(one, "on the front" if one in front else ""),
        }
        for one in sorted(candidates, key=lambda one: -getattr(one, costs[0]))
    ]
    console.print(table_of(rows))


def precision_note(metric: str, dtype: str) -> str | None:
    """What to know where a size is chosen for another number format than metrics are measured in."""
    if dtype == "float32":
        return None
    see = "; see `dynabert export --int8`" if dtype == "int8" else ""
    return f"The stored {metric} was measured in float32; in {dtype} it may differ{see}."


def answer_as_json(answer: Recommendation, *, metric: str) -> dict[str, Any]:
    """A recommendation as what JSON can hold."""
    named = {"choice": answer.choice, "runner_up": answer.runner_up, "nearest_miss": answer.nearest_miss}
    return {
        **{name: None if one is None else _candidate(one, metric) for name, one in named.items()},
        "missed_by": dict(answer.missed_by),
        "reason": answer.reason,
    }


def _candidate(one: Candidate, metric: str) -> dict[str, Any]:
    costs = {cost: getattr(one, cost) for cost in COSTS}
    return {"size": size_name(one.subnetwork), metric: quality_sign(metric) * one.accuracy, **costs}


def _amount(cost: str, amount: float) -> Any:
    return quantity(amount) if cost in ("flops", "parameters") else amount


def _label(size: str) -> str:
    return size_label(parse_size(size))


def _one_or_range(counts: Iterable[int]) -> str:
    counts = sorted(set(counts))
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
