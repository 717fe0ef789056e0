"""Choosing sizes for a latency target: what is decided, on a simulated machine, and that threads agree."""

import math
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.tiny import make_batch, make_model

from dynabert_hf import LatencyController, ServingTarget, SizeRecord, SubNetwork, SubNetworkError
from dynabert_hf.sizes.serving import ServedRequest, SizeChooser, p95

# width, depth, accuracy, latency in milliseconds; the fourth is beaten by the third
TABLE = tuple(
    SizeRecord(SubNetwork(width, depth), {"accuracy": accuracy}, {"latency_ms": latency})
    for width, depth, accuracy, latency in (
        (0.25, 0.5, 0.83, 2.0),
        (0.5, 0.5, 0.84, 3.0),
        (0.5, 0.75, 0.86, 4.0),
        (1.0, 0.5, 0.838, 5.0),
        (0.75, 1.0, 0.87, 7.0),
        (1.0, 1.0, 0.88, 10.0),
    )
)
FULL = TABLE[-1]


class Clock:
    """A clock that only moves when told."""

    now = 0.0

    def __call__(self):
        return self.now


def noise(draw):
    """What one request takes longer or shorter than usual: some 10 %, and once in a hundred thrice as long."""
    return math.exp(draw.gauss(0, 0.1)) * (3 if draw.random() < 0.01 else 1)


def serve(controller, clock, *, seconds, slowness, draw):
    """Serve one request after the other, with pauses, on a machine `slowness` times as slow as the table says.

    Returns:
        For each request its latency and the size that served it.
    """
    served, end = [], clock.now + seconds
    while clock.now < end:
        with controller.request() as model:
            size = next(one for one in TABLE if one.size == model.active)
            latency = size.latency_ms * slowness(size) * noise(draw)
            clock.now += latency / 1e3
        served.append((latency, size))
        clock.now += draw.expovariate(1 / 0.01)
    return served


def steady(slowness):
    return lambda size: slowness


def share_of(served, candidate):
    return sum(size is candidate for _, size in served) / len(served)


def make_controller(clock, **target):
    return LatencyController(make_model(), TABLE, ServingTarget(**target), clock=clock)


