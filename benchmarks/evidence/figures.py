"""The pictures of the report. Needs matplotlib, the extra `plots`."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"
DEPTHS = {1.0: (BLUE, "o"), 0.75: (GREEN, "s"), 0.5: (ORANGE, "^")}
RIVALS = (("X", "#56B4E9"), ("D", "#000000"), ("v", PURPLE), ("P", "#E69F00"))


def accuracy_over_cost(curves, rivals, path, *, x, teacher=None, title):
    """One curve a depth, seeds as a band, rivals as points.

    Args:
        curves: By depth, the costs and the accuracies `(seeds, widths)`.
        rivals: By name, the costs and the accuracies `(seeds, sizes)`.
        path: Where to save the picture.
        x: Name of the cost.
        teacher: Accuracy of the teacher.
        title: Title of the picture.
    """
    figure, axes = _axes((8.2, 5.2))
    for depth, (costs, accuracies) in sorted(curves.items(), reverse=True):
        colour, marker = DEPTHS[depth]
        accuracies = np.asarray(accuracies)
        axes.plot(costs, accuracies.mean(0), "-", marker=marker, color=colour, label=f"DynaBERT, depth {depth:g}")
        if len(accuracies) > 1:
            axes.fill_between(costs, accuracies.min(0), accuracies.max(0), color=colour, alpha=0.15, linewidth=0)
    for number, (name, (costs, accuracies)) in enumerate(rivals.items()):
        marker, colour = RIVALS[number]
        costs = np.asarray(costs) * (1 + 0.012 * (number - 1))  # apart, where several have one cost
        accuracies = np.asarray(accuracies)
        middle = accuracies.mean(0)
        spread = np.abs(np.stack([accuracies.min(0), accuracies.max(0)]) - middle)
        bars = spread if len(accuracies) > 1 else None
        axes.errorbar(
            costs, middle, bars, fmt=marker, color=colour, markerfacecolor="none", markersize=8, capsize=3, label=name
        )
    if teacher is not None:
        axes.axhline(teacher, color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, label=f"teacher ({teacher:.3f})")
    axes.set(xlabel=x, ylabel="Test accuracy", title=title)
    axes.legend(fontsize=8.5, loc="lower right", framealpha=0.95, edgecolor="#cccccc")
    _save(figure, path)


def bars(values, path, *, x, title):
    """A horizontal bar for each name, the best one above: the mean, and a dot for each seed."""
    figure, axes = _axes((8.2, 0.9 + 0.36 * len(values)))
    names = sorted(values, key=lambda name: np.mean(values[name]))
    means = [np.mean(values[name]) for name in names]
    axes.barh(names, means, color=[GREY if value < 0 else BLUE for value in means], height=0.62, alpha=0.85)
    for position, name in enumerate(names):
        axes.plot(values[name], [position] * len(values[name]), "o", color="#000000", markersize=4, zorder=4)
    axes.axvline(0, color="#222222", linewidth=1)
    axes.grid(False, axis="y")
    axes.margins(x=0.12)
    figure.supxlabel(x, fontsize=10)
    figure.suptitle(title)
    _save(figure, path)


def accuracy_over_training(points, path, *, title):
    """Mean accuracy over CPU seconds of training, one named point each.

    Args:
        points: By name, CPU seconds and accuracies by seed.
        path: Where to save the picture.
        title: Title of the picture.
    """
    figure, axes = _axes((8.2, 4.8))
    for number, (name, (seconds, accuracies)) in enumerate(points.items()):
        colour, marker = BLUE if number == 0 else "#000000", "o" if number == 0 else "s"
        place, middle = np.mean(seconds) / 60, np.mean(accuracies)
        spread = [[middle - min(accuracies)], [max(accuracies) - middle]]
        axes.errorbar(place, middle, spread, fmt=marker, color=colour, capsize=3)
        axes.annotate(name, (place, middle), xytext=(7, 4), textcoords="offset points", fontsize=8.5, color=colour)
    axes.set(xlabel="Training, CPU minutes", ylabel="Validation accuracy, mean of six sizes", title=title)
    axes.margins(0.3, 0.15)
    _save(figure, path)


def _axes(size):
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
