"""A page to try the sizes of a model on, here or as a Space on the Hub. Needs the extra `demo`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from typing import Any

from transformers import AutoModelForSequenceClassification

from ..data.reading import load_tokenizer
from ..families import ModelTypeError, check_elastic, elastic_classes, read_config
from ..messages import require
from ..model.elastic_model import ElasticModelMixin
from ..sizes.plots import plot_pareto
from ..sizes.records import SizeRecord
from ..tasks import gives_values
from .facts import card_data
from .playground import Playground, check_classifies

BY_SIZE, BY_LATENCY = "width and depth", "a latency budget"


def make_page(model: ElasticModelMixin | str | os.PathLike, tokenizer: Any = None, **kwargs: Any) -> Any:
    """A `gradio.Blocks` with sliders for width and depth or a latency budget, a text, and the prediction of the size.

    Args:
        model: An elastic model for texts, or the folder or Hub id of one.
        tokenizer: Its tokenizer; None: the one beside the model.
        **kwargs: What `Playground` takes, such as `sequence_length`.

    Raises:
        ImportError: If the extra is not installed.
        TypeError: If the model is not elastic, or does not classify texts.

    Example:
        >>> make_page("you/dynabert-reviews").launch()  # doctest: +SKIP
    """
    require("The page", "gradio", "matplotlib", extra="demo")
    if isinstance(model, str | os.PathLike):
        name, tokenizer = os.fspath(model), tokenizer or load_tokenizer(model)
        model = _loaded(model)
    else:
        check_elastic(model)
        name = model.config.name_or_path or type(model).__name__
    title = card_data(name).model_name or name.rstrip("/").rpartition("/")[2]
    return _Page(Playground(model, tokenizer, **kwargs), title=title).blocks()


def _loaded(name: str | os.PathLike) -> ElasticModelMixin:
    assert list(elastic_classes())  # known to the Auto classes from their import on
    check_classifies((read_config(name).architectures or ["Model"])[0])  # else its head would be random
    model = AutoModelForSequenceClassification.from_pretrained(name)
    if not isinstance(model, ElasticModelMixin):
        raise ModelTypeError(
            f"{str(name)!r} holds a {type(model).__name__}, which has one size only. Give an elastic model; "
            "train_dynabert makes one of a fine-tuned stock model."
        )
    return model.eval()


def step_through(values: Sequence[float]) -> float:
    """The step of a slider from the first to the last of some values, one of whose stops is nearest to each of them."""
    least = min((b - a for a, b in pairwise(values)), default=0.01)
    steps = (round(least / parts, 6) for parts in count(1))
    return next(step for step in steps if _reached(values, step) == set(values))


def _reached(values: Sequence[float], step: float) -> set[float]:
    """Those of some values, from the first to the last, that are nearest to a stop of such steps."""
    stops = [values[0] + number * step for number in range(int((values[-1] - values[0]) / step + 1e-9) + 1)]
    return {min(values, key=lambda value: abs(value - stop)) for stop in stops}


class _Page:
    """The parts of the page, and what happens when one of them changes."""

    def __init__(self, playground: Playground, *, title: str):
        self.playground, self.title = playground, title

    def blocks(self) -> Any:
        """The page."""
        import gradio

        shortest, longest = self.playground.latencies_ms
        with gradio.Blocks(title=f"{self.title}: one model, many sizes", analytics_enabled=False) as page:
            gradio.Markdown(f"# {self.title}\nOne model, many sizes: choose one, and read what it says and how fast.")
            with gradio.Row():
                with gradio.Column(min_width=320):
                    text = gradio.Textbox(label="Text", lines=3, value="An example.", elem_id="text")
                    second = gradio.Textbox(label="Second text, of a pair", lines=1, elem_id="second")
                    how = gradio.Radio([BY_SIZE, BY_LATENCY], value=BY_SIZE, label="Choose by", elem_id="how")
                    width = self._slider(gradio, "Width", self.playground.widths)
                    depth = self._slider(gradio, "Depth", self.playground.depths)
                    least, most = math.floor(10 * shortest) / 10, math.ceil(10 * longest) / 10
                    budget = gradio.Slider(
                        least, most, value=most, step=0.1, label="Latency (ms)", elem_id="latency", visible="hidden"
                    )
                with gradio.Column(min_width=320):
                    answer = gradio.Label(label="Answer", elem_id="answer", num_top_classes=5)
                    told = gradio.Markdown(elem_id="told")
                    front = gradio.Plot(show_label=False, elem_id="front", visible=self.playground.metric is not None)
            how.change(
                lambda chosen: [
                    gradio.update(visible=chosen == each or "hidden") for each in (BY_SIZE, BY_SIZE, BY_LATENCY)
                ],
                how,
                [width, depth, budget],
                api_visibility="private",
            )
            inputs = [text, second, how, width, depth, budget]
            moves = [text.submit, second.submit, how.change, width.release, depth.release, budget.release, page.load]
            moves += [width.change, depth.change, budget.change, text.change]
            gradio.on(
                moves, self.update, inputs, [answer, told, front], show_progress="hidden", trigger_mode="always_last"
            )
        return page

    @staticmethod
    def _slider(gradio: Any, name: str, values: list[float]) -> Any:
        return gradio.Slider(
            values[0],
            values[-1],
            value=values[-1],
            step=step_through(values),
            label=name,
            elem_id=name.lower(),
            interactive=len(values) > 1,
        )

    def update(
        self, text: str, second: str, how: str, width: float, depth: float, budget: float
    ) -> tuple[Any, str, Any]:
        """What the page shows: labels with scores, a line of words, and the picture of all sizes."""
        record, reason = self.playground.nearest(width, depth), ""
        if how == BY_LATENCY:
            record, reason = self.playground.within(budget)
        if not text.strip():
            return {}, f"**{record}**: write a text.", self._front(record)
        found = self.playground.ask(text, second, record, reason)
        told = f"**{record}** answered in **{found.latency_ms:.1f} ms**.\n\n{found.reason}"
        return self._shown(found.scores), told, self._front(record)

    def _shown(self, scores: Mapping[str, float]) -> Any:
        """What the part for the answer shows: numbers it writes as percentages, so that values come as text."""
        if not gives_values(self.playground.model):
            return dict(scores)
        named = [f"{name}: {value:.4g}" for name, value in scores.items()]
        return ", ".join(named) if len(named) > 1 else f"{next(iter(scores.values())):.4g}"

    def _front(self, record: SizeRecord) -> Any:
        if self.playground.metric is None:
            return None
        told: Any = {"metric": self.playground.metric, "greater_is_better": self.playground.greater_is_better}
        return plot_pareto(self.playground.records, cost="latency_ms", choice=record, **told)
