# `make` alone lists the targets. VENV=... puts the environment elsewhere.
export VENV ?= .venv
DEMO_ARGS ?=
# Each starts TensorFlow, which takes about 1 GB.
TEST_WORKERS ?= 2

RUN := "$(VENV)/bin/python" -m
PYTEST := $(RUN) pytest -n $(TEST_WORKERS) --dist loadfile \
	--no-loadscope-reorder --durations=10
# Doubles the time of what runs much Python, so it is left to test-all.
COVERAGE := --cov --cov-report=term
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help setup demo notebooks test test-all lint types docs format lock
.PHONY: clean test-ddsp test-sanitizers

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

setup:  ## install everything that is missing
	@scripts/setup

demo: setup  ## train on the bundled audio, write build/demo; DEMO_ARGS='...'
	@$(RUN) dafx.commands.demo --output_dir=build/demo $(DEMO_ARGS)

notebooks:  ## open the notebooks in JupyterLab, which is installed for it
	@scripts/setup notebooks
	@$(RUN) jupyterlab dafx/colab

test: lint types docs  ## style, types, docs and the quick tests
	@$(PYTEST) -m 'not slow and not speech and not ddsp'

test-all: lint types docs  ## style, types, docs, all tests, their coverage
	@scripts/setup test speech browser music ddsp
	@$(PYTEST) $(COVERAGE) --browser=required

test-ddsp:  ## DDSP's commands, files and models (extra ddsp), its own tests
	@scripts/setup test ddsp
	@$(RUN) pytest -m ddsp
	@"$(VENV)/bin/python" tests/ddsp_wheel/run.py

test-sanitizers: setup  ## the C part of the host under GCC's sanitizers
	@"$(VENV)/bin/python" tests/sanitizers/run.py

lint:
	@scripts/setup test
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .

types:
	@scripts/setup test
	@$(RUN) mypy

docs:  ## build/site: the documents and the API reference
	@scripts/setup docs
	@$(RUN) mkdocs build

format:  ## format the code, apply the safe fixes
	@scripts/setup test
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

lock:  ## renew the exact versions of all that is installed
	@scripts/lock

clean:  ## remove what builds and tests made, but .venv
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .coverage dafx/lv2/_host*.so
	@find dafx gin tests -type d -name __pycache__ -prune -exec rm -rf {} +
