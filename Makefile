# One way to do each task, for people and CI alike. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test check format benchmarks replication clean

help:
	@echo "make setup   a virtual environment in $(VENV) with everything (once; later runs are offline)"
	@echo "make demo    restore the shipped photograph and say what changed"
	@echo "make test    all tests, doctests included"
	@echo "make check   formatting, lint, types, direction of imports"
	@echo "make format  format the code"
	@echo "make benchmarks  docs/benchmarks: speed and memory, as ratios within one run (half an hour)"
	@echo "make replication  docs/replication.md and its figures, from the stored weights"

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
