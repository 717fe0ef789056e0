"""What layers cost: counted ones exact, measured ones interpolated between the shapes that were run."""

import random
from functools import partial

import pytest
from helpers.backbones import make_backbone
from helpers.tiny import make_model
from helpers.toy import make_toy

from dynabert_hf import LayerShape, SizeRecord, SubNetworkError, count_flops, count_parameters
from dynabert_hf.sizes import layer_costs
from dynabert_hf.sizes.layer_costs import LayerCosts, count_costs, measure_costs


def random_shape(config, draw):
    kept = sorted(draw.sample(range(config.num_hidden_layers), draw.randint(1, config.num_hidden_layers)))
    heads, neurons = config.num_attention_heads, config.intermediate_size
    return [LayerShape(layer, draw.randint(1, heads), draw.randint(1, neurons)) for layer in kept]


def make_short():
    return make_model(stock={"num_hidden_layers": 2})


def make_modern():
    return make_backbone("ModernBert")  # whose first layer has no norm before its attention


@pytest.mark.parametrize("make", [make_model, make_toy, make_short, make_modern])
def test_counted_costs_are_those_of_every_shape(make):
    model, draw = make(), random.Random(0)
    costs = {
        "flops": count_costs(model, "flops", batch_size=2, sequence_length=9),
        "parameters": count_costs(model, "parameters"),
    }
    for _ in range(8):
        shape = random_shape(model.config, draw)
        assert costs["flops"].of(shape) == pytest.approx(count_flops(model, shape, batch_size=2, sequence_length=9))
        assert costs["parameters"].of(shape) == pytest.approx(count_parameters(model, shape).total, rel=1e-9)


def test_a_cost_that_shapes_do_not_decide_is_refused():
    with pytest.raises(ValueError, match="cost='latency_ms' is not counted"):
        count_costs(make_short(), "latency_ms")


@pytest.mark.parametrize("table", [partial(count_costs, cost="flops"), measure_costs])
def test_layers_that_one_table_cannot_describe_are_refused(table):
    unequal = make_model().extract([LayerShape(0, 1, 16), LayerShape(1, 4, 48)])
    with pytest.raises(SubNetworkError, match="count_flops, count_parameters and measure_latency"):
        table(unequal)
    equal = make_model().extract([LayerShape(0, 2, 16), LayerShape(1, 2, 16)])
    assert count_costs(equal, "flops").of(equal.config.stored_layers) == count_flops(equal)


def test_between_the_entries_of_a_table_costs_lie_on_straight_lines():
    costs = LayerCosts("latency_ms", 5.0, {1: 2.0, 3: 4.0, 4: 10.0}, {10: 0.0, 30: 1.0})
    assert costs.of_layer(1, 10) == 2.0
    assert costs.of_layer(2, 20) == 3.0 + 0.5
    assert costs.of_layer(4, 30) == 11.0
    assert costs.of([LayerShape(0, 2, 20), LayerShape(5, 3, 30)]) == 5.0 + 3.5 + 5.0


def test_measured_costs_are_those_of_the_shapes_that_were_run(monkeypatch):
    """A machine on which attention and neurons cost by steps, and the rest 3 ms."""

    def attention(heads):
        return 1.0 + 0.5 * (heads > 1) + 0.5 * (heads > 2)

    def told(model, sizes, **setting):
        assert setting == {"sequence_length": 8}
        sums = [3 + sum(attention(each.heads) + each.neurons**0.5 for each in size) for size in sizes]
        return [SizeRecord(size, {}, {"latency_ms": ms}) for size, ms in zip(sizes, sums, strict=True)]

    monkeypatch.setattr(layer_costs, "measure_latency", told)
    costs = measure_costs(make_model(), sequence_length=8)
    assert costs.rest == pytest.approx(3)
    assert list(costs.heads) == [1, 2, 3, 4]
    assert list(costs.neurons) == [1, 13, 24, 36, 48]
    for heads in costs.heads:
        for neurons in costs.neurons:
            assert costs.of_layer(heads, neurons) == pytest.approx(attention(heads) + neurons**0.5)


def test_a_measured_table_never_falls_and_a_real_machine_fills_it():
    costs = measure_costs(make_model(), sequence_length=8, rounds=2, warmup=1)
    assert costs.rest >= 0
    for table in (costs.heads, costs.neurons):
        values = [table[count] for count in sorted(table)]
        assert values == sorted(values)
