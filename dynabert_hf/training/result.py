"""What a run of the recipe made: a record for every size, as a table, as files and on the card of the model."""

from __future__ import annotations

import csv
import html
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..families import sizes_of
from ..files import finite, json_text
from ..hub.card import refresh_sizes, with_shown_latencies, write_model_card
from ..hub.facts import FIELDS, ModelCardFacts, public_name, references_of
from ..messages import get_logger
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import SubNetwork, size_name
from ..sizes.baseline import BASELINE
from ..sizes.evaluation import with_metrics
from ..sizes.measured_rows import rows_in_words, rows_of
from ..sizes.metrics import in_telling_order, is_lower_better, metrics_by_size, worst_of
from ..sizes.plots import name_of_metric, plot_grid, plot_pareto
from ..sizes.records import SizeRecord
from ..sizes.tables import metric_text, quantity, shortened, table_of

logger = get_logger(__name__)

OTHER_COLUMNS = ("size", "width", "depth", "parameters", "flops", "params", "GFLOPs", "of full")
"""The columns of tables that are no metrics."""


@dataclass(frozen=True, repr=False)
class RecipeResult:
    """What `train_dynabert` made. Printed, and in a notebook, it is the table of the sizes.

    Attributes:
        model: The elastic model.
        rows: A record for every size, from small to large.
        teacher_metrics: Metrics of the model that was the first teacher.
        stages: For each stage that was trained its settings.
        directions: In which direction a metric is better, `lower` or `higher`, where its name does not say it.
        train_rows: How many rows training used, where that is known.
        eval_rows: How many rows the metrics were measured on; of several evaluation sets for each.
        baseline_metrics: Metrics of predicting the same for every row, on the same data.
        finetuned_metrics: Metrics of the fine-tuned model that training began with, where another one taught.
    """

    model: ElasticModelMixin
    rows: tuple[SizeRecord, ...]
    teacher_metrics: dict[str, float]
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    directions: dict[str, str] = field(default_factory=dict)
    train_rows: int | None = None
    eval_rows: int | Mapping[str, int] | None = None
    baseline_metrics: Mapping[str, float] = field(default_factory=dict)
    finetuned_metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_metrics(
        cls,
        model: ElasticModelMixin,
        metrics: Mapping[str, float],
        *,
        prefix: str = "eval",
        teacher_metrics: Mapping[str, float] | None = None,
        stages: Mapping[str, Mapping[str, Any]] | None = None,
        **facts: Any,
    ) -> RecipeResult:
        """A result made of a model and the metrics of all its sizes.

        Args:
            model: The elastic model that was evaluated.
            metrics: What `DynaBertTrainer.evaluate()` returned; empty: only costs are known.
            prefix: What the names of the metrics begin with.
            teacher_metrics: Metrics of the teacher on the same data, without prefix.
            stages: For each stage that was trained its settings.
            **facts: The other attributes of this class, such as `eval_rows`.
        """
        by_size = metrics_by_size(metrics, prefix)
        rows = tuple(SizeRecord.counted(model, size, by_size.get(size_name(size), {})) for size in sizes_of(model))
        settings = {name: dict(own) for name, own in (stages or {}).items()}
        return cls(model, rows, dict(teacher_metrics or {}), settings, **facts)

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        """The mean and the worst of every metric over all sizes that have it."""
        values: dict[str, list[float]] = {}
        for row in self.rows:
            for name, value in row.metrics.items():
                values.setdefault(name, []).append(value)
        return {
            "mean": {name: math.fsum(numbers) / len(numbers) for name, numbers in values.items()},
            "worst": {name: worst_of(name, numbers, self.directions) for name, numbers in values.items()},
        }

    @property
    def references(self) -> dict[str, Mapping[str, float]]:
        """The metrics of what sizes are compared with, as far as there are any: the teacher, the baseline and so on."""
        return references_of(self)

    def record(self, data: str = "the evaluation data") -> None:
        """Store the metrics of every size, and of what they compare with, in the configuration of the model, in place.

        They travel with the checkpoint from then on; those that are not finite are left out.

        Args:
            data: What the data are called that they were measured on.
        """
        table = {**self.references, **{row.name: row.metrics for row in self.rows}}
        config = self.model.config
        config.metrics = {name: own for name, own in with_metrics(None, table).items() if own} or None
        config.metric_rows = rows_of(config.metrics or {}, rows_in_words(self.eval_rows, data)) or None
        config.metric_order = in_telling_order(name for row in self.rows for name in row.metrics) or None
        config.metric_directions = self.directions or None

    def save(self, folder: str | Path) -> None:
        """Write everything as `results.json` and the table as `results.csv` into a folder.

        A metric that is not finite is `null` in the one and empty in the other. One that is called as another column
        is, such as `flops`, stands there as `eval_flops`. A size of layer shapes has neither width nor depth.
        """
        records = []
        for row in self.rows:
            size = row.size if isinstance(row.size, SubNetwork) else None
            records.append(
                {
                    "size": row.name,
                    "width": size.width if size else None,
                    "depth": size.depth if size else None,
                    **{column_of(name): value for name, value in finite(row.metrics).items()},
                    "parameters": row.parameters,
                    "flops": row.flops,
                }
            )
        folder = Path(folder)
        content = {
            "teacher": {},
            "baseline": {},
            **self.references,
            **self.summary,
            "sub_networks": records,
            "stages": self.stages,
            "train_rows": self.train_rows,
            "eval_rows": self.eval_rows,
        }
        (folder / "results.json").write_text(json_text(content, indent=2, default=str))
        with (folder / "results.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for record in records for name in record)))
            writer.writeheader()
            writer.writerows(records)

    def table(self, *, width: int = 80) -> Table:
        """The sizes from large to small, then the mean and worst of all sizes, and what they compare with.

        Args:
            width: Columns of the terminal; metrics after the first are left out where they do not fit.
        """
        others = {**self.summary, **self.references}
        full = max(row.flops or 0 for row in self.rows)
        return table_of(
            [
                {
                    "size": str(row),
                    **self._cells(row.metrics),
                    "params": quantity(row.parameters or 0),
                    "GFLOPs": shortened((row.flops or 0) / 1e9),
                    "of full": f"{(row.flops or 0) / full:.0%}",
                }
                for row in reversed(self.rows)
            ],
            last=[{"size": name, **self._cells(own)} for name, own in others.items() if own],
            width=width,
            may_go=list(self._cells({}))[1:],
        )

    def _cells(self, metrics: Mapping[str, float]) -> dict[str, str]:
        names = in_telling_order(name for row in self.rows for name in row.metrics)
        return {column_of(name): metric_text(metrics[name]) if name in metrics else "" for name in names}

    def show(self, console: Console | None = None) -> None:
        """Print the table in the terminal.

        Args:
            console: Where to print; None: the standard output.
        """
        console = console or Console()
        console.print(f"{len(self.rows)} sizes of one {type(self.model).__name__}", self.table(width=console.width))
        if self.baseline_metrics:
            console.print(f"baseline: {BASELINE}")
        if number := self._num_no_better():
            told = "no better than the baseline. Train longer: more num_train_epochs, or more rows."
            console.print(f"{number} of {len(self.rows)} sizes are {told}")

    def _num_no_better(self) -> int:
        """How many sizes are no better than the baseline, by the first metric that it has."""
        name = next((name for name in self._cells({}) if name in self.baseline_metrics), None)
        if name is None:
            return 0
        values = [row.metrics[name] for row in self.rows if name in row.metrics]
        return sum(worst_of(name, (value, self.baseline_metrics[name]), self.directions) == value for value in values)

    def __repr__(self) -> str:
        file = io.StringIO()
        self.show(Console(width=80, file=file, color_system=None))
        return file.getvalue().rstrip()

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        table = self.table(width=10_000)
        cells = [[str(column.header) for column in table.columns]]
        cells += map(list, zip(*(map(str, column.cells) for column in table.columns), strict=True))
        rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in cells]
        return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"

    def write_card(self, folder: str | Path, *, rows: Iterable[SizeRecord] | None = None, **facts: Any) -> Path:
        """Write the card of the model as `README.md`, with its pictures if matplotlib is installed.

        Args:
            folder: Folder of the model.
            rows: Records that say more than those of this result, such as `latency_ms`.
            **facts: Other fields of `ModelCardFacts`, such as `dataset_name` and `license`.
        """
        own = (*FIELDS.values(), "stages", "directions", "train_rows", "eval_rows")
        known = {**{name: getattr(self, name) for name in own}, **facts}
        card = ModelCardFacts.from_records(self.model, self.rows if rows is None else rows, **known)
        return write_model_card(folder, replace(card, pictures=draw_pictures(card, Path(folder))))


