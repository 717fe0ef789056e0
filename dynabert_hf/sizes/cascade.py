"""Two sizes in a row: the small one answers where it is sure, and the larger one is asked about the rest.

Both run on one copy of the weights. What a threshold costs and achieves is measured here; which one to take is chosen
by `recommend`, as among sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from ..data.labelled_text import LabelledText
from ..families import check_elastic, elastic_class_name, read_config
from ..messages import check_counts
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import AnySize, LayerShape, Size, SubNetworkError, as_size, size_name
from ..onnx.session import OnnxModel, load_onnx
from .calibration import confidence, fit_temperature, kind_of_choice, predict_sizes
from .counting import count_parameters
from .metrics import is_number
from .records import SizeRecord, of_one_setting


@dataclass(frozen=True)
class CascadeAnswer:
    """The answers of a cascade for a batch, in the order of its rows.

    Attributes:
        logits: `(batch, labels)`, each row of the size that answered it.
        confidences: `(batch,)`, how sure that size is of its answer, from 0 to 1.
        asked_again: `(batch,)`, whether the larger size answered.
    """

    logits: torch.Tensor
    confidences: torch.Tensor
    asked_again: torch.Tensor


@dataclass(frozen=True)
class CascadeRecord(SizeRecord):
    """A cascade with its metrics and mean costs, to be chosen like a size; `size` is its larger size.

    Args:
        small: The size that is asked first.
        threshold: How sure it has to be.
        temperatures: Those of the small and of the larger size.
        share: Share of the rows that the larger size was asked about.
        latencies_ms: Time of a forward pass of the small and of the larger size, in milliseconds.
    """

    small: Size = ""
    threshold: float = 1.0
    temperatures: tuple[float, float] = (1.0, 1.0)
    share: float = 1.0
    latencies_ms: tuple[float, float] | None = None
    noun: ClassVar[str] = "threshold"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "small", as_size(self.small))

    __hash__ = SizeRecord.__hash__

    def __str__(self) -> str:
        return f"{self._sizes}@{self.threshold:.4g}"

    @property
    def name(self) -> str:
        """Both sizes and the threshold in all its digits, as in `w0.25-d0.5>w0.75-d1@0.9`."""
        return f"{self._sizes}@{self.threshold}"

    @property
    def _sizes(self) -> str:
        return f"{size_name(as_size(self.small))}>{size_name(self.size)}"

    @property
    def outcomes(self) -> tuple[tuple[float, float], ...]:
        """The two times that a request may take, in milliseconds, each with its share."""
        if self.latencies_ms is None:
            return super().outcomes
        small, large = self.latencies_ms
        return (small, 1 - self.share), (small + large, self.share)


class Cascade:
    """Answers by a small size where it is sure, and by a larger one where it is not.

    Only the rows that the small size is unsure of run again. Nothing in it changes when it is called, so any number of
    threads may call it at the same time.

    Args:
        model: An elastic model with a head that chooses among labels; it stays as it is. Or the folder of an export
            with both sizes, which then run in ONNX Runtime.
        small: The size that is asked first.
        large: The size that is asked about the rest, which has to cost more.
        threshold: The answer of the small size counts where its confidence is above, so that at 0 it always counts, and
            at 1 never. The confidence is the probability of its label or, where a text may have several, of the label
            that it is least sure of.
        temperatures: What to divide the logits of the two by before they become confidences; None: those that
            `calibrate` left in the configuration, else 1.

    Raises:
        SubNetworkError: If the model does not hold a size, or the small one is not the smaller.
        TypeError: If the head does not choose among labels.
        ValueError: If `threshold` is not from 0 to 1, a temperature is not above 0, or the export lacks a size.

    Example:
        >>> cascade = Cascade(model, "w0.25-d0.5", "w0.75-d1", threshold=0.9)  # doctest: +SKIP
        >>> labels = cascade(**tokenizer(texts, padding=True, return_tensors="pt")).logits.argmax(-1)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: ElasticModelMixin | str | PathLike,
        small: Size,
        large: Size,
        *,
        threshold: float,
        temperatures: Sequence[float] | None = None,
    ):
        if not is_number(threshold) or not 0 <= threshold <= 1:
            raise ValueError(
                f"threshold={threshold!r} is not possible. A confidence lies from 0, where the small size always "
                "answers, to 1, where the larger one always does; give a number in between, or choose one by "
                "measure_cascade."
            )
        self.config: Any
        if isinstance(model, ElasticModelMixin):
            self.config, name = model.config, elastic_class_name(model)
        else:
            if not isinstance(model, str | PathLike):
                check_elastic(model)
            self.config = read_config(model)
            name = (self.config.architectures or ["Model"])[0]
        self.kind = kind_of_choice(name, self.config)
        self.threshold = float(threshold)
        self.small, self.large = ordered_sizes(self.config, small, large)
        known = self.config.temperatures or {}
        if temperatures is None:
            temperatures = [known.get(size_name(size), 1.0) for size in (self.small, self.large)]
        self.temperatures = _checked_temperatures(temperatures)
        self._model = model
        self._runners = _runners(model, (self.small, self.large))

    @classmethod
    def of(cls, model: ElasticModelMixin | str | PathLike, record: CascadeRecord) -> Cascade:
        """The cascade that a record was measured of."""
        return cls(model, record.small, record.size, threshold=record.threshold, temperatures=record.temperatures)

    def __str__(self) -> str:
        return f"{size_name(self.small)}>{size_name(self.large)}@{self.threshold:.4g}"

    @property
    def device(self) -> torch.device:
        """Where the model is now; an export runs on the CPU."""
        return getattr(self._model, "device", torch.device("cpu"))

    @torch.inference_mode()
    def __call__(self, **inputs: Any) -> CascadeAnswer:
        """Answer a batch.

        Args:
            **inputs: What the model takes, by name, each with a row for every text; labels are passed over.

        Raises:
            ValueError: If there is no text, or an input has another number of rows.
        """
        rows = {
            name: torch.as_tensor(value, device=self.device)
            for name, value in inputs.items()
            if value is not None and name != "labels"
        }
        for name, value in rows.items():
            if not value.numel():
                raise ValueError(f"{name} has shape {tuple(value.shape)}. Possible is at least one token; give a text.")
        if len({value.shape[:1] for value in rows.values()}) > 1:
            shapes = ", ".join(f"{name} has shape {tuple(value.shape)}" for name, value in rows.items())
            raise ValueError(f"{shapes}. Each input needs a row for every text.")
        small, large = self._runners
        logits = small(rows)
        confidences = confidence(logits, self.temperatures[0], kind=self.kind)
        again = ~(confidences > self.threshold)
        if again.any():
            logits, confidences = logits.clone(), confidences.clone()
            logits[again] = large({name: value[again] for name, value in rows.items()})
            confidences[again] = confidence(logits[again], self.temperatures[1], kind=self.kind)
        return CascadeAnswer(logits, confidences, again)


