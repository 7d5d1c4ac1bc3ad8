# make study   sets up a virtual environment and computes the quick Iris study into fresh/
# make test    lint, types and the whole test suite
# make bench   the measurements behind the README's benchmark table

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS = 1

.PHONY: study test quick bench clean

study: $(VENV)/ready
	$(BIN)/study run experiments/iris_depth_quick.toml --results fresh

test: $(VENV)/ready-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

quick: $(VENV)/ready-test
	$(BIN)/python -m pytest -n 2 -m "not slow"

bench: $(VENV)/ready-test
	$(BIN)/python -m benchmarks.retraining
	$(BIN)/python -m benchmarks.stationary
	$(BIN)/python -m benchmarks.paths
	$(BIN)/python -m benchmarks.influence
	$(BIN)/python -m benchmarks.pairs
	$(BIN)/python -m benchmarks.damping
	$(BIN)/python -m benchmarks.explain
	$(BIN)/python -m benchmarks.wide
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.evidence
	$(BIN)/python -m benchmarks.coverage
	$(BIN)/python -m benchmarks.reliability

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/ready-test: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,kfac,knn,data]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
