# Every target prepares its own virtual environment in .venv; all that a machine needs is Python 3.11 or newer, and make.
# Another interpreter: make test PYTHON=/path/to/python3. More or fewer test processes: make test WORKERS=4.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
WORKERS ?= auto
BENCHMARKS ?= columns roundtrips history arrays transfer upkeep

# The first interpreter that runs and is new enough: a shim on the PATH may exist and yet lead nowhere.
PYTHON ?= $(shell for candidate in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$candidate; break; fi; done)
UV := $(shell command -v uv 2>/dev/null)

# How a set of requirements gets into the environment: $(call install,arguments). pip learnt --group in 25.1.
ifneq ($(UV),)
install = VIRTUAL_ENV="$(CURDIR)/$(VENV)" "$(UV)" pip install --quiet $(1)
else
install = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(1)
endif

.PHONY: help venv demo compose-demo test lint docs format bench clean distclean

help:
	@echo "make demo   the whole tour on 1,797 real images, in a temporary folder"
	@echo "make compose-demo  the same in MinIO and on a Dask cluster, with Docker (DEMO=rustfs-demo, gcs-demo: elsewhere)"
	@echo "make test   the test suite"
	@echo "make venv   the environment of the tests, in .venv"
	@echo "make lint   ruff, its formatter, mypy, and whether the documentation builds"
	@echo "make docs   the documentation, as a site in the folder site"
	@echo "make format let ruff format and mend what it can"
	@echo "make bench  the benchmarks"
	@echo "make clean  remove what builds and tests left behind (distclean: the environment too)"

$(BIN)/python:
ifneq ($(UV),)
	"$(UV)" venv --quiet $(if $(PYTHON),--python "$(PYTHON)",--python 3.11) $(VENV)
else
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer on the PATH; give one with PYTHON=…" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
endif

$(STAMPS)/base: | $(BIN)/python
	@mkdir -p $(STAMPS)
ifeq ($(UV),)
	$(call install,--upgrade "pip>=25.1")
endif
	@touch $@

$(STAMPS)/demo: $(STAMPS)/base pyproject.toml
	$(call install,--editable ".[formats,demo]")
	@touch $@

$(STAMPS)/test: $(STAMPS)/base pyproject.toml
	$(call install,--editable . --group test)
	@touch $@

$(STAMPS)/lint: $(STAMPS)/base pyproject.toml
	$(call install,--editable . --group test --group lint)
	@touch $@

demo: $(STAMPS)/demo
	$(BIN)/hangarlake demo

# For those with Docker. What it starts is removed again, whatever happens.
DEMO ?= demo cluster
COMPOSE = docker compose --env-file $(firstword $(wildcard .env) .env.example)

compose-demo:
	@docker compose version >/dev/null 2>&1 || { echo "make: this needs Docker with its compose plugin" >&2; exit 1; }
	@trap '$(COMPOSE) --profile "*" down --volumes --remove-orphans' EXIT; trap 'exit 130' INT TERM; set -e; \
		$(COMPOSE) build demo; \
		for service in $(DEMO); do $(COMPOSE) run --rm $$service; done

venv: $(STAMPS)/test

test: $(STAMPS)/test
	$(BIN)/python -m pytest --numprocesses $(WORKERS)

# The theme announces on every run what becomes of it.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

lint: $(STAMPS)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MKDOCS) build --strict --quiet --site-dir "$(VENV)/site"

docs: $(STAMPS)/lint
	$(MKDOCS) build --strict

format: $(STAMPS)/lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMPS)/test
	@set -e; for name in $(BENCHMARKS); do \
		test -e "benchmarks/$$name.py" || continue; echo "== $$name"; $(BIN)/python "benchmarks/$$name.py"; done

clean:
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find hangarlake tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
