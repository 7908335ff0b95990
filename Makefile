# `make demo` answers a real plan, `make test` checks everything. Both set themselves up in .venv, on a bare machine too.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# More for pip, such as an index of PyTorch's builds for CPUs: make demo PIP_ARGS='--extra-index-url ...'
PIP_ARGS ?=
# Where it is set (containers often do), each of the hundreds of Pythons that tests start would compile all it imports anew.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check $(PIP_ARGS) -c constraints.txt
PLAN ?= examples/intents/plan.yaml
NEEDS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test all-tests lint unit assets generate demo-cluster cluster-up cluster-down clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.probe  ## Answer examples/intents/plan.yaml with real models on real data
	@$(BIN)/orrery assets fetch
	@$(BIN)/orrery run $(PLAN)

test: assets  ## Lint, and every test but benchmarks: unit, processes, models, integration, end to end
	@$(MAKE) --no-print-directory -j 2 lint all-tests  # mypy, from nothing, takes a core for most of a minute

all-tests: $(VENV)/.dev
	$(BIN)/python -m pytest -m "unit or process or model or integration or e2e" -n 4 --dist loadgroup --no-loadscope-reorder

lint: $(VENV)/.dev  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.dev  ## The pure tests: seconds
	$(BIN)/python -m pytest -m "unit and not process" -n 2 --dist loadgroup

assets: $(VENV)/.dev  ## Fetch the builtin models and tasks, once
	@$(BIN)/orrery assets fetch

generate: $(VENV)/.dev  ## Write what is generated: definitions, reference, Kustomize bases, the dashboard
	$(BIN)/orrery crds --output crds
	$(BIN)/orrery crds --output charts/orrery/files/crds
	$(BIN)/python -m orrery.api.reference > docs/reference/api.md.new && mv docs/reference/api.md.new docs/reference/api.md
	$(BIN)/python config/generate.py
	$(BIN)/python config/dashboard.py

demo-cluster: assets  ## The same question on a real local Kubernetes: chart, operator as a Pod, probes as Jobs
	@$(BIN)/python -m tests.cluster.demo $(PLAN)

cluster-up: $(VENV)/.dev  ## Start a local Kubernetes for tests and tries
	$(BIN)/python -m tests.cluster up

cluster-down: $(VENV)/.dev  ## End it
	$(BIN)/python -m tests.cluster down

clean:  ## Remove the environment, caches of tools and answered plans; fetched models stay
	rm -rf $(VENV) .orrery .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Orrery needs Python 3.11 or newer, and '$(PYTHON)' is not: install it, or run make with PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module: install it first, on Debian and Ubuntu with 'apt-get install python3-venv'" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.probe: $(VENV)/.made $(NEEDS)
	@echo "installing Orrery with what probes need into $(VENV)"
	@$(PIP) -e '.[probe]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made $(NEEDS)
	@echo "installing Orrery with everything its tests need into $(VENV)"
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.probe