def test_the_target_is_kept_under_load_that_the_full_size_misses():
    clock, draw = Clock(), random.Random(0)
    controller = make_controller(clock, p95_ms=16)
    idle, loaded, after = phases = [
        serve(controller, clock, seconds=30, slowness=slowness, draw=draw)
        for slowness in (steady(1), steady(2.5), steady(1))
    ]
    assert p95(FULL.latency_ms * 2.5 * noise(draw) for _ in range(1000)) > 25
    for served in phases:
        assert p95(latency for latency, _ in served) <= 16
    assert share_of(idle, FULL) == 1
    assert share_of(loaded, TABLE[2]) > 0.9  # 4 ms, 10 under load; the next larger one would take 17.5
    assert share_of(after, FULL) > 0.7
    assert all(size is FULL for _, size in after[len(after) // 2 :])
    report = controller.report()
    assert report.active is FULL
    assert report.changes == 3  # straight down, and two steps up
    assert sum(report.served.values()) == sum(map(len, phases))
    served = [size.metrics["accuracy"] for phase in phases for _, size in phase]
    assert report.mean_metric == pytest.approx(sum(served) / len(served))
    assert report.slowness < 1.5


@pytest.mark.parametrize(("slowness", "best"), [(1.0, FULL), (1.5, TABLE[4]), (2.5, TABLE[2]), (5.0, TABLE[0])])
def test_a_steady_load_sees_hardly_a_change_and_the_best_size_that_fits(slowness, best):
    clock, draw = Clock(), random.Random(1)
    controller = make_controller(clock, p95_ms=16)
    serve(controller, clock, seconds=10, slowness=steady(slowness), draw=draw)
    settled = controller.report().changes
    served = serve(controller, clock, seconds=15, slowness=steady(slowness), draw=draw)
    assert share_of(served, best) > 0.95
    assert p95(latency for latency, _ in served) <= 16
    assert controller.report().changes - settled <= 2


def test_a_size_that_does_not_hold_is_tried_ever_more_rarely():
    """The table is wrong for one size on this machine, which the requests at other sizes cannot tell."""
    clock, draw = Clock(), random.Random(2)
    controller = make_controller(clock, p95_ms=16)
    changes = []
    for _ in range(4):
        before = controller.report().changes
        served = serve(controller, clock, seconds=20, slowness=lambda size: 1.8 if size is FULL else 1, draw=draw)
        changes.append(controller.report().changes - before)
        assert p95(latency for latency, _ in served) <= 16
    assert changes[0] > 2
    assert max(changes[2:]) <= 2
    assert not [size for _, size in served if size not in TABLE[3:]]


def serve_queue(controller, clock, *, seconds, per_second, draw):
    """One worker and a queue, with requests at random moments; without a controller all are served at full size.

    Returns:
        For each request the queue that it left behind when it began, its latency with the waiting, and its size.
    """
    arrivals = list(accumulate(draw.expovariate(per_second) for _ in range(int(seconds * per_second))))
    start, served = clock.now, []
    for number, arrival in enumerate(start + offset for offset in arrivals):
        clock.now = max(clock.now, arrival)
        waiting = sum(start + later <= clock.now for later in arrivals[number + 1 : number + 500])
        request = controller.request(arrived=arrival, queue_length=waiting) if controller else nullcontext()
        with request as model:
            size = FULL if model is None else next(one for one in TABLE if one.size == model.active)
            clock.now += size.latency_ms * noise(draw) / 1e3
        served.append((waiting, 1e3 * (clock.now - arrival), size))
    return served


@pytest.mark.parametrize("target", [{"max_queue": 4}, {"p95_ms": 60}], ids=str)
def test_a_queue_that_the_full_size_would_fill_stays_short(target):
    clock, draw = Clock(), random.Random(3)
    controller = make_controller(clock, **target)
    quiet, rush, after = (
        serve_queue(controller, clock, seconds=seconds, per_second=rate, draw=draw)
        for seconds, rate in ((10, 20), (30, 130), (30, 20))
    )
    full_only = serve_queue(None, clock, seconds=30, per_second=130, draw=draw)
    assert p95(waiting for waiting, _, _ in full_only) > 400
    assert p95(latency for _, latency, _ in full_only) > 3000
    for served in (quiet, rush, after):
        assert p95(waiting for waiting, _, _ in served) <= 4
        assert p95(latency for _, latency, _ in served) <= 60
    accuracies = [
        sum(size.metrics["accuracy"] for _, _, size in served) / len(served) for served in (quiet, rush, after)
    ]
    assert accuracies[0] == pytest.approx(FULL.metrics["accuracy"])
    assert accuracies[1] > 0.845
    assert after[-1][2] is FULL


def chooser_after(requests, **target):
    """A chooser, active at the full size, that has seen requests of the given slowness within one second."""
    chooser = SizeChooser(TABLE, ServingTarget(**target))
    assert chooser.choose(0.0) is FULL
    for number, slowness in enumerate(requests):
        chooser.observe(ServedRequest(number / len(requests), 0.0, slowness * FULL.latency_ms, FULL))
    return chooser


def test_one_slow_request_changes_nothing_and_several_do():
    for before in ([], [1.0], [1.0] * 10, [1.0] * 90):
        assert chooser_after([*before, 50.0], p95_ms=16).choose(1.0) is FULL
    assert chooser_after([1.0, 50.0, 50.0], p95_ms=16).choose(1.0) is TABLE[0]
    assert chooser_after([1.0] * 90 + [2.0] * 6, p95_ms=16).choose(1.0) is TABLE[4]


def test_what_was_long_ago_says_nothing_about_now():
    chooser = chooser_after([50.0] * 10, p95_ms=16, window_s=5)
    assert chooser.choose(5.8) is TABLE[0]
    assert chooser.expected_p95_ms(FULL, 6.1) == FULL.latency_ms


def test_a_larger_size_needs_room_and_patience():
    chooser = chooser_after([2.0] * 50, p95_ms=16, patience_s=2, window_s=100)
    assert chooser.choose(1.0) is TABLE[4]  # 14 of at most 14.4; the full size would take 20
    for _ in range(100):
        chooser.observe(ServedRequest(1.0, 0.0, 7.0 * 1.3, TABLE[4]))
    assert chooser.choose(50.0) is TABLE[4]  # the full size would take 13, more than 80 % of the target
    for _ in range(100):
        chooser.observe(ServedRequest(50.0, 0.0, 7.0 * 1.2, TABLE[4]))
    assert [chooser.choose(now) for now in (60.0, 61.9)] == [TABLE[4]] * 2
    assert chooser.choose(62.0) is FULL


def test_patience_is_that_of_the_beginning_again_once_a_size_has_held():
    chooser = SizeChooser(TABLE, ServingTarget(p95_ms=16, patience_s=1))

    def chosen(now, slowness):
        for _ in range(100):
            chooser.observe(ServedRequest(now, 0.0, slowness * FULL.latency_ms, FULL))
        return chooser.choose(now)

    assert [chosen(0, 2.0), chosen(1, 1.0), chosen(2, 1.0)] == [TABLE[4], TABLE[4], FULL]
    assert [chosen(3, 2.0), chosen(4, 1.0), chosen(5.9, 1.0), chosen(6, 1.0)] == [TABLE[4]] * 3 + [FULL]
    assert [chosen(30, 2.0), chosen(31, 1.0), chosen(32, 1.0)] == [TABLE[4], TABLE[4], FULL]


def test_waiting_counts():
    chooser = SizeChooser(TABLE, ServingTarget(p95_ms=16))
    for _ in range(20):
        chooser.observe(ServedRequest(0.0, 10.0, FULL.latency_ms, FULL))
    assert chooser.choose(0.0) is TABLE[2]  # 10 ms of waiting and 4


def test_a_queue_twice_too_long_halves_the_time_of_a_request():
    chooser = SizeChooser(TABLE, ServingTarget(max_queue=4))
    assert [chooser.choose(0.0, queue_length=n) for n in (0, 4, 5, 8, 5, 9)] == [
        FULL,
        FULL,
        TABLE[4],  # 10 ms * 4 / 5
        TABLE[2],  # 10 ms * 4 / 8
        TABLE[2],  # not larger while the queue is too long
        TABLE[2],
    ]
    assert [chooser.choose(now, queue_length=3) for now in (1.0, 3.0)] == [TABLE[2]] * 2  # not yet half empty
    assert [chooser.choose(now, queue_length=2) for now in (4.0, 5.0)] == [TABLE[2], TABLE[4]]


def test_threads_are_served_at_once_with_the_outputs_of_their_size():
    model = make_model().set_active(width=0.5, depth=0.5).train()
    controller = LatencyController(model, TABLE, ServingTarget(max_queue=20, patience_s=0))
    batches = [make_batch(seed=seed) for seed in range(5)]
    with torch.no_grad():
        expected = {
            (size, number): alone(**batch).logits
            for size, alone in controller.models.items()
            for number, batch in enumerate(batches)
        }

    def client(seed):
        draw = random.Random(seed)
        for _ in range(30):
            number = draw.randrange(len(batches))
            with controller.request(queue_length=draw.randrange(60)) as sized, torch.no_grad():
                assert torch.equal(sized(**batches[number]).logits, expected[sized.active, number])
        return controller.run(batches[0]).logits

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(client, range(8)))
    assert not any(answer.requires_grad for answer in answers)
    report = controller.report()
    assert sum(report.served.values()) == 8 * 31
    assert len(report.served) >= 3
    assert report.p95_ms > 0
    assert (model.active, model.training) == (SubNetwork(0.5, 0.5), True)
    assert {p.data_ptr() for sized in controller.models.values() for p in sized.parameters()} == {
        p.data_ptr() for p in model.parameters()
    }


def test_a_request_on_a_gpu_lasts_until_its_work_there_is_done(monkeypatch):
    clock, device = Clock(), torch.device("cuda", 1)
    controller = make_controller(clock, p95_ms=16)

    def stream_of(asked):
        assert asked == device
        return SimpleNamespace(synchronize=lambda: setattr(clock, "now", clock.now + 0.02))

    monkeypatch.setattr(type(controller.models[FULL.size]), "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", stream_of)
    with controller.request():
        clock.now += 0.001  # what it takes to queue the work
    assert controller.report().p95_ms == pytest.approx(21)


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 39, 40, 41, 100])
def test_the_p95_is_the_smallest_amount_that_a_twentieth_at_most_exceeds(count):
    amounts = random.Random(count).sample(range(1000), count)
    enough = [one for one in amounts if sum(other > one for other in amounts) * 20 <= count]
    assert p95(amounts) == min(enough) == np.percentile(amounts, 95, method="inverted_cdf")


