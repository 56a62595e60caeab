# `make help` lists the targets. Everything is installed into .venv, from hashed requirements.

PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
NEWER   := import sys; sys.exit(sys.version_info < (3, 11))
BIN     := .venv/bin
BENCHES := overhead queries history live

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.dev ## Make .venv with everything for running, testing and checking

run: .venv/.run ## Start Postgres, Temporal, worker and API, run the example (ARGS=--once: then stop)
	$(BIN)/flowtrail dev $(ARGS)

verify: .venv/.run ## Start everything, run the example, hold the tables against Temporal, stop
	$(BIN)/flowtrail dev --verify

test: .venv/.dev ## Run the test suite against real servers (ARGS: passed to pytest; -n0: one process)
	$(BIN)/python -m pytest -n2 --dist=worksteal $(ARGS)

soak: .venv/.dev ## Run the fault suite and random workflows in their long form (ROUNDS=3)
	$(BIN)/python -m pytest tests/faults tests/temporal/tracking/test_random_runs.py \
		--soak $(or $(ROUNDS),3) $(ARGS)

check: .venv/.dev ## Lint, format, types, import rules, drift between migrations and tables
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --quiet -m drift

bench: .venv/.dev ## Run every benchmark at full size (ARGS=--quick: a minute each)
	@failed=0; for bench in $(BENCHES); do \
		$(BIN)/python -m benchmarks.$$bench $(ARGS) || failed=1; \
	done; exit $$failed

migrate: .venv/.run ## Migrate the database of FLOWTRAIL_DATABASE_URL
	$(BIN)/flowtrail migrate $(ARGS)

requirements: $(BIN)/uv ## Pin the requirements anew (ARGS=--upgrade: to the newest versions)
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) $(PROJECT) --extra embedded --group run -o requirements/run.txt
	$(COMPILE) $(PROJECT) --group run -c requirements/run.txt -o requirements/image.txt
	$(COMPILE) $(PROJECT) --extra embedded --group dev -c requirements/run.txt -o requirements/dev.txt

clean: ## Remove the embedded servers' data, build results and caches
	rm -rf .flowtrail dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache

distclean: clean ## Remove .venv too
	rm -rf .venv

.PHONY: help setup run verify test soak check bench migrate requirements clean distclean

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make requirements' $(ARGS)
PROJECT := pyproject.toml --extra worker --extra server --extra tracing

# The umask lets PostgreSQL's own user read its programs where root's umask would not. uv takes
# seconds where pip takes a minute; pip is there for networks whose settings only pip knows.
define install
@echo "Installing $(1) into .venv"
@umask 022; $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(1) \
	|| $(BIN)/pip install --quiet --require-hashes -r $(1)
endef

# Stamps: a file in .venv per set of requirements, so that nothing happens when nothing changed.
.venv/.run: requirements/run.txt pyproject.toml | $(BIN)/uv
	$(call install,requirements/run.txt)
	@umask 022; $(BIN)/pip install --quiet --no-deps --no-build-isolation --disable-pip-version-check \
		--editable .
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.run
	$(call install,requirements/dev.txt)
	@touch $@

$(BIN)/uv: requirements/uv.txt | $(BIN)/python
	@umask 022; $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(BIN)/python:
	@for python in $(PYTHONS); do \
		if "$$python" -c '$(NEWER)' 2>/dev/null; then umask 022 && exec "$$python" -m venv .venv; fi; \
	done; echo 'Flowtrail needs Python 3.11 or newer: set it with make PYTHON=/path/to/python' >&2; exit 1
