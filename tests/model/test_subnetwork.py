"""The vocabulary and its rules, without a model."""

import math
from fractions import Fraction

import numpy
import pytest

from dynabert_hf import LayerShape, SubNetwork, SubNetworkError, grid

BERT_BASE = {"num_layers": 12, "num_heads": 12, "num_neurons": 3072}


@pytest.mark.parametrize("value", [0, -0.5, 1.01, math.nan, math.inf, "0.5", True, None])
@pytest.mark.parametrize("name", ["width", "depth"])
def test_a_multiplier_outside_zero_to_one_is_refused(name, value):
    with pytest.raises(SubNetworkError, match=rf"{name}=.* is not a multiplier\. Possible is .*\(0, 1\].* give"):
        SubNetwork(**{name: value})


@pytest.mark.parametrize("subnetwork", [*grid([0.25, 0.5, 1], [0.5, 0.75, 1]), SubNetwork(1 / 3, 2 / 7)])
def test_the_text_form_reads_back_as_the_same_value(subnetwork):
    assert SubNetwork.parse(str(subnetwork)) == subnetwork


def test_any_real_number_is_a_multiplier():
    assert SubNetwork(numpy.float32(0.5), Fraction(3, 4)) == SubNetwork(0.5, 0.75)


def test_the_text_form_is_short():
    assert str(SubNetwork(0.5, 0.75)) == "w0.5-d0.75"
    assert str(SubNetwork(1, 1)) == "w1-d1"


@pytest.mark.parametrize("text", ["", "0.5-0.75", "w0.5", "w0.5-d", "w0.5-d0.75 ", "wx-d1", "w1.2.3-d1", None])
def test_text_of_another_form_is_refused(text):
    with pytest.raises(SubNetworkError, match=r"does not name a sub-network.*w0\.5-d0\.75"):
        SubNetwork.parse(text)


def test_text_with_an_impossible_multiplier_is_refused_as_such():
    with pytest.raises(SubNetworkError, match=r"width=2\.0 is not a multiplier"):
        SubNetwork.parse("w2-d1")


def test_a_grid_is_ordered_from_small_to_large_and_names_each_size_once():
    assert [str(size) for size in grid([1, 0.5, 0.5], [1, 0.5])] == ["w0.5-d0.5", "w0.5-d1", "w1-d0.5", "w1-d1"]


@pytest.mark.parametrize(
    ("depth", "kept"),
    [
        (0.5, [0, 2, 4, 6, 8, 10]),
        (0.75, [0, 1, 2, 4, 5, 6, 8, 9, 10]),
        (1.0, list(range(12))),
        (1 / 3, [0, 3, 6, 9]),
    ],
)
def test_kept_layer_i_is_i_over_depth(depth, kept):
    assert [layer.index for layer in SubNetwork(depth=depth).layers(**BERT_BASE)] == kept


@pytest.mark.parametrize(
    ("width", "heads", "neurons"),
    [(0.25, 3, 768), (0.5, 6, 1536), (0.3, 4, 1024), (0.05, 1, 256), (0.125, 2, 512), (1.0, 12, 3072)],
)
def test_heads_are_rounded_and_neurons_follow_the_heads(width, heads, neurons):
    layer = SubNetwork(width=width).layers(**BERT_BASE)[0]
    assert (layer.heads, layer.neurons) == (heads, neurons)


def test_the_number_of_layers_is_rounded_as_python_rounds():
    assert len(SubNetwork(depth=0.75).layers(num_layers=6, num_heads=1, num_neurons=4)) == 4  # round(4.5)


def test_kept_layers_override_the_rule():
    layers = SubNetwork(depth=0.5).layers(**BERT_BASE, kept_layers=[1, 3, 5, 7, 9, 11])
    assert [layer.index for layer in layers] == [1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"width": 0.01}, r"no attention head of 12 with keys of its own\. The smallest possible width is 0\.041"),
        ({"depth": 0.01}, r"leaves no layer of 12\. .* depth"),
    ],
)
def test_a_size_that_leaves_nothing_is_refused(size, message):
    with pytest.raises(SubNetworkError, match=message):
        SubNetwork(**size).layers(**BERT_BASE)


def test_a_width_that_leaves_no_neuron_is_refused():
    with pytest.raises(SubNetworkError, match="leaves none of 2 neurons"):
        SubNetwork(width=0.25).layers(num_layers=1, num_heads=4, num_neurons=2)


@pytest.mark.parametrize("shape", [(-1, 1, 1), (0, 0, 1), (0, 1, 0), (0, 1.5, 1), (0, True, 1)])
def test_an_impossible_layer_shape_is_refused(shape):
    with pytest.raises(SubNetworkError, match=r"is not possible\. Give an integer from"):
        LayerShape(*shape)
