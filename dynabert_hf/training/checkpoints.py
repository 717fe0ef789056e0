"""A training run that goes on exactly where it stopped, from checkpoints that are whole or not there.

What a checkpoint holds is decided by transformers' `Trainer`; here it gets its name only when all of it is written.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, has_length, rotate_checkpoints

from ..files import WRITE_ERRORS, changed, check_writable_folder
from ..messages import get_logger
from .arguments import DynaBertTrainingArguments, decisive

logger = get_logger(__name__)

SEAL = "dynabert_checkpoint.json"
"""File of a whole checkpoint that names what it belongs to, and the size in bytes of all its files."""
LENGTH = ("max_steps", "num_train_epochs")
"""Arguments that say how long to train, which may be longer than before."""
ASIDE = "_partial"
"""Sub-folder in which a checkpoint is written; pushes to the Hub leave out names that begin with an underscore."""


def seal_checkpoint(folder: Path, **belongs_to: Any) -> None:
    """Write down in a checkpoint what it belongs to and which files it has, so that it can be known to be whole."""
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    (folder / SEAL).write_text(json.dumps({**belongs_to, "files": files}, indent=2), encoding="utf-8")


def read_seal(folder: Path) -> dict[str, Any] | None:
    """What `seal_checkpoint` wrote, None if it was never written to its end."""
    try:
        seal = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return seal if isinstance(seal, dict) and isinstance(seal.get("files"), dict) else None


def broken_part(folder: Path) -> str | None:
    """Why training cannot go on from a checkpoint, None if it can."""
    seal = read_seal(folder)
    if seal is None:
        return f"it has no {SEAL}, which is written last"
    for name, size in seal["files"].items():
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found is None:
            return f"its {name} is missing"
        if found != size:
            return f"its {name} has {found:,} bytes of {size:,}"
    if seal.get("save_only_model"):
        return "it holds the model without the state of the optimiser (save_only_model=True)"
    return None


def last_whole_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint with the most steps in the output folder of a run that training can go on from."""
    steps = {
        int(path.name.rpartition("-")[2]): path
        for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if path.name.rpartition("-")[2].isdigit()
    }
    return next((steps[step] for step in sorted(steps, reverse=True) if broken_part(steps[step]) is None), None)


def checkpoint_to_resume(folder: str | Path) -> Path | None:
    """The last whole checkpoint that the main process sees, the same on all processes, whatever each of them sees."""
    [checkpoint] = broadcast_object_list([last_whole_checkpoint(folder)])
    return checkpoint


@dataclass(frozen=True)
class _Resumed:
    """A checkpoint that training goes on from, and its seal and state as they were before rotation may remove it."""

    checkpoint: Path
    seal: dict[str, Any]
    state: TrainerState

    @classmethod
    def read(cls, checkpoint: Path) -> _Resumed:
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        return cls(checkpoint, read_seal(checkpoint) or {}, state)

    def is_end(self, max_steps: int) -> bool:
        """Whether its training was over, at its last step or because it was stopped."""
        callbacks: Any = self.state.stateful_callbacks
        was_stopped = callbacks.get("TrainerControl", {}).get("args", {}).get("should_training_stop") and (
            self.state.max_steps == max_steps  # else it was asked to train longer
        )
        return bool(self.state.global_step >= max_steps or was_stopped)

    def place(self, steps_in_pass: int, *, is_stream: bool) -> tuple[int, int] | None:
        """How often the data were read, and how many steps of the next pass were taken; None: they were others.

        Args:
            steps_in_pass: The steps of a pass; of a stream, whose end nobody knows, as many as there may be.
            is_stream: Whether the data are a stream.
        """
        if "place" not in self.seal or not (is_stream or steps_in_pass == self.seal["steps_in_pass"]):
            return None
        passes, steps = self.seal["place"]
        return passes, steps_in_pass if steps is None else steps

    def best(self, output_dir: Path) -> Path | None:
        """The best checkpoint so far, if it lies beside this one; named by `output_dir` if it lies in there.

        A run may have been moved, copied or started from another working folder since its path was written down.
        """
        recorded = self.state.best_model_checkpoint
        if recorded is None:
            return None
        beside = self.checkpoint.parent / Path(recorded).name
        if not beside.is_dir():
            return None
        own = output_dir / beside.name  # rotation spares it by its path
        return own if own.is_dir() and own.samefile(beside) else beside