def test_the_requests_inside_are_part_of_the_queue():
    controller = make_controller(Clock(), max_queue=1)
    with controller.request() as first, controller.request() as second:
        assert first.active == second.active == FULL.size
        with controller.request() as third:
            assert third.active == TABLE[2].size  # two others: half the time
    assert sum(controller.report().served.values()) == 3


def test_a_request_that_fails_is_not_counted_and_leaves_no_trace():
    clock = Clock()
    controller = make_controller(clock, p95_ms=16, max_queue=1)

    def fail():
        with controller.request():
            clock.now += 1.0
            raise KeyError("inputs")

    for _ in range(5):
        with pytest.raises(KeyError):
            fail()
    report = controller.report()
    assert (report.active, report.served, report.changes) == (FULL, {}, 0)
    assert (report.p95_ms, report.slowness, report.mean_metric) == (None, None, None)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "No target was given. Possible are p95_ms= and max_queue=; give at least one"),
        ({"p95_ms": 0}, "p95_ms=0 is not possible. Give a finite number of milliseconds above 0"),
        ({"p95_ms": "fast"}, "p95_ms='fast' is not possible"),
        ({"p95_ms": math.nan}, "p95_ms=nan is not possible"),
        ({"max_queue": 0}, "max_queue=0 is not possible. Give an integer of at least 1"),
        ({"max_queue": 1.5}, "max_queue=1.5 is not possible"),
        ({"max_queue": True}, "max_queue=True is not possible"),
        ({"p95_ms": 10, "margin": 0.5}, "margin=0.5 is not possible. Give a share from 0 to below 0.5"),
        ({"p95_ms": 10, "patience_s": -1}, "patience_s=-1 is not possible. Give a finite number of seconds"),
        ({"p95_ms": 10, "window_s": 0}, "window_s=0 is not possible. Give a finite number of seconds above 0"),
        ({"p95_ms": 10, "window_s": None}, "window_s=None is not possible"),
    ],
)
def test_an_impossible_target_is_refused(target, message):
    with pytest.raises(ValueError, match=message):
        ServingTarget(**target)


