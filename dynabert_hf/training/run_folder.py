"""The folder of a run of the recipe: what it was made with, what is done, and what may go when all is done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..files import check_writable_folder, write_whole
from ..model.elastic_model import ElasticModelMixin
from .checkpoints import ASIDE

REWIRED = "1-rewired"
"""Where a run leaves the rewired model and its importance."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    What a step leaves there, a checkpoint or its model, belongs to the settings that it was made with. They stand in
    `run.json`, and other ones are refused from then on. What failed before it left anything may be called again with
    any.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def model(self) -> Path:
        """Where the result lies. It is there as a whole when the run is finished, and not before."""
        return self.path / "model"

    @property
    def settings_file(self) -> Path:
        """Where the settings of every step stand."""
        return self.path / "run.json"

    def is_finished(self) -> bool:
        """Whether the result is there; the same on all processes, whatever each of them sees."""
        [is_done] = broadcast_object_list([self.model.exists()])
        return bool(is_done)

    def check_model(self) -> None:
        """Check that a result that is there is one of the recipe.

        Raises:
            ValueError: If it is not.
        """
        if self.model.exists() and not self.settings_file.exists():
            raise ValueError(
                f"output_dir={str(self.path)!r} holds a folder 'model' that no run of the recipe left, and that "
                "would be overwritten. Give another output_dir, or move that folder."
            )

    def check(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Check that nothing in the folder was made with other settings, or by something else. Nothing is written.

        Args:
            settings: For each step of the run, by its folder and in order, what decides its result.

        Raises:
            ValueError: If something was.
        """
        self.check_model()
        now = _as_json(settings)
        if not self.settings_file.exists():
            return
        before = json.loads(self.settings_file.read_text(encoding="utf-8"))
        bound = list(before) if self.model.exists() else self._with_results(list(before))
        changed: dict[str, tuple[Any, Any]] = {}
        if list(now)[: len(bound)] != bound or (self.model.exists() and list(now) != bound):
            changed["steps"] = (list(before), list(now))
        for step in bound:
            changed |= _differences(before[step], now.get(step, {}))
        if changed:
            was, asked = ({name: values[index] for name, values in changed.items()} for index in (0, 1))
            raise ValueError(
                f"output_dir={str(self.path)!r} holds a run with {was}, now {asked} is asked. Give the same settings "
                "to go on with it, or another output_dir."
            )

    def open(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Make the folder and write down the settings of its run, which were checked.

        Raises:
            OSError: If it cannot be made or written to, or is not one folder for all processes.
        """
        PartialState().wait_for_everyone()  # until all have checked
        check_writable_folder(self.path)
        if PartialState().is_main_process:
            content = json.dumps(_as_json(settings), indent=2)
            write_whole(self.settings_file, lambda partial: partial.write_text(content, encoding="utf-8"))
        PartialState().wait_for_everyone()
        self._check_shared()

    def _check_shared(self) -> None:
        """Refuse a folder in which a process does not find what the main one wrote: it could load no finished step."""
        own = self.settings_file in self.path.iterdir()  # listed: a shared disk may remember it as missing
        blind = [process for process, sees in enumerate(gather_object([own])) if not sees]
        if blind:
            raise OSError(
                f"output_dir={str(self.path)!r} is another folder for process {', '.join(map(str, blind))} than for "
                "the main one, and all load what that writes. Nothing was trained. Give a folder on a disk that all "
                "machines share, by a path that is the same on all."
            )

    def once(
        self, step: str, elastic_class: Any, fields: Mapping[str, Any], make: Callable[[], ElasticModelMixin]
    ) -> ElasticModelMixin:
        """The model of a finished step, loaded if it is there and else made and saved, whole or not at all.

        Args:
            step: Its folder.
            elastic_class: The class of its model.
            fields: What its configuration has in any case, whatever was saved.
            make: Makes it.
        """
        folder = self.path / step / "model"
        [is_done] = broadcast_object_list([folder.exists()])  # all processes go one way, whatever each of them sees
        if not is_done:
            made = make()
            if PartialState().is_main_process:
                folder.parent.mkdir(exist_ok=True)
                write_whole(folder, made.save_pretrained)
            PartialState().wait_for_everyone()
        return elastic_class.from_pretrained(folder, **fields)

    def remove_what_only_resuming_needs(self, steps: Iterable[str]) -> None:
        """Remove checkpoints, models and cards of steps, now that the result is there; logs and importance stay."""
        if PartialState().is_main_process:
            for step in steps:
                folder = self.path / step
                for name in (f"{PREFIX_CHECKPOINT_DIR}-*", ASIDE, "model"):
                    for path in folder.glob(name):
                        shutil.rmtree(path, ignore_errors=True)
                (folder / "README.md").unlink(missing_ok=True)
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
        PartialState().wait_for_everyone()

    def _with_results(self, steps: list[str]) -> list[str]:
        """The steps up to the last one that has left a checkpoint or a model."""
        left = [
            number
            for number, step in enumerate(steps)
            if (self.path / step / "model").exists() or any((self.path / step).glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
        ]
        return steps[: left[-1] + 1] if left else []


def _as_json(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    as_json: dict[str, dict[str, Any]] = json.loads(json.dumps(settings, default=str))
    return as_json


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that both know and that differ; what one does not know came or went with a release."""
    return {name: (before[name], now[name]) for name in now if name in before and before[name] != now[name]}
