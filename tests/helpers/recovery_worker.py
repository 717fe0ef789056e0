"""Runs the recipe in a child process that is killed at a chosen moment, and again until it ends.

Forks a child for every attempt. A moment is an event: a step, a file opened for writing, half written
or removed, a folder made, renamed or removed.
"""

import io
import itertools
import json
import os
import random
import signal
import sys
import traceback
from pathlib import Path

import torch
import transformers.modeling_utils

from dynabert_hf import DynaBertTrainer, train_dynabert
from helpers.recipes import GRID, make_teacher
from helpers.trainers import make_dataset

EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "open for writing", "half written", "step")


STEPWISE = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
"""Four steps a stage, of which three are an epoch, and a checkpoint every two."""
DEFAULTS = {"num_train_epochs": 3}
"""Three epochs of three steps a stage, saved as the recipe does: after each epoch, and one is kept."""
BEST = {**DEFAULTS, "eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "worst_loss"}
"""The same, where the best epoch counts."""


def run(folder, settings):
    """Three stages, dropout on."""
    train_dynabert(
        make_teacher(num_labels=3, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1),
        train_dataset=make_dataset(12),
        eval_dataset=make_dataset(4),
        **GRID,
        stages=("width", "depth"),
        dropout=None,
        finetune=True,
        keep_stages=True,
        output_dir=folder,
        num_random_subnetworks=1,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        per_device_train_batch_size=4,
        use_cpu=True,
        disable_tqdm=True,
        **settings,
    )


def half_written(save):
    """`save(content, path)`, with an event when half of the file is there."""

    def wrapped(content, path, *args, **kwargs):
        save(content, path, *args, **kwargs)
        if not isinstance(path, io.IOBase):
            whole = Path(path).read_bytes()
            os.truncate(path, len(whole) // 2)
            sys.audit("half written", str(path))
            Path(path).write_bytes(whole)

    return wrapped


def watch(happened):
    """Call a function at every event, with its name and the path."""

    def hook(name, args):
        if name == "open" and isinstance(args[1], str) and "w" in args[1]:
            name = "open for writing"
        if name in EVENTS:
            happened(name, str(args[0]) if args else "")

    def training_step(*args, _original=DynaBertTrainer.training_step, **kwargs):
        sys.audit("step")
        return _original(*args, **kwargs)

    torch.save = half_written(torch.save)
    transformers.modeling_utils.safe_save_file = half_written(transformers.modeling_utils.safe_save_file)
    DynaBertTrainer.training_step = training_step
    sys.addaudithook(hook)


def attempt(folder, is_moment, settings=STEPWISE):
    """Run in a child that kills itself at the first event for which `is_moment(count, name, path)`.

    Returns the events of a child that came to its end, None of one that was killed.
    """
    child = os.fork()
    if child == 0:
        try:
            events = []

            def happened(name, path):
                events.append((name, path))
                if is_moment(len(events), name, path):
                    os.kill(os.getpid(), signal.SIGKILL)

            watch(happened)
            run(folder, settings)
            Path(f"{folder}.json").write_text(json.dumps(events))
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return None
    assert status == 0, status
    return json.loads(Path(f"{folder}.json").read_text())


def never(count, name, path):
    return False


def killed_at_random(folder, events):
    chance = random.Random(0)
    for _ in range(5):
        moment = chance.randrange(len(events) // 6)
        assert attempt(folder, lambda count, *_, moment=moment: count > moment) is None
        print("killed after", moment, "of", len(events), "events", *sorted(folder.glob("*-*")))


def killed_at_chosen_moments(folder, events):
    chosen = (
        lambda count, name, path: name == "half written" and "2-width/_partial" in path and "optimizer" in path,
        lambda count, name, path: name == "os.rename" and "2-width/model" in path,  # trained, not yet there
        lambda count, name, path: "3-depth" in path,  # between the stages
        lambda count, name, path: name == "half written" and "3-depth/_partial/checkpoint-2" in path,
        lambda count, name, path: name == "os.rename" and "3-depth/_partial/checkpoint-4" in path,
        lambda count, name, path: name == "half written" and "killed/model.partial" in path,  # the final model
    )
    for moment in chosen:
        assert attempt(folder, moment) is None
        print("killed")


def killed_in_every_epoch(folder, settings):
    """Kill in the second step of each of the nine epochs, and move the folder before each new start.

    A start trains the epoch that was cut, and is killed in the next. Folders are named from where they lie, so that
    each start has another working folder and no path of the one before.
    """
    for epoch in range(9):
        os.chdir(folder.parent)
        steps = itertools.count(1)
        last = 2 if epoch == 0 else 5
        is_moment = lambda count, name, path, steps=steps, last=last: name == "step" and next(steps) == last  # noqa: E731
        assert attempt(Path(folder.name), is_moment, settings) is None
        print("killed in epoch", epoch + 1, *sorted(path.name for path in folder.glob("*/checkpoint-*")))
        moved = folder.parent.parent / f"place-{epoch}" / "killed"
        moved.parent.mkdir()
        folder = folder.rename(moved)
    os.chdir(folder.parent)
    assert attempt(Path(folder.name), never, settings)
    folder.rename(folder.parent.parent / "killed")


def main(folder, kill):
    folder = folder.resolve()
    settings = {"defaults": DEFAULTS, "best": BEST}.get(kill, STEPWISE)
    events = attempt(folder / "whole", never, settings)
    assert sum(name == "step" for name, _ in events) == (12 if settings is STEPWISE else 27)
    if settings is STEPWISE:
        {"random": killed_at_random, "chosen": killed_at_chosen_moments}[kill](folder / "killed", events)
        assert attempt(folder / "killed", never)
    else:
        (folder / "place").mkdir()
        killed_in_every_epoch(folder / "place" / "killed", settings)
