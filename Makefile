# `make` alone lists the targets. VENV=... puts the environment elsewhere.
export VENV ?= .venv
DEMO_ARGS ?=
# Each starts TensorFlow, which takes about 1 GB.
TEST_WORKERS ?= 2

RUN := $(VENV)/bin/python -m
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint format clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup:  ## install everything that is missing
	@scripts/setup

demo: setup  ## train on the bundled audio, write build/demo; DEMO_ARGS='...'
	@$(RUN) dafx.training.demo --output_dir=build/demo $(DEMO_ARGS)

test: lint  ## style and the quick tests
	@$(RUN) pytest -n $(TEST_WORKERS) --dist loadfile -m 'not slow'

test-all: lint  ## style and all tests
	@$(RUN) pytest -n $(TEST_WORKERS) --dist loadfile

lint: setup
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .

format: setup  ## format the code, apply the safe fixes
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

clean:  ## remove what builds and tests made, but .venv
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache dafx/lv2/_host*.so
	@find dafx gin tests -type d -name __pycache__ -prune -exec rm -rf {} +
