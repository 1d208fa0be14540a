# One way to do each task, for people and CI alike. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KERNELS := src/glocal/ops/kernels
BUILT := $(KERNELS)/built/.ready

.PHONY: help setup kernels wheel demo test check format benchmarks replication clean

help:
	@echo "make setup   a virtual environment in $(VENV) with everything (once; later runs are offline)"
	@echo "make kernels  compile the kernels into the source tree (setup does; again after a change)"
	@echo "make wheel   a wheel for this platform and an sdist in dist/"
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
	@$(BIN)/glocal doctor
	@touch $(BUILT) $(READY)

# libraries of older sources are not loaded; without a compiler everything runs on torch alone
$(BUILT): $(wildcard $(KERNELS)/*.cpp $(KERNELS)/*.h)
	-$(PYTHON) $(KERNELS)/build.py
	@touch $(BUILT)

kernels:
	$(PYTHON) $(KERNELS)/build.py

wheel: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt build
	GLOCAL_REQUIRE_KERNELS=1 $(BIN)/python -m build

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY) $(BUILT)
	$(BIN)/python -m pytest -n auto -q

check: $(READY)
	$(BIN)/ruff format --check hatch_build.py src tests experiments examples benchmarks
	$(BIN)/ruff check hatch_build.py src tests experiments examples benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix hatch_build.py src tests experiments examples benchmarks
	$(BIN)/ruff format hatch_build.py src tests experiments examples benchmarks

benchmarks: $(READY)
	$(BIN)/python benchmarks/run.py

replication: $(READY)
	$(BIN)/python experiments/replication/report.py

clean:
	rm -rf $(VENV) demo-output
