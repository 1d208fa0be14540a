# One command per task, for people and CI. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test test-slow test-long check format benchmarks replication clean

help:
	@echo "make setup   create a virtual environment in $(VENV) (once; later runs are offline)"
	@echo "make demo    restore the shipped photograph and print the gain"
	@echo "make test    the tests and doctests (minutes)"
	@echo "make test-slow  the tests that take seconds each: networks, kills, large files"
	@echo "make test-long  the tests that take hours; run by hand"
	@echo "make check   formatting, lint, types, import layers"
	@echo "make format  format the code"
	@echo "make benchmarks  measure speed and memory, write docs/benchmarks (half an hour)"
	@echo "make replication  write docs/replication.md and its figures from the stored weights"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,onnx,plots,spandrel]"
	@touch $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY)
	$(BIN)/python -m pytest -n auto -q

test-slow: $(READY)
	$(BIN)/python -m pytest -n auto -q -m slow

test-long: $(READY)
	$(BIN)/python -m pytest -n auto -q -m long

check: $(READY)
	$(BIN)/ruff format --check src tests experiments examples benchmarks
	$(BIN)/ruff check src tests experiments examples benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix src tests experiments examples benchmarks
	$(BIN)/ruff format src tests experiments examples benchmarks

benchmarks: $(READY)
	$(BIN)/python benchmarks/run.py

replication: $(READY)
	$(BIN)/python experiments/replication/report.py

clean:
	rm -rf $(VENV) demo-output
