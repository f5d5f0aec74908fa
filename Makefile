# make demo | test | check | coverage | bench | readme | docs: each creates and refreshes .venv by itself.
# make test TESTS="tests/probes tests/test_house.py" runs these alone.
PYTHON ?= python3
BIN := .venv/bin
# Modules are compiled when they are first imported (--no-compile): most never are, and all of them take a minute.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
export MPLBACKEND := Agg
PYTEST = $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: demo test check coverage bench readme docs clean

.venv/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "repsim needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "$(PYTHON) cannot create virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Creating .venv ..."
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/pip pyproject.toml constraints.txt
	@echo "Installing repsim (once; torch is large, a few minutes) ..."
	@$(PIP) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing the test tools (once) ..."
	@$(PIP) --editable '.[dev,peers]'
	@touch $@

.venv/installed-docs: .venv/installed
	@echo "Installing what builds the documentation (once) ..."
	@$(PIP) --editable '.[docs,dev]'
	@touch $@

demo: .venv/installed
	@$(BIN)/repsim demo

test: .venv/installed-dev
	@$(PYTEST) $(TESTS)

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# All tests, a quarter slower than make test, and the share of lines and branches that they run.
coverage: .venv/installed-dev
	@$(PYTEST) --cov --cov-report=
	$(BIN)/python tests/coverage_report.py

bench: .venv/installed-dev
	@$(BIN)/python benchmarks/run.py

# Every block of README.md at full size, with its duration; six minutes on two free cores.
readme: .venv/installed-dev
	@$(BIN)/python -m tests.docs.blocks README.md

docs: .venv/installed-docs
	@$(BIN)/python docs/generate.py
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env --write-all --jobs auto docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf .venv build dist docs/_build docs/gallery docs/api/generated .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
