"""Figures from candidates. Needs the extra `plots`.

Each function returns a matplotlib `Figure` made without pyplot, so that nothing global changes and no window opens, and
saves it where a path is given. Depths differ by colour and by marker; all colours are safe for colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from ..model.subnetwork import SubNetwork
from .choosing import COSTS, Candidate, amount_of, pareto_front, quality_sign

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
_LABEL_OFFSETS = ((-7, 7), (0, 11), (-10, 0), (8, -11), (0, -14), (-16, 16), (12, 12), (-26, 26), (16, -24))


def plot_pareto(
    candidates: Iterable[Candidate],
    path: str | PathLike | None = None,
    *,
    cost: str = "flops",
    teacher: float | None = None,
    title: str | None = None,
    quality: str = "accuracy",
) -> Figure:
    """Accuracy over cost, one curve a depth; the Pareto front is ringed and named.

    Args:
        candidates: What to draw. Candidates whose layers differ are drawn as points of their own.
        path: Where to save the picture; the suffix decides the format. Not saved if None.
        cost: The horizontal axis: `latency_ms`, `flops`, `parameters` or `memory_mb`.
        teacher: Accuracy of the teacher, drawn as a line.
        title: Title of the picture.
        quality: What the accuracy of the candidates is, such as `pearson`. Of an error (a name that ends as `loss` or
            `mse` does) candidates and teacher hold the negative; the axis shows it as it is, better still above.

    Raises:
        ValueError: If there is no candidate, the cost is unknown, or some candidate was not measured in it.
        ImportError: If matplotlib is not installed.
    """
    candidates = list(candidates)
    front = pareto_front(candidates, cost=cost)
    shown = _quality_text(quality)
    figure, axes = _figure((8.0, 5.2))
    for number, (label, members) in enumerate(_curves(candidates).items()):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        members.sort(key=lambda one: amount_of(one, cost))
        style = "" if label == "layers differ" else "-"
        axes.plot(*_points(members, cost), style, marker=marker, markersize=6, color=colour, label=label, zorder=3)
    ring = {"facecolors": "none", "edgecolors": "#222222", "linewidths": 1.4}
    axes.scatter(*_points(front, cost), s=130, zorder=4, label="Pareto front", **ring)
    if teacher is not None:
        axes.axhline(
            teacher, color="#555555", linestyle=(0, (5, 3)), linewidth=1.2, label=f"teacher ({shown(teacher)})"
        )
    _frame(axes, x=_COST_NAMES[cost], y=_quality_name(quality), title=title)
    axes.grid(color="#dddddd", linewidth=0.7)
    if cost in ("flops", "parameters"):
        axes.xaxis.set_major_formatter(_engineering_formatter())
    if quality_sign(quality) < 0:
        axes.yaxis.set_major_formatter(lambda value, _: shown(value))
    axes.margins(0.09, 0.12)
    axes.legend(loc="lower right", frameon=True, framealpha=0.95, edgecolor="#cccccc")
    _name_points(axes, front, candidates, cost)
    return _finish(figure, path)


def plot_grid(
    candidates: Iterable[Candidate],
    path: str | PathLike | None = None,
    *,
    metric: str = "accuracy",
    title: str | None = None,
    quality: str = "accuracy",
) -> Figure:
    """A heat map of one metric, width along and depth up; sizes without a value stay empty.

    Args:
        candidates: What to draw. Candidates whose layers differ have no place in a grid and are left out.
        path: Where to save the picture; the suffix decides the format. Not saved if None.
        metric: `accuracy` or a cost: `latency_ms`, `flops`, `parameters`, `memory_mb`.
        title: Title of the picture.
        quality: What the accuracy of the candidates is, as for `plot_pareto`.

    Raises:
        ValueError: If the metric is unknown or no candidate with a width and a depth has it.
        ImportError: If matplotlib is not installed.
    """
    if metric != "accuracy" and metric not in COSTS:
        raise ValueError(f"metric={metric!r} is unknown. Possible is one of {['accuracy', *COSTS]}; give one of them.")
    values = {
        (one.subnetwork.depth, one.subnetwork.width): getattr(one, metric)
        for one in candidates
        if isinstance(one.subnetwork, SubNetwork) and getattr(one, metric) is not None
    }
    if not values:
        raise ValueError(f"No candidate with a width and a depth has a value for {metric}. Measure it first.")
    depths, widths = (sorted({key[axis] for key in values}) for axis in (0, 1))
    rows = [[values.get((depth, width), float("nan")) for width in widths] for depth in depths]
    figure, axes = _figure((2.6 + 1.05 * len(widths), 1.7 + 0.75 * len(depths)))
    name = {"accuracy": _quality_name(quality), **_COST_NAMES}[metric]
    colours = "viridis" if metric == "accuracy" else "viridis_r"
    text = _cell_text(metric, quality)
    image = _heat_map(axes, rows, colours=colours, text=text)
    figure.colorbar(image, ax=axes, label=name, pad=0.02, format=lambda value, _: text(value))
    axes.set_xticks(range(len(widths)), [f"{width:g}" for width in widths])
    axes.set_yticks(range(len(depths)), [f"{depth:g}" for depth in depths])
    _frame(axes, x="Width", y="Depth", title=title)
    return _finish(figure, path)


def _neuron_curves(axes: Axes, neurons: Any) -> None:
    """Share of a layer's importance that its most important neurons hold, one curve a layer."""
    from matplotlib import colormaps

    num_layers, num_neurons = neurons.shape
    shares = neurons.sort(dim=1, descending=True).values.cumsum(dim=1)
    shares = shares / shares[:, -1:].clamp_min(1e-30)
    kept = [100 * (index + 1) / num_neurons for index in range(num_neurons)]
    for layer, share in enumerate(shares.tolist()):
        colour = colormaps["viridis"](0.92 * layer / max(num_layers - 1, 1))
        axes.plot([0, *kept], [0, *(100 * part for part in share)], color=colour, linewidth=1.6, label=f"layer {layer}")
    axes.plot([0, 100], [0, 100], color="#888888", linestyle=(0, (2, 2)), linewidth=1.0, label="all alike")
    axes.set(xlim=(0, 100), ylim=(0, 102))
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.95, ncols=1 + num_layers // 7)
    _frame(axes, x="Most important neurons kept (%)", y="Share of the importance (%)", title="Feed-forward neurons")


