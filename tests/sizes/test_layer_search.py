"""The search over layer shapes: its divergence, its moves, what it finds, and what it is refused."""

import random
import time
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.texts import make_text
from helpers.tiny import make_batch, make_model

from dynabert_hf import (
    DynaBertForSequenceClassification,
    Importance,
    LabelledText,
    LayerShape,
    SizeRecord,
    SubNetworkError,
    count_flops,
    count_parameters,
    recommend,
    search_layers,
)
from dynabert_hf.sizes import layer_search
from dynabert_hf.sizes.choosing import leading_metric
from dynabert_hf.sizes.layer_costs import LayerCosts, count_costs
from dynabert_hf.sizes.layer_search import SearchResult, divergence
from dynabert_hf.sizes.shapes import ShapeSpace
from dynabert_hf.task_metrics import scores_of_words

SETTING = {"sequence_length": 7, "progress": False}


@pytest.fixture(scope="module")
def model():
    return make_model(widths=[0.5, 1.0], depths=[0.5, 1.0])


@pytest.fixture(scope="module")
def importance():
    draw = torch.Generator().manual_seed(0)
    return Importance(torch.rand(6, 4, generator=draw), torch.rand(6, 48, generator=draw))


@pytest.fixture(scope="module")
def half(model):
    """A budget of half of the layers, and what the rest costs."""
    return count_flops(model, "w1-d0.5", sequence_length=7)


@pytest.fixture(scope="module")
def result(model, importance, half):
    return search_layers(model, make_text(model), importance, flops=[half, half / 3], evaluations=25, **SETTING)


def test_what_is_found_is_within_its_budget_and_measured(model, half, result):
    text = make_text(model)
    assert result.budgets == (half / 3, half)
    for record, budget in zip(result.found, result.budgets, strict=True):
        assert record.flops == count_flops(model, record.size, sequence_length=7) <= budget
        with model.subnetwork(record.size):
            assert record.metrics == text.evaluate(model)
    assert [one.name for one in result.grid] == ["w0.5-d0.5", "w0.5-d1", "w1-d0.5"]
    assert model.config.sizes is None


def test_the_found_shape_is_the_nearest_to_the_full_size_of_all_that_were_run(model, importance, half, monkeypatch):
    judged = {}

    class Judge(layer_search._Judge):
        def __call__(self, shape):
            judged[shape] = super().__call__(shape)
            return judged[shape]

    monkeypatch.setattr(layer_search, "_Judge", Judge)
    text = make_text(model)
    result = search_layers(model, text, importance, flops=half, evaluations=25, **SETTING)
    fitting = {shape: far for shape, far in judged.items() if count_flops(model, shape, sequence_length=7) <= half}
    best = result.found[0].size
    assert fitting[best] == min(fitting.values())
    assert len(fitting) >= 25
    with torch.no_grad():
        expected = torch.cat([model(**batch).logits for batch in text.batches])
        with model.subnetwork(best):
            logits = torch.cat([model(**batch).logits for batch in text.batches])
    by_hand = torch.nn.functional.kl_div(logits.log_softmax(-1), expected.softmax(-1), reduction="batchmean")
    assert result.divergences[result.found[0].name] == pytest.approx(float(by_hand), rel=1e-5)


def test_a_search_runs_every_shape_once_and_depends_on_the_seed_alone(model, importance, half, monkeypatch):
    ran, text = [], make_text(model)
    predict = layer_search._Judge._predict
    monkeypatch.setattr(layer_search._Judge, "_predict", lambda self, shape: ran.append(shape) or predict(self, shape))
    found = []
    for seed in (0, 0, 1):
        ran.clear()
        result = search_layers(model, text, importance, flops=half, evaluations=25, seed=seed, **SETTING)
        assert len(ran[1:]) == len(set(ran[1:])) == result.num_evaluated  # the first is the full size
        found.append((result.found[0].size, tuple(ran)))
    assert found[0] == found[1]
    assert found[0][1] != found[2][1]


def test_a_time_limit_ends_a_search_with_what_it_has(model, importance, half):
    result = search_layers(
        model, make_text(model), importance, flops=[half / 2, half], evaluations=10**6, time_limit_s=0, **SETTING
    )
    assert len(result.found) == 2
    assert result.num_evaluated < 10


