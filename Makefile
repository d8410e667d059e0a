# Everything a fresh machine needs: `make demo` and `make test` set themselves up.
PYTHON ?= $(shell for v in 3.13 3.12 3.11 3; do command -v python$$v && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench docs clean
demo: $(READY)          ## learn from drawn animals, change the head, print what it was worth
	$(BIN)/headway demo

test: $(READY)          ## the whole test suite
	$(BIN)/python -m pytest

check: $(READY)         ## format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

bench: $(READY)         ## quick measurements, as ratios in one run
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

docs: $(READY)          ## rebuild tables and pictures in docs/
	$(BIN)/python docs/build.py

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Headway needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	touch $(READY)

clean:                  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
