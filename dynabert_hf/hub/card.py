"""The card of a model: what a person on the Hub sees, made of measured facts.

Training, measuring and drawing happen elsewhere; nothing here makes up a number.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import SubNetwork
from ..sizes.counting import count_flops, count_parameters
from ..sizes.metrics import metrics_by_size
from ..tasks import task_of

TEMPLATE = Path(__file__).with_name("card_template.md")

RECIPE_FIELDS = (
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "lr_scheduler_type",
    "strategy",
    "num_random_subnetworks",
    "teacher_width",
    "hidden_matching",
    "logit_weight",
    "hidden_weight",
    "label_weight",
    "seed",
)
"""The settings of a stage that a card names. A list of its own, since arguments also hold tokens and paths."""

STAGES = {
    "width": "Stage `width` distilled the fine-tuned model into all widths at full depth.",
    "depth": "Stage `depth` distilled a teacher of full depth into all widths and depths.",
    "finetune": "Stage `finetune` trained all sizes on the labels.",
}
"""For each stage of training what it did, in words."""


def elastic_class_name(model: ElasticModelMixin) -> str:
    """Name of the class of the package that a model is of, also for a subclass of it with another name."""
    return f"Dyna{model.backbone_class.__name__}"


@dataclass(frozen=True)
class SizeFacts:
    """What was measured of one size.

    Args:
        subnetwork: The size.
        metrics: Its metrics, such as `{"accuracy": 0.87}`.
        parameters: Parameters of the extracted model.
        flops: Floating-point operations of a forward pass on one sequence of 128 tokens.
        latency_ms: Time of a forward pass in milliseconds; None if it was not measured.
    """

    subnetwork: SubNetwork
    metrics: Mapping[str, float]
    parameters: int
    flops: int
    latency_ms: float | None = None

    @classmethod
    def counted(cls, model: ElasticModelMixin, subnetwork: SubNetwork, metrics: Mapping[str, float]) -> SizeFacts:
        """What was measured of a size of a model, with its costs counted from its shapes."""
        return cls(subnetwork, metrics, count_parameters(model, subnetwork).total, count_flops(model, subnetwork))


@dataclass(frozen=True)
class ModelCardFacts:
    """All that a card says, measured or given; what is None or empty is left out.

    Args:
        model_class: Name of the model's class.
        sizes: A row for every size, in the order of the table.
        title: Heading of the card.
        model_id: Id on the Hub, as the example names it.
        revision: Branch on the Hub, if not the main one.
        parent: Id of the model that this one was extracted from.
        base_model: Id of the model that training began with; a path on this machine is left out.
        rewired: Whether heads and neurons were ordered by importance before training.
        teacher_metrics: Metrics of the fine-tuned model that was the first teacher.
        dataset_id: Id of the data set on the Hub.
        dataset_name: Its name for people.
        license: Id of a license, such as `apache-2.0`.
        language: Code of a language, such as `en`.
        stages: For each stage that was trained the settings by name, of which the card shows `RECIPE_FIELDS`.
        pictures: For each picture of the card what it shows, and its file in the folder of the model.
        latency_setting: How latency was measured, in words.
        tags: More tags for the Hub to find the model by.
    """

    model_class: str
    sizes: tuple[SizeFacts, ...]
    title: str = "Elastic model"
    model_id: str | None = None
    revision: str | None = None
    parent: str | None = None
    base_model: str | None = None
    rewired: bool = False
    teacher_metrics: Mapping[str, float] = field(default_factory=dict)
    dataset_id: str | None = None
    dataset_name: str | None = None
    license: str | None = None
    language: str | None = None
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    latency_setting: str | None = None
    tags: tuple[str, ...] = ()

    @classmethod
    def from_rows(cls, model: ElasticModelMixin, rows: Iterable[Any], **facts: Any) -> ModelCardFacts:
        """Facts of a model from the rows of a result, such as those of `train_dynabert`.

        Args:
            model: The elastic model.
            rows: Objects with the attributes of `SizeFacts`; `latency_ms` may be missing.
            **facts: The other fields of this class.
        """
        sizes = tuple(
            SizeFacts(row.subnetwork, dict(row.metrics), row.parameters, row.flops, getattr(row, "latency_ms", None))
            for row in rows
        )
        return cls(model_class=elastic_class_name(model), sizes=sizes, **facts)

    @classmethod
    def from_training(cls, model: ElasticModelMixin, args: Any, state: Any, **facts: Any) -> ModelCardFacts:
        """Facts of a model as its training left it; metrics are of the last evaluation of these very weights.

        Args:
            model: The elastic model that was trained.
            args: The training arguments.
            state: The `TrainerState` after training.
            **facts: The other fields of this class.
        """
        metrics = _last_evaluation(state, is_best_loaded=args.load_best_model_at_end)
        by_size = metrics_by_size(metrics)
        sizes = tuple(SizeFacts.counted(model, size, by_size.get(str(size), {})) for size in model.config.subnetworks)
        stages = {args.stage: {name: getattr(args, name) for name in RECIPE_FIELDS}}
        return cls(model_class=elastic_class_name(model), sizes=sizes, **{"stages": stages, **facts})

    @property
    def metric(self) -> str | None:
        """The metric to compare sizes by: the first that is not a loss."""
        names = [name for size in self.sizes for name in size.metrics]
        return next((name for name in names if not name.endswith("loss")), next(iter(names), None))

    @property
    def head(self) -> str:
        """The suffix of the model's class that names its head."""
        return task_of(self.model_class).head


