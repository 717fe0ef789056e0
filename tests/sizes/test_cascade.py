"""A small size asked first and a larger one about the rest: every answer against a plain loop."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers.texts import make_text
from helpers.tiny import make_batch, make_model

from dynabert_hf import (
    Cascade,
    CascadeRecord,
    DynaBertForSequenceClassification,
    LabelledText,
    LatencyController,
    LayerShape,
    ServingTarget,
    SizeRecord,
    SubNetwork,
    SubNetworkError,
    calibrate,
    count_flops,
    count_parameters,
    export_onnx,
    measure_cascade,
    recommend,
)
from dynabert_hf.sizes.calibration import fit_temperature
from dynabert_hf.sizes.layer_search import divergence
from dynabert_hf.sizes.serving import ServedRequest, SizeChooser, p95_of_shares
from dynabert_hf.tasks import task_of

SMALL, LARGE = "w0.25-d0.5", "w0.75-d1"


@pytest.fixture(scope="module")
def model():
    """A model whose small size is surer of some rows than of others."""
    model = make_model()
    with torch.no_grad():
        model.classifier.weight.mul_(3)
    return model


def by_hand(model, batch, threshold, temperatures=(1.0, 1.0), sizes=(SMALL, LARGE)):
    """Logits, confidences and who answered, one row a time."""
    rows = []
    for row in range(len(batch["input_ids"])):
        one = {name: value[row : row + 1] for name, value in batch.items()}
        for size, temperature in zip(sizes, temperatures, strict=True):
            with torch.no_grad(), model.subnetwork(size):
                logits = model(**one).logits[0]
            sure = float((logits / temperature).softmax(-1).max())
            if sure > threshold:
                break
        rows.append((logits, sure, size == sizes[1]))
    logits, sure, again = zip(*rows, strict=True)
    return torch.stack(logits), torch.tensor(sure), torch.tensor(again)


@pytest.mark.parametrize("threshold", [0, 0.5, 0.6, 0.8, 1])
@pytest.mark.parametrize("temperatures", [(1.0, 1.0), (0.5, 2.0)])
def test_a_cascade_answers_as_a_plain_loop_does_in_the_order_of_the_rows(model, threshold, temperatures):
    batch = make_batch(24, 7)
    logits, sure, again = by_hand(model, batch, threshold, temperatures)
    answer = Cascade(model, SMALL, LARGE, threshold=threshold, temperatures=temperatures)(**batch)
    assert answer.asked_again.tolist() == again.tolist()
    assert {0: 0, 1: 24}.get(threshold, int(again.sum())) == int(again.sum())
    torch.testing.assert_close(answer.logits, logits, rtol=1e-5, atol=1e-5)  # a batch sums in another order
    torch.testing.assert_close(answer.confidences, sure, rtol=1e-5, atol=1e-5)


def test_some_rows_are_asked_again_and_only_they_run_at_the_larger_size(model):
    batch, cascade = make_batch(24, 7), Cascade(model, SMALL, LARGE, threshold=0.6)
    small, large = cascade._runners
    seen = []
    cascade._runners = [small, lambda rows: seen.append(rows) or large(rows)]
    again = cascade(**batch).asked_again
    assert 0 < again.sum() < 24
    assert torch.equal(seen[0]["input_ids"], batch["input_ids"][again])
    cascade.threshold = 0
    cascade(**batch)
    assert len(seen) == 1


def test_an_answer_that_is_as_sure_as_the_threshold_is_asked_again(model):
    batch = make_batch(8, 7)
    sure = Cascade(model, SMALL, LARGE, threshold=0)(**batch).confidences
    tied = float(sure.median())
    again = Cascade(model, SMALL, LARGE, threshold=tied)(**batch).asked_again
    assert again.tolist() == [value <= tied for value in sure.tolist()]
    assert again[sure == tied].all()


def test_several_labels_a_text_are_as_sure_as_the_least_sure_of_them():
    model = make_model(stock={"problem_type": "multi_label_classification"})
    batch = make_batch(8, 7)
    answer = Cascade(model, SMALL, LARGE, threshold=0, temperatures=(2.0, 1.0))(**batch)
    yes = (answer.logits / 2).sigmoid()
    assert torch.allclose(answer.confidences, torch.maximum(yes, 1 - yes).min(-1).values)


def test_labels_are_passed_over_and_the_model_stays_as_it_is(model):
    model.set_active(width=0.5, depth=0.5).train()
    cascade = Cascade(model, SMALL, LARGE, threshold=0.6)
    batch = make_batch(8, 7)
    assert torch.equal(cascade(**batch, labels=torch.zeros(8)).logits, cascade(**batch).logits)
    assert (model.active, model.training) == (SubNetwork(0.5, 0.5), True)
    assert cascade._runners[0](batch).shape == (8, 3)
    model.set_active("w1-d1").eval()


def test_a_cascade_goes_where_its_model_goes():
    model = make_model()
    cascade = Cascade(model, SMALL, LARGE, threshold=0.5)
    assert cascade.device == torch.device("cpu")
    model.to("meta")
    assert cascade.device == torch.device("meta")


def test_any_number_of_threads_may_ask_at_once(model):
    cascade = Cascade(model, SMALL, LARGE, threshold=0.6)
    batches = [make_batch(8, 7, seed=seed) for seed in range(6)]
    expected = [cascade(**batch).logits for batch in batches]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(5):
            answers = pool.map(lambda batch: cascade(**batch).logits, batches)
            assert all(torch.equal(mine, alone) for mine, alone in zip(answers, expected, strict=True))


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
def test_the_temperature_makes_the_labels_likeliest(kind):
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(400, 3)) * 4
    is_single = kind == "single_label_classification"
    labels = (logits + draw.gumbel(size=logits.shape) * 3).argmax(1) if is_single else draw.random(logits.shape) < 0.5

    def loss(temperature):
        scaled = torch.tensor(logits / temperature)
        if is_single:
            return float(torch.nn.functional.cross_entropy(scaled, torch.tensor(labels)))
        return float(torch.nn.functional.binary_cross_entropy_with_logits(scaled, torch.tensor(labels).double()))

    found = fit_temperature(logits, labels, kind=kind)
    tried = np.geomspace(1 / 20, 20, 2001)
    best = tried[np.argmin([loss(each) for each in tried])]
    assert found == pytest.approx(best, rel=0.004)  # half a step of what was tried
    assert loss(found) <= loss(best) + 1e-9


def test_choices_that_a_row_does_not_have_weigh_nothing_at_any_temperature():
    """Rows of two choices among rows of four: temperatures, records and divergences are those of a loop over rows."""
    model = make_model(head="ForMultipleChoice")
    batches = [make_batch(9, 7, choices=4), make_batch(9, 7, choices=2, seed=1)]
    draw = np.random.default_rng(0)  # a model that knows nothing is best calibrated at the flattest temperature
    labels = np.concatenate([draw.integers(0, 4, 9), draw.integers(0, 2, 9)])
    text = LabelledText(tuple(batches), labels, task_of(model).metrics(model))
    with torch.no_grad():
        model.classifier.weight.mul_(100)
        rows = {
            size: [row for batch in batches for row in model.share(size)(**batch).logits.double()]
            for size in (SMALL, LARGE, "w1-d1")
        }

    def loss(size, temperature):
        told = [(row / temperature).log_softmax(-1)[label] for row, label in zip(rows[size], labels, strict=True)]
        return -float(torch.stack(told).mean())

    tried = np.geomspace(1 / 20, 20, 801)
    fitted = calibrate(model, text, [SMALL, LARGE])
    assert fitted[SMALL] > 10
    for size, found in fitted.items():
        assert loss(size, found) <= min(loss(size, each) for each in tried) + 1e-9
    sure = [float((row / fitted[SMALL]).softmax(-1).max()) for row in rows[SMALL]]
    for record in measure_cascade(model, SMALL, LARGE, text, num_thresholds=6)[1:-1]:
        again = [each <= record.threshold + 1e-6 for each in sure]
        assert record.share == pytest.approx(np.mean(again))
    expected, given = (text.predict(model.share(size)) for size in ("w1-d1", SMALL))
    pairs = [(ours.log_softmax(-1), own.log_softmax(-1)) for ours, own in zip(rows["w1-d1"], rows[SMALL], strict=True)]
    told = [float((full.exp() * (full - small)).sum()) for full, small in pairs]
    assert divergence(expected, given) == pytest.approx(np.mean(told), rel=1e-4)  # logits are of single precision


def test_calibrated_temperatures_travel_with_the_checkpoint(model, tmp_path):
    text = make_text(model)
    fitted = calibrate(model, text, [SMALL, LARGE])
    assert model.config.temperatures == fitted
    with torch.no_grad(), model.subnetwork(SMALL):
        logits = torch.cat([model(**batch).logits for batch in text.batches]).numpy()
    assert fitted[SMALL] == fit_temperature(logits, text.labels, kind="single_label_classification")
    model.save_pretrained(tmp_path)
    loaded = DynaBertForSequenceClassification.from_pretrained(tmp_path)
    assert Cascade(loaded, SMALL, LARGE, threshold=0.5).temperatures == (fitted[SMALL], fitted[LARGE])
    model.config.temperatures = None


def test_a_configuration_that_asks_for_tuples_changes_no_answer():
    answers = []
    for is_named in (True, False):
        model = make_model(stock={"return_dict": is_named})
        assert isinstance(model(**make_batch()), tuple) is not is_named
        fitted = calibrate(model, make_text(model), [SMALL, LARGE])
        answers.append((fitted, Cascade(model, SMALL, LARGE, threshold=0.5)(**make_batch(8, 7))))
    (named, expected), (of_tuples, answer) = answers
    assert of_tuples == named
    assert torch.equal(answer.logits, expected.logits)


def test_what_a_threshold_costs_and_achieves_is_that_of_a_loop(model):
    text = make_text(model)
    costs = [
        SizeRecord(SMALL, {}, {"latency_ms": 2.0, "flops": 10.0}),
        SizeRecord(LARGE, {}, {"latency_ms": 7.0, "flops": 50.0}),
    ]
    records = measure_cascade(model, SMALL, LARGE, text, costs=costs, num_thresholds=8)
    assert (records[0].threshold, records[-1].threshold) == (0, 1)
    assert (records[0].share, records[-1].share) == (0, 1)
    assert model.config.temperatures is None
    for record in records:
        cascade = Cascade.of(model, record)
        answers = [cascade(**batch) for batch in text.batches]
        right = torch.cat([answer.logits.argmax(-1) for answer in answers]).numpy() == text.labels
        share = float(torch.cat([answer.asked_again for answer in answers]).double().mean())
        assert record.metrics == {"accuracy": pytest.approx(right.mean())}
        assert record.share == pytest.approx(share)
        assert record.latencies_ms == (2.0, 7.0)
        assert record.costs["latency_ms"] == pytest.approx(2 + 7 * share)
        assert record.costs["flops"] == pytest.approx(10 + 50 * share)
        assert record.costs["parameters"] == count_parameters(model, LARGE).total  # the small one is part of it
    assert 6 <= len(records) <= 8
    assert [record.share for record in records].count(1) == 1  # the larger size alone answers at one threshold


def test_parameters_of_a_cascade_are_all_that_either_size_has(model):
    records = measure_cascade(model, "l1h4n12-l3h1n7", "l1h2n48-l2h4n48", make_text(model), num_thresholds=3)
    both = [LayerShape(1, 4, 48), LayerShape(2, 4, 48), LayerShape(3, 1, 7)]
    assert {record.costs["parameters"] for record in records} == {count_parameters(model, both).total}


def test_a_threshold_is_chosen_as_a_size_is(model):
    text = make_text(model)
    records = measure_cascade(model, SMALL, LARGE, text)
    flops = [count_flops(model, size) for size in (SMALL, LARGE)]
    answer = recommend(records, flops=flops[0] + 0.5 * flops[1])
    choice, fitting = answer.choice, [one for one in records if one.share <= 0.5]
    assert f"is the most accurate of {len(fitting)} thresholds with" in answer.reason
    assert isinstance(choice, CascadeRecord)
    assert choice.share <= 0.5
    assert choice.metrics["accuracy"] == max(one.metrics["accuracy"] for one in fitting)
    nothing = recommend(records, flops=flops[0] / 2)
    assert nothing.choice is None
    assert nothing.missed_by == {"flops": flops[0] / 2}
    assert nothing.reason.startswith(f"None of {len(records)} thresholds has ")
    sized = SizeRecord(SMALL, records[0].metrics, {"flops": flops[0]})
    both = [sized, CascadeRecord(LARGE, records[0].metrics, {"flops": flops[1]}, small=SMALL)]
    assert "of 2 choices with" in recommend(both, flops=flops[1]).reason


def test_onnx_runtime_answers_as_torch_does(tmp_path, traced_once):
    pytest.importorskip("onnxruntime")
    model, sizes = make_model(stock={"num_hidden_layers": 2}), ("w0.5-d0.5", "w1-d1")
    export_onnx(model, tmp_path / "onnx", sizes=sizes)
    batch = make_batch(24, 7)
    some = float(Cascade(model, *sizes, threshold=0)(**batch).confidences.quantile(0.5))
    for threshold in (0, some, 1):
        expected = Cascade(model, *sizes, threshold=threshold)(**batch)
        cascade = Cascade(tmp_path / "onnx", *sizes, threshold=threshold)
        answer = cascade(**{name: tensor.numpy() for name, tensor in batch.items()})
        assert torch.equal(answer.asked_again, expected.asked_again)
        torch.testing.assert_close(answer.logits, expected.logits, rtol=1e-4, atol=1e-4)  # the tolerance of an export
    with pytest.raises(ValueError, match=r"size='w0.75-d1' is not in .* Give one of \['w0.5-d0.5', 'w1-d1'\]"):
        Cascade(tmp_path / "onnx", sizes[0], LARGE, threshold=0.5)


# A controller that has a cascade to choose, too.

COSTS = {"w0.25-d0.5": (0.80, 2.0), "w0.75-d1": (0.87, 7.0), "w1-d1": (0.88, 10.0)}
TABLE = [SizeRecord(size, {"accuracy": acc}, {"latency_ms": ms}) for size, (acc, ms) in COSTS.items()]


def make_record(share, accuracy=0.86):
    costs = {"latency_ms": 2 + 7 * share}
    return CascadeRecord(
        LARGE, {"accuracy": accuracy}, costs, small=SMALL, threshold=0.6, share=share, latencies_ms=(2.0, 7.0)
    )


@pytest.mark.parametrize(("share", "expected"), [(0.0, 2.0), (0.05, 2.0), (0.06, 9.0), (0.3, 9.0), (1.0, 9.0)])
def test_the_p95_of_a_cascade_is_that_of_both_sizes_as_soon_as_one_in_twenty_is_asked_again(share, expected):
    chooser = SizeChooser([*TABLE, make_record(share)], ServingTarget(p95_ms=30))
    assert chooser.expected_p95_ms(make_record(share), 0.0) == expected
    for _ in range(40):
        chooser.observe(ServedRequest(0.0, 1.0, 2 * TABLE[-1].latency_ms, TABLE[-1]))
    assert chooser.expected_p95_ms(make_record(share), 0.0) == 1.0 + 2 * expected


def test_a_request_that_was_asked_again_is_as_slow_as_both_sizes_say():
    record = make_record(0.3)
    assert ServedRequest(0.0, 0.0, 4.0, record).slowness == 2
    assert ServedRequest(0.0, 0.0, 18.0, record, True).slowness == 2


def test_shares_weigh_in_a_p95():
    draw = np.random.default_rng(0)
    amounts, shares = draw.random(50), draw.integers(1, 9, 50)
    repeated = np.repeat(amounts, shares)
    expected = np.percentile(repeated, 95, method="inverted_cdf")
    assert p95_of_shares(zip(amounts, shares, strict=True)) == expected


def test_a_size_behind_a_cascade_is_found_where_its_p95_alone_keeps_the_target():
    """The cascade takes 9 ms in one of three requests; the size above it 7 in all of them."""
    records = [TABLE[0], make_record(0.3), TABLE[1]]
    chooser = SizeChooser(records, ServingTarget(p95_ms=10, patience_s=1))
    for _ in range(60):
        chooser.observe(ServedRequest(0.0, 0.0, 4 * 7.0, TABLE[1]))
    assert chooser.choose(0.0) is TABLE[0]
    assert [chooser.choose(now) for now in (20.0, 21.0)] == [TABLE[0], TABLE[1]]


def test_a_full_queue_is_served_by_the_cascade(model):
    record = make_record(0.3)
    controller = LatencyController(model, [*TABLE, record], ServingTarget(max_queue=4))
    batch = make_batch(8, 7)
    with controller.request(queue_length=8) as sized:  # half of the 10 ms of the full size
        answer = sized(**batch)
        assert sized.active == (SubNetwork(0.75, 1) if answer.asked_again.any() else SubNetwork(0.25, 0.5))
    assert torch.equal(answer.logits, Cascade.of(model, record)(**batch).logits)
    assert controller.report().served == {record: 1}
    assert str(controller.report().active) == "w0.25-d0.5>w0.75-d1@0.6"
    assert set(controller.models) == {one.size for one in TABLE} | {record}


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, "0.5", True, None])
def test_a_threshold_that_is_no_confidence_is_refused(model, threshold):
    with pytest.raises(ValueError, match=r"threshold=.* is not possible. A confidence lies from 0"):
        Cascade(model, SMALL, LARGE, threshold=threshold)


@pytest.mark.parametrize("number", [-5, 2, 2.5])
def test_too_few_thresholds_are_refused(model, number):
    with pytest.raises(ValueError, match=f"num_thresholds={number} is not possible. .* at least 3"):
        measure_cascade(model, SMALL, LARGE, make_text(model), num_thresholds=number)


def test_shapes_need_not_nest_in_each_other_but_both_in_the_model(model):
    shapes = ("l0h4n12-l3h1n48", "l1h3n40-l2h1n20-l5h4n48")
    batch, threshold = make_batch(24, 7), 0.6
    logits, _, again = by_hand(model, batch, threshold, sizes=shapes)
    answer = Cascade(model, *shapes, threshold=threshold)(**batch)
    assert answer.asked_again.tolist() == again.tolist()
    assert 0 < again.sum() < 24
    torch.testing.assert_close(answer.logits, logits, rtol=1e-5, atol=1e-5)  # a batch sums in another order
    with pytest.raises(SubNetworkError, match=r"index=1, heads=3, neurons=40.*which this model does not hold"):
        Cascade(model.extract(shapes[0]), *shapes, threshold=threshold)


@pytest.mark.parametrize("texts", [0, 2])
def test_no_text_is_refused_by_name(model, texts):
    nothing = {name: tensor[:texts, :0] if texts else tensor[:0] for name, tensor in make_batch().items()}
    with pytest.raises(ValueError, match=rf"input_ids has shape \({texts}, .*at least one token; give a text"):
        Cascade(model, SMALL, LARGE, threshold=0.5)(**nothing)


def test_inputs_with_unequal_rows_are_refused_though_the_model_could_run_them(model):
    inputs = make_batch()
    mask = torch.ones_like(inputs["input_ids"][:1])
    with pytest.raises(ValueError, match=r"attention_mask has shape \(1, \d+\)\. Each input needs a row for"):
        Cascade(model, SMALL, LARGE, threshold=1)(input_ids=inputs["input_ids"], attention_mask=mask)


def test_what_cannot_be_a_cascade_is_refused(model):
    with pytest.raises(SubNetworkError, match=r"w0.75-d1 is asked first, but is no smaller than w0.25-d0.5"):
        Cascade(model, LARGE, SMALL, threshold=0.5)
    with pytest.raises(SubNetworkError, match=r"is no smaller than w1-d1"):
        measure_cascade(model, "w1-d1", "w1-d1", make_text(model))
    with pytest.raises(SubNetworkError, match="does not hold"):
        Cascade(model.extract(SMALL), SMALL, LARGE, threshold=0.5)
    for given in ([0, 1], [1.0], [1, 1, 1], {SMALL: 1.5, LARGE: 2.0}):
        with pytest.raises(ValueError, match=r"temperatures=.* is not possible. Each of the two is a finite number"):
            Cascade(model, SMALL, LARGE, threshold=0.5, temperatures=given)
    for given in (-1.5, 0.0, "hot"):
        model.config.temperatures = {LARGE: given}
        with pytest.raises(ValueError, match=rf"temperatures=.*{given}.* is not possible. Each of the two is a finite"):
            measure_cascade(model, SMALL, LARGE, make_text(model))
    model.config.temperatures = None
    with pytest.raises(TypeError, match=r"that predicts a value does not say how sure it is"):
        Cascade(make_model(stock={"num_labels": 1}), SMALL, LARGE, threshold=0.5)
    with pytest.raises(TypeError, match=r"is of the task token-classification"):
        calibrate(make_model(head="ForTokenClassification"), make_text(model))
    for measure in (calibrate, lambda model, text: measure_cascade(model, SMALL, LARGE, text)):
        with pytest.raises(
            TypeError, match=r"The text is a str\. Possible is a LabelledText; give LabelledText\.from_file"
        ):
            measure(model, "dev.csv")
    with pytest.raises(ValueError, match=r"costs has no record of w0.75-d1, only of \['w0.25-d0.5'\]"):
        measure_cascade(model, SMALL, LARGE, make_text(model), costs=TABLE[:1])
    slower = [SizeRecord(one.size, {}, {"latency_ms": 9.0}, {"threads": 1}) for one in TABLE]
    faster = [SizeRecord(one.size, {}, {"latency_ms": 3.0}, {"threads": 4}) for one in TABLE]
    with pytest.raises(ValueError, match=r"of several settings, \{'threads': \[1, 4\]\}.*select\(threads=1\)"):
        measure_cascade(model, SMALL, LARGE, make_text(model), costs=[*slower, *faster])
