"""Pictures: what is in them, as far as a test can see."""

import numpy as np
import pytest
from matplotlib.text import Text

from dynabert_hf import CascadeRecord, LayerShape, SizeRecord, grid, pareto_front, plot_grid, plot_pareto

RECORDS = [
    SizeRecord(
        size,
        {"accuracy": 0.8 + 0.05 * size.width * size.depth, "mse": 0.2 - 0.05 * size.width * size.depth},
        {"flops": int(1e9 * size.width * size.depth), "latency_ms": 3.0},
    )
    for size in grid([0.5, 1.0], [0.5, 1.0])
]
IRREGULAR = SizeRecord(
    (LayerShape(0, 4, 48), LayerShape(2, 1, 7)), {"accuracy": 0.9, "mse": 0.1}, {"flops": 10, "latency_ms": 1.0}
)


def legend(figure):
    return figure.axes[0].get_legend_handles_labels()[1]


def test_a_pareto_picture_has_a_curve_for_each_depth_and_the_teacher(tmp_path):
    figure = plot_pareto(RECORDS, tmp_path / "sizes.png", teacher=0.86)
    assert set(legend(figure)) == {"depth 0.5", "depth 1", "Pareto front", "teacher (0.86)"}
    names = {text.get_text() for text in figure.axes[0].texts}
    assert "w0.5-d0.5" in names
    assert (tmp_path / "sizes.png").stat().st_size > 10_000


def test_a_picture_of_an_error_shows_it_as_it_is_and_better_above():
    axes = plot_pareto(RECORDS, metric="mse", teacher=0.25).axes[0]
    assert axes.get_ylabel() == "MSE (lower is better)"
    assert "teacher (0.25)" in axes.get_legend_handles_labels()[1]
    bottom, top = axes.get_ylim()
    assert bottom > top > 0
    assert [cell.get_text() for cell in plot_grid(RECORDS, metric="mse").axes[0].texts][-1] == "0.150"


def test_a_picture_of_costs_has_one_unit_an_axis():
    axes = plot_pareto(RECORDS).axes[0]
    axes.figure.draw_without_rendering()
    assert axes.get_xlabel() == "Operations of one forward pass (GFLOPs)"
    shown = [float(label.get_text()) for label in axes.get_xticklabels()]
    assert shown == [pytest.approx(tick / 1e9) for tick in axes.get_xticks()]


def test_the_budget_and_the_choice_are_marked():
    figure = plot_pareto(RECORDS, budget=0.6e9, choice=RECORDS[2])
    assert {"budget (600 MFLOPs)", f"choice: {RECORDS[2]}"} <= set(legend(figure))
    (line,) = [each for each in figure.axes[0].get_lines() if str(each.get_label()).startswith("budget")]
    assert list(line.get_xdata()) == [0.6e9, 0.6e9]


def test_of_equal_points_both_are_seen():
    """Markers are hollow, and of one size at most in one depth."""
    lines = plot_pareto(RECORDS).axes[0].get_lines()[:2]
    assert {line.get_markerfacecolor() for line in lines} == {"none"}
    assert lines[0].get_markersize() != lines[1].get_markersize()


def test_no_name_hides_a_point_or_a_line():
    axes = plot_pareto(RECORDS, teacher=0.86).axes[0]
    axes.figure.draw_without_rendering()
    assert axes.texts
    for name in axes.texts:
        box = Text.get_window_extent(name)  # without a line that leads to it
        for line in axes.get_lines():
            path = line.get_transform().transform_path(line.get_path())
            assert not path.intersects_bbox(box, filled=False)


