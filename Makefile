# Everything that README and CI call. `make demo` and `make test` set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What every test runs under: `make test OFFLINE='unshare --map-current-user --net'` cuts the network.
OFFLINE ?=
.PHONY: env demo test test-fast coverage fuzz lint bench golden package bare clean
.DEFAULT_GOAL := demo

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	touch $@

# Tests also train and compare with torch, the largest of all packages.
$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all,train,dev]'
	touch $@

demo: env
	$(BIN)/zkllm demo

test: $(VENV)/.ready-dev
	$(OFFLINE) $(BIN)/python -m pytest

test-fast: $(VENV)/.ready-dev
	$(OFFLINE) $(BIN)/python -m pytest -m 'not slow'

# Of the modules that a verifier trusts, printed; less than is expected of them fails.
coverage: $(VENV)/.ready-dev
	$(OFFLINE) $(BIN)/python -m tests.trusted

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready-dev
	$(BIN)/python -m benchmarks.demo
	$(BIN)/python -m benchmarks.sumcheck demo
	$(BIN)/python -m benchmarks.sumcheck block
	$(BIN)/python -m benchmarks.sumcheck beside

# Every mutant of an exact model; the tests run a sample of them.
fuzz: $(VENV)/.ready-dev
	$(BIN)/python -m tests.fuzz

golden: $(VENV)/.ready-dev
	$(BIN)/python -m tests.golden.make

# The sdist, and the wheel that is made from it and not from the checkout.
package: $(VENV)/.ready-dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .

# The wheel without extras, in an environment and a folder of its own.
bare: package
	rm -rf build/bare
	$(PYTHON) -m venv build/bare
	build/bare/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	build/bare/bin/python -P tests/bare.py tests/golden/v1

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
