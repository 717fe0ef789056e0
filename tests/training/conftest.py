"""Fixtures of the tests of training."""

import shutil

import pytest
from helpers.recipes import run_recipe


@pytest.fixture(scope="session")
def default_run(tmp_path_factory):
    """The result of the recipe as `run_recipe` calls it when nothing else is asked, made once; it stays as it is."""
    folder = tmp_path_factory.mktemp("default")
    return run_recipe(folder), folder


@pytest.fixture
def finished(default_run, tmp_path):
    """A folder that holds a copy of that run."""
    shutil.copytree(default_run[1] / "run", tmp_path / "run")
    return tmp_path