@pytest.mark.parametrize(("max_rows", "rows"), [(512, 40), (40, 40), (39, 24), (20, 16), (8, 8), (1, 8)])
def test_shapes_are_compared_on_no_more_rows_than_asked_for(model, max_rows, rows):
    judge = layer_search._Judge(model, make_text(model), max_rows)  # five batches of eight
    assert len(judge.expected) == rows


def test_what_measures_the_table_takes_nothing_of_the_time_limit(model, importance, half, monkeypatch):
    late, count = [0.0], layer_search.count_costs

    def slow(*given, **told):
        late[0] += 1000
        return count(*given, **told)

    clock = SimpleNamespace(perf_counter=lambda: late[0] + time.perf_counter())
    monkeypatch.setattr(layer_search, "time", clock)
    monkeypatch.setattr(layer_search, "count_costs", slow)
    result = search_layers(model, make_text(model), importance, flops=half, evaluations=10, time_limit_s=900, **SETTING)
    assert result.num_evaluated >= 10
    assert result.seconds > 1000


def test_a_latency_budget_is_kept_by_the_table_and_measured(model, importance):
    result = search_layers(
        model, make_text(model), importance, latency_ms=1e6, evaluations=3, rounds=2, warmup=1, **SETTING
    )
    assert result.found[0].latency_ms > 0
    assert result.costs.of(model.config.resolve(result.found[0].size)) <= 1e6


@pytest.mark.parametrize(
    ("above", "spread", "place"),
    [
        (0.5, 0.6, 0),  # within the noise
        (0.5, 0.4, 1),  # the best by the table takes longer than it said
        (0.0, 0.0, 0),
    ],
)
def test_of_a_latency_budget_the_best_shape_is_taken_that_keeps_it_when_measured(
    model, importance, half, monkeypatch, above, spread, place
):
    result, ranked, budget = search_on_a_fake_machine(
        model, importance, half, monkeypatch, lambda rank: above if rank == 0 else -1.0, spread
    )
    assert model.config.resolve(result.found[0].size) == ranked[place]
    assert result.found[0].latency_ms == pytest.approx(budget + (above if place == 0 else -1.0))
    assert result.missed == {}


def test_where_none_of_the_best_keeps_a_latency_budget_the_quickest_is_named_with_what_it_misses(
    model, importance, half, monkeypatch
):
    times = [5.0, 3.0, 2.0, 4.0, 6.0, -1.0]  # the sixth is not measured
    result, ranked, budget = search_on_a_fake_machine(model, importance, half, monkeypatch, times.__getitem__, 0.5)
    assert model.config.resolve(result.found[0].size) == ranked[2]
    assert result.missed == {budget: pytest.approx(2.0)}


def search_on_a_fake_machine(model, importance, half, monkeypatch, above, spread):
    """A search whose table is that of FLOPs, and whose clock says how far above the budget the best shapes are.

    Returns what was found, the shapes from the best to the worst, and the budget in milliseconds.
    """
    budget, ran, ranked = half / 1e3, {}, []
    table = count_costs(model, "flops", sequence_length=7)

    def in_ms(costs):
        return {count: amount / 1e3 for count, amount in costs.items()}

    class Judge(layer_search._Judge):
        def __call__(self, shape):
            ran[shape] = super().__call__(shape)
            return ran[shape]

    def clock(model, sizes, **setting):
        ranked.extend(sorted(ran, key=ran.get))
        places = {shape: place for place, shape in enumerate(ranked)}
        ranks = [places.get(model.config.resolve(size), 99) for size in sizes]
        told = [budget + above(rank) if rank < 6 else 0.0 for rank in ranks]
        return [
            SizeRecord(size, {}, {"latency_ms": ms, "latency_spread_ms": spread})
            for size, ms in zip(sizes, told, strict=True)
        ]

    made = LayerCosts("latency_ms", table.rest / 1e3, in_ms(table.heads), in_ms(table.neurons))
    monkeypatch.setattr(layer_search, "measure_costs", lambda model, **setting: made)
    monkeypatch.setattr(layer_search, "measure_latency", clock)
    monkeypatch.setattr(layer_search, "_Judge", Judge)
    result = search_layers(model, make_text(model), importance, latency_ms=budget, evaluations=25, **SETTING)
    return result, ranked, budget