def _curves(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """Candidates by depth, the shallowest first, and those whose layers differ last."""
    depths = sorted({one.subnetwork.depth for one in candidates if isinstance(one.subnetwork, SubNetwork)})
    curves: dict[str, list[Candidate]] = {f"depth {depth:g}": [] for depth in depths}
    for one in candidates:
        label = f"depth {one.subnetwork.depth:g}" if isinstance(one.subnetwork, SubNetwork) else "layers differ"
        curves.setdefault(label, []).append(one)
    return curves


def _points(candidates: Sequence[Candidate], cost: str) -> tuple[list[float], list[float]]:
    return [amount_of(one, cost) for one in candidates], [one.accuracy for one in candidates]


def _name_points(axes: Axes, front: Sequence[Candidate], candidates: Sequence[Candidate], cost: str) -> None:
    """Name the front's points where there is room: no name covers a point, another name or the legend."""
    figure = axes.figure
    figure.draw_without_rendering()
    taken = [axes.get_legend().get_window_extent()]
    centres = axes.transData.transform(list(zip(*_points(candidates, cost), strict=True)))
    for candidate in reversed(front):
        point = (amount_of(candidate, cost), candidate.accuracy)
        for x, y in _LABEL_OFFSETS:
            name = axes.annotate(
                str(candidate) if isinstance(candidate.subnetwork, SubNetwork) else "layers differ",
                point,
                (x, y),
                textcoords="offset points",
                ha="right" if x < 0 else "left" if x > 0 else "center",
                va="bottom" if y > 0 else "top" if y < 0 else "center",
                fontsize=9,
                zorder=5,
                bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            )
            box = name.get_window_extent().padded(8)
            frame = axes.bbox
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not box.count_overlaps(taken) and not box.count_contains(centres):
                taken.append(box)
                break
            name.remove()


def _heat_map(axes: Axes, rows: list[list[float]], *, colours: str, text: Any = None) -> Any:
    """Draw `rows` from bottom to top, and each value in its cell if `text` formats it; returns the image."""
    image: Any = axes.imshow(rows, origin="lower", aspect="auto", cmap=colours)
    axes.set_facecolor("#eeeeee")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            if text is not None and value == value:
                red, green, blue, _ = image.to_rgba(value)
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
                axes.text(x, y, text(value), ha="center", va="center", color="white" if dark else "black")
    return image


def _cell_text(metric: str, quality: str) -> Any:
    if metric in ("flops", "parameters"):
        return _engineering_formatter()
    sign = quality_sign(quality)
    return lambda value: f"{sign * value:.3f}" if metric == "accuracy" else f"{value:.3g}"


def _quality_name(quality: str) -> str:
    name = quality.upper() if quality in ("f1", "mse", "rmse", "mae") else quality.replace("_", " ").capitalize()
    return f"{name} (lower is better)" if quality_sign(quality) < 0 else name


def _quality_text(quality: str) -> Callable[[float], str]:
    sign = quality_sign(quality)
    return lambda value: f"{sign * value:.4g}"


def _engineering_formatter() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(places=2, sep=" ")


def _figure(size: tuple[float, float], *, columns: int = 1) -> tuple[Figure, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'Pictures need matplotlib, which is not installed. Install it with `pip install "dynabert_hf[plots]"`.'
        ) from error
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def _frame(axes: Axes, *, x: str, y: str, title: str | None) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if title:
        axes.set_title(title)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _finish(figure: Figure, path: str | PathLike | None) -> Figure:
    if path is not None:
        figure.savefig(path)
    return figure