def test_a_table_that_leaves_no_choice_is_refused():
    model, target = make_model(), ServingTarget(p95_ms=16)
    with pytest.raises(ValueError, match=r"nothing to choose: w0\.75-d1 is at least as fast and as accurate"):
        LatencyController(model, [TABLE[4], SizeRecord("w1-d1", {"accuracy": 0.5}, {"latency_ms": 9.0})], target)
    with pytest.raises(ValueError, match=r"w1-d1 was not measured in latency_ms"):
        LatencyController(model, [TABLE[0], SizeRecord("w1-d1", {"accuracy": 0.9})], target)
    with pytest.raises(ValueError, match=r"w0\.5-d0\.5 has latency_ms=0\. Give measured latencies"):
        LatencyController(model, [SizeRecord("w0.5-d0.5", {"accuracy": 0.8}, {"latency_ms": 0.0}), FULL], target)
    with pytest.raises(ValueError, match=r"p95_ms=2 is out of reach: the fastest size, w0\.25-d0\.5, takes 2 ms"):
        LatencyController(model, TABLE, ServingTarget(p95_ms=2))
    with pytest.raises(SubNetworkError, match="does not hold"):
        LatencyController(model.extract(width=0.5), TABLE, target)


def test_a_time_of_another_clock_is_refused():
    controller = make_controller(Clock(), p95_ms=16)
    with (
        pytest.raises(ValueError, match=r"arrived=5\.0 is later than now, 0\.0\. Give a time that controller"),
        controller.request(arrived=5.0),
    ):
        pass
