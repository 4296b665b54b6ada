# Everything that README and CI call. `make demo` and `make test` set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.PHONY: env demo test test-fast lint bench golden clean
.DEFAULT_GOAL := demo

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[prove]'
	touch $@

# Tests also train and compare with torch, the largest of all packages.
$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[prove,train,dev]'
	touch $@

demo: env
	$(BIN)/zkllm demo

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest

test-fast: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m 'not slow'

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready-dev
	$(BIN)/python -m benchmarks.demo
	$(BIN)/python -m benchmarks.sumcheck demo
	$(BIN)/python -m benchmarks.sumcheck block
	$(BIN)/python -m benchmarks.sumcheck beside

golden: $(VENV)/.ready-dev
	$(BIN)/python -m tests.golden.make

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