def column_of(metric: str) -> str:
    """What the column of a metric in a table is called, which no other is."""
    return f"eval_{metric}" if metric in OTHER_COLUMNS else metric


def count_rows(dataset: Any) -> int | dict[str, int] | None:
    """How many rows a data set has, or each of several; None if there is none or it does not know."""
    if isinstance(dataset, dict):
        counts = {name: count_rows(each) for name, each in dataset.items()}
        return {name: count for name, count in counts.items() if isinstance(count, int)} or None
    return len(dataset) if hasattr(dataset, "__len__") else None


def refresh_card(folder: Path, model: ElasticModelMixin) -> None:
    """Show on the card in a folder what a model stores of its sizes; without a card nothing is written.

    Args:
        folder: The folder of the model.
        model: The model, whose configuration tells what was measured, and on which rows.
    """
    facts = with_shown_latencies(ModelCardFacts.from_stored(model, base_model=public_name(str(folder))), folder)
    if refresh_sizes(folder, facts):
        refresh_sizes(folder, replace(facts, pictures=draw_pictures(facts, folder)))


def draw_pictures(card: ModelCardFacts, folder: Path) -> dict[str, str]:
    """Pictures of the sizes in the folder of the model; where none can be drawn, a word says why.

    They show sizes that were measured on the same rows: where there are several such groups, the largest.
    """
    metric = card.metric
    if metric is None:
        return {}
    if find_spec("matplotlib") is None:
        logger.warning('No pictures without matplotlib. Install it with `pip install "dynabert_hf[plots]"`.')
        return {}
    measured = [row for row in card.sizes if math.isfinite(row.metrics.get(metric, math.nan))]
    if len(measured) < len(card.sizes):
        left_out = [str(row) for row in card.sizes if row not in measured]
        logger.warning(f"Sizes without a finite {metric} are not in the pictures: {', '.join(left_out)}.")
    if not measured:
        return {}
    rows = {name: own.get(metric) for name, own in card.rows.items()}
    [(shown, _)] = Counter(rows[row.name] for row in measured).most_common(1)
    others = [str(row) for row in measured if rows[row.name] != shown]
    if others:
        logger.warning(f"Sizes that were measured on other rows are not in the pictures: {', '.join(others)}.")
        measured = [row for row in measured if rows[row.name] == shown]
    teacher = card.teacher_metrics.get(metric, math.nan) if rows.get("teacher") == shown else math.nan
    is_own = shown == rows_in_words(card.eval_rows, card.data)
    told: dict[str, Any] = {
        "metric": metric,
        "teacher": teacher if math.isfinite(teacher) else None,
        "greater_is_better": not is_lower_better(metric, card.directions),
        "title": f"{name_of_metric(metric)}, {card.heading if is_own else replace(card, dataset_name=shown).heading}",
    }
    cost = "flops" if any(row.latency_ms is None for row in measured) else "latency_ms"
    plot_pareto(measured, folder / "pareto.png", cost=cost, **told)
    pictures = {f"{metric} over cost of every size": "pareto.png"}
    if any(isinstance(row.size, SubNetwork) for row in measured):
        plot_grid(measured, folder / "grid.png", **told)
        pictures[f"{metric} by width and depth"] = "grid.png"
    return pictures
