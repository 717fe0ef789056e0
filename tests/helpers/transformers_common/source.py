"""Where the tests of the installed transformers are: in its source archive, kept in the user's cache once fetched.

The archive carries the mixins for models, configurations and pipelines, but not every folder that they import from.
`import_mixins` puts stand-ins in the place of what is missing.
"""

import importlib
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.machinery import ModuleSpec
from pathlib import Path

import transformers

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dynabert_hf"
SAFE = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.10.12 and 3.11.4 brought it
COMMON_FIELDS = {
    "return_dict": False,
    "output_hidden_states": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["BertModel"],
    "id2label": {0: "label"},
    "label2id": {"label": 0},
    "problem_type": "regression",
}
"""Stands in for the configuration values in a folder that the archive leaves out."""


def fetch_tests() -> Path:
    """The folder that holds `tests` of the installed transformers version.

    Raises:
        ConnectionError: If it is not in the cache and the package registry cannot be reached.
    """
    folder = CACHE / f"transformers-{transformers.__version__}"
    if (folder / "tests").exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        requirement = f"transformers=={transformers.__version__}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "1", "--no-deps"]
        command += ["--no-binary", ":all:"]
        done = subprocess.run([*command, "--dest", scratch, requirement], capture_output=True, text=True)
        archives = list(Path(scratch).glob("*.tar.gz"))
        if done.returncode or not archives:
            raise ConnectionError(f"the source archive of {requirement} could not be fetched: {done.stderr[-300:]}")
        with tarfile.open(archives[0]) as archive:
            members = [member for member in archive.getmembers() if "/tests/" in member.name and member.isfile()]
            archive.extractall(scratch, members=members, **SAFE)
        (Path(scratch) / archives[0].name.removesuffix(".tar.gz")).rename(folder)
    return folder


def _empty_class(name):
    """What a module that is missing is taken to hold: classes without tests."""
    if not name[0].isupper():
        raise AttributeError(name)
    return type(name, (), {})


class StandIns:
    """Finds what the mixins import from folders of `tests` that the archive leaves out."""

    def __init__(self, folder: Path, contents: dict):
        self.folder, self.contents = folder, contents

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "tests":
            return None
        place = self.folder / name.replace(".", "/")
        if place.is_dir() or place.with_suffix(".py").exists():
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__dict__.update(self.contents.get(module.__name__, {}))
        module.__getattr__ = _empty_class


def import_mixins(folder: Path, contents: dict):
    """The modules of the model, configuration and pipeline mixins."""
    transformers.utils.direct_transformers_import = lambda *args, **kwargs: transformers
    contents = {"tests.utils.test_configuration_utils": {"config_common_kwargs": COMMON_FIELDS}, **contents}
    sys.path.insert(0, str(folder))
    sys.meta_path.append(StandIns(folder, contents))
    names = ("test_modeling_common", "test_configuration_common", "test_pipeline_mixin")
    return [importlib.import_module(f"tests.{name}") for name in names]
