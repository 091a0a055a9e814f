# Thin: every target is one command or one script. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TEST_SCALE ?= 1
export TEST_SCALE

.PHONY: help install demo check test nightly bench proto lock format clean
.DEFAULT_GOAL := help

help: ## This list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(BIN)/python:
	@scripts/venv $(PYTHON) $(VENV)

$(VENV)/run.stamp: requirements/run.txt pyproject.toml $(shell find ovnk_core server clients/cli clients/python proto/gen proto/python -name '*.py' -o -name '*.json' 2>/dev/null) | $(BIN)/python
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --force-reinstall .
	@rm -rf build *.egg-info && touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/run.stamp
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

install: $(VENV)/run.stamp ## Install into .venv from the hashed lock file; leaves .venv/bin/ovnk

demo: install ## Load examples/shop into OVN (or the embedded northbound) and show what it means
	@scripts/demo

check: TEST_SCALE := 0.2
check: $(VENV)/dev.stamp ## Fast tier: lint, types, import contracts, unit and law tests
	@scripts/check

test: $(VENV)/dev.stamp ## Everything, including all suites against real OVN
	@scripts/ensure-ovn
	@PACKAGES="nodejs npm" scripts/ensure-ovn node npm
	@scripts/check
	@scripts/test

nightly: ## The whole suite with twenty times the random cases
	@$(MAKE) test TEST_SCALE=20

$(VENV)/bench.stamp: requirements/bench.txt $(VENV)/dev.stamp
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

bench: $(VENV)/bench.stamp ## Counters and ratios; writes bench/results. DPDK as an anchor: Debian's dpdk libdpdk-dev pkg-config gcc
	@scripts/ensure-ovn
	@$(BIN)/python -m bench.run

proto: $(VENV)/dev.stamp ## Regenerate what is made from proto/ovnk_api (Python, TypeScript), and lint it
	@scripts/proto && scripts/proto --lint && scripts/typescript --generate

lock: $(VENV)/dev.stamp ## Regenerate the hashed lock files
	@scripts/lock

format: $(VENV)/dev.stamp ## Format and sort imports
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

clean: ## Remove everything that was made here
	@rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
