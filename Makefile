# What people and CI run. Needs Python 3.11 or newer, git and make, nothing else:
# the environment in .venv is made at the first call and again when pyproject.toml
# changes.
#
#   make demo     the main job in front of your eyes, about a minute
#   make test     every test, PostgreSQL included; of some, not every case
#   make quick    the tests without the slow ones and PostgreSQL, under a minute
#   make check    formatting, lint and types, as CI checks them
#   make bench    the figures of benchmarks/
#   make nightly  check, test, longer random tests, the crash matrix, bench
#   make reliability  only the crash matrix, 10 minutes; writes docs/reliability.md
#   make setup    only the environment      make clean    remove it and all caches

PYTHON ?= python3
VENV ?= .venv
# Arguments for pytest: make test ARGS="-k points"
ARGS ?=

# Tests start some hundred processes; each would read every module's source anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
# -n auto: three processes on two cores; see tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n auto

.DEFAULT_GOAL := help
.PHONY: help demo test quick check format bench nightly reliability setup clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.base
	@$(BIN)/onward demo

test: $(VENV)/.dev
	$(PYTEST) $(ARGS)

quick: $(VENV)/.dev
	$(PYTEST) -m "not slow and not postgres" $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(ARGS)

nightly: check test
	$(PYTEST) --hypothesis-profile=nightly -m "nightly or not postgres" \
	  --ignore=tests/reliability $(ARGS)
	@$(MAKE) --no-print-directory reliability
	$(BIN)/python -m benchmarks

# One cell after the other: their times are shown.
reliability: $(VENV)/.dev
	rm -rf build/reliability
	ONWARD_RELIABILITY=build/reliability \
	  $(BIN)/python -m pytest --hypothesis-profile=nightly tests/reliability $(ARGS)
	$(BIN)/python docs/make_reliability.py build/reliability

setup: $(VENV)/.dev

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the environment, once

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Onward needs Python 3.11 or newer and $(PYTHON) is older or missing;" \
	    "name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "making $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.base: pyproject.toml | $(VENV)/.made
	@echo "installing Onward into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	@echo "installing Onward and what its tests and checks need into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --editable '.[dev,postgres]'
	@touch $(VENV)/.base $@
