"""What the page to try sizes shows: the answer of a size, how long it took, and where the size stands among all.

The page itself is `page`'s; nothing here needs more than the package does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import torch

from ..data.encoding import most_tokens
from ..families import ModelTypeError, sizes_of
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import AnySize, SubNetwork
from ..sizes.choosing import recommend
from ..sizes.evaluation import stored_metrics
from ..sizes.metrics import LOWER, direction_of, in_telling_order
from ..sizes.profiling import measure_latency
from ..sizes.records import SizeRecord, format_cost
from ..task_metrics import problem_type
from ..tasks import on_device, probabilities, task_of


@dataclass(frozen=True)
class Answer:
    """What a size says of a text.

    Attributes:
        scores: For each label its probability, the likeliest first; of a value the value.
        latency_ms: How long the forward pass took, in milliseconds.
        record: The size.
        reason: Why this size, in words.
    """

    scores: Mapping[str, float]
    latency_ms: float
    record: SizeRecord
    reason: str


def check_classifies(model_class: type | str) -> None:
    """Whether models of a class, or of the class with this name, classify texts or give them a value.

    Raises:
        TypeError: If they do not.
    """
    if task_of(model_class).pipeline != "text-classification":
        name = model_class if isinstance(model_class, str) else model_class.__name__
        raise ModelTypeError(
            f"A {name} does not classify texts. The page is for models ForSequenceClassification; use `dynabert "
            "predict` for others."
        )


class Playground:
    """A model at hand at every trained size, each measured once on this machine.

    Args:
        model: An elastic model for texts; it stays as it is.
        tokenizer: Its tokenizer.
        sequence_length: Tokens at which the sizes are timed at the beginning.
        rounds: Timed passes of each size.

    Raises:
        TypeError: If the model does not classify texts or give them a value.
        ValueError: If there is no tokenizer.
    """

    def __init__(self, model: ElasticModelMixin, tokenizer: Any, *, sequence_length: int = 32, rounds: int = 10):
        check_classifies(type(model))
        if tokenizer is None:
            raise ValueError("tokenizer is None, and a model in memory has none. Give the tokenizer of the model.")
        self.model, self.tokenizer = model, tokenizer
        self.longest = most_tokens(model, tokenizer)
        stored = stored_metrics(model.config)
        sizes = list(sizes_of(model))
        measured = measure_latency(model, sizes, sequence_length=min(sequence_length, self.longest), rounds=rounds)
        self.records = [replace(one, metrics=stored.get(one.name, {})) for one in measured]
        names = in_telling_order(name for one in self.records for name in one.metrics)
        known = [name for name in names if all(name in one.metrics for one in self.records)]
        told = model.config.metric_directions or {}
        self.metric = next((name for name in known if direction_of(name, told)), None)
        self.greater_is_better = self.metric is None or direction_of(self.metric, told) != LOWER
        self._models: dict[AnySize, Any] = {}
        self._lock = Lock()

    @property
    def widths(self) -> list[float]:
        return sorted({one.size.width for one in self.records if isinstance(one.size, SubNetwork)}) or [1.0]

    @property
    def depths(self) -> list[float]:
        return sorted({one.size.depth for one in self.records if isinstance(one.size, SubNetwork)}) or [1.0]

    @property
    def latencies_ms(self) -> tuple[float, float]:
        """The shortest and the longest."""
        times = [one.costs["latency_ms"] for one in self.records]
        return min(times), max(times)

    def nearest(self, width: float, depth: float) -> SizeRecord:
        """The trained size whose width and depth are nearest to these."""

        def distance(one: SizeRecord) -> tuple[float, float]:
            if not isinstance(one.size, SubNetwork):
                return 9.0, 9.0
            return abs(one.size.width - width) + abs(one.size.depth - depth), -one.size.width

        return min(self.records, key=distance)

    def within(self, latency_ms: float) -> tuple[SizeRecord, str]:
        """The best size within a latency, and why; where none is, the nearest."""
        if self.metric is None:
            budget = format_cost("latency_ms", latency_ms)
            fitting = [one for one in self.records if one.costs["latency_ms"] <= latency_ms]
            if not fitting:
                fastest = min(self.records, key=lambda one: one.costs["latency_ms"])
                return fastest, f"No size is within {budget}. {fastest} is the fastest. The model stores no metrics."
            largest = max(fitting, key=lambda one: one.flops or 0)
            return largest, f"{largest} is the largest size within {budget}. The model stores no metrics."
        answer = recommend(
            self.records, metric=self.metric, latency_ms=latency_ms, greater_is_better=self.greater_is_better
        )
        found = answer.choice or answer.nearest_miss
        assert found is not None
        return found, answer.reason

    def ask(self, text: str, second: str, record: SizeRecord, reason: str = "") -> Answer:
        """What a size says of a text, or of a pair where there is a second one."""
        pair = (text, second) if second.strip() else (text,)
        inputs = self.tokenizer(*pair, truncation=True, max_length=self.longest, return_tensors="pt")
        model = self._at(record.size)
        inputs = on_device(inputs, model.device)
        with torch.inference_mode():
            started = time.perf_counter()
            logits = model(**inputs, return_dict=True).logits[0].float().cpu()
            took = 1e3 * (time.perf_counter() - started)
        return Answer(self._scores(logits), took, record, reason or self.describe(record))

    def _at(self, size: AnySize) -> Any:
        with self._lock:
            if size not in self._models:
                self._models[size] = self.model.share(size).eval()
            return self._models[size]

    def _scores(self, logits: torch.Tensor) -> dict[str, float]:
        config: Any = self.model.config
        values = probabilities(logits.double().numpy(), problem_type(config))
        named = {str(config.id2label[number]): float(value) for number, value in enumerate(values)}
        return dict(sorted(named.items(), key=lambda item: -item[1]))

    def describe(self, record: SizeRecord) -> str:
        """What is known of a size, in words."""
        parts = [format_cost(name, record.costs[name]) for name in ("parameters", "latency_ms")]
        if self.metric is not None:
            parts.insert(0, f"{self.metric} {record.metrics[self.metric]:.4g}")
        return f"{record}: {', '.join(parts)} in the table"
