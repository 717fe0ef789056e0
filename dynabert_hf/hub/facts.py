"""The measured facts of which the card of a model is made. What the card looks like is told by `card`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from yaml import YAMLError

from ..families import check_elastic, elastic_class_name, sizes_of, with_others
from ..model.configuration import REFERENCES
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import AnySize, SubNetwork, size_name
from ..sizes.evaluation import stored_metrics
from ..sizes.measured_rows import rows_in_words, rows_of
from ..sizes.metrics import in_telling_order, metrics_by_size, parse_metric_name
from ..sizes.records import SizeRecord
from ..tasks import SENTENCE_ENCODER, Task, is_sentence_encoder, task_of

RECIPE_FIELDS = (
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "auto_find_batch_size",
    "world_size",
    "gradient_accumulation_steps",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "lr_scheduler_type",
    "strategy",
    "num_random_subnetworks",
    "teacher_width",
    "hidden_matching",
    "views",
    "logit_weight",
    "hidden_weight",
    "label_weight",
    "vector_loss",
    "similarity_weight",
    "seed",
)
"""The settings of a stage that a card names. A list of its own, since arguments also hold tokens and paths."""

FIELDS = dict(zip(REFERENCES, ("teacher_metrics", "finetuned_metrics", "baseline_metrics"), strict=True))
"""For each of `REFERENCES` the field that holds its metrics, of facts and of results."""


def references_of(holder: Any) -> dict[str, Mapping[str, float]]:
    """The metrics of the references that facts or a result have, by `REFERENCES`."""
    return {name: getattr(holder, own) for name, own in FIELDS.items() if getattr(holder, own)}


@dataclass(frozen=True)
class ModelCardFacts:
    """All that a card says, measured or given; what is None or empty is left out.

    Args:
        model_class: Name of the model's class.
        sizes: A record for every size, from small to large; the table shows them from large to small.
        title: Heading of the card; None: made of what is known of model and data.
        model_id: Id on the Hub, as the example names it.
        revision: Branch on the Hub, if not the main one.
        parent: Id of the model that this one is a part of, extracted or with a trimmed vocabulary.
        base_model: Id of the model that training began with. Of a folder it is the one that its card or configuration
            names; a path on this machine is left out.
        rewired: Whether heads and neurons were ordered by importance before training.
        teacher_metrics: Metrics of the model that was the first teacher.
        finetuned_metrics: Metrics of the fine-tuned model that training began with, where another one taught.
        baseline_metrics: Metrics of predicting the same for every row.
        dataset_id: Id of the data set on the Hub.
        dataset_name: Its name for people.
        train_rows: How many rows training used.
        eval_rows: How many rows the metrics were measured on; of several evaluation sets for each.
        metric_rows: For each size or reference, and each of its metrics, the rows that it is of, in words, where these
            are others than `eval_rows` of the data set.
        license: Id of a license, such as `apache-2.0`.
        language: Code of a language, such as `en`.
        stages: For each stage that was trained the settings by name, of which the card shows `RECIPE_FIELDS`.
        pictures: For each picture of the card what it shows, and its file in the folder of the model.
        latency_setting: How latency was measured, in words.
        tags: More tags for the Hub to find the model by.
        directions: In which direction a metric is better, `lower` or `higher`, where its name does not say it.
        vocabulary: What `trim_vocabulary` cut, as the configuration of the model has it.
        has_tokenizer: Whether the tokenizer lies beside the model, so that the example can use it.
        is_sentence_encoder: Whether `SentenceTransformer` loads the model.
    """

    model_class: str
    sizes: tuple[SizeRecord, ...]
    title: str | None = None
    model_id: str | None = None
    revision: str | None = None
    parent: str | None = None
    base_model: str | None = None
    rewired: bool = False
    teacher_metrics: Mapping[str, float] = field(default_factory=dict)
    finetuned_metrics: Mapping[str, float] = field(default_factory=dict)
    baseline_metrics: Mapping[str, float] = field(default_factory=dict)
    dataset_id: str | None = None
    dataset_name: str | None = None
    train_rows: int | None = None
    eval_rows: int | Mapping[str, int] | None = None
    metric_rows: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    license: str | None = None
    language: str | None = None
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    latency_setting: str | None = None
    tags: tuple[str, ...] = ()
    directions: Mapping[str, str] = field(default_factory=dict)
    vocabulary: Mapping[str, Mapping[str, float]] | None = None
    has_tokenizer: bool = False
    is_sentence_encoder: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_model", public_name(self.base_model))

    @classmethod
    def from_records(cls, model: ElasticModelMixin, records: Iterable[SizeRecord], **facts: Any) -> ModelCardFacts:
        """Facts of a model from the records of its sizes, such as those of `train_dynabert`.

        Args:
            model: The elastic model.
            records: What was measured and counted of its sizes, from small to large.
            **facts: The other fields of this class.
        """
        check_elastic(model)
        told = {
            "directions": model.config.metric_directions or {},
            "vocabulary": model.config.trimmed_vocabulary,
            "is_sentence_encoder": is_sentence_encoder(model),
            **facts,
        }
        return cls(model_class=elastic_class_name(model), sizes=tuple(records), **told)

    @classmethod
    def from_stored(cls, model: ElasticModelMixin, **facts: Any) -> ModelCardFacts:
        """Facts of a model from the metrics that its configuration holds, of its sizes and what they compare with.

        Args:
            model: The elastic model.
            **facts: The other fields of this class.
        """
        check_elastic(model)
        stored = stored_metrics(model.config)
        sizes = with_others(sizes_of(model), (name for name in stored if name not in REFERENCES), model.config)
        records = [SizeRecord.counted(model, size, stored.get(size_name(size), {})) for size in sizes]
        told = {FIELDS[name]: stored[name] for name in REFERENCES if name in stored}
        return cls.from_records(model, records, **{**told, "metric_rows": model.config.metric_rows or {}, **facts})

    @classmethod
    def from_training(
        cls,
        model: ElasticModelMixin,
        args: Any,
        state: Any,
        *,
        same_rows_since: Mapping[str, int] | None = None,
        **facts: Any,
    ) -> ModelCardFacts:
        """Facts of a model as its training left it; metrics are of the last evaluation of these very weights.

        Args:
            model: The elastic model that was trained.
            args: The training arguments.
            state: The `TrainerState` after training.
            same_rows_since: For what the names of metrics begin with, such as `eval`, the number of the first entry of
                the log that is of the rows that were measured last; None: all are.
            **facts: The other fields of this class.
        """
        metrics = _last_evaluation(state, same_rows_since or {}, is_best_loaded=args.load_best_model_at_end)
        by_size = metrics_by_size(metrics)
        records = [SizeRecord.counted(model, size, by_size.get(size_name(size), {})) for size in sizes_of(model)]
        settings = {name: getattr(args, name) for name in RECIPE_FIELDS}
        if state.train_batch_size is not None:  # which `auto_find_batch_size` may have made smaller
            settings["per_device_train_batch_size"] = state.train_batch_size
        stages = {args.stage: settings}
        return cls.from_records(model, records, **{"stages": stages, **facts})

    @property
    def metric(self) -> str | None:
        """The metric to compare sizes by: the most telling one; None if nothing was measured."""
        return next(iter(self.metrics), None)

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics, the most telling first and losses last."""
        return in_telling_order(name for size in self.sizes for name in size.metrics)

    @property
    def smallest(self) -> AnySize:
        """The smallest size, for examples; of a model whose sizes are not known one that most models have."""
        return self.sizes[0].size if self.sizes else SubNetwork(0.5, 0.5)

    @property
    def stands_alone(self) -> bool:
        """Whether the model is one size, extracted, so that there is no other to switch to."""
        return len(self.sizes) == 1

    @property
    def references(self) -> dict[str, Mapping[str, float]]:
        """The metrics of what sizes are compared with, by `REFERENCES`: those that a size has, too."""
        compared = set(self.metrics)
        own = {
            name: {metric: value for metric, value in told.items() if metric in compared}
            for name, told in references_of(self).items()
        }
        return {name: told for name, told in own.items() if told}

    @property
    def by_name(self) -> dict[str, Mapping[str, float]]:
        """The metrics of all sizes, from large to small, and of the references."""
        return {**{record.name: record.metrics for record in reversed(self.sizes)}, **self.references}

    @property
    def rows(self) -> dict[str, dict[str, str]]:
        """Of all metrics in words the rows that they are of."""
        own = rows_of(self.by_name, rows_in_words(self.eval_rows, self.data))
        return {name: {**rows, **self.metric_rows.get(name, {})} for name, rows in own.items()}

    @property
    def data(self) -> str:
        """What the evaluation data are called."""
        return self.dataset_name or self.dataset_id or "the evaluation data"

    @property
    def heading(self) -> str:
        """The title that was given, else one that names model and data as far as they are known."""
        if self.title is not None:
            return self.title
        model = self.base_model.rpartition("/")[2] if self.base_model else "DynaBERT"
        data = self.dataset_name or self.dataset_id
        sizes = f" in {len(self.sizes)} sizes" if len(self.sizes) > 1 else ""
        return f"{model}{sizes}" + (f", {data}" if data else "")

    @property
    def head(self) -> str:
        """The suffix of the model's class that names its head."""
        return self.task.head

    @property
    def task(self) -> Task:
        """The task of the model."""
        return SENTENCE_ENCODER if self.is_sentence_encoder else task_of(self.model_class)


