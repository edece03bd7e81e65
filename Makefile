# Two commands: `make` sets up and runs the main job on this machine's device, `make test` passes the tests.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
REQUIREMENTS := $(wildcard envs/*.txt) pyproject.toml
CORES ?= 1

# Snakemake and PyTorch keep caches in the user's home; without a home that may be written to, they lie here.
ifneq ($(shell test -d "$$HOME" -a -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/.home
endif

.DEFAULT_GOAL := run
.PHONY: run setup render test check audit clean help

run: setup  ## set up, measure this machine's device, render the paper's tables and figures
	@gpu=$$($(BIN)/python workflow/scripts/detect_gpu.py) && \
	echo "Measuring gpu=$$gpu; cells that exist are kept." && \
	$(BIN)/python -m snakemake --cores $(CORES) --config gpu=$$gpu

setup: $(READY)  ## make .venv from the pinned requirements

$(READY): $(REQUIREMENTS)
	@case "$$PWD" in *[{}]*) echo "deep-gap: this folder's path has a brace, which Snakemake takes for a" \
		"placeholder; move the checkout to a path without one, then run make again." >&2; exit 1;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "deep-gap needs Python 3.11 or later.")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --progress-bar off --quiet \
		-c envs/constraints.txt -r envs/workflow.txt -r envs/measure.txt -r envs/rtx.txt -r envs/paper.txt -r envs/dev.txt -e .
	@touch $@

render: setup  ## render the paper's tables and figures from the data present, without a device
	$(BIN)/python -m snakemake --cores $(CORES)

# The groups of long tests come first in testpaths, so that both workers end together.
test: setup check  ## run the checks and all tests
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

check: setup  ## lint, types, imports and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow/Snakefile workflow/rules
	$(BIN)/python -m snakemake --lint

audit: setup  ## look for known vulnerabilities of the pinned packages
	$(BIN)/python tools/audit.py

clean:  ## remove generated files; measured cells stay
	rm -rf build logs results/summary results/fidelity results/recommendation.* results/comparison.csv results/ro-crate-metadata.json paper/tables paper/figures paper/numbers.tex paper/claims.tex paper/paper.pdf paper/arxiv.tar.gz paper/report.html

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16
