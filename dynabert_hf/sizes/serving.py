"""Keep a latency target, or a bound on the queue, by choosing the size of every request.

`SizeChooser` decides, from a measured table and what it is told; it knows neither a clock nor a model.
`LatencyController` measures, and hands out models that share one set of weights. Receiving, batching and threads are
left to the server.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from numbers import Integral
from threading import Lock
from typing import Any

import torch

from ..model.elastic_model import ElasticModelMixin
from .cascade import Cascade, CascadeRequest, runner_of
from .choosing import pareto_front
from .metrics import is_number
from .records import SizeRecord, format_cost

_REMEMBERED = 100
"""Requests that an estimate rests on at most: enough that a p95 is not made by one of them."""

_HOLDS_AFTER, _MOST_PATIENT = 5, 32
"""A step up has held after so many times its patience; one that does not doubles the next, up to so many times."""


def p95(amounts: Iterable[float]) -> float:
    """The smallest of some amounts that at least 95 % of them do not exceed; of fewer than twenty the largest."""
    return p95_of_shares((amount, 1) for amount in amounts)


def p95_of_shares(amounts: Iterable[tuple[float, float]]) -> float:
    """The smallest of some amounts that at least 95 % of all shares do not exceed, each amount with its share."""
    ordered = sorted(amounts)
    shares = list(accumulate(share for _, share in ordered))
    enough = [20 * share >= 19 * shares[-1] for share in shares]
    return float(ordered[enough.index(True)][0])


@dataclass(frozen=True)
class ServedRequest:
    """What one request took.

    Args:
        done: When it was done, in seconds.
        waited_ms: How long it had waited before its size was chosen, in milliseconds.
        took_ms: How long it then took, in milliseconds.
        record: The size, or the cascade, that served it.
        was_asked_again: Whether the larger size of a cascade ran, too.
    """

    done: float
    waited_ms: float
    took_ms: float
    record: SizeRecord
    was_asked_again: bool = False

    @cached_property
    def slowness(self) -> float:
        """How many times as long it took as the table says of what ran."""
        return self.took_ms / self.record.outcomes[self.was_asked_again][0]


@dataclass(frozen=True)
class ServingTarget:
    """The latency or queue limit to keep, and how quickly sizes change.

    Args:
        p95_ms: Latency in milliseconds that 95 % of the requests must not exceed, waiting included; None: any.
        max_queue: How many other requests may wait or run when one begins; None: any number.
        margin: Share of `p95_ms` that is kept free: a size is left when the p95 expected of it is above
            `(1 - margin) * p95_ms`, and entered from below only where that is at most `(1 - 2 * margin) * p95_ms`.
        patience_s: For how many seconds a larger size must look possible before it is tried. Doubles each time that
            this size had to be left again soon.
        window_s: Age in seconds up to which a request says something about now.

    Raises:
        ValueError: If there is no target, or a value is not possible.
    """

    p95_ms: float | None = None
    max_queue: int | None = None
    margin: float = 0.1
    patience_s: float = 1.0
    window_s: float = 10.0

    def __post_init__(self) -> None:
        if self.p95_ms is None and self.max_queue is None:
            raise ValueError("No target was given. Possible are p95_ms= and max_queue=; give at least one of them.")
        for name, is_possible, possible in (
            ("p95_ms", lambda p95_ms: 0 < p95_ms < math.inf, "a finite number of milliseconds above 0"),
            ("max_queue", lambda most: isinstance(most, Integral) and int(most) >= 1, "an integer of at least 1"),
            ("margin", lambda margin: 0 <= margin < 0.5, "a share from 0 to below 0.5"),
            ("patience_s", lambda patience: 0 <= patience < math.inf, "a finite number of seconds, at least 0"),
            ("window_s", lambda window: 0 < window < math.inf, "a finite number of seconds above 0"),
        ):
            value = getattr(self, name)
            is_optional = name in ("p95_ms", "max_queue") and value is None
            if not is_optional and not (is_number(value) and is_possible(value)):
                raise ValueError(f"{name}={value!r} is not possible. Give {possible}.")


class SizeChooser:
    """Chooses, for every request, the most accurate size that keeps a target.

    How long a size will take is its latency in the table times how much slower than the table the recent requests
    were, at whatever size. Smaller sizes are chosen at once, larger ones step by step and with patience, and later
    each time that one did not hold, so that a steady load sees ever fewer changes.

    Args:
        records: The table: sizes with the metric and `latency_ms`. Those that another beats in both are left out.
        target: What to keep.
        metric: Name of the metric to choose by.
        greater_is_better: The direction of the metric; None: as its name says.

    Raises:
        ValueError: If a record has no latency, fewer than two are left, or none keeps the target on a machine as
            fast as that of the table.
    """

    def __init__(
        self,
        records: Iterable[SizeRecord],
        target: ServingTarget,
        *,
        metric: str = "accuracy",
        greater_is_better: bool | None = None,
    ):
        self.target = target
        self.records = pareto_front(records, metric=metric, cost="latency_ms", greater_is_better=greater_is_better)
        self._check()
        self._recent: deque[ServedRequest] = deque(maxlen=_REMEMBERED)
        self._patience = [target.patience_s] * len(self.records)
        self._entered = [-math.inf] * len(self.records)
        self._possible_since: float | None = None
        self._crowded_ms: float | None = None
        self._level = len(self.records) - 1
        self._level = self._fitting_level(-math.inf)
        self.changes = 0

    def _check(self) -> None:
        fastest = self.records[0]
        if len(self.records) < 2:
            raise ValueError(
                f"There is nothing to choose: {fastest} is at least as fast and as accurate as all others. Give sizes "
                "of which the slower ones are more accurate, measured with measure_latency and evaluate()."
            )
        if not fastest.latency_ms:
            raise ValueError(f"{fastest} has latency_ms=0. Give measured latencies.")
        fastest_ms = p95_of_shares(fastest.outcomes)
        if self.target.p95_ms is not None and fastest_ms > self.target.p95_ms * (1 - self.target.margin):
            raise ValueError(
                f"p95_ms={self.target.p95_ms:g} is out of reach: the fastest size, {fastest}, takes "
                f"{format_cost('latency_ms', fastest_ms)} in the table, and margin={self.target.margin:g} of "
                "the target stays free. Give a higher target, or smaller sizes."
            )

    @property
    def active(self) -> SizeRecord:
        """The size chosen last."""
        return self.records[self._level]

    def observe(self, request: ServedRequest) -> None:
        """Take note of a request that is done."""
        self._recent.append(request)

    def recent(self, now: float) -> Sequence[ServedRequest]:
        """The requests that say something about now; older ones are forgotten."""
        while self._recent and now - self._recent[0].done > self.target.window_s:
            self._recent.popleft()
        return self._recent

    def expected_p95_ms(self, record: SizeRecord, now: float) -> float:
        """The p95 of the recent requests, had all of them run at this size; without any, that of the table.

        Of fewer than twenty requests that would be the slowest; it is left out, since one alone may be an accident.
        A cascade takes either of two times, each as often as its share says.
        """
        counted = self.recent(now)
        if len(counted) < 20:
            longest_ms = max(time for time, _ in record.outcomes)
            counted = sorted(counted, key=lambda r: r.waited_ms + r.slowness * longest_ms)[:-1]
        if not counted:
            return p95_of_shares(record.outcomes)
        runs = ((r, *outcome) for r in counted for outcome in record.outcomes)
        return p95_of_shares((r.waited_ms + r.slowness * time, share) for r, time, share in runs)

    def choose(self, now: float, *, queue_length: int = 0) -> SizeRecord:
        """The size for a request that begins now.

        Args:
            now: The time in seconds.
            queue_length: How many other requests wait or run.
        """
        longest_ms = self._longest_for_queue(queue_length)
        fitting = self._fitting_level(now, longest_ms)
        if fitting < self._level:
            self._shrink(fitting, now)
        else:
            self._maybe_grow(now, queue_length)
        return self.active

    def _fitting_level(self, now: float, longest_ms: float = math.inf) -> int:
        """The most accurate size, the active one at most, that keeps the target; the fastest if none does."""
        level = self._level
        while level > 0 and not self._keeps_target(level, now, 1 - self.target.margin, longest_ms):
            level -= 1
        return level

    def _keeps_target(self, level: int, now: float, share: float, longest_ms: float = math.inf) -> bool:
        record, p95_ms = self.records[level], self.target.p95_ms
        in_time = p95_ms is None or self.expected_p95_ms(record, now) <= share * p95_ms
        return in_time and record.latency_ms <= longest_ms  # type: ignore[operator]

    def _longest_for_queue(self, queue_length: int) -> float:
        """The latency in the table that the queue allows: of a too long one that of the size which filled it, or less.

        Twice as many as allowed are served in the same time at half the latency.
        """
        most = self.target.max_queue
        if most is None or queue_length <= most:
            self._crowded_ms = None
            return math.inf
        self._crowded_ms = self._crowded_ms or self.active.latency_ms
        return self._crowded_ms * most / queue_length  # type: ignore[operator]

    def _shrink(self, level: int, now: float) -> None:
        for left in range(level + 1, self._level + 1):
            patience = self._patience[left]
            held = now - self._entered[left] > _HOLDS_AFTER * patience
            longest = _MOST_PATIENT * self.target.patience_s
            self._patience[left] = self.target.patience_s if held else min(2 * patience, longest)
        self._move(level)

    def _maybe_grow(self, now: float, queue_length: int) -> None:
        most, share = self.target.max_queue, 1 - 2 * self.target.margin
        quiet = most is None or queue_length <= most / 2
        above = range(self._level + 1, len(self.records)) if quiet else ()
        # a cascade may miss a target that the next larger size alone keeps
        larger = next((level for level in above if self._keeps_target(level, now, share)), None)
        if larger is None:
            self._possible_since = None
            return
        if self._possible_since is None:
            self._possible_since = now
        if now - self._possible_since >= self._patience[larger]:
            self._entered[larger] = now
            self._move(larger)

    def _move(self, level: int) -> None:
        self._level, self._possible_since = level, None
        self.changes += 1


@dataclass(frozen=True)
class ServingReport:
    """The requests that a controller has served so far.

    Args:
        active: The size chosen last.
        p95_ms: The p95 of the recent requests in milliseconds, waiting included; None if there are none.
        slowness: How many times as long as in the table the recent requests took, at the p95; None if there are none.
        served: For each size how many requests it served.
        changes: How often the size changed.
        mean_metric: What the sizes achieve in the metric, as the table has it, averaged over the requests served; None
            if there are none.
    """

    active: SizeRecord
    p95_ms: float | None
    slowness: float | None
    served: Mapping[SizeRecord, int]
    changes: int
    mean_metric: float | None


class LatencyController:
    """Serves requests with the most accurate size that keeps a latency target on the machine as it is now.

    It holds one model for each size, all on the weights of the given one (`share`), in evaluation mode. Any number of
    threads may hold requests at the same time. A `CascadeRecord` in the table is one more thing to choose, chosen for
    its mean latency where its p95 keeps the target, too.

    Args:
        model: An elastic model; it stays as it is.
        records: The table of sizes: accuracy, and latency measured at the batch size and length of the requests,
            for instance from `make_records` or a profile. If requests differ, at a typical one.
        target: What to keep.
        metric: Name of the metric to choose by.
        greater_is_better: The direction of the metric; None: as its name says.
        clock: The time in seconds.

    Raises:
        SubNetworkError: If the model does not hold a size.
        ValueError: If the table leaves nothing to choose, or the target is out of reach.

    Example:
        >>> controller = LatencyController(model, records, ServingTarget(p95_ms=20))  # doctest: +SKIP
        >>> with controller.request() as sized:  # doctest: +SKIP
        ...     logits = sized(**inputs).logits
    """

    def __init__(
        self,
        model: ElasticModelMixin,
        records: Iterable[SizeRecord],
        target: ServingTarget,
        *,
        metric: str = "accuracy",
        greater_is_better: bool | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.clock = clock
        self.metric = metric
        self._chooser = SizeChooser(records, target, metric=metric, greater_is_better=greater_is_better)
        self._runners = {record: runner_of(model, record) for record in self._chooser.records}
        self._lock = Lock()
        self._running = 0
        self._served: Counter[SizeRecord] = Counter()

    @property
    def models(self) -> dict[Any, Any]:
        """The models that serve, by size; cascades by their records."""
        return {one if isinstance(runner, Cascade) else one.size: runner for one, runner in self._runners.items()}

    @contextmanager
    def request(
        self, *, arrived: float | None = None, queue_length: int = 0
    ) -> Iterator[ElasticModelMixin | CascadeRequest]:
        """The model, or the cascade, for one request; the time inside the block counts as its latency.

        On a CUDA device the block ends once the work of its stream is done. A request that ends in an error is not
        counted.

        Args:
            arrived: When it arrived, by `controller.clock()`, so that waiting before counts too; None: now.
            queue_length: How many requests wait elsewhere. Those inside of `request` are known.

        Raises:
            ValueError: If `arrived` lies in the future, as a time of another clock may.
        """
        started = self.clock()
        arrived = started if arrived is None else arrived
        if arrived > started:
            raise ValueError(
                f"arrived={arrived!r} is later than now, {started!r}. Give a time that controller.clock() told."
            )
        with self._lock:
            record = self._chooser.choose(started, queue_length=queue_length + self._running)
            self._running += 1
        try:
            runner = self._runners[record]
            yield (model := CascadeRequest(runner) if isinstance(runner, Cascade) else runner)
            if model.device.type == "cuda":  # until then the calls have only been queued there
                torch.cuda.current_stream(model.device).synchronize()
            done = self.clock()
        finally:
            with self._lock:
                self._running -= 1
        with self._lock:
            twice = isinstance(model, CascadeRequest) and model.was_asked_again
            self._chooser.observe(ServedRequest(done, 1e3 * (started - arrived), 1e3 * (done - started), record, twice))
            self._served[record] += 1

    def run(self, inputs: Mapping[str, Any], *, arrived: float | None = None, queue_length: int = 0) -> Any:
        """The outputs for some inputs at the current size, without gradients.

        Args:
            inputs: What the model takes, by name.
            arrived: See `request`.
            queue_length: See `request`.
        """
        with self.request(arrived=arrived, queue_length=queue_length) as model, torch.inference_mode():
            return model(**inputs)

    def report(self) -> ServingReport:
        """A summary of all requests so far."""
        with self._lock:
            recent = tuple(self._chooser.recent(self.clock()))
            served = Counter(self._served)
            active, changes = self._chooser.active, self._chooser.changes
        total = sum(served.values())
        return ServingReport(
            active=active,
            p95_ms=p95(r.waited_ms + r.took_ms for r in recent) if recent else None,
            slowness=p95(r.slowness for r in recent) if recent else None,
            served=dict(served),
            changes=changes,
            mean_metric=sum(c.metrics[self.metric] * n for c, n in served.items()) / total if total else None,
        )
