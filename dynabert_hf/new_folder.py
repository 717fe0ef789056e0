"""A folder that is written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A scratch folder to write into, which gets its name `path` only if the block succeeds.

    Raises:
        FileExistsError: If `path` exists.
        OSError: If it cannot be written.
    """
    if path.exists():
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
        yield scratch
        scratch.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