def test_what_was_found_is_stored_switched_to_extracted_and_recommended(importance, half, tmp_path):
    model = make_model(widths=[0.5, 1.0], depths=[0.5, 1.0])
    model.config.metrics = {"w1-d1": {"accuracy": 0.9}, "w0.5-d1": {"f1": 0.2}}
    text = make_text(model)
    result = search_layers(model, text, importance, flops=half, evaluations=10, **SETTING)
    result.store(model)
    found = result.found[0]
    model.save_pretrained(tmp_path)
    loaded = DynaBertForSequenceClassification.from_pretrained(tmp_path)
    assert found.size in loaded.config.subnetworks
    assert loaded.config.metrics[found.name] == found.metrics
    assert loaded.config.metrics["w1-d1"] == {"accuracy": 0.9}
    assert loaded.config.metrics["w0.5-d1"].keys() == {"f1", "accuracy"}
    loaded.set_active(found.name)
    assert text.evaluate(loaded) == found.metrics
    assert text.evaluate(loaded.extract(found.size)) == found.metrics
    assert recommend(result.found, flops=half).choice == found
    assert set(result.front()) <= {*result.found, *result.grid}


def test_a_trained_size_that_is_the_best_is_found_by_its_own_name_and_stored_once(importance):
    model = make_model(widths=[0.5, 1.0], depths=[0.5, 1.0])
    before = model.config.subnetworks
    result = search_layers(model, make_text(model), importance, flops=[1e12, 2e12], evaluations=5, **SETTING)
    assert [one.name for one in result.found] == ["w1-d1", "w1-d1"]
    assert result.found[0] == result.grid[-1]
    result.store(model)
    assert model.config.subnetworks == before


def test_what_was_found_is_stored_with_the_most_telling_metric_first(tmp_path):
    model = make_model(stock={"num_labels": 1, "num_hidden_layers": 2})
    text = make_text(model, labels=torch.rand(40, generator=torch.Generator().manual_seed(0)))
    record = SizeRecord("w0.5-d0.5", text.evaluate(model), {"flops": 1.0})
    assert list(record.metrics) == ["pearson", "mse"]
    nothing = LayerCosts("flops", 0.0, {}, {})
    SearchResult((record,), (), "flops", (1.0,), {}, nothing, 1, 0.0).store(model)
    model.save_pretrained(tmp_path)
    assert leading_metric(DynaBertForSequenceClassification.from_pretrained(tmp_path).config) == "pearson"


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
def test_divergence_is_that_of_torch(kind):
    draw = np.random.default_rng(0)
    expected, given = draw.normal(size=(2, 20, 3))
    ours, target = torch.tensor(given), torch.tensor(expected)
    if kind == "multi_label_classification":
        entropy = torch.nn.functional.binary_cross_entropy_with_logits
        by_hand = entropy(ours, target.sigmoid()) - entropy(target, target.sigmoid())
    else:
        by_hand = torch.nn.functional.kl_div(ours.log_softmax(-1), target.softmax(-1), reduction="batchmean")
    assert divergence(expected, given, kind=kind) == pytest.approx(float(by_hand))


def test_the_divergence_of_values_is_what_a_rising_line_leaves_of_their_variance():
    """So the same value for every row, which has the least squared error of shapes that know nothing, is the worst."""
    draw = np.random.default_rng(0)
    expected = draw.normal(3, 2, size=(20, 3))
    given = expected * [0.1, 5, -1] + draw.normal(size=(20, 3))  # the last one falls where it should rise
    shares = []
    for column in range(3):
        target, ours = expected[:, column], given[:, column]
        slope, start = np.polyfit(ours, target, 1)
        shares.append(np.mean((target - start - slope * ours) ** 2) / target.var() if slope > 0 else 1)
    assert divergence(expected, given, kind="regression") == pytest.approx(np.mean(shares))
    assert divergence(expected, 0.01 * expected + 7, kind="regression") == pytest.approx(0, abs=1e-12)
    assert divergence(expected, np.full_like(expected, 3), kind="regression") == 1


def test_padding_does_not_diverge():
    draw = np.random.default_rng(0)
    expected, given = draw.normal(size=(2, 4, 5, 3))
    padded = [np.concatenate([each, np.full((4, 2, 3), -100.0)], axis=1) for each in (expected, given)]
    assert divergence(*padded) == pytest.approx(divergence(expected, given))


