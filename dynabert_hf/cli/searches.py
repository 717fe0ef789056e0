"""The command `search`: layer shapes for budgets, measured on labelled text beside the sizes of the grid."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..data.labelled_text import LabelledText
from ..model.subnetwork import parse_size
from ..sizes.evaluation import store_metrics, store_sizes
from ..sizes.layer_search import SearchResult, one_kind_of_budgets, search_layers
from ..sizes.measured_rows import rows_in_words
from ..sizes.records import SizeRecord, format_cost, size_label
from ..sizes.tables import quantity, shortened, table_of
from ..training.rewiring import measure_importance
from .inputs import labelled_text, load_model, stored_config
from .measurements import one_setting, refresh_stored, shape_of, unit_of, use_threads
from .tables import precision_note, print_json


def search(arguments: Namespace, console: Console) -> None:
    """The best layer shapes within budgets."""
    budgets = {name: getattr(arguments, name) for name in ("latency_ms", "flops", "parameters")}
    one_kind_of_budgets(**budgets)  # refused before the model and the file are read
    config_file = stored_config(arguments) if arguments.store else None
    model = load_model(arguments.model)
    text = labelled_text(arguments, model)
    if not isinstance(text, LabelledText):
        raise ValueError(
            f"A search compares predictions, and a {type(model).__name__} only gives vectors. Possible are models that "
            "give labels or values to a text or its words. Choose a trained size of this one by `dynabert recommend`."
        )
    setting = _setting(arguments, model)
    result = search_layers(
        model,
        text,
        lambda: measure_importance(model, text.labelled_batches()),
        **budgets,
        evaluations=arguments.evaluations,
        time_limit_s=60 * arguments.minutes,
        max_rows=arguments.max_rows,
        seed=arguments.seed,
        **setting,
    )
    note = precision_note(next(iter(result.found[0].metrics)), setting, model.config)
    if config_file is not None:
        store_sizes(config_file, [one.name for one in result.found])
        store_metrics(config_file, result.metrics, rows_in_words(len(text), Path(arguments.file).name))
        refresh_stored(Path(arguments.model), model)
    if arguments.json:
        parts = {part: [_row(one, result) for one in getattr(result, part)] for part in ("found", "grid")}
        told = {name: getattr(result, name) for name in ("cost", "budgets", "missed", "seconds")}
        print_json({**told, "note": note, **parts})
        return
    rows = [{"": "found", **_row(one, result)} for one in result.found]
    rows += [{"": "grid", **_row(one, result)} for one in result.grid]
    console.print(table_of([_in_words(row, result.cost) for row in rows]))
    for number, one in enumerate(result.found):
        budget = result.budgets[number]
        over = result.missed.get(budget)
        missed = "" if over is None else f", measured {format_cost(result.cost, over)} above it, as are all of the best"
        console.print(f"{result.cost} {budget:g}: {one.name}{missed}", soft_wrap=True)
    ran = f"{result.num_evaluated} shapes in {shortened(result.seconds, 2)} s"
    stored = "; the found ones are stored" if config_file is not None else ""
    console.print(f"{ran}, metrics of {len(text)} {unit_of(model)} of {arguments.file}{stored}", soft_wrap=True)
    if note:
        console.print(note, soft_wrap=True)


def _setting(arguments: Namespace, model: Any) -> dict[str, Any]:
    """What the cost is of; latency needs more than counts do."""
    given = one_setting(arguments, "Shapes are searched for")
    if arguments.latency_ms is None:
        return shape_of(given, model)
    if threads := given.pop("threads", None):
        use_threads(threads)
    shape = shape_of({name: given[name] for name in ("batch_size", "sequence_length") if name in given}, model)
    return {"runtime": "torch", "dtype": "float32", **given, **shape}


def _row(record: SizeRecord, result: SearchResult) -> dict[str, Any]:
    divergence, amount = result.divergences[record.name], record.costs[result.cost]
    return {"size": record.name, **record.metrics, "divergence": divergence, result.cost: amount}


def _in_words(row: dict[str, Any], cost: str) -> dict[str, Any]:
    """A row as a table shows it."""
    amount = row[cost] if cost == "latency_ms" else quantity(row[cost])
    return {**row, "size": size_label(parse_size(row["size"])), cost: amount}