class CascadeRequest:
    """A cascade during one request: what else it is asked goes to the cascade, and it knows which sizes ran."""

    def __init__(self, cascade: Cascade):
        self.cascade, self.was_asked_again = cascade, False

    def __call__(self, **inputs: Any) -> CascadeAnswer:
        answer = self.cascade(**inputs)
        self.was_asked_again |= bool(answer.asked_again.any())
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cascade, name)

    @property
    def active(self) -> AnySize:
        """The size that answered last; of a batch with rows of both, the larger."""
        return self.cascade.large if self.was_asked_again else self.cascade.small


def measure_cascade(
    model: ElasticModelMixin,
    small: Size,
    large: Size,
    text: LabelledText,
    *,
    costs: Iterable[SizeRecord] | None = None,
    num_thresholds: int = 50,
) -> tuple[CascadeRecord, ...]:
    """Measure a cascade of two sizes at many thresholds: metrics and costs, for `recommend` to choose from.

    Mean costs are those of the small size, and those of the larger one as often as it is asked. Latencies are of one
    text a time; in a batch, the rows that are asked again share a pass.

    Args:
        model: The elastic model; it stays as it is.
        small: The size that is asked first.
        large: The size that is asked about the rest.
        text: Labelled text that the model was not trained on.
        costs: Records of both sizes, such as `measure_latency` makes them; None: their FLOPs are counted, for 128
            tokens.
        num_thresholds: At how many thresholds at most, three or more.

    Returns:
        A record for each threshold from 0, the small size alone, to 1, where both are asked.

    Raises:
        SubNetworkError: If the model does not hold a size, or the small one is not the smaller.
        TypeError: If the head does not choose among labels, or the text is no `LabelledText`.
        ValueError: If `costs` lack a size, or are of several settings, `num_thresholds` is below three, or a
            temperature that the configuration holds is not above 0.

    Example:
        >>> records = measure_cascade(model, "w0.25-d0.5", "w0.75-d1", dev)  # doctest: +SKIP
        >>> cascade = Cascade.of(model, recommend(records, flops=4e8).choice)  # doctest: +SKIP
    """
    check_elastic(model)
    check_counts(3, num_thresholds=num_thresholds)
    kind = kind_of_choice(elastic_class_name(model), model.config)
    sizes = ordered_sizes(model.config, small, large)
    both = _costs_of(model, sizes, costs)
    logits = [torch.as_tensor(each) for each in predict_sizes(model, sizes, text)]
    known = [(model.config.temperatures or {}).get(size_name(size)) for size in sizes]
    temperatures = _checked_temperatures(
        [
            fit_temperature(own.numpy(), text.labels, kind=kind) if stored is None else stored
            for stored, own in zip(known, logits, strict=True)
        ]
    )
    sure = confidence(logits[0], temperatures[0], kind=kind)
    made = []
    for threshold in _thresholds(sure, num_thresholds):
        again = ~(sure > threshold)
        mixed = torch.where(again[:, None], logits[1], logits[0])
        share = float(again.double().mean())
        latencies = None if None in (one.latency_ms for one in both) else tuple(one.latency_ms for one in both)
        told: Any = {"temperatures": temperatures, "share": share, "latencies_ms": latencies}
        mean = {**_mean_costs(both, share), "parameters": _parameters_of(model, sizes)}
        setting = both[0].setting
        metrics = text.score(mixed.numpy())
        made.append(CascadeRecord(sizes[1], metrics, mean, setting, small=sizes[0], threshold=threshold, **told))
    return tuple(made)


