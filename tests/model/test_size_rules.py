"""What holds of the rules of sizes for every network and every size, found by trying to break it."""

import pytest

from dynabert_hf import LayerShape, SubNetwork, SubNetworkError, grid
from dynabert_hf.model.subnetwork import parse_size, size_name

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

multipliers = st.floats(0, 1, exclude_min=True) | st.sampled_from([0.25, 1 / 3, 0.5, 2 / 3, 0.75, 1.0])
networks = st.fixed_dictionaries(
    {"num_layers": st.integers(1, 48), "num_heads": st.integers(1, 64), "num_neurons": st.integers(1, 8192)}
)
try_to_break = hypothesis.settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # of a busy machine
)


def layers(subnetwork, network):
    """The layers of a size; a size that leaves nothing is none."""
    try:
        return subnetwork.layers(**network)
    except SubNetworkError:
        hypothesis.reject()


@try_to_break
@hypothesis.given(multipliers, multipliers)
def test_the_text_of_a_size_is_that_size(width, depth):
    subnetwork = SubNetwork(width, depth)
    assert parse_size(size_name(subnetwork)) == subnetwork


@try_to_break
@hypothesis.given(st.lists(st.builds(LayerShape, *[st.integers(0, 99), *[st.integers(1, 9999)] * 2]), min_size=1))
def test_the_text_of_layers_is_those_layers(shapes):
    assert parse_size(size_name(shapes)) == tuple(shapes)


@try_to_break
@hypothesis.given(networks)
def test_the_full_size_is_the_network(network):
    full = [LayerShape(i, network["num_heads"], network["num_neurons"]) for i in range(network["num_layers"])]
    assert list(SubNetwork().layers(**network)) == full


@try_to_break
@hypothesis.given(networks, multipliers, multipliers)
def test_a_size_is_a_part_of_the_network_that_begins_where_it_begins(network, width, depth):
    kept = layers(SubNetwork(width, depth), network)
    full = SubNetwork().layers(**network)
    indices = [shape.index for shape in kept]
    assert indices[0] == 0
    assert indices == sorted(set(indices))
    assert len(kept) == round(depth * network["num_layers"])
    assert all(shape.fits_in(full[shape.index]) for shape in kept)


@try_to_break
@hypothesis.given(networks, multipliers, multipliers, multipliers)
def test_a_narrower_size_is_a_part_of_a_wider_one(network, one, other, depth):
    narrow, wide = (layers(SubNetwork(width, depth), network) for width in sorted((one, other)))
    assert all(small.fits_in(large) for small, large in zip(narrow, wide, strict=True))


@try_to_break
@hypothesis.given(st.lists(multipliers, min_size=1, max_size=6), st.lists(multipliers, min_size=1, max_size=6))
def test_a_grid_has_every_pair_once_from_small_to_large(widths, depths):
    sizes = [(size.width, size.depth) for size in grid(widths, depths)]
    assert sizes == sorted({(width, depth) for width in widths for depth in depths})
