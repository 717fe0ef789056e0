"""What `import dynabert_hf` brings in, and how long that takes."""

import ast
import configparser
import importlib
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, first_import
from helpers.forks import run_forked
from packaging.requirements import Requirement
from packaging.version import Version

import dynabert_hf
from dynabert_hf.families import stock_classes


def run(code):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return done.stdout


def test_every_public_name_exists():
    assert list(dynabert_hf.__all__) == sorted(dynabert_hf.__all__)
    for name in dynabert_hf.__all__:
        assert getattr(dynabert_hf, name) is not None
    assert set(dynabert_hf.__all__) <= set(dir(dynabert_hf))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        dynabert_hf.nonsense  # noqa: B018


def test_the_oldest_packages_that_are_allowed_are_those_that_are_tested():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    needed = [Requirement(line) for line in config["options"]["install_requires"].split("\n") if line]
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    tested = {name: Version(version) for name, _, version in (line.partition("==") for line in lines if "==" in line)}
    lowest = {each.name: Version(part.version) for each in needed for part in each.specifier if part.operator == ">="}
    del lowest["torch"]
    assert lowest == {name: tested[name] for name in lowest}


def test_names_of_first_use_are_those_that_type_checkers_see():
    tree = ast.parse(Path(dynabert_hf.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {node.module: tuple(alias.name for alias in node.names) for node in block.body}
    assert seen == dynabert_hf._ON_FIRST_USE
    for module, names in seen.items():
        for name in names:
            assert getattr(dynabert_hf, name) is getattr(importlib.import_module(f"dynabert_hf.{module}"), name)


def test_import_brings_in_no_more_than_the_stock_classes():
    (printed,) = run_forked(first_import.tell)
    ours = set(printed.split())
    assert {name.partition(".")[0] for name in ours} - sys.stdlib_module_names == {"dynabert_hf", "transformers"}
    assert not {f"dynabert_hf.{module}" for module in dynabert_hf._ON_FIRST_USE} & ours


@pytest.mark.slow
def test_import_takes_at_most_50_ms_more_than_an_empty_subclass_of_every_stock_class():
    stock = sorted({name for each in stock_classes() for name in (each.__name__, each.config_class.__name__)})
    code = f"""
import time
import transformers
stock = [getattr(transformers, name) for name in {stock}]
start = time.process_time()
empty = [type(each)(f"Dyna{{each.__name__}}", (each,), {{"__module__": "empty"}}) for each in stock]
middle = time.process_time()
import dynabert_hf
print(middle - start, time.process_time() - middle)
"""
    times = zip(*(map(float, run(code).split()) for _ in range(5)), strict=True)
    empty, ours = map(statistics.median, times)
    print(f"empty subclasses {empty:.3f} s, import dynabert_hf {ours:.3f} s")
    assert ours <= empty + 0.05