def _last_evaluation(state: Any, *, is_best_loaded: bool) -> Mapping[str, Any]:
    """The metrics in the log of a training that were measured on the weights it ended with; empty if none were.

    After training an evaluation is logged with the number of the last step, whichever weights were loaded as the best.
    """
    history = state.log_history
    begins_after = max((number + 1 for number, entry in enumerate(history) if "train_runtime" in entry), default=0)
    best = state.best_global_step if is_best_loaded and state.best_model_checkpoint is not None else None
    while_training = state.global_step if best is None else best
    found: dict[str, Any] = {}
    for number, entry in reversed(list(enumerate(history))):
        step = state.global_step if number >= begins_after else while_training
        if entry["step"] == step and metrics_by_size(entry):  # several evaluation sets have an entry each
            found = {**entry, **found}
    return found


def write_model_card(folder: str | Path, facts: ModelCardFacts) -> Path:
    """Write `README.md`, the card of a model, into the folder of that model, and return its path.

    Raises:
        ValueError: If the card would contain an access token.
    """
    card = render_model_card(facts)
    path = Path(folder) / "README.md"
    card.save(path)
    return path


def render_model_card(facts: ModelCardFacts) -> ModelCard:
    """The card of a model, with the metadata that the Hub reads.

    Raises:
        ValueError: If the card would contain an access token.
    """
    card = ModelCard.from_template(
        _metadata(facts),
        template_path=str(TEMPLATE),
        facts=facts,
        auto_class="AutoModel" + facts.head.removeprefix("Model"),
        revision=f', revision="{facts.revision}"' if facts.revision else "",
        example=facts.sizes[0].subnetwork if facts.sizes else SubNetwork(0.5, 0.5),
        summary=_summary(facts),
        table=_size_table(facts),
        measured=_how_measured(facts),
        made=_how_made(facts),
        recipe=_stage_table(facts),
        versions=_versions(),
        limits=_limits(facts),
    )
    if re.search(r"\bhf_[A-Za-z0-9]{20,}", str(card)):
        raise ValueError(
            "The card would contain an access token of the Hub. Look where it stands in the facts of the card, remove "
            "it there, and revoke it if it was ever published."
        )
    return card


def _metadata(facts: ModelCardFacts) -> ModelCardData:
    task, dataset = task_of(facts.model_class).pipeline, facts.dataset_id or "unknown"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=dataset,
            dataset_name=facts.dataset_name or facts.dataset_id or "evaluation data",
            metric_type=metric,
            metric_name=f"{metric} of {size.subnetwork}",
            metric_value=value,
        )
        for size in facts.sizes
        for metric, value in size.metrics.items()
        if math.isfinite(value)
    ]
    metrics = sorted({name for size in facts.sizes for name in size.metrics if not name.endswith("loss")})
    return ModelCardData(
        language=facts.language,
        license=facts.license,
        library_name="transformers",
        pipeline_tag=task,
        base_model=facts.parent or (facts.base_model if _is_hub_id(facts.base_model) else None),
        datasets=[facts.dataset_id] if facts.dataset_id else None,
        metrics=metrics or None,
        tags=list(dict.fromkeys(["dynabert", "elastic", "distillation", *facts.tags])),
        model_name=facts.title if results else None,
        eval_results=results or None,
    )


