"""Pictures: what is in them, as far as a test can see."""

import pytest

from dynabert_hf import Candidate, LayerShape, grid
from dynabert_hf.sizes.plots import plot_grid, plot_pareto

CANDIDATES = [
    Candidate(size, 0.8 + 0.05 * size.width * size.depth, flops=int(1e9 * size.width * size.depth), latency_ms=3.0)
    for size in grid([0.5, 1.0], [0.5, 1.0])
]


def test_a_pareto_picture_has_a_curve_for_each_depth_and_the_teacher(tmp_path):
    figure = plot_pareto(CANDIDATES, tmp_path / "sizes.png", teacher=0.86)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert set(labels) == {"depth 0.5", "depth 1", "Pareto front", "teacher (0.86)"}
    names = {text.get_text() for text in figure.axes[0].texts}
    assert "w0.5-d0.5" in names
    assert (tmp_path / "sizes.png").stat().st_size > 10_000


def test_a_picture_of_an_error_shows_it_as_it_is_and_better_above():
    errors = [Candidate(one.subnetwork, one.accuracy - 1, flops=one.flops) for one in CANDIDATES]
    axes = plot_pareto(errors, teacher=-0.25, quality="eval_mse").axes[0]
    assert axes.get_ylabel() == "Eval mse (lower is better)"
    assert "teacher (0.25)" in axes.get_legend_handles_labels()[1]
    shown = [float(label.get_text()) for label in axes.get_yticklabels()]
    assert shown == sorted(shown, reverse=True)
    assert min(shown) > 0
    assert [cell.get_text() for cell in plot_grid(errors, quality="eval_mse").axes[0].texts][-1] == "0.150"


def test_a_picture_names_the_quality_it_shows():
    assert plot_pareto(CANDIDATES, quality="matthews_correlation").axes[0].get_ylabel() == "Matthews correlation"


def test_sizes_whose_layers_differ_are_points_of_their_own():
    irregular = Candidate((LayerShape(0, 4, 48), LayerShape(2, 1, 7)), 0.9, flops=10)
    figure = plot_pareto([*CANDIDATES, irregular])
    assert "layers differ" in figure.axes[0].get_legend_handles_labels()[1]


@pytest.mark.parametrize(("metric", "cell"), [("accuracy", "0.850"), ("flops", "1.00 G"), ("latency_ms", "3")])
def test_a_grid_picture_shows_each_value(metric, cell):
    axes = plot_grid(CANDIDATES, metric=metric).axes[0]
    assert len(axes.texts) == 4
    assert axes.texts[-1].get_text() == cell


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="metric='speed' is unknown"):
        plot_grid(CANDIDATES, metric="speed")


def test_a_cost_that_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="memory_mb"):
        plot_pareto(CANDIDATES, cost="memory_mb")


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "dynabert_hf\[plots\]"'):
        plot_grid(CANDIDATES)
