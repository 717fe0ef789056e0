"""The table of what sub-networks cost: to select from, to save in several forms, and to choose a size by.

Measuring is left to `profiling`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

from ..model.subnetwork import LayerShape, SubNetwork, parse_size, size_name
from .choosing import Candidate, make_candidates


@dataclass(frozen=True)
class Profile:
    """The costs of one sub-network under one setting. What was not measured is None.

    Args:
        subnetwork: The size, as layer shapes where no width and depth describe it.
        parameters: Number of parameters, the head included.
        embedding_parameters: Those of the embeddings.
        encoder_parameters: Those of the layers.
        flops: Floating-point operations of one forward pass, as `count_flops` counts them.
        batch_size: Sequences per forward pass.
        sequence_length: Tokens per sequence.
        runtime: What runs the model: `torch`, `torch.compile` or `onnxruntime`.
        dtype: Number format of weights and computation: `float32`, `bfloat16`, `float16` or `int8`.
        device: Where it runs.
        threads: Threads used within one operation.
        latency_ms: Median time of a forward pass in milliseconds.
        latency_spread_ms: Interquartile range of that time in milliseconds.
        memory_mb: Peak memory in units of 2**20 bytes. In torch weights and what a forward pass holds at most; in ONNX
            Runtime by how much a new process grows that loads the graph and runs it, which is more than its tensors.
        runs: Number of timed forward passes.
    """

    subnetwork: SubNetwork | tuple[LayerShape, ...]
    parameters: int
    embedding_parameters: int
    encoder_parameters: int
    flops: int
    batch_size: int
    sequence_length: int
    runtime: str = "torch"
    dtype: str = "float32"
    device: str = "cpu"
    threads: int | None = None
    latency_ms: float | None = None
    latency_spread_ms: float | None = None
    memory_mb: float | None = None
    runs: int | None = None

    @property
    def name(self) -> str:
        """The size as text, `w0.5-d0.75`."""
        return size_name(self.subnetwork)

    @property
    def setting(self) -> dict[str, Any]:
        """What was the same for every size measured together with this one."""
        return {name: getattr(self, name) for name in SETTING}


SETTING = ("runtime", "dtype", "batch_size", "sequence_length")
"""The fields that tell one setting of a table from another."""


SUFFIXES = (".json", ".csv", ".md")
"""What a table can be saved as."""


@dataclass(frozen=True)
class ProfileTable:
    """Profiles of several sizes under one or more settings.

    Args:
        profiles: One for each size and setting.
        left_out: For each runtime and number format that was asked for and does not exist together, why not.
        machine: What it was measured on.
    """

    profiles: tuple[Profile, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Profile]:
        return iter(self.profiles)

    def __len__(self) -> int:
        return len(self.profiles)

    def select(self, **setting: Any) -> ProfileTable:
        """The part of the table with these values, such as `runtime="torch", batch_size=1`.

        Raises:
            ValueError: If no profile has them, or a name is no field of a setting.
        """
        unknown = [name for name in setting if name not in SETTING]
        if unknown:
            raise ValueError(f"{unknown} are no fields of a setting. Possible are {list(SETTING)}.")
        wanted = setting.items()
        found = tuple(one for one in self if all(getattr(one, name) == value for name, value in wanted))
        if not found:
            raise ValueError(f"No profile has {setting}. Measured were {self.settings}; choose among these.")
        return replace(self, profiles=found)

    def candidates(self, accuracy: Mapping[Any, float] | Callable[[Any], float]) -> tuple[Candidate, ...]:
        """What `recommend` and `pareto_front` choose from.

        Args:
            accuracy: Accuracy of a size, as a table by size or by its text, or as a function that measures it.

        Raises:
            ValueError: If the table holds several settings, whose costs would be mixed, or no size has an accuracy.
        """
        settings = self.settings
        if len(settings) != 1:
            raise ValueError(
                f"The table holds {len(settings)} settings: {settings}. Take one of them: with select(), or on the "
                "command line with --runtime, --dtype, --batch-size and --sequence-length."
            )
        if isinstance(accuracy, Mapping):
            accuracy = {
                parse_size(size) if isinstance(size, str) else size: number for size, number in accuracy.items()
            }
        return make_candidates(accuracy, {one.subnetwork: asdict(one) for one in self})

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The settings that were measured, in their order."""
        return [dict(setting) for setting in dict.fromkeys(tuple(one.setting.items()) for one in self)]

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for each profile, its size as text."""
        return [{"size": one.name, **{name: getattr(one, name) for name in _COLUMNS}} for one in self]

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`.

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "to_pandas needs pandas, which is not installed. Install it with `pip install pandas`, or take rows()."
            ) from error
        return pandas.DataFrame(self.rows())

    def to_json(self) -> str:
        """The table as JSON text, which `from_json` reads."""
        content = {"machine": dict(self.machine), "left_out": dict(self.left_out), "profiles": self.rows()}
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ProfileTable:
        """The table that `to_json` wrote.

        Raises:
            ValueError: If the text is no such table.
        """
        try:
            content = json.loads(text)
            profiles = [Profile(parse_size(row.pop("size")), **row) for row in content["profiles"]]
            return cls(tuple(profiles), content["left_out"], content["machine"])
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"The text is not a table of profiles ({error!r}). Give what to_json wrote.") from error

    def to_csv(self) -> str:
        """The table as CSV text with a header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["size", *_COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return text.getvalue()

    def to_markdown(self) -> str:
        """The table for people, with units, in GitHub's Markdown."""
        header = ["size", "parameters", "GFLOPs", "runtime", "dtype", "device", "batch", "tokens", "ms", "± ms", "MB"]
        lines = [header, ["---", "---:", "---:", *["---"] * 3, *["---:"] * 5]]
        for one in self:
            measured = (one.latency_ms, one.latency_spread_ms, one.memory_mb)
            numbers = ["" if number is None else f"{number:.4g}" for number in measured]
            counted = [f"{one.parameters / 1e6:.1f} M", f"{one.flops / 1e9:.3g}"]
            setting = [one.runtime, one.dtype, one.device, str(one.batch_size), str(one.sequence_length)]
            lines.append([one.name, *counted, *setting, *numbers])
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def save(self, path: str | PathLike) -> None:
        """Write the table to a file; its suffix decides the form: `.json`, `.csv` or `.md`.

        Raises:
            ValueError: If the suffix is another one.
        """
        check_suffix(path)
        forms = {".json": self.to_json, ".csv": self.to_csv, ".md": self.to_markdown}
        Path(path).write_text(forms[Path(path).suffix](), encoding="utf-8")


def check_suffix(path: str | PathLike) -> None:
    """Whether a table can be saved under this name, to be known before it is measured.

    Raises:
        ValueError: If the suffix is none of `SUFFIXES`.
    """
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f"{str(path)!r} is no name for a table. Possible suffixes are {list(SUFFIXES)}; give one.")


_COLUMNS = [column.name for column in fields(Profile) if column.name != "subnetwork"]
