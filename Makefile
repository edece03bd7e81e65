# Two commands: `make` sets up and runs the main job on this machine's device, `make test` passes the tests.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What renders is installed first and suffices for `make render`; the other stamp is that of everything.
READER := $(VENV)/.reader
READY := $(VENV)/.ready
REQUIREMENTS := $(wildcard envs/*.txt) pyproject.toml
CORES ?= 1

# uv, where it is installed, is several times faster. Python compiles a module when it first needs it.
ifneq ($(shell command -v uv),)
INSTALL := uv pip install --quiet --python $(BIN)/python -c envs/constraints.txt
else
INSTALL := $(BIN)/python -m pip install --progress-bar off --quiet --no-compile -c envs/constraints.txt
endif

# Snakemake and PyTorch keep caches in the user's home; without a home that may be written to, they lie here.
ifneq ($(shell test -d "$$HOME" -a -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/.home
endif

.DEFAULT_GOAL := run
.PHONY: run setup tensorflow render test test-all check audit clean help

run: setup  ## set up, measure this machine's device, render the paper's tables and figures
	@gpu=$$($(BIN)/python workflow/scripts/detect_gpu.py) && \
	echo "Measuring gpu=$$gpu; cells that exist are kept." && \
	$(BIN)/python -m snakemake --cores $(CORES) --quiet host reason --config gpu=$$gpu

setup: $(READY)  ## make .venv from the pinned requirements

$(READER): $(REQUIREMENTS)
	@case "$$PWD" in *[{}]*) echo "deep-gap: this folder's path has a brace, which Snakemake takes for a" \
		"placeholder; move the checkout to a path without one, then run make again." >&2; exit 1;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "deep-gap needs Python 3.11 or later.")'
	@echo "Installing what renders into $(VENV), about 0.6 GB."
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r envs/reader.txt -e .
	@touch $@

$(READY): $(READER)
	@echo "Installing what measures and tests, about 6 GB: PyTorch brings CUDA."
	$(INSTALL) -r envs/measure.txt -r envs/rtx.txt -r envs/dev.txt
	@touch $@

tensorflow: .venv-tensorflow/.ready  ## make .venv-tensorflow, for the second study's Keras modes

.venv-tensorflow/.ready: envs/tensorflow.txt envs/constraints.txt
	$(PYTHON) -m venv .venv-tensorflow
	.venv-tensorflow/bin/python -m pip install --progress-bar off --quiet -c envs/constraints.txt -r envs/tensorflow.txt
	@touch $@

render: $(READER)  ## render the paper's tables and figures from the data present, without a device
	$(BIN)/python -m snakemake --cores all --quiet host reason

# The long tests come first in testpaths, so that both workers end together.
test: setup check  ## run the checks and all tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

test-all: setup check  ## the same, with all rows of the staleness matrix, and record that they pass
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder --whole-matrix
	$(BIN)/python -m tests.workflow.matrix

check: setup  ## lint, types, imports and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/python tools/check_sources.py
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules
	$(BIN)/python -m snakemake --lint

audit: setup  ## look for known vulnerabilities of the pinned packages
	$(BIN)/python tools/audit.py

clean:  ## remove generated files; measured cells stay
	rm -rf build logs results/summary results/fidelity results/recommendation.* results/comparison.csv results/ro-crate-metadata.json paper/tables paper/figures paper/numbers.tex paper/claims.tex paper/paper.pdf paper/arxiv.tar.gz paper/report.html

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16