@pytest.mark.parametrize("head", ["ForTokenClassification", "ForQuestionAnswering"])
def test_shapes_are_compared_by_what_counts_whatever_the_padding(head):
    kinds = {"ForTokenClassification": 3, "ForQuestionAnswering": 2}
    model = make_model(head=head, stock={"num_labels": kinds[head]})
    rows, lengths = make_batch(4, 12)["input_ids"], (12, 9, 7, 5)
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, rows.shape, generator=draw).masked_fill(
        torch.rand(rows.shape, generator=draw) < 0.4, -100
    )
    far, shape = [], model.config.resolve("w0.5-d0.5")
    for batches in ([[0, 1, 2, 3]], [[0], [1], [2], [3]]):
        made = []
        for own in batches:
            mask = torch.stack([torch.arange(lengths[own[0]]) < lengths[row] for row in own]).long()
            made.append({"input_ids": rows[own, : mask.shape[1]], "attention_mask": mask})
        shown = torch.stack(
            [each.masked_fill(torch.arange(12) >= n, -100) for each, n in zip(labels, lengths, strict=True)]
        )
        told = {"labels": shown.numpy()}
        if head == "ForQuestionAnswering":
            told = {"labels": (np.zeros(4, int), np.ones(4, int)), "outputs": ("start_logits", "end_logits")}
        far.append(layer_search._Judge(model, LabelledText(tuple(made), metrics=None, **told), 512)(shape))

    def logits_of(row):
        with torch.no_grad():
            out = model(rows[row : row + 1, : lengths[row]])
        return (
            [out.logits[0][shown[row, : lengths[row]] != -100]]
            if "logits" in out
            else [out.start_logits, out.end_logits]
        )

    expected = [each for row in range(4) for each in logits_of(row)]
    with model.subnetwork("w0.5-d0.5"):
        ours = [each for row in range(4) for each in logits_of(row)]
    diverge = [
        torch.nn.functional.kl_div(a.log_softmax(-1), b.softmax(-1), reduction="none").sum(-1)
        for a, b in zip(ours, expected, strict=True)
    ]
    assert far == pytest.approx([float(torch.cat(diverge).mean())] * 2, rel=1e-4)


def space_of(model, importance, **floors):
    return ShapeSpace.of(model.config, importance, **{"min_heads": 1, "min_neurons": 1, "neuron_step": None, **floors})


@pytest.mark.parametrize(("bend", "own"), [(1.0, 0.0), (0.5, 0.0), (1.0, 0.1)])
def test_the_worthiest_shape_is_the_best_of_all(importance, bend, own):
    """Three layers, two numbers of heads and of neurons, or no layer: 125 shapes, all of them tried.

    A layer may cost more than others of its shape.
    """
    model = make_model(stock={"num_hidden_layers": 3})
    of_layers = torch.tensor([[1.0], [0.2], [0.04]])
    small = Importance(importance.heads[:3] * of_layers, importance.neurons[:3] * of_layers)
    space = space_of(model, small, min_heads=3, min_neurons=24, neuron_step=24)
    costs = count_costs(model, "flops", sequence_length=7)
    costs = replace(costs, own={1: own * count_flops(model, "w1-d1", sequence_length=7)})
    layers = [
        [None, *(LayerShape(layer, heads, neurons) for heads in (3, 4) for neurons in (24, 48))] for layer in range(3)
    ]
    shapes = [tuple(each for each in shape if each) for shape in product(*layers)]

    def worth(shape):
        of_heads = (small.heads[each.index, : each.heads].sum() / small.heads.sum() for each in shape)
        of_neurons = (small.neurons[each.index, : each.neurons].sum() / small.neurons.sum() for each in shape)
        return sum(float(share) ** bend for share in (*of_heads, *of_neurons))

    for share in (0.3, 0.5, 0.7, 0.8, 1.0):
        budget = count_flops(model, "w1-d1", sequence_length=7) * share
        best = space.best(costs, budget, range(3), bend=bend, all_kept=False)
        within = [shape for shape in shapes if shape and costs.of(shape) <= budget]
        assert worth(best) == pytest.approx(max(map(worth, within)), abs=1e-6)
        forced = space.best(costs, budget, range(3), bend=bend, all_kept=True)
        whole = [worth(shape) for shape in within if len(shape) == 3]
        assert (forced is None) == (not whole)
        assert forced is None or worth(forced) == pytest.approx(max(whole), abs=1e-6)


