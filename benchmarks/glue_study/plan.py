"""The configuration of the study: what is trained, how choices are made, and what is compared.

Written down before anything runs: the primary measure of an arm is the mean over the twelve sizes of the divergence
from the teacher, then of the task's official metric. Choices are made on held-out rows of the training split. The
validation split, and the test split where it is labelled, are scored once, by models whose settings were chosen before.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """A data set and what is predicted in it.

    Args:
        dataset: Id on the Hub; a folder may be given for it on the command line.
        text: The one or two columns of text.
        metric: The official metric, a name in `metrics.METRICS`.
        config: Configuration of the data set.
        num_held_out: Rows of the training split that choices are made on.
        num_choice: Rows that models are trained on for choices; None: all that are not held out.
        epochs: Epochs of the recipe and of each rival.
        teacher_epochs: Epochs of the fine-tuning before.
    """

    dataset: str
    text: tuple[str, ...]
    metric: str
    config: str | None = None
    num_held_out: int = 1000
    num_choice: int | None = None
    epochs: float = 2
    teacher_epochs: float = 3


@dataclass(frozen=True)
class Backbone:
    """A pre-trained model.

    Args:
        name: Id on the Hub; a folder may be given for it on the command line.
        teacher_rates: Learning rates that its fine-tuning chooses among, by the metric.
        rates: Learning rates that arms and rivals choose among, from low to high.
    """

    name: str
    teacher_rates: tuple[float, ...]
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Arm:
    """A way to train all sizes together.

    Args:
        words: What it is called in a table.
        arguments: Of `train_dynabert`, beside those of the study.
        epochs: How many times the epochs of the task.
        rate_of: The arm whose rate it takes; None: its own choice.
    """

    words: str
    arguments: dict[str, Any] = field(default_factory=dict)
    epochs: float = 1
    rate_of: str | None = None


@dataclass(frozen=True)
class Rival:
    """A way to train one small model.

    Args:
        words: What it is called in a table.
        judge: What its rate is chosen by: `"divergence"` from the teacher, where it learns from it, or `"metric"`.
        arguments: Of `specialise`, beside those of the study, where it learns from the teacher.
        epochs: How many times the epochs of the task.
        rate_of: The rival whose rate it takes; None: its own choice.
    """

    words: str
    judge: str
    arguments: dict[str, Any] = field(default_factory=dict)
    epochs: float = 1
    rate_of: str | None = None


@dataclass(frozen=True)
class Plan:
    """The whole study."""

    tasks: dict[str, Task]
    backbones: dict[str, Backbone]
    arms: dict[str, Arm]
    rivals: dict[str, Rival]
    seeds: tuple[int, ...] = (0, 1, 2)
    compared: tuple[str, ...] = ("w0.25-d0.5", "w0.5-d0.5", "w0.5-d1", "w1-d0.5")
    """The sizes at which rivals are trained."""

    ideas: tuple[str, ...] = ()
    """Arms that are compared with the recipe on held-out rows, all with the middle one of the rates."""

    specialised_share: float = 0.5
    """Share of an epoch for which an extracted size is distilled on."""

    trainer: dict[str, Any] = field(default_factory=dict)
    """Arguments of every training, such as a device."""


VIEWS = ["mask", "delete", "swap", "splice"]

PLAN = Plan(
    tasks={
        "sst2": Task("nyu-mll/glue", ("sentence",), "accuracy", "sst2", num_held_out=2000, num_choice=10_000),
        "mrpc": Task("nyu-mll/glue", ("sentence1", "sentence2"), "accuracy_and_f1", "mrpc", num_held_out=700, epochs=3),
        "cola": Task("nyu-mll/glue", ("sentence",), "matthews", "cola", epochs=3),
        "rte": Task("nyu-mll/glue", ("sentence1", "sentence2"), "accuracy", "rte", num_held_out=400, epochs=3),
        "stsb": Task("nyu-mll/glue", ("sentence1", "sentence2"), "correlation", "stsb", epochs=3),
        "banking77": Task("mteb/banking77", ("text",), "accuracy", num_held_out=1500, epochs=3, teacher_epochs=6),
    },
    backbones={
        "minilm": Backbone("sentence-transformers/all-MiniLM-L6-v2", (5e-5,), (2e-4, 4e-4, 8e-4)),
        "minilm-tuned": Backbone(
            "sentence-transformers/all-MiniLM-L6-v2", (5e-5, 1e-4, 2e-4, 4e-4), (1e-4, 2e-4, 4e-4, 8e-4)
        ),
        "mpnet": Backbone("sentence-transformers/all-mpnet-base-v2", (2e-5,), (5e-5, 1e-4, 2e-4)),
    },
    arms={
        "recipe": Arm("the recipe"),
        "published": Arm("the published matching", {"hidden_matching": "published"}),
        "own": Arm("own-output matching", {"hidden_matching": "own"}),
        "long": Arm("2.9 times the epochs", epochs=2.9, rate_of="recipe"),
        "fewer": Arm("six sizes", {"widths": (0.25, 0.5, 1.0), "depths": (0.5, 1.0)}),
        "two-stages": Arm("two stages", {"stages": ("width", "depth")}, epochs=0.5),
        "labels-mixed": Arm("labels mixed in", {"label_weight": 0.5}, rate_of="recipe"),
        "views": Arm("fresh views", {"views": VIEWS}),
        "long-views": Arm("2.9 times the epochs on fresh views", {"views": VIEWS}, epochs=2.9, rate_of="recipe"),
    },
    ideas=("published", "own", "long", "fewer", "two-stages", "labels-mixed", "views", "long-views"),
    rivals={
        "alone": Rival("distilled alone", "divergence"),
        "labels": Rival("labels alone", "metric"),
        "first": Rival("first layers", "metric"),
        "alone-views": Rival("distilled alone on fresh views", "divergence", {"views": VIEWS}, rate_of="alone"),
        "alone-long": Rival("distilled alone, half the cost of a joint run", "divergence", epochs=2.1, rate_of="alone"),
    },
)
