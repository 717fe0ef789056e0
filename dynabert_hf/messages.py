"""How the package says something: of the processes that a launcher started, by the main one alone."""

from __future__ import annotations

import os
from logging import LogRecord
from typing import Any

from transformers.utils import logging


def get_logger(name: str) -> Any:
    """The logger of a module, with `warning_once` as transformers' loggers have it."""
    logger: Any = logging.get_logger(name)
    logger.addFilter(_is_of_main_process)
    return logger


def _is_of_main_process(record: LogRecord) -> bool:
    return os.environ.get("RANK", "0") == "0"
