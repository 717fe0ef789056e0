"""Figures of sizes from their records. Needs the extra `plots`.

Each function returns a matplotlib `Figure` made without pyplot, so that nothing global changes and no window opens, and
saves it where a path is given. Depths differ by colour and by marker; all colours are safe for colour-blind readers.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_whole
from ..messages import require
from ..model.subnetwork import SubNetwork, as_size
from .cascade import CascadeRecord
from .choosing import pareto_front
from .metrics import is_lower_better
from .records import COSTS, COUNTS, SizeRecord, cost_of, format_cost, metric_of, of_one_setting, size_label
from .tables import metric_text, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, without the yellow that is too faint for a line on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_COST_NAMES = {
    "latency_ms": "Latency (ms)",
    "flops": "FLOPs of one forward pass",
    "parameters": "Parameters",
    "memory_mb": "Peak memory (MB)",
}
_ABBREVIATIONS = ("f1", "mse", "rmse", "mae", "mrr")
_NEAR = ((-9, 9), (0, 12), (-12, 0), (9, -11), (0, -13), (-9, -11), (9, 9), (12, 0))
_FAR = tuple(
    (distance * x, distance * y) for distance in (22, 34, 48) for x in (-1, 0, 1) for y in (1, -1, 0) if x or y
)
"""Where the name of a point may stand, in points from it: beside it, or where a line leads to it."""

_CORNERS = ("lower right", "upper left", "lower left", "upper right")
"""Where the legend may stand, the first before the others."""

_RING = 15
"""Radius in pixels of a marker with its ring."""


def plot_pareto(
    records: Iterable[SizeRecord],
    path: str | PathLike | None = None,
    *,
    metric: str = "accuracy",
    cost: str = "flops",
    teacher: float | None = None,
    budget: float | None = None,
    choice: SizeRecord | None = None,
    title: str | None = None,
    greater_is_better: bool | None = None,
) -> Figure:
    """A metric over cost, one curve a depth and one a cascade; the Pareto front is ringed and named.

    Better is always above: of an error the axis runs downwards.

    Args:
        records: What to draw. Sizes whose layers differ are drawn as points of their own.
        path: Where to save the picture; the suffix decides the format. Not saved if None.
        metric: The vertical axis.
        cost: The horizontal axis: `latency_ms`, `flops`, `parameters` or `memory_mb`.
        teacher: The metric of the teacher, drawn as a line.
        budget: The largest amount of the cost, drawn as a line.
        choice: The size to mark as chosen.
        title: Title of the picture.
        greater_is_better: The direction of the metric; None: as its name says.

    Raises:
        ValueError: If there is no record, the cost is unknown, some size was not measured in metric or cost, or the
            direction of the metric is not known.
        ImportError: If matplotlib is not installed.
    """
    records = list(records)
    front = pareto_front(records, metric=metric, cost=cost, greater_is_better=greater_is_better)
    is_lower = is_lower_better(metric, greater_is_better)
    figure, axes = _figure((8.0, 5.2))
    _draw_curves(axes, records, metric, cost)
    ring = {"facecolors": "none", "edgecolors": "#222222", "linewidths": 1.2}
    axes.scatter(*_points(front, metric, cost), s=190, zorder=4, label="Pareto front", **ring)
    if choice is not None:
        at = _points([choice], metric, cost)
        axes.scatter(*at, s=260, marker="*", color="#E69F00", edgecolors="#222222", zorder=6, label=f"choice: {choice}")
    if teacher is not None:
        line = {"color": "#555555", "linestyle": (0, (5, 3)), "linewidth": 1.2}
        axes.axhline(teacher, label=f"teacher ({teacher:.4g})", **line)
    if budget is not None:
        axes.axvline(
            budget, color="#D55E00", linestyle=":", linewidth=1.6, label=f"budget ({format_cost(cost, budget)})"
        )
    largest = max([cost_of(one, cost) for one in records] + ([budget] if budget is not None else []))
    _frame(axes, x=_scale_cost_axis(axes, cost, largest), y=_metric_name(metric, is_lower), title=title)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.margins(0.09, 0.12)
    if is_lower:
        axes.invert_yaxis()
    _place_legend(axes, _points(records, metric, cost))
    _name_points(axes, front, records, metric, cost)
    return _finish(figure, path)


def plot_grid(
    records: Iterable[SizeRecord],
    path: str | PathLike | None = None,
    *,
    metric: str = "accuracy",
    teacher: float | None = None,
    title: str | None = None,
    greater_is_better: bool | None = None,
) -> Figure:
    """A heat map of one metric or cost, width along and depth up; sizes without a value stay empty.

    Colours span at least a twentieth of the largest value, so that values close to each other look alike.

    Args:
        records: What to draw. Sizes whose layers differ and cascades have no place in a grid and are left out.
        path: Where to save the picture; the suffix decides the format. Not saved if None.
        metric: A metric, or a cost: `latency_ms`, `flops`, `parameters`, `memory_mb`.
        teacher: The metric of the teacher, drawn as a cell above the grid.
        title: Title of the picture.
        greater_is_better: The direction of the metric; None: as its name says.

    Raises:
        ValueError: If no size with a width and a depth has the metric or cost, or records are of several settings.
        ImportError: If matplotlib is not installed.
    """
    records = of_one_setting(records)
    of = "costs" if metric in COSTS and not any(metric in one.metrics for one in records) else "metrics"
    found = [(size, getattr(one, of)) for one in records if (size := _grid_size(one))]
    values = {(size.depth, size.width): own[metric] for size, own in found if metric in own}
    if not values:
        known = sorted({name for _, own in found for name in own}) or "nothing"
        raise ValueError(
            f"No size with a width and a depth has a value for {metric}. They have {known}; give metric= one of these, "
            "or measure it first."
        )
    depths, widths = (sorted({key[axis] for key in values}) for axis in (0, 1))
    rows = [[values.get((depth, width), float("nan")) for width in widths] for depth in depths]
    names = [f"{depth:g}" for depth in depths]
    if teacher is not None:
        rows.append([float("nan")] * (len(widths) - 1) + [teacher])
        names.append("teacher")
    figure, axes = _figure((2.8 + 1.05 * len(widths), 1.7 + 0.75 * len(rows)))
    is_lower = metric in COSTS or is_lower_better(metric, greater_is_better)
    image = _heat_map(axes, rows, colours="viridis_r" if is_lower else "viridis", text=_cell_text(metric))
    name = _COST_NAMES[metric] if metric in COSTS else _metric_name(metric, is_lower)
    tick = _cell_text(metric) if metric in COUNTS else "{:g}".format  # no two that read alike
    figure.colorbar(image, ax=axes, label=name, pad=0.02, format=lambda value, _: tick(value))
    axes.set_xticks(range(len(widths)), [f"{width:g}" for width in widths])
    axes.set_yticks(range(len(rows)), names)
    _frame(axes, x="Width", y="Depth", title=title)
    return _finish(figure, path)


def _curves(records: Sequence[SizeRecord]) -> dict[str, list[SizeRecord]]:
    """Sizes by depth, the shallowest first, and then those whose layers differ and cascades, by their two sizes."""
    curves: dict[str, list[SizeRecord]] = {}
    for one in sorted(records, key=lambda one: size.depth if (size := _grid_size(one)) else math.inf):
        curves.setdefault(_curve_of(one), []).append(one)
    return curves


def _curve_of(one: SizeRecord) -> str:
    if isinstance(one, CascadeRecord):
        return f"{size_label(as_size(one.small))}, then {size_label(one.size)}"
    size = _grid_size(one)
    return f"depth {size.depth:g}" if size else "layers differ"


def _grid_size(one: SizeRecord) -> SubNetwork | None:
    """The width and the depth of a record, if it is of one size and has them."""
    return one.size if isinstance(one.size, SubNetwork) and not isinstance(one, CascadeRecord) else None


def _draw_curves(axes: Axes, records: Sequence[SizeRecord], metric: str, cost: str) -> None:
    for number, (label, members) in enumerate(_curves(records).items()):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        members.sort(key=lambda one: cost_of(one, cost))
        style = "none" if label == "layers differ" else "-"
        # Hollow, and each depth smaller than the one before: equal points show as one marker within the other.
        look: dict[str, Any] = {"markersize": max(9.5 - 1.5 * number, 4), "markerfacecolor": "none"}
        look |= {"markeredgewidth": 1.7, "marker": marker, "color": colour, "label": label, "zorder": 3}
        axes.plot(*_points(members, metric, cost), linestyle=style, **look)


def _place_legend(axes: Axes, points: tuple[list[float], list[float]]) -> None:
    """Put the legend into the corner where it hides the fewest points, on the lower right if it may."""
    figure: Any = axes.figure
    legend: Any = axes.legend(frameon=True, framealpha=0.95, edgecolor="#cccccc")
    hidden: dict[str, int] = {}
    for corner in _CORNERS:
        legend.set_loc(corner)
        figure.draw_without_rendering()
        centres = axes.transData.transform(list(zip(*points, strict=True)))
        hidden[corner] = legend.get_window_extent().padded(_RING).count_contains(centres)
        if not hidden[corner]:
            return
    legend.set_loc(min(hidden, key=lambda corner: hidden[corner]))


def _points(records: Sequence[SizeRecord], metric: str, cost: str) -> tuple[list[float], list[float]]:
    return [cost_of(one, cost) for one in records], [metric_of(one, metric) for one in records]


def _name_points(
    axes: Axes, front: Sequence[SizeRecord], records: Sequence[SizeRecord], metric: str, cost: str
) -> None:
    """Name the front's points where there is room: no name covers a point, a line, another name or the legend.

    A name stands beside its point unless it would be as near to another; then a line leads to it, past other points and
    names.
    """
    import numpy as np
    from matplotlib.path import Path as Line
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    figure.draw_without_rendering()
    legend: Any = axes.get_legend()
    taken = [legend.get_window_extent()]
    centres = axes.transData.transform(list(zip(*_points(records, metric, cost), strict=True)))
    drawn = [line for line in axes.get_lines() if line.get_linestyle() != "None"]
    lines = [line.get_transform().transform_path(line.get_path()) for line in drawn]
    for record in reversed(front):
        point = (cost_of(record, cost), metric_of(record, metric))
        centre = axes.transData.transform(point)
        others = [each for each in centres if not np.allclose(each, centre)]
        rings = [Bbox([each, each]).padded(_RING) for each in others]
        for offset in (*_NEAR, *_FAR):
            name = _name_beside(axes, record, point, offset)
            name.get_window_extent()  # which places it
            tight = Text.get_window_extent(name)  # without the line
            box, frame = tight.padded(_RING), axes.bbox
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            hides = box.count_contains(centres) or any(line.intersects_bbox(tight, filled=False) for line in lines)
            is_unclear = offset in _NEAR and box.padded(_RING / 2).count_contains(others)
            leader = Line([centre, centre + np.array(offset) * figure.dpi / 72])
            crosses = offset in _FAR and any(leader.intersects_bbox(each) for each in (*taken, *rings))
            if inside and not tight.padded(4).count_overlaps(taken) and not (hides or is_unclear or crosses):
                taken.append(tight)
                break
            name.remove()


def _name_beside(axes: Axes, record: SizeRecord, point: tuple[float, float], offset: tuple[float, float]) -> Any:
    x, y = offset
    leads: dict[str, Any] = (
        {} if offset in _NEAR else {"arrowprops": {"arrowstyle": "-", "color": "#888888", "linewidth": 0.8}}
    )
    return axes.annotate(
        str(record) if isinstance(record.size, SubNetwork) else "layers differ",
        point,
        offset,
        textcoords="offset points",
        ha="right" if x < 0 else "left" if x > 0 else "center",
        va="bottom" if y > 0 else "top" if y < 0 else "center",
        fontsize=9,
        zorder=5,
        **leads,
    )


def _heat_map(axes: Axes, rows: list[list[float]], *, colours: str, text: Callable[[float], str]) -> Any:
    """Draw `rows` from bottom to top, and each value in its cell as `text` formats it; returns the image."""
    finite = [value for row in rows for value in row if math.isfinite(value)] or [0.0]
    middle, half = (max(finite) + min(finite)) / 2, (max(finite) - min(finite)) / 2
    half = max(half, 0.025 * max(map(abs, finite))) or 1.0
    image: Any = axes.imshow(rows, origin="lower", aspect="auto", cmap=colours, vmin=middle - half, vmax=middle + half)
    axes.set_facecolor("#eeeeee")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            if value == value:
                red, green, blue, _ = image.to_rgba(value)
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
                axes.text(x, y, text(value), ha="center", va="center", color="white" if dark else "black")
    return image


def _cell_text(name: str) -> Callable[[float], str]:
    if name in COUNTS:
        from matplotlib.ticker import EngFormatter

        return EngFormatter(places=2, sep=" ")
    return lambda value: shortened(value) if name in COSTS else metric_text(value, decimals=3)


def name_of_metric(metric: str) -> str:
    """A metric as a picture names it.

    Example:
        >>> name_of_metric("micro_f1"), name_of_metric("matthews_correlation")
        ('Micro F1', 'Matthews correlation')
    """
    words = (word.upper() if word in _ABBREVIATIONS else word for word in metric.split("_"))
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def _metric_name(metric: str, is_lower: bool) -> str:
    return f"{name_of_metric(metric)} (lower is better)" if is_lower else name_of_metric(metric)


def _scale_cost_axis(axes: Axes, cost: str, largest: float) -> str:
    """Give the axis of a cost one unit for all its ticks, and return its name with that unit."""
    axes.locator_params(axis="x", steps=[1, 2, 5, 10])
    if cost not in COUNTS:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        return _COST_NAMES[cost]
    factor, unit = next(
        ((factor, unit) for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")) if largest >= factor),
        (1.0, ""),
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / factor:g}")
    if cost == "flops":
        return f"Operations of one forward pass ({unit}FLOPs)"
    return (
        f"Parameters ({ {'T': 'trillions', 'G': 'billions', 'M': 'millions', 'k': 'thousands'}.get(unit, 'number') })"
    )


def _figure(size: tuple[float, float]) -> tuple[Figure, Any]:
    require("A picture", "matplotlib", extra="plots")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _frame(axes: Axes, *, x: str, y: str, title: str | None) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if title:
        figure: Any = axes.figure
        axes.set_title(textwrap.fill(title, int(11 * figure.get_figwidth())), fontsize=11)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _finish(figure: Figure, path: str | PathLike | None) -> Figure:
    if path is not None:
        whole = Path(path) if Path(path).suffix else Path(f"{path}.png")  # as matplotlib names it
        write_whole(whole, lambda partial: figure.savefig(partial, format=whole.suffix[1:].lower()))
    return figure
