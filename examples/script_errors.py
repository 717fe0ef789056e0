"""How the scripts here end where a person can do something about it: with one line, as the command `dynabert` does."""

import linecache
import sys
import traceback
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

OURS = (Path(find_spec("dynabert_hf").origin).parent, Path(__file__).parent)
"""The folders of the package and of the scripts."""


@contextmanager
def in_one_line(script, reword=str):
    """Inside, an error that was written for people ends the script with its text; a crash shows where it happened.

    Args:
        script: Its name.
        reword: Makes of the text of an error what the script says.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not is_for_people(error):
            raise
        sys.exit(f"{script}: {' '.join(reword(str(error)).split())}")


def is_for_people(error):
    """Whether it tells of a file, the network or a missing package, or is what this package or a script refuses."""
    if isinstance(error, OSError | ImportError):
        return True
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    file = frame.f_code.co_filename
    is_ours = any(Path(file).is_relative_to(folder) for folder in OURS)
    return is_ours and linecache.getline(file, line).lstrip().startswith("raise ")
