"""What the command `dynabert` does: call the package, and print. The command line itself is read by `dynabert_cli`."""

from __future__ import annotations

import os
import sys
import textwrap
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import datasets
from huggingface_hub.errors import HfHubHTTPError
from rich.console import Console
from transformers.utils import logging

from ..families import ModelTypeError
from ..training.callbacks import without_bars_of_files
from .augmentation import augment
from .cascades import choose_cascade
from .demo import demo
from .measurements import evaluate, profile_sizes, show
from .options import options_of, with_options
from .outputs import store_outputs
from .predictions import predict
from .products import export, extract, push, specialise_size, trim
from .recommendation import recommend_size
from .searches import search

_EXPECTED = (ValueError, ModelTypeError, ImportError, OSError, RuntimeError, FloatingPointError, HfHubHTTPError)
"""What a person can do something about; anything else is a mistake of ours and shows where."""


_CALLED = {
    "metrics": "metric",
    "num_candidates": "candidates",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "train_batch_size",
    "sizes": "size",
    "text_columns": "text_column",
}
"""By arguments of Python the options that have other names."""


class _Console(Console):
    def print(self, *objects: Any, **layout: Any) -> None:
        """Print a table that is too wide as it is: cut off at the edge, its last numbers would be others.

        A line that stays whole in a file or pipe (`soft_wrap`) breaks between words in a terminal.
        """
        if self.is_terminal and layout.get("soft_wrap"):
            between_words = textwrap.TextWrapper(self.width, break_long_words=False, break_on_hyphens=False)
            objects = tuple(between_words.fill(str(each)) for each in objects)
        super().print(*objects, **{"crop": False, **layout})

    def on_broken_pipe(self) -> None:
        raise  # to `run`, as where no console prints


def run(arguments: Namespace) -> int:
    """Run one command; an error that was to be expected becomes one line, and the exit code 1."""
    verbosity, verbosity_of_data = logging.get_verbosity(), datasets.logging.get_verbosity()
    logging.set_verbosity_error()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # why a file cannot be read is said by the error
    try:
        with without_bars_of_files():
            code = _COMMANDS[arguments.command](arguments, _Console(highlight=False, markup=False)) or 0
        if sys.stdout is not None:  # where it was closed
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # who read the output has gone, as `head` does; Python flushes it once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except _EXPECTED as error:
        told = with_options(str(error), options_of(arguments, **_CALLED))
        print(f"dynabert {arguments.command}: {' '.join(told.split())}", file=sys.stderr)
        return 1
    finally:
        logging.set_verbosity(verbosity)
        datasets.logging.set_verbosity(verbosity_of_data)


_COMMANDS: dict[str, Callable[[Namespace, Console], int | None]] = {
    "show": show,
    "evaluate": evaluate,
    "predict": predict,
    "profile": profile_sizes,
    "recommend": recommend_size,
    "search": search,
    "cascade": choose_cascade,
    "augment": augment,
    "extract": extract,
    "specialise": specialise_size,
    "store-outputs": store_outputs,
    "trim": trim,
    "export": export,
    "push": push,
    "demo": demo,
}