def test_the_line_to_a_point_passes_other_points_and_names_by():
    milliseconds = (2.46, 2.91, 4.07, 3.27, 4.14, 5.95, 4.35, 5.49, 7.95, 5.24, 6.74, 9.87)
    accuracies = (0.8021, 0.8097, 0.8068, 0.8116, 0.8295, 0.8324, 0.8078, 0.8352, 0.8333, 0.804, 0.8286, 0.8409)
    sizes = grid([0.25, 0.5, 0.75, 1.0], [0.5, 0.75, 1.0])
    axes = plot_pareto(
        [
            SizeRecord(str(size), {"accuracy": accuracy}, {"latency_ms": ms})
            for size, accuracy, ms in zip(sizes, accuracies, milliseconds, strict=True)
        ],
        cost="latency_ms",
        teacher=0.839,
    ).axes[0]
    axes.figure.draw_without_rendering()
    at = axes.transData.transform(list(zip(milliseconds, accuracies, strict=True)))
    boxes = {name: Text.get_window_extent(name) for name in axes.texts}
    leading = [name for name in axes.texts if name.arrow_patch is not None]
    assert len(axes.texts) == 6  # the whole front
    assert leading
    for name in leading:
        start, box = axes.transData.transform(name.xy), boxes[name]
        end = [min(max(x, low), high) for x, low, high in zip(start, box.min, box.max, strict=True)]
        line = np.linspace(start, end, 200)
        nearest = [np.hypot(*(line - each).T).min() for each in at if not np.allclose(each, start, atol=1)]
        assert min(nearest) > 12  # pixels
        assert not any(other.count_contains(line) for text, other in boxes.items() if text is not name)


def test_a_name_is_nearest_to_its_own_point_or_has_a_line_to_it():
    accuracies = (0.8087, 0.8097, 0.8068, 0.8106, 0.8314, 0.8333, 0.8134, 0.8277, 0.8324, 0.8134, 0.8295, 0.8362)
    records = [
        SizeRecord(size, {"accuracy": accuracy}, {"flops": size.width * size.depth})
        for size, accuracy in zip(grid([0.25, 0.5, 0.75, 1.0], [0.5, 0.75, 1.0]), accuracies, strict=True)
    ]
    axes = plot_pareto(records).axes[0]
    axes.figure.draw_without_rendering()
    at = {str(one): axes.transData.transform((one.flops, one.metrics["accuracy"])) for one in records}
    front = {str(one) for one in pareto_front(records)}
    assert len(front) - 1 <= len({name.get_text() for name in axes.texts} & front) == len(axes.texts)  # one has no room
    assert any(name.arrow_patch is not None for name in axes.texts)
    for name in axes.texts:
        box = Text.get_window_extent(name)
        away = {
            size: max(box.x0 - x, x - box.x1, 0) ** 2 + max(box.y0 - y, y - box.y1, 0) ** 2
            for size, (x, y) in at.items()
        }
        assert name.arrow_patch is not None or min(away, key=away.get) == name.get_text()


def test_a_long_title_is_wrapped_to_the_picture():
    axes = plot_grid(RECORDS, title="Accuracy, " + "a model with a long name " * 4).axes[0]
    axes.figure.draw_without_rendering()
    box = axes.title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= axes.figure.bbox.x1


def test_a_picture_names_the_metric_it_shows():
    records = [SizeRecord(one.size, {"matthews_correlation": 0.5}, one.costs) for one in RECORDS]
    assert plot_pareto(records, metric="matthews_correlation").axes[0].get_ylabel() == "Matthews correlation"


def test_sizes_whose_layers_differ_are_points_of_their_own():
    figure = plot_pareto([*RECORDS, IRREGULAR], metric="mse")
    (points,) = [line for line in figure.axes[0].get_lines() if line.get_label() == "layers differ"]
    assert (list(points.get_xdata()), list(points.get_ydata())) == ([10], [0.1])
    assert len(plot_grid([*RECORDS, IRREGULAR]).axes[0].texts) == 4


def test_no_line_joins_sizes_whose_layers_differ():
    others = [SizeRecord((LayerShape(0, 1, 7),), {"accuracy": 0.7}, {"flops": 5}), IRREGULAR, *RECORDS]
    lines = plot_pareto(others).axes[0].get_lines()
    styles = {line.get_label(): line.get_linestyle() for line in lines}
    assert styles == {"depth 0.5": "-", "depth 1": "-", "layers differ": "None"}


