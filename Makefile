# `make demo` and `make test` install everything that they need.
# The first Python that runs and is new enough; `make PYTHON=... test` selects another.
PYTHON ?= $(shell for p in python3 python python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests run in as many processes as there are cores (at most 8), each on one thread; a file stays in one process.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

.PHONY: demo test test-slow test-all check bench docs clean
demo: $(READY)          ## pretrain on synthetic animals, transfer, print the gain
	$(BIN)/headway demo

test: $(READY)          ## the tests that a change should pass at once
	$(PYTEST) -m "not slow"

test-slow: $(READY)     ## the tests that take longest
	$(PYTEST) -m slow

test-all: $(READY)      ## the whole test suite
	$(PYTEST)

check: $(READY)         ## format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

bench: $(READY)         ## quick measurements, as ratios in one run (longer ones: see the docstring of each script)
	for script in benchmarks/step.py benchmarks/transforms.py benchmarks/leaderboard.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(READY)          ## rebuild tables and images in docs/
	$(BIN)/python docs/build.py

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Headway needs Python 3.11 or newer, and none was found; install one"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	touch $(READY)

clean:                  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
