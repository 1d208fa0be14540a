# One command per task, for people and CI. `make` alone lists them.
PYTHON ?= python3
PYTHON312 ?= python3.12
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KERNELS := src/glocal/ops/kernels
BUILT := $(KERNELS)/built/.ready

.PHONY: help setup kernels wheel demo test test-slow test-long test-oldest check format docs benchmarks benchmarks-cuda replication clean

help:
	@echo "make setup   create a virtual environment in $(VENV) (once; later runs are offline)"
	@echo "make kernels  compile the C++ kernels into the source tree (setup does; repeat after a change)"
	@echo "make wheel   build a wheel for this platform and an sdist in dist/"
	@echo "make demo    restore the shipped photograph and print the gain"
	@echo "make test    the tests and doctests (minutes)"
	@echo "make test-slow  the tests that take seconds each: networks, kills, large files"
	@echo "make test-long  the tests that take minutes each, 500 random networks; run by hand"
	@echo "make test-oldest  test and test-slow with the oldest torch, on Python 3.12 (4 GB of downloads)"
	@echo "make check   formatting, lint, types, import layers"
	@echo "make format  format the code"
	@echo "make docs    build the documentation into build/docs, run its examples"
	@echo "make benchmarks  measure speed and memory, write docs/benchmarks (half an hour)"
	@echo "make benchmarks-cuda  measure on a GPU, five minutes at a time"
	@echo "make replication  write docs/replication.md and its figures from the stored weights"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev,docs,formats,openvino,plots,spandrel,video,web]"
	@$(BIN)/glocal doctor
	@touch $(BUILT) $(READY)

# libraries of older sources are not loaded; without a compiler everything runs on torch alone
$(BUILT): $(wildcard $(KERNELS)/*.cpp $(KERNELS)/*.h) $(KERNELS)/build.py
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

test-slow: $(READY) $(BUILT)
	$(BIN)/python -m pytest -n auto -q -m "slow and not long"

# pytest's status counts; the counts of the random networks are shown either way
test-long: $(READY) $(BUILT)
	status=0; $(BIN)/python -m pytest -n auto -q -m long || status=$$?; \
	cat .cache/random-networks.md; exit $$status

test-oldest:
	$(PYTHON312) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-oldest/bin/python -m pip install --quiet "torch==2.6.*" -e ".[dev,onnx,plots,web]"
	$(VENV)-oldest/bin/python -m pytest -n auto -q -m "not long"

check: $(READY)
	$(BIN)/ruff format --check hatch_build.py src tests experiments examples benchmarks integrations docs/conf.py docs/extensions docs/drawings
	$(BIN)/ruff check hatch_build.py src tests experiments examples benchmarks integrations docs/conf.py docs/extensions docs/drawings
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix hatch_build.py src tests experiments examples benchmarks integrations docs/conf.py docs/extensions docs/drawings
	$(BIN)/ruff format hatch_build.py src tests experiments examples benchmarks integrations docs/conf.py docs/extensions docs/drawings

# a warning is an error, after all of them are shown
docs: $(READY)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/docs
	@echo "open build/docs/index.html"

benchmarks: $(READY)
	$(BIN)/python benchmarks/run.py

# the rest follows in the next run, which goes on with what is missing
benchmarks-cuda: $(READY)
	$(BIN)/python benchmarks/run.py --device cuda --only networks operations attention inference \
		--limit 45 --minutes 5

replication: $(READY)
	$(BIN)/python experiments/replication/report.py

clean:
	rm -rf $(VENV) $(VENV)-oldest demo-output build/docs docs/generated docs/gallery