def test_a_cascade_has_a_curve_of_its_own_and_no_cell_of_its_larger_size():
    told = {"small": "w0.5-d0.5", "threshold": 0.8}
    cascades = [
        CascadeRecord("w1-d1", {"accuracy": each}, {"flops": cost}, **told) for each, cost in ((0.5, 3e8), (0.6, 5e8))
    ]
    lines = {line.get_label(): line for line in plot_pareto([*cascades, *RECORDS]).axes[0].get_lines()}
    assert list(lines) == ["depth 0.5", "depth 1", "w0.5-d0.5, then w1-d1"]
    assert list(lines["depth 1"].get_ydata()) == [record.metrics["accuracy"] for record in RECORDS[1::2]]
    assert list(lines["w0.5-d0.5, then w1-d1"].get_xydata().ravel()) == [3e8, 0.5, 5e8, 0.6]
    cells = [[cell.get_text() for cell in plot_grid(each).axes[0].texts] for each in (RECORDS, [*RECORDS, *cascades])]
    assert cells[0] == cells[1]


@pytest.mark.parametrize("falling", [False, True])
def test_the_legend_hides_no_point(falling):
    """The corner on the lower right is free where larger sizes are better, and else another one."""
    sizes = grid([0.25, 0.5, 0.75, 1.0], [0.5, 0.75, 1.0])
    costs = [size.width * size.depth for size in sizes]
    accuracies = [0.9 - 0.2 * cost if falling else 0.7 + 0.2 * cost for cost in costs]
    axes = plot_pareto(
        [
            SizeRecord(size, {"accuracy": accuracy}, {"flops": cost})
            for size, accuracy, cost in zip(sizes, accuracies, costs, strict=True)
        ],
        budget=0.5,
        teacher=0.8,
    ).axes[0]
    axes.figure.draw_without_rendering()
    points = axes.transData.transform(list(zip(costs, accuracies, strict=True)))
    box = axes.get_legend().get_window_extent()
    assert box.count_contains(points) == 0
    assert (box.x0 > axes.bbox.x0 + axes.bbox.width / 2) is not falling


def test_the_teacher_is_in_the_heat_map():
    axes = plot_grid(RECORDS, teacher=0.875).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.5", "1", "teacher"]
    assert [cell.get_text() for cell in axes.texts][-1] == "0.875"


def test_colours_do_not_blow_two_points_up():
    near = [SizeRecord(size, {"accuracy": 0.8 + 0.01 * size.width}) for size in grid([0.5, 1.0], [1.0])]
    low, high = plot_grid(near).axes[0].images[0].get_clim()
    assert high - low == pytest.approx(0.05 * 0.81)
    assert (low + high) / 2 == pytest.approx(0.8075)


@pytest.mark.parametrize(("metric", "cell"), [("accuracy", "0.850"), ("flops", "1.00 G"), ("latency_ms", "3")])
def test_a_grid_picture_shows_each_value(metric, cell):
    axes = plot_grid(RECORDS, metric=metric).axes[0]
    assert len(axes.texts) == 4
    assert axes.texts[-1].get_text() == cell


def test_a_grid_picture_of_seconds_and_gigabytes_shows_whole_numbers():
    records = [SizeRecord("w1-d1", {}, {"latency_ms": 1234.5, "memory_mb": 20480.0})]
    shown = [plot_grid(records, metric=cost).axes[0].texts[0].get_text() for cost in ("latency_ms", "memory_mb")]
    assert shown == ["1234", "20480"]


@pytest.mark.parametrize("least", [0.0274, 0.01, 99.6])
def test_ticks_of_the_colour_bar_say_where_they_are(least):
    records = [SizeRecord(one.size, {"f1": least * (1 + 0.03 * number)}) for number, one in enumerate(RECORDS)]
    figure = plot_grid(records, metric="f1")
    figure.draw_without_rendering()
    ticks = figure.axes[1].yaxis
    shown = [float(label.get_text()) for label in ticks.get_ticklabels()]
    np.testing.assert_allclose(shown, ticks.get_ticklocs(), rtol=1e-9)  # not 0.028 at 0.0275 and 0.028


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"has a value for speed. They have \['accuracy', 'mse'\]; give metric="):
        plot_grid(RECORDS, metric="speed")


def test_a_cost_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="memory_mb"):
        plot_pareto(RECORDS, cost="memory_mb")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("dynabert_hf.messages.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "dynabert_hf\[plots\]"'):
        plot_grid(RECORDS)
