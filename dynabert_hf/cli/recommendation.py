"""The command `recommend`: the best size within budgets, by stored metrics and saved, measured or counted costs."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from ..files import check_writable_file
from ..messages import require
from ..model.configuration import REFERENCES
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import size_name
from ..sizes.choosing import (
    best_of,
    check_budgets,
    leading_metric,
    pareto_front,
    read_stored_metrics,
    recommend,
    stored_by_size,
)
from ..sizes.counting import count_parameters
from ..sizes.evaluation import stored_metrics
from ..sizes.measured_rows import UNKNOWN_ROWS, common_rows
from ..sizes.metrics import LOWER
from ..sizes.plots import name_of_metric, plot_pareto
from ..sizes.profile_table import ProfileTable
from ..sizes.records import COSTS, SETTING, SizeRecord
from .inputs import load_model, load_shell
from .measurements import measure, one_setting, shape_of
from .tables import answer_as_json, precision_note, print_answer, print_json, print_setting, then

NOTHING_FITS = 3
"""The exit code of `recommend` where no size is within the budgets."""


def recommend_size(arguments: Namespace, console: Console) -> int:
    """The best size within the budgets."""
    given = {cost: getattr(arguments, cost) for cost in COSTS}
    budgets = {cost: budget for cost, budget in given.items() if budget is not None}
    drop = arguments.max_drop
    check_budgets(budgets, drop)
    if arguments.plot:
        _check_picture(arguments.plot)
    model = load_shell(arguments.model)
    metric = arguments.metric or leading_metric(model.config)
    greater_is_better = _told_direction(arguments, model.config, metric)
    stored = read_stored_metrics(model.config, metric=metric)
    costs = _costs(arguments, model, list(stored))
    records = costs.with_metrics(stored, metric=metric)
    best = None
    if drop is not None:  # also where the best size was not profiled
        best = best_of(metric, stored.values(), greater_is_better=greater_is_better)
    told: dict[str, Any] = {"metric": metric, "greater_is_better": greater_is_better}
    answer = recommend(records, **budgets, max_drop=drop, reference=best, **told)
    one = costs.records[0]
    notes = (precision_note(f"stored {metric}", one.setting, model.config), _rows_note(model.config, metric))
    note = " ".join(filter(None, notes)) or None
    cost = next(iter(budgets), "flops" if one.latency_ms is None else "latency_ms")
    teacher, title = _reference(model.config, metric, arguments.model)
    drawn = [record for record in records if cost in record.costs]
    draw = partial(
        plot_pareto,
        drawn,
        arguments.plot,
        cost=cost,
        budget=budgets.get(cost),
        choice=answer.choice,
        teacher=teacher,
        title=title,
        **told,
    )
    with then(draw if arguments.plot else None):
        if arguments.json:
            print_json(
                {
                    **answer_as_json(answer, metric=metric),
                    "setting": {name: one.setting.get(name) for name in SETTING},
                    "note": note,
                }
            )
        else:
            print_answer(console, answer, records, metric=metric, front=pareto_front(drawn, cost=cost, **told))
            print_setting(console, one)
            if note:
                console.print(note, soft_wrap=True)
    return 0 if answer.choice else NOTHING_FITS


def _rows_note(config: Any, metric: str) -> str | None:
    """What to know where sizes were measured on different rows, since they do not compare then."""
    stored, rows = stored_by_size(config), config.metric_rows or {}
    having = [name for name, own in stored.items() if metric in own]
    if common_rows(metric, stored, rows, having):
        return None
    return (
        f"The stored {metric} of the sizes is of different rows, which cannot be compared. `dynabert show` says which; "
        "measure all sizes on the same by `dynabert evaluate --store`."
    )


def _reference(config: Any, metric: str, name: str) -> tuple[float | None, str]:
    """The metric of the teacher, if it is of the rows that those of all sizes are of, and a title for a picture."""
    stored, rows = stored_metrics(config), config.metric_rows or {}
    sizes = [each for each in stored if each not in REFERENCES and metric in stored[each]]
    common = common_rows(metric, stored, rows, sizes)
    is_known = common is not None and common != UNKNOWN_ROWS
    whole = common is not None and common == common_rows(metric, stored, rows, [*sizes, "teacher"])
    path = Path(name)
    own = path.parent.name if path.name == "model" and path.parent.name else path.name  # as the recipe calls its folder
    title = f"{name_of_metric(metric)} of the sizes of {own}{f', {common}' if is_known else ''}"
    return (stored["teacher"][metric] if whole else None), title


def _check_picture(path: str) -> None:
    """Whether a picture can be written there, to be known before anything is measured for it."""
    require("--plot", "matplotlib", extra="plots")
    from matplotlib.figure import Figure

    possible = [f".{suffix}" for suffix in Figure().canvas.get_supported_filetypes()]
    if Path(path).suffix.lower() not in possible:
        raise ValueError(f"{path!r} is no name for a picture. Possible suffixes are {possible}; give one.")
    check_writable_file(path)


def _costs(arguments: Namespace, model: ElasticModelMixin, sizes: Sequence[Any]) -> ProfileTable:
    """Costs of sizes under one setting: saved ones, else measured ones if a budget needs them, else counted ones."""
    given = one_setting(arguments, "A size is chosen")
    if arguments.profile:
        if "rounds" in given:
            raise ValueError(
                "--rounds has no effect beside --profile, whose costs were measured before. Leave one out."
            )
        table = _saved_costs(arguments.profile).select(**given)
        _check_same_model(table, model, sizes, arguments.profile)
        return table
    if arguments.latency_ms is not None or arguments.memory_mb is not None:
        return measure(arguments, load_model(arguments.model), sizes)
    return ProfileTable(tuple(SizeRecord.counted(model, size, **shape_of(given, model)) for size in sizes))


def _check_same_model(table: ProfileTable, model: ElasticModelMixin, sizes: Sequence[Any], path: str) -> None:
    """Check that saved costs are of layers as large as those of the model; heads and embeddings may differ."""
    names = {size_name(size) for size in sizes}
    for one in table.records:
        saved = one.costs.get("encoder_parameters")
        if saved is None or one.name not in names:
            continue
        here = count_parameters(model, one.size).encoder
        if saved != here:
            raise ValueError(
                f"{path!r} holds costs of another model: its layers have {saved:,} parameters at {one.name}, those of "
                f"this model {here:,}. Give what `dynabert profile MODEL --output FILE.json` wrote of this model."
            )


def _saved_costs(path: str) -> ProfileTable:
    try:
        return ProfileTable.from_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else repr(error.__cause__ or error)
        raise ValueError(
            f"{path!r} holds no saved costs: {reason}. Give what `dynabert profile MODEL --output FILE.json` wrote."
        ) from error


def _told_direction(arguments: Namespace, config: Any, metric: str) -> bool | None:
    """Whether more of a metric is better, as the command line or the model tells; None if neither does."""
    if arguments.lower_is_better or arguments.higher_is_better:
        return bool(arguments.higher_is_better)
    direction = (config.metric_directions or {}).get(metric)
    return None if direction is None else direction != LOWER