def _costs_of(
    model: ElasticModelMixin, sizes: Sequence[AnySize], given: Iterable[SizeRecord] | None
) -> list[SizeRecord]:
    """The records of both sizes among those that were given; counted, if none were."""
    if given is None:
        return [SizeRecord.counted(model, size) for size in sizes]
    by_size = {record.size: record for record in of_one_setting(given)}
    if missing := [size_name(size) for size in sizes if size not in by_size]:
        raise ValueError(
            f"costs has no record of {' and '.join(missing)}, only of {list(map(str, by_size))}. Measure both sizes "
            "under one setting, or give none to count their FLOPs."
        )
    return [by_size[size] for size in sizes]


def _thresholds(sure: torch.Tensor, most: int) -> list[float]:
    """From 0 to 1, in between where the number of rows that are asked again grows by about the same each time."""
    shares = torch.linspace(0, 1, most - 1).double()[:-1]  # at the surest all are asked again, as at 1
    between = torch.quantile(sure.double(), shares)
    return sorted({0.0, *between.clamp(0, 1).tolist(), 1.0})


def _mean_costs(both: Sequence[SizeRecord], share: float) -> dict[str, float]:
    small, large = (record.costs for record in both)
    return {
        name: small[name] + share * large[name] for name in ("latency_ms", "flops") if name in small and name in large
    }


def _parameters_of(model: ElasticModelMixin, sizes: Sequence[AnySize]) -> int:
    """How many parameters two sizes have together, what they share once."""
    union: dict[int, LayerShape] = {}
    for layer in (layer for size in sizes for layer in model.config.resolve(size)):
        other = union.get(layer.index, layer)
        union[layer.index] = LayerShape(layer.index, max(layer.heads, other.heads), max(layer.neurons, other.neurons))
    return count_parameters(model, [union[index] for index in sorted(union)]).total


def ordered_sizes(config: Any, small: Size, large: Size) -> tuple[AnySize, AnySize]:
    """Both sizes, which have to be possible, the first of them the smaller.

    Raises:
        SubNetworkError: If that is not so.
    """
    sizes = as_size(small), as_size(large)
    for size in sizes:
        config.resolve(size)
    if config.share_of(sizes[0]) >= config.share_of(sizes[1]):
        raise SubNetworkError(
            f"{size_name(sizes[0])} is asked first, but is no smaller than {size_name(sizes[1])}. Possible is a small "
            "size and then one with more heads and neurons in all; change their order, or give others of "
            f"{', '.join(map(size_name, config.subnetworks))}."
        )
    return sizes


def _checked_temperatures(given: Sequence[float]) -> tuple[float, float]:
    try:
        first, second = map(float, given)
    except (TypeError, ValueError):  # not two, or no numbers
        first = second = np.nan
    if not (0 < first < np.inf and 0 < second < np.inf):
        raise ValueError(
            f"temperatures={given!r} is not possible. Each of the two is a finite number above 0, of the small size "
            "and of the larger one; give those of calibrate by their sizes, or 1 and 1."
        )
    return first, second


def _runners(
    model: ElasticModelMixin | str | PathLike, sizes: Sequence[AnySize]
) -> list[Callable[[Mapping[str, torch.Tensor]], torch.Tensor]]:
    """What makes logits of inputs at each size."""
    if isinstance(model, ElasticModelMixin):
        shared = [model.share(size).eval() for size in sizes]
        return [partial(_logits_in_torch, own) for own in shared]
    sessions = [load_onnx(Path(model), size_name(size)) for size in sizes]
    return [partial(_logits_in_onnx, own) for own in sessions]


def _logits_in_torch(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return model(**inputs, return_dict=True).logits


def _logits_in_onnx(session: OnnxModel, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.from_numpy(session(**inputs)["logits"])


def runner_of(model: ElasticModelMixin, record: SizeRecord) -> Any:
    """What serves as a record says, on the weights of a model: a model of its size, or a cascade."""
    check_elastic(model)
    return Cascade.of(model, record) if isinstance(record, CascadeRecord) else model.share(record.size).eval()
