"""What a run of the recipe made: a row for every size, as a table, as files and on the card of the model."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .elastic_model import ElasticModelMixin
from .hub import ModelCardFacts, write_model_card
from .plots import plot_grid, plot_pareto
from .search import Candidate
from .subnetwork import SubNetwork
from .trainer import LOWER_IS_BETTER


@dataclass(frozen=True)
class ResultRow:
    """What one sub-network costs and how well it does.

    Args:
        subnetwork: The size.
        metrics: Its metrics on the evaluation data, such as `{"accuracy": 0.87, "loss": 0.31}`.
        parameters: Parameters of the extracted model.
        flops: Floating-point operations of a forward pass on one sequence of 128 tokens.
    """

    subnetwork: SubNetwork
    metrics: dict[str, float]
    parameters: int
    flops: int


@dataclass(frozen=True)
class RecipeResult:
    """What `train_dynabert` made: model, a row for every size, the teacher's metrics, the settings of the stages."""

    model: ElasticModelMixin
    rows: tuple[ResultRow, ...]
    teacher_metrics: dict[str, float]
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)

    def save(self, folder: str | Path) -> None:
        """Write the table as `results.json` and `results.csv` into a folder."""
        records = [
            {
                "width": row.subnetwork.width,
                "depth": row.subnetwork.depth,
                **row.metrics,
                "parameters": row.parameters,
                "flops": row.flops,
            }
            for row in self.rows
        ]
        folder = Path(folder)
        content = {"teacher": self.teacher_metrics, "sub_networks": records}
        (folder / "results.json").write_text(json.dumps(content, indent=2))
        with (folder / "results.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)

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
    """Pictures of the sizes in the folder of the model; none without matplotlib, or a metric where more is better."""
    metric = card.metric
    measured = [size for size in card.sizes if metric in size.metrics]
    if find_spec("matplotlib") is None or not measured or metric is None or metric.endswith(LOWER_IS_BETTER):
        return {}
    candidates = [
        Candidate(size.subnetwork, size.metrics[metric], size.parameters, size.flops, size.latency_ms)
        for size in measured
    ]
    cost = "flops" if any(size.latency_ms is None for size in measured) else "latency_ms"
    plot_pareto(candidates, folder / "pareto.png", cost=cost, teacher=card.teacher_metrics.get(metric))
    plot_grid(candidates, folder / "grid.png")
    return {f"{metric} over cost of every size": "pareto.png", f"{metric} by width and depth": "grid.png"}
