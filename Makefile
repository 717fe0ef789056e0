# Two commands do everything on a fresh machine: `make demo` and `make test`. The first makes the virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?=

.PHONY: demo test test-common lint format clean

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install -c constraints.txt -e ".[dev,onnx,plots]"
	touch $@

demo: $(VENV)/.installed  ## train twelve sizes of a real model on real text; DEMO="--smoke" or DEMO="--full"
	$(BIN)/python examples/quickstart.py $(DEMO)

test: $(VENV)/.installed  ## the default test suite, offline
	$(BIN)/python -m pytest

test-common: $(VENV)/.installed  ## transformers' own tests of models, on ours and on stock BERT; fetches them once
	$(BIN)/python -m pytest -m slow tests/test_transformers_common.py -rA

lint: $(VENV)/.installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
