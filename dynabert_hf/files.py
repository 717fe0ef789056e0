"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

WRITE_ERRORS = (OSError, SafetensorError, RuntimeError)
"""What a full disk raises: safetensors and torch have errors of their own."""

KEPT = "All that was saved before is kept. Make room, and run again to go on from there."
"""What to do on a full disk where work goes on."""

_NO_ROOM = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]


def finite(content: Any) -> Any:
    """JSON values with None for each number that is not finite, of which JSON has none."""
    if isinstance(content, Mapping):
        return {name: finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def json_text(content: Any, **layout: Any) -> str:
    """JSON for any reader: what is not finite is `null`.

    Args:
        content: The values.
        **layout: Arguments of `json.dumps`.
    """
    return json.dumps(finite(content), allow_nan=False, **layout)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A scratch folder to write into, which gets its name `path` only if the block succeeds.

    Raises:
        FileExistsError: If `path` exists.
        OSError: If it cannot be written, or the disk is full.
    """
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{str(path)!r} exists, and nothing is overwritten. Give another path, or remove it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OSError(
            f"{str(path)!r} cannot be written: {error}. Give a path in a folder where you may write."
        ) from error
    try:
        scratch.chmod(0o755)
        with named_on_a_full_disk(path, "Nothing is left of it. Make room, or give another path."):
            yield scratch
        scratch.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def named_on_a_full_disk(path: Path, advice: str) -> Iterator[None]:
    """Inside, a full disk is told of by this path, whatever files on the way to it were in work.

    Raises:
        OSError: If the disk is full.
    """
    try:
        yield
    except Exception as error:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        reason = next((each for each in _NO_ROOM if each in str(first)), None)
        if reason is None and not isinstance(error, SafetensorError):
            raise
        raise OSError(f"{str(path)!r} could not be written: {reason or error}. {advice}") from error


def check_writable_file(path: str | PathLike) -> None:
    """Whether a file can be written there, to be known before anything is measured for it.

    Raises:
        OSError: If its folder does not exist, or the file or the folder, where it is made whole, cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{str(path)!r} cannot be written: {str(path.parent)!r} is no folder. Make it first.")
    if path.is_dir() or not all(os.access(each, os.W_OK) for each in (path.parent, path) if each.exists()):
        raise PermissionError(f"{str(path)!r} cannot be written. Name a file in a folder where you may write.")


def check_writable_folder(
    folder: str | Path,
    *,
    name: str = "output_dir",
    lost: str = "Nothing was trained",
    room: str = "two checkpoints",
) -> None:
    """Make a folder and write into it, so that a wrong path or a full disk shows before any work.

    Args:
        folder: The folder.
        name: What an error calls it.
        lost: What an error says of the work.
        room: What there has to be room for.

    Raises:
        OSError: If that is not possible.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix="_write_test") as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        raise OSError(
            f"{name}={str(folder)!r} cannot be written to: {error}. {lost}. Give a folder that can be made and written "
            f"to, on a disk with room for {room}."
        ) from error


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What differs of settings that were kept and those that are asked for now: as it was, and as it is."""
    other = [name for name in now if before.get(name) != now[name]]
    return {name: before.get(name) for name in other}, {name: now[name] for name in other}


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file or folder under another name, and give it its name when it is whole.

    The other name is one for each process of a launcher, of which several may make the same file.

    Raises:
        OSError: If it could not be written. What was there before is kept.
    """
    rank = os.environ.get("RANK", "0")
    partial = path.with_name(f"{path.name}.partial{'' if rank == '0' else f'-{rank}'}")
    try:
        _remove(partial)
        write(partial)
        if path.is_dir():
            shutil.rmtree(path)
        partial.replace(path)
    except WRITE_ERRORS as error:
        raise OSError(f"{str(path)!r} could not be written: {error}. {KEPT}") from error
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
