"""What a run of the recipe made: a row for every size, as a table, as files and on the card of the model."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from ..hub.card import ModelCardFacts, SizeFacts, write_model_card
from ..model.elastic_model import ElasticModelMixin
from ..sizes.choosing import Candidate, quality_sign
from ..sizes.metrics import metrics_by_size
from ..sizes.plots import plot_grid, plot_pareto

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class RecipeResult:
    """What `train_dynabert` made: model, a row for every size, the teacher's metrics, the settings of the stages."""

    model: ElasticModelMixin
    rows: tuple[SizeFacts, ...]
    teacher_metrics: dict[str, float]
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_metrics(
        cls,
        model: ElasticModelMixin,
        metrics: Mapping[str, float],
        *,
        prefix: str = "eval",
        teacher_metrics: Mapping[str, float] | None = None,
        stages: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> RecipeResult:
        """The result that an evaluation of all sizes makes of a model.

        Args:
            model: The elastic model that was evaluated.
            metrics: What `DynaBertTrainer.evaluate()` returned; empty: only costs are known.
            prefix: What the names of the metrics begin with.
            teacher_metrics: Metrics of the teacher on the same data, without prefix.
            stages: For each stage that was trained its settings.
        """
        by_size = metrics_by_size(metrics, prefix)
        rows = tuple(
            SizeFacts.counted(model, subnetwork, by_size.get(str(subnetwork), {}))
            for subnetwork in model.config.subnetworks
        )
        return cls(model, rows, dict(teacher_metrics or {}), {name: dict(own) for name, own in (stages or {}).items()})

    @property
    def summary(self) -> dict[str, dict[str, float]]:
        """The mean and the worst of every metric over all sizes that have it."""
        values: dict[str, list[float]] = {}
        for row in self.rows:
            for name, value in row.metrics.items():
                values.setdefault(name, []).append(value)
        return {
            "mean": {name: math.fsum(numbers) / len(numbers) for name, numbers in values.items()},
            "worst": {name: (min if quality_sign(name) > 0 else max)(numbers) for name, numbers in values.items()},
        }

    def record(self) -> None:
        """Store the metrics of every size and of the teacher in the configuration of the model, in place.

        They travel with the checkpoint from then on; those that are not finite are left out.
        """
        table = {"teacher": self.teacher_metrics, **{str(row.subnetwork): row.metrics for row in self.rows}}
        finite = {
            name: {metric: value for metric, value in own.items() if math.isfinite(value)}
            for name, own in table.items()
        }
        self.model.config.metrics = {name: own for name, own in finite.items() if own} or None

    def save(self, folder: str | Path) -> None:
        """Write everything as `results.json` and the table as `results.csv` into a folder.

        A metric that is not finite is `null` in the one and empty in the other.
        """
        records = [
            {
                "size": str(row.subnetwork),
                "width": row.subnetwork.width,
                "depth": row.subnetwork.depth,
                **_finite(row.metrics),
                "parameters": row.parameters,
                "flops": row.flops,
            }
            for row in self.rows
        ]
        folder = Path(folder)
        content = {
            "teacher": _finite(self.teacher_metrics),
            **{name: _finite(metrics) for name, metrics in self.summary.items()},
            "sub_networks": records,
            "stages": self.stages,
        }
        (folder / "results.json").write_text(json.dumps(content, indent=2, default=str))
        with (folder / "results.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)

    def show(self, console: Console | None = None) -> None:
        """Print the table in the terminal, from large to small, with the teacher and the mean and worst of all sizes.

        Args:
            console: Where to print; None: the standard output.
        """
        metrics = list(self.summary["mean"])
        table = Table(title=f"{len(self.rows)} sizes of one {type(self.model).__name__}")
        for heading in ("size", *metrics, "parameters", "GFLOPs", "of full"):
            table.add_column(heading, justify="left" if heading == "size" else "right")
        full = max(row.flops for row in self.rows)
        for row in reversed(self.rows):
            costs = (f"{row.parameters / 1e6:.1f} M", f"{row.flops / 1e9:.2f}", f"{row.flops / full:.0%}")
            table.add_row(str(row.subnetwork), *_cells(row.metrics, metrics), *costs)
        if metrics:
            table.add_section()
            table.add_row("mean", *_cells(self.summary["mean"], metrics))
            table.add_row("worst", *_cells(self.summary["worst"], metrics))
        if self.teacher_metrics:
            table.add_row("teacher", *_cells(self.teacher_metrics, metrics))
        (console or Console()).print(table)

    def write_card(self, folder: str | Path, *, rows: Iterable[Any] | None = None, **facts: Any) -> Path:
        """Write the card of the model as `README.md`, with its pictures if matplotlib is installed.

        Args:
            folder: Folder of the model.
            rows: Rows that say more than those of this result, such as `latency_ms`.
            **facts: Other fields of `ModelCardFacts`, such as `dataset_name` and `license`.
        """
        known = {"title": "DynaBERT", "teacher_metrics": self.teacher_metrics, "stages": self.stages, **facts}
        card = ModelCardFacts.from_rows(self.model, self.rows if rows is None else rows, **known)
        return write_model_card(folder, replace(card, pictures=_draw(card, Path(folder))))


def _draw(card: ModelCardFacts, folder: Path) -> dict[str, str]:
    """Pictures of the sizes in the folder of the model; where none can be drawn, a word says why."""
    metric = card.metric
    if metric is None:
        return {}
    if find_spec("matplotlib") is None:
        logger.warning('No pictures without matplotlib. Install it with `pip install "dynabert_hf[plots]"`.')
        return {}
    measured = [size for size in card.sizes if math.isfinite(size.metrics.get(metric, math.nan))]
    if len(measured) < len(card.sizes):
        left_out = [str(size.subnetwork) for size in card.sizes if size not in measured]
        logger.warning(f"Sizes without a finite {metric} are not in the pictures: {', '.join(left_out)}.")
    if not measured:
        return {}
    cost = "flops" if any(size.latency_ms is None for size in measured) else "latency_ms"
    candidates = [_candidate(size, metric) for size in measured]
    teacher = card.teacher_metrics.get(metric)
    if teacher is not None:
        teacher = quality_sign(metric) * teacher if math.isfinite(teacher) else None
    plot_pareto(candidates, folder / "pareto.png", cost=cost, teacher=teacher, quality=metric)
    plot_grid(candidates, folder / "grid.png", quality=metric)
    return {f"{metric} over cost of every size": "pareto.png", f"{metric} by width and depth": "grid.png"}


def _candidate(size: SizeFacts, metric: str) -> Candidate:
    value = quality_sign(metric) * size.metrics[metric]
    return Candidate(size.subnetwork, value, size.parameters, size.flops, size.latency_ms)


def _cells(metrics: Mapping[str, float], names: Iterable[str]) -> list[str]:
    return [f"{metrics[name]:.4f}" if name in metrics else "" for name in names]


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
