# Every target sets up .venv first; no package goes anywhere else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs/demo
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests run in two processes: threads that spin while they wait take the core from whoever has work.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help install demo test lint type format bench lock clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

install: $(STAMP) ## Create .venv and install the pinned packages (done by every other target when needed)

$(STAMP): pyproject.toml constraints.txt
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/install
	@touch $@

demo: $(STAMP) ## Play, record, train every model and write a report (OUT=runs/demo)
	@echo "==> lapa-ray demo --out $(OUT)"
	@$(BIN)/lapa-ray demo --out "$(OUT)"

test: $(STAMP) ## Run all tests
	@echo "==> pytest"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=15

lint: $(STAMP) ## Check style, formatting and the direction of imports
	@echo "==> ruff, import-linter"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

type: $(STAMP) ## Check types
	@echo "==> mypy"
	@$(BIN)/mypy

format: $(STAMP) ## Format the code and sort imports
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

$(STAMP).bench: $(STAMP)
	@echo "==> installing the peers that the benchmarks compare with (EnvPool, cpprb, Stable-Baselines3: 0.8 GB)"
	@$(BIN)/python -m pip install --no-input --quiet -c constraints.txt -e '.[bench]'
	@touch $@

bench: $(STAMP).bench ## Run every benchmark (one alone: python -m benchmarks.NAME [--quick])
	@set -e; for file in benchmarks/[a-z]*.py; do name=$$(basename $$file .py); echo "==> benchmarks.$$name"; $(BIN)/python -m benchmarks.$$name; done

lock: $(STAMP) ## Write constraints.txt anew from what .venv holds (what only CUDA needs stays as it was)
	@{ grep '^#' constraints.txt; { $(BIN)/pip freeze --exclude-editable | sed 's/+cpu//'; grep -E '^(cuda|nvidia)-' constraints.txt; } \
	  | awk -F == '!seen[$$1]++' | LC_ALL=C sort -f; } > $(STAMP).lock
	@mv $(STAMP).lock constraints.txt

clean: ## Remove .venv and caches; keeps runs/
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
