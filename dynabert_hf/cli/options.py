"""Errors of the package as a command line tells them: with its options in the place of arguments of Python."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping

WHERE_SET = re.compile(r"\w\([^()]*\)|(?<![\w.(-])([a-z]\w*)=(?:True\b)?")
"""A call that is written out, or else where an argument of Python is set."""

VALUE_LESS = re.compile(r"[\s,;.]|$")
"""What follows where an argument is named and not set, as in `Give metric= one of these`."""


def options_of(arguments: Namespace, **called: str) -> dict[str, str]:
    """By arguments of Python the options of a command line; `called` says which have other names."""
    names = {*vars(arguments), *called} - {"model"}  # which has its place, and no name
    return {name: f"--{called.get(name, name).replace('_', '-')}" for name in names}


def with_options(message: str, options: Mapping[str, str]) -> str:
    """A message in which `seed=-1` has become `--seed -1`.

    Args:
        message: What an error says.
        options: For each argument of Python the option of the command line that sets it; others stay.
    """

    def option(found: re.Match[str]) -> str:
        name = options.get(found[1])
        if name is None:
            return found[0]
        has_value = found[0].endswith("=") and not VALUE_LESS.match(message, found.end())
        return name + " " * has_value

    return WHERE_SET.sub(option, message)