def test_starts_and_changes_stay_within_budget_and_floors(model, importance):
    space = space_of(model, importance, min_heads=2, min_neurons=20)
    costs, draw = count_costs(model, "flops", sequence_length=7), random.Random(0)
    budget = costs.of(model.config.resolve("w0.5-d1"))
    starts = list(space.starts(costs, budget))
    assert len(starts) > 5
    shape, seen = starts[0], set()
    for _ in range(300):
        shape = space.changed(shape, costs, budget, draw)
        seen.add(shape)
    assert len(seen) > 60
    for each in {*starts, *seen}:
        assert costs.of(each) <= budget
        assert all(layer.heads >= 2 and layer.neurons >= 20 for layer in each)
        model.config.resolve(each)
    assert {len(each) for each in seen} >= {3, 4, 5, 6}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"No budgets were given. Possible is one of flops=, parameters=, latency_ms=; give"),
        ({"flops": 1e6, "parameters": 1e6}, "flops=, parameters= were given. Possible is one of"),
        ({"flops": -1}, r"flops=-1 is not a budget. Give finite numbers above 0"),
        ({"flops": []}, r"flops=\[\] is not a budget"),
        ({"flops": "many"}, r"flops='many' is not a budget"),
        ({"flops": 1e6, "evaluations": 0}, r"evaluations=0 is not possible. Give a whole number of at least 1"),
        ({"flops": 1e6, "min_heads": 5}, r"min_heads=5 is not possible. Give a whole number from 1 to 4"),
        ({"flops": 1e6, "neuron_step": 49}, r"neuron_step=49 is not possible. Give a whole number from 1 to 48"),
    ],
)
def test_an_impossible_search_is_refused(model, importance, given, message):
    with pytest.raises(ValueError, match=message):
        search_layers(model, make_text(model), importance, **SETTING, **given)


def test_rows_that_are_no_labelled_text_are_refused(model, importance):
    rows = [{"text": "a film", "label": 1}]
    with pytest.raises(
        TypeError, match=r"The text is a list\. Possible is a LabelledText; .* in memory dataset\.to_parqu"
    ):
        search_layers(model, rows, importance, **SETTING, flops=1e6)


def test_words_under_masks_of_which_only_some_scores_are_kept_are_refused(importance):
    words = make_model(head="ForMaskedLM")
    batch = make_batch()
    text = LabelledText((batch,), batch["input_ids"].numpy(), None, preprocess_logits=scores_of_words)
    with pytest.raises(ValueError, match=r"A search compares all logits, and this text keeps only a part .* Possible"):
        search_layers(words, text, importance, flops=1e6, **SETTING)


def test_a_budget_that_nothing_fits_is_refused_with_the_nearest_and_by_how_much(model, importance):
    least = count_parameters(model, [LayerShape(0, 1, 12)]).total
    message = rf"parameters=1000 is out of reach: the smallest shape, l0h1n12, costs .*, {(least - 1000) / 1e3:.3g} k"
    with pytest.raises(ValueError, match=message):
        search_layers(model, make_text(model), lambda: pytest.fail("measured"), parameters=1000, **SETTING)


def test_importance_may_be_measured_when_it_is_known_to_be_needed_and_a_budget_counts_once(model, importance, half):
    told = {"evaluations": 5, **SETTING}
    once = search_layers(model, make_text(model), importance, flops=half, **told)
    again = search_layers(model, make_text(model), lambda: importance, flops=[half, half], **told)
    assert (again.found, again.budgets) == (once.found, (half,))


def test_another_network_is_refused(model, importance):
    with pytest.raises(ValueError, match=r"The importance has shapes \[\(3, 4\), \(6, 48\)\], this model needs"):
        search_layers(
            model, make_text(model), Importance(importance.heads[:3], importance.neurons), flops=1e6, **SETTING
        )
    with pytest.raises(SubNetworkError, match=r"cut by extraction\. Shapes are searched for in a whole network"):
        search_layers(model.extract(width=0.5), make_text(model), importance, flops=1e6, **SETTING)