class RecoverableTrainer(Trainer):
    """transformers' `Trainer`, whose checkpoints are whole or not there, and which resumes from no other.

    A checkpoint is written into a folder aside, sealed, and renamed: a run may be killed at any moment. Resumed on as
    many processes, training gives the weights of a run that never stopped, bit for bit on a CPU.
    """

    args: DynaBertTrainingArguments
    _is_saving = False
    _ends_pass = False
    _pass, _pass_began_at, _steps_in_pass = 0, 0, 0
    _resumed: _Resumed | None = None

    def __init__(self, *args: Any, **kwargs: Any):
        if "args" in kwargs and not Path(kwargs["args"].output_dir).exists():
            check_writable_folder(kwargs["args"].output_dir)
        super().__init__(*args, **kwargs)
        self.add_callback(_BestWhereItLies(self))
        self.add_callback(_EndsOfPasses(self))

    def checkpoint_facts(self) -> dict[str, Any]:
        """What a checkpoint has to agree in with this training to be resumed from; JSON values."""
        return {}

    def save_beside(self, checkpoint: Path) -> None:
        """Put into a checkpoint what else training needs to go on."""

    def load_beside(self, checkpoint: Path) -> None:
        """Take that from a whole checkpoint that training goes on from."""

    def before_weights_change(self) -> None:
        """Do what has to come before training, once nothing was refused."""

    def train(self, resume_from_checkpoint: str | Path | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train as transformers does, resuming only from a whole checkpoint of this very training.

        Args:
            resume_from_checkpoint: A checkpoint; True: the last whole one in `output_dir`.
            *args: Passed on to transformers.
            **kwargs: Passed on to transformers.

        Raises:
            ValueError: If there is no such checkpoint, it is not whole, or it belongs to another training.
            OSError: If a checkpoint could not be written to `output_dir`.
        """
        folder = Path(str(self.args.output_dir))
        if resume_from_checkpoint is True:
            resume_from_checkpoint = str(checkpoint_to_resume(folder) or "")
            if not resume_from_checkpoint:
                raise ValueError(
                    f"output_dir={str(folder)!r} holds no whole checkpoint to resume from. Train without "
                    "resume_from_checkpoint to begin anew."
                )
        self._resumed = None
        if resume_from_checkpoint:
            self._check_resumable(Path(resume_from_checkpoint))
            self._resumed = _Resumed.read(Path(resume_from_checkpoint))
            self.load_beside(Path(resume_from_checkpoint))
        if self.args.should_save and self.args.save_strategy != "no":
            check_writable_folder(folder)
            shutil.rmtree(folder / ASIDE, ignore_errors=True)
        self.before_weights_change()
        try:
            return super().train(str(resume_from_checkpoint) if resume_from_checkpoint else None, *args, **kwargs)
        finally:
            self.is_in_train = False  # also where somebody stopped it
            noise = getattr(self, "neftune_hook_handle", None)
            if noise is not None:
                noise.remove()

    def get_train_dataloader(self) -> DataLoader:
        """As transformers makes it; workers that stay draw no seed from what training draws from.

        They draw it once, in the first epoch, and would do so in a later one where training goes on.
        """
        loader: Any = super().get_train_dataloader()
        if self.args.dataloader_persistent_workers:
            loader.base_dataloader.generator = torch.Generator().manual_seed(self.args.seed)
        return loader

    def _check_resumable(self, checkpoint: Path) -> None:
        """Refuse a checkpoint that is not whole or of another training, and name arguments that have changed since."""
        broken = broken_part(checkpoint)
        if broken is not None:
            whole = last_whole_checkpoint(checkpoint.parent)
            advice = f"Resume from {str(whole)!r}, the last whole one." if whole else "There is no whole one beside it."
            raise ValueError(f"Training cannot go on from {str(checkpoint)!r}: {broken}. {advice}")
        seal = read_seal(checkpoint) or {}
        facts = {name: value for name, value in self.checkpoint_facts().items() if name in seal}  # else of a release
        was, now = changed(seal, facts)
        if now:
            raise ValueError(
                f"The checkpoint {str(checkpoint)!r} is of a training with {was}, this one has {now}. Resume from a "
                "checkpoint of this training, or load that model with from_pretrained and train it anew."
            )
        before = seal.get("arguments", {})  # which those of older releases do not have
        asked = {name: value for name, value in self._arguments().items() if name in before and name not in LENGTH}
        was, now = changed(before, asked)
        if now:
            logger.warning(
                f"The checkpoint {str(checkpoint)!r} was trained with {was}, now {now} is asked. As in transformers' "
                "Trainer, the optimiser goes on with what the checkpoint holds of its settings, such as the learning "
                "rate. Resume with the same arguments, or load that model with from_pretrained and train it anew."
            )

    def _arguments(self) -> dict[str, Any]:
        """The arguments that decide the weights, and the number of rows, as JSON holds them."""
        rows: Any = self.train_dataset
        num_rows = len(rows) if has_length(rows) else None
        arguments: dict[str, Any] = json.loads(json.dumps(decisive(self.args), default=str))
        return {**arguments, "num_rows": num_rows}

    def _init_training_state(self, max_steps: int, num_update_steps_per_epoch: int, *args: Any) -> tuple[int, int]:
        """The pass to begin with and the batches of it that were trained on, as the checkpoint tells.

        transformers would look for the place in a stream in the first pass, takes an epoch that a callback ended early
        for a whole one, and a pass whose end was still to come, with its evaluation, for one that was over.
        """
        passes, batches = super()._init_training_state(max_steps, num_update_steps_per_epoch, *args)
        if self._resumed is None or self.args.ignore_data_skip:
            return passes, batches
        place = self._resumed.place(num_update_steps_per_epoch, is_stream=not has_length(self.train_dataset))
        return (passes, batches) if place is None else (place[0], place[1] * self.args.gradient_accumulation_steps)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train an epoch, but not one step more after a checkpoint that is the last of its training."""
        resumed, accumulated = self._resumed, self.args.gradient_accumulation_steps
        self._pass, self._steps_in_pass = kwargs["epoch"], kwargs["num_update_steps_per_epoch"]
        is_first = self._pass == kwargs["epochs_trained"]
        before = kwargs["steps_trained_in_current_epoch"] // accumulated if is_first else 0
        is_at_checkpoint = resumed is not None and self.state.global_step == resumed.state.global_step
        if resumed is not None and is_at_checkpoint and resumed.is_end(self.state.max_steps):
            self.control.should_training_stop = True
            if before == 0:
                return
            before = self._steps_in_pass  # only the end of the pass is left
            kwargs["steps_trained_in_current_epoch"] = before * accumulated
        if is_at_checkpoint:
            self.control.should_save = False  # as it was when that was written
        self._pass_began_at = self.state.global_step - before
        self.state.epoch = max(self.state.epoch or 0, kwargs["epoch"])  # else too low after one that ended early
        super()._run_epoch(*args, **kwargs)
        if resumed is not None and before >= self._steps_in_pass:  # where transformers trains nothing, it restores none
            self._load_rng_state(str(resumed.checkpoint))

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        """Evaluate while training; at its start (`skip_scheduler`) only where that is no checkpoint.

        What a checkpoint was saved with was measured before, and early stopping would count it twice.
        """
        if skip_scheduler and self._resumed:
            return {}
        metrics: dict[str, float] = super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
        return metrics

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return str(Path(folder) / ASIDE) if self._is_saving else folder

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push a whole checkpoint as transformers does, with the code that lies in it."""
        if self._is_saving:
            return
        if self.args.should_save:
            for file in Path(checkpoint_folder).glob("*.py"):
                shutil.copyfile(file, Path(str(self.args.output_dir)) / file.name)
        super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint aside, and give it its name when it is whole; only then are older ones removed.

        Raises:
            OSError: If it could not be written; older ones stay.
        """
        folder = Path(self._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        try:
            self._is_saving = True
            super()._save_checkpoint(model, trial)
            self._is_saving = False
            self.accelerator.wait_for_everyone()
            if self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(folder / name)
            if self.args.should_save:
                self._complete(folder / ASIDE / name, folder / name)
        except WRITE_ERRORS as error:
            shutil.rmtree(folder / ASIDE, ignore_errors=True)
            kept = last_whole_checkpoint(folder)
            raise OSError(
                f"The checkpoint of step {self.state.global_step} could not be written to {str(folder)!r}: {error}. "
                f"{f'The last whole checkpoint, {str(kept)!r}, is kept' if kept else 'There is no earlier one'}. Make "
                "room or give another output_dir, and resume."
            ) from error
        finally:
            self._is_saving = False
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder / name))
        if self.args.should_save:
            rotate_checkpoints(
                output_dir=str(folder),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )

    def _complete(self, written: Path, final: Path) -> None:
        """Seal a checkpoint and move it to where it belongs, in place of one of the same step."""
        self.save_beside(written)
        self.state.save_to_json(str(written / TRAINER_STATE_NAME))  # again: now it names the best checkpoint as it is
        facts = {"save_only_model": self.args.save_only_model, "arguments": self._arguments()}
        steps = None if self.control.should_epoch_stop else self.state.global_step - self._pass_began_at  # None: all
        place = (self._pass + 1, 0) if self._ends_pass else (self._pass, steps)
        facts |= {"place": place, "steps_in_pass": self._steps_in_pass}
        seal_checkpoint(written, **facts, **self.checkpoint_facts())
        if final.exists():
            final.rename(written.with_name("replaced"))
        written.rename(final)
        shutil.rmtree(written.parent, ignore_errors=True)


class _BestWhereItLies(TrainerCallback):
    """Lets a training that goes on find its best checkpoint where it lies now, not where it was written."""

    def __init__(self, trainer: RecoverableTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        resumed = self.trainer._resumed
        best = resumed.best(Path(str(args.output_dir))) if resumed else None
        if best is not None and state.best_model_checkpoint != str(best):
            logger.warning(f"The best checkpoint so far lies in {str(best)!r} now, and is taken from there.")
            state.best_model_checkpoint = str(best)


class _EndsOfPasses(TrainerCallback):
    """Tells a trainer whether a pass over the data is over, so that a checkpoint says it and no end comes twice."""

    def __init__(self, trainer: RecoverableTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer._ends_pass = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer._ends_pass = True
