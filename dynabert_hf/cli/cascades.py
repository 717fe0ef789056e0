"""The command `cascade`: how sure a small size has to be, measured on labelled text and chosen within budgets."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from ..data.labelled_text import LabelledText
from ..model.subnetwork import size_name
from ..sizes.calibration import kind_of_choice
from ..sizes.cascade import CascadeRecord, measure_cascade, ordered_sizes
from ..sizes.choosing import check_budgets, recommend
from ..sizes.evaluation import store_temperatures
from ..sizes.records import SizeRecord
from ..sizes.tables import quantity, table_of
from .inputs import labelled_text, load_model, stored_config
from .measurements import measure, one_setting, shape_of
from .recommendation import NOTHING_FITS
from .tables import precision_note, print_json


def choose_cascade(arguments: Namespace, console: Console) -> int:
    """The best threshold within the budgets."""
    given = {name: getattr(arguments, name) for name in ("latency_ms", "flops")}
    budgets = {name: budget for name, budget in given.items() if budget is not None}
    check_budgets(budgets, arguments.max_drop, possible=given)
    setting = one_setting(arguments, "A cascade is chosen")
    if setting.get("batch_size", 1) != 1:
        raise ValueError(
            f"--batch-size {setting['batch_size']} was given, but a cascade is chosen by the cost of single texts, "
            "since only some of a batch run at the larger size. Leave it out."
        )
    if setting.get("dtype") == "int8":
        raise ValueError(
            "--dtype int8 was given, but a cascade has no int8: in ONNX Runtime it runs the graphs in float32. Leave "
            "it out, or choose one size by `dynabert recommend`."
        )
    config_file = stored_config(arguments) if arguments.store else None
    model = load_model(arguments.model)
    small, large = ordered_sizes(model.config, arguments.small, arguments.large)  # before anything is measured
    text = labelled_text(arguments, model)
    if not isinstance(text, LabelledText):
        raise ValueError(
            "A cascade asks how sure an answer is, and a sentence encoder only gives vectors. Possible are models that "
            "classify; choose one size of this one by `dynabert recommend`."
        )
    kind_of_choice(type(model).__name__, model.config)  # refused before anything is measured
    if "latency_ms" in budgets:
        costs = list(measure(arguments, model, [small, large]))
    else:
        shape = shape_of(setting, model)
        costs = [SizeRecord.counted(model, size, **shape) for size in (small, large)]
    records = measure_cascade(model, small, large, text, costs=costs)
    metric = next(iter(records[0].metrics))
    best = None if arguments.max_drop is None else records[-1].metrics[metric]
    answer = recommend(records, metric=metric, **budgets, max_drop=arguments.max_drop, reference=best)
    temperatures = dict(zip(map(size_name, (small, large)), records[0].temperatures, strict=True))
    if config_file is not None:
        store_temperatures(config_file, temperatures)
    chosen: Any = answer.choice
    note = precision_note(metric, records[0].setting, model.config)
    if arguments.json:
        rows = [_row(one) for one in records]
        told = {"reason": answer.reason, "choice": chosen and _row(chosen), "temperatures": temperatures, "note": note}
        print_json({**told, "thresholds": rows})
    else:
        console.print(answer.reason, soft_wrap=True)
        shown = [one for one in _every_tenth(records) if one != chosen] + ([chosen] if chosen else [])
        rows = [_row(one) for one in sorted(shown, key=lambda one: one.threshold)]
        console.print(table_of([{**row, "flops": quantity(row["flops"])} for row in rows]))
        console.print(f"{len(text)} texts of {arguments.file}; costs are means over them", soft_wrap=True)
        if note:
            console.print(note, soft_wrap=True)
        if chosen:
            both = f"threshold={chosen.threshold} goes with temperatures={chosen.temperatures}"
            console.print(both, soft_wrap=True)  # all digits: a threshold is the confidence of some row
    return 0 if chosen else NOTHING_FITS


def _every_tenth(records: Sequence[CascadeRecord]) -> list[CascadeRecord]:
    """Some of the thresholds, the first and the last among them."""
    return [*records[: -1 : max(1, len(records) // 10)], records[-1]]


def _row(record: CascadeRecord) -> dict[str, Any]:
    costs = {name: record.costs[name] for name in ("latency_ms", "flops") if name in record.costs}
    return {"threshold": record.threshold, "asked_again": record.share, **record.metrics, **costs}
