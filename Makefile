# The two commands that do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests of one file share what is dear to make, so a file stays with one worker.
WORKERS := --numprocesses auto --maxprocesses 4 --dist loadfile
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint types imports bench tables clean

help:
	@echo "make demo     profile this machine, search, verify, report (installs what it needs first)"
	@echo "make test     run the tests (installs what they need first)"
	@echo "make venv     only make $(VENV), with the versions of constraints.txt"
	@echo "make lint | types | imports    ruff; mypy; import-linter"
	@echo "make bench    the figures the project promises, measured here"
	@echo "make tables   make the simulated tables that ship again, each by the command it names"

venv: $(STAMP)

# Made again when a dependency changed, not on every call; a broken install leaves no stamp.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.10 needed, this is " + sys.version) if sys.version_info < (3, 10) else None'
	@echo "installing into $(VENV) (once; a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[search,litert,android,parquet,dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python -m search.demo

test: $(STAMP)
	$(BIN)/python -m pytest $(WORKERS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m pytest --capture=no tests/benchmarks

# Each table names the command that made it; what comes out is the same to the byte.
tables: $(STAMP)
	@set -e; for file in latency_tables/*/roofline-*.toml; do \
		words=$$(sed -n 's/^command = "hwbench \(.*\)"$$/\1/p' "$$file"); \
		echo "hwbench $$words"; $(BIN)/hwbench $$words >/dev/null; \
	done

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .tox .hypothesis .benchmarks .import_linter_cache
