# Two commands do everything on a fresh machine: `make demo` and `make test`. The first of them makes the environment.
PYTHON ?= python3
VENV ?= .venv
# In the order of the files, which ends with short ones: by default those with few tests come last, and some of these are long.
PARALLEL := -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder
BIN := $(VENV)/bin
DEMO ?=
# What can break between two releases: private names, classes of each family, loading, code on the Hub, pushing, training, tables of rich.
TESTS ?= tests/test_seams.py tests/hub/test_strangers.py tests/hub/test_push.py $(addprefix tests/model/test_,$(addsuffix .py,elastic_model loading remote_code saved)) \
	$(addprefix tests/training/test_,$(addsuffix .py,documented_trainer every_family) \
	checkpoints.py::test_resuming_by_hand_gives_the_weights_of_a_run_that_never_stopped) \
	tests/cli/test_commands.py::test_a_long_label_wraps_where_a_table_would_lose_its_last_column

define ENOUGH
import sys
if sys.version_info < (3, 11):
    version = ".".join(map(str, sys.version_info[:2]))
    sys.exit(f"The versions in constraints.txt need Python 3.11 or newer, and {sys.argv[1]} is {version}. "
             "Name another one, such as: make test PYTHON=python3.12")
endef
export ENOUGH

define BORROW
import sys, sysconfig
from pathlib import Path
here = Path(sysconfig.get_path("purelib"))
there = Path(sys.argv[1]).resolve() / here.relative_to(sys.prefix)
(here / "borrowed.pth").write_text(f"import site; site.addsitedir({str(there)!r})\n")
endef
export BORROW
DEVICE ?= cuda

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu test-common test-quantised test-oldest test-newest lint format api clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c "$$ENOUGH" "$(PYTHON)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --use-pep517 -c constraints.txt -e ".[dev,onnx,plots]"  # older pip fails on seqeval else
	touch $@

demo: $(VENV)/.installed  ## train twelve sizes of a real model on real text; DEMO=--smoke, DEMO=--full
	$(BIN)/python examples/quickstart.py $(DEMO)

test: $(VENV)/.installed  ## the default test suite, offline
	$(BIN)/python -m pytest $(PARALLEL)

test-slow: $(VENV)/.installed  ## the tests that take longer
	$(BIN)/python -m pytest -m slow

test-gpu: $(if $(GPU_PYTHON),,$(VENV)/.installed)  ## the tests of a CUDA device; GPU_PYTHON=python3: with that Python, nothing is installed
	DYNABERT_TEST_DEVICE=$(DEVICE) $(or $(GPU_PYTHON),$(BIN)/python) -m pytest -m gpu tests/gpu

test-common: $(VENV)/.installed  ## transformers' own tests of models, on our classes and on the stock ones; fetches them once
	$(BIN)/python -m pytest -m slow tests/model/test_transformers_common.py -rA

test-quantised: $(VENV)/.installed  ## loading in eight bits; torchao is fetched for it, and kept out of the environment
	$(BIN)/pip install --quiet --no-deps --target $(VENV)/torchao torchao==0.18.0
	PYTHONPATH=$(VENV)/torchao $(BIN)/python -m pytest tests/model/test_doors.py -k quantised

test-oldest: .venv-oldest/.installed  ## the core of the suite on the oldest packages but torch; TESTS=tests for all of it
	.venv-oldest/bin/python -m pytest $(PARALLEL) $(TESTS)

test-newest: .venv-newest/.installed  ## the same on the newest transformers
	.venv-newest/bin/python -m pytest $(PARALLEL) $(TESTS)

# Only what constraints-oldest.txt and constraints-newest.txt name is installed; the rest is found in the environment.
.venv-%/.installed: constraints-%.txt $(VENV)/.installed
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --no-deps -r $<
	.venv-$*/bin/python -c "$$BORROW" $(VENV)
	touch $@

lint: $(VENV)/.installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed  ## mend style where it can be done by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

api: $(VENV)/.installed  ## write docs/api.md, the page of all public names, from the docstrings
	PYTHONPATH=tests $(BIN)/python -m helpers.api_page

clean:  ## remove the environment and what builds and tools left
	rm -rf $(VENV) .venv-oldest .venv-newest build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