def _is_hub_id(name: str | None) -> bool:
    if not name or Path(name).exists() or name.count("/") > 1:
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _size_table(facts: ModelCardFacts) -> str:
    metrics = list(dict.fromkeys(name for size in facts.sizes for name in size.metrics))
    metrics.sort(key=lambda name: name.endswith("loss"))  # last
    has_latency = any(size.latency_ms is not None for size in facts.sizes)
    header = ["size", "width", "depth", *metrics, "parameters", "FLOPs", *(["latency"] if has_latency else [])]
    rows = []
    for size in facts.sizes:
        cells = [f"`{size.subnetwork}`", f"{size.subnetwork.width:g}", f"{size.subnetwork.depth:g}"]
        cells += [f"{size.metrics[name]:.4f}" if name in size.metrics else "" for name in metrics]
        cells += [f"{size.parameters / 1e6:.2f} M", f"{size.flops / 1e9:.3f} G"]
        if has_latency:
            cells.append("" if size.latency_ms is None else f"{size.latency_ms:.1f} ms")
        rows.append(cells)
    return _table(header, rows)


def _summary(facts: ModelCardFacts) -> str:
    family = "RoBERTa" if "Roberta" in facts.model_class else "BERT"
    widths = sorted({size.subnetwork.width for size in facts.sizes})
    depths = sorted({size.subnetwork.depth for size in facts.sizes})
    if not facts.sizes:
        return f"One {family} that holds many usable sizes (DynaBERT), chosen at run time."
    if len(facts.sizes) == 1:
        return f"One size, `{facts.sizes[0].subnetwork}`, of an elastic {family} (DynaBERT), extracted to stand alone."
    return (
        f"One {family} that holds {len(facts.sizes)} usable sizes (DynaBERT): every layer can run with "
        f"{_list(widths)} of its attention heads and feed-forward neurons, and the network with {_list(depths)} of its "
        "layers. A size is chosen at run time, without loading anything again."
    )


def _list(multipliers: list[float]) -> str:
    names = [f"{number:g}" for number in multipliers]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _how_measured(facts: ModelCardFacts) -> str:
    on = facts.dataset_name or facts.dataset_id
    sentences = []
    if facts.metric:
        sentences.append(f"Metrics were measured on {on}." if on else "Metrics were measured on the evaluation data.")
    sentences.append("FLOPs are of one forward pass on one sequence of 128 tokens; parameters are those of the size.")
    if facts.latency_setting:
        sentences.append(f"Latency: {facts.latency_setting}.")
    if facts.teacher_metrics:
        values = ", ".join(f"{name} {value:.4f}" for name, value in facts.teacher_metrics.items())
        sentences.append(f"The fine-tuned model that all sizes learned from: {values}.")
    return " ".join(sentences)


def _how_made(facts: ModelCardFacts) -> str:
    """What is known of the making; empty if that is nothing."""
    sentences = []
    if _is_hub_id(facts.base_model):
        sentences.append(f"Training began with [{facts.base_model}](https://huggingface.co/{facts.base_model}).")
    if facts.rewired:
        sentences.append(
            "The attention heads and feed-forward neurons of the fine-tuned model were ordered by importance, so that "
            "the important ones are shared by more sizes."
        )
    sentences += [STAGES[stage] for stage in facts.stages if stage in STAGES]
    return " ".join(sentences)


def _stage_table(facts: ModelCardFacts) -> str:
    shown = [_shown_settings(settings) for settings in facts.stages.values()]
    names = [name for name in RECIPE_FIELDS if any(name in settings for settings in shown)]
    if not names:
        return ""
    rows = [[f"`{name}`", *(f"{settings.get(name, '')}" for settings in shown)] for name in names]
    return _table(["setting", *(f"stage `{stage}`" for stage in facts.stages)], rows)


def _shown_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a stage that had an effect, as a person writes them."""
    shown = {name: getattr(value, "value", value) for name, value in settings.items()}
    idle = "num_train_epochs" if shown.get("max_steps", -1) > 0 else "max_steps"
    shown.pop(idle, None)
    if shown.get("strategy") == "grid":
        shown.pop("num_random_subnetworks", None)
    return shown


def _versions() -> str:
    modules = {"transformers": transformers, "torch": torch, "huggingface_hub": huggingface_hub}
    named = [f"{name} {module.__version__}" for name, module in modules.items()]
    return ", ".join([f"Python {platform.python_version()}", *named])


def _limits(facts: ModelCardFacts) -> list[str]:
    limits = []
    if list(facts.stages) == ["width"]:
        limits.append("Only full depth was trained yet. Smaller depths run, and need stage `depth` to be of use.")
    elif facts.stages:
        limits.append("Only the sizes in the table were trained. Others run, and were not measured.")
    metric = facts.metric
    values = [size.metrics[metric] for size in facts.sizes if metric in size.metrics] if metric else []
    if len(values) > 1:
        limits.append(f"The sizes differ: `{metric}` lies between {min(values):.4f} and {max(values):.4f}.")
    limits.append("Biases and errors of the model and data that training began with are likely still there.")
    limits.append("FLOPs and latency do not scale alike on all hardware; measure on yours.")
    return limits