def _last_evaluation(state: Any, same_rows_since: Mapping[str, int], *, is_best_loaded: bool) -> Mapping[str, Any]:
    """The metrics in the log of a training that were measured on the weights it ended with; empty if none were.

    After training an evaluation is logged with the number of the last step, whichever weights were loaded as the best.
    """
    history = state.log_history
    begins_after = max((number + 1 for number, entry in enumerate(history) if "train_runtime" in entry), default=0)
    best = state.best_model_checkpoint if is_best_loaded else None  # which a later evaluation may have been better than
    while_training = state.global_step if best is None else int(Path(best).name.rpartition("-")[2])
    found: dict[str, Any] = {}
    for number, entry in reversed(list(enumerate(history))):
        step = state.global_step if number >= begins_after else while_training
        if entry["step"] == step:  # several evaluation sets have an entry each, and some sizes may
            splits = {name: parsed.split for name in entry if (parsed := parse_metric_name(name))}
            own = [name for name, split in splits.items() if number >= same_rows_since.get(split, 0)]
            found = {**{name: entry[name] for name in own}, **found}
    return found


def public_name(name: str | None) -> str | None:
    """The id on the Hub of a model; of one in a folder that of its origin, if its card or configuration tells."""
    if not name or is_hub_id(name):
        return name or None
    config, told = Path(name) / "config.json", card_data(name).base_model
    named = list(told) if isinstance(told, list) else [told]
    if config.is_file():
        named.append(json.loads(config.read_text(encoding="utf-8")).get("_name_or_path"))
    return next((each for each in named if is_hub_id(each)), None)


def card_data(folder: str | Path) -> Any:
    """What the card in a folder tells the Hub; empty where there is no card, or none that the Hub could read."""
    path = Path(folder) / "README.md"
    try:
        is_card = path.is_file() and path.read_text(encoding="utf-8").startswith("---\n")
        return ModelCard.load(path, ignore_metadata_errors=True).data if is_card else ModelCardData()
    except (TypeError, ValueError, YAMLError):  # of a page that somebody wrote: no reason to lose what was trained
        return ModelCardData()


def is_hub_id(name: Any) -> bool:
    """Whether this may be the id of a model on the Hub, and is no path here."""
    if not isinstance(name, str) or not name or Path(name).exists() or name.count("/") > 1:
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
