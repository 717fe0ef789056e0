"""What the package says: warnings by the main process alone, wrong arguments and lacking packages in the same words."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec
from logging import LogRecord
from numbers import Integral
from typing import Any

from transformers.utils import logging


def get_logger(name: str) -> Any:
    """The logger of a module, with `warning_once` as transformers' loggers have it."""
    logger: Any = logging.get_logger(name)
    logger.addFilter(_is_of_main_process)
    return logger


def is_main_process() -> bool:
    """Whether this process speaks for those that were launched with it."""
    return os.environ.get("RANK", "0") == "0"


def _is_of_main_process(record: LogRecord) -> bool:
    return is_main_process()


def check_counts(least: int = 1, **counts: Any) -> None:
    """Check that arguments, by their names, are whole numbers that are large enough.

    Raises:
        ValueError: If one is not.
    """
    for name, count in counts.items():
        if not isinstance(count, Integral) or int(count) < least:
            raise ValueError(f"{name}={count!r} is not possible. Give a whole number of at least {least}.")


def check_one_of(name: str, given: Any, possible: Iterable[Any]) -> None:
    """Check that an argument has one of its possible values.

    Raises:
        ValueError: If it has another.
    """
    values = list(possible)
    if given not in values:
        told = ", ".join(map(repr, values))
        raise ValueError(f"{name}={given!r} is unknown. Possible is one of {told}. Give one of these.")


def require(what: str, *packages: str, extra: str) -> None:
    """Check that the packages of an extra are installed, which something needs.

    Raises:
        ImportError: If one is not.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ImportError(
            f'{what} needs {", ".join(missing)}, not installed here. Install with `pip install "dynabert_hf[{extra}]"`.'
        )
