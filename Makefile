# `make demo` and `make test` do all the set-up themselves. VENV=DIR uses another environment.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.refiner-installed

.PHONY: demo test lint docs bench mutants install clean

# Without its dependencies: its fork of thop would take the place of thop. The others are in `dev`.
install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps 'ultralytics>=8.3'
	touch $@

# The main job on the built-in data: search, final training of both networks, report, export.
demo: install
	$(BIN)/refine timm:resnet18 --data digits --slots conv --strategy controller --warmup-epochs 3 \
		--search-epochs 6 --trials 300 --epochs 5

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One thread a worker: networks this small gain nothing by more, and beside other work threads wait long for each other.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

# The documentation site, into site/; a broken link or reference is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# Minutes to hours; benchmarks/README.md tells what each script measures and holds the results.
bench: install
	$(BIN)/python benchmarks/controller_vs_random.py
	$(BIN)/python benchmarks/step_time.py

# The share of mutants that the tests kill, on one core; ARGS="cost --share 1" for all of a package.
mutants: install
	$(BIN)/python -c "import mutmut" 2>/dev/null || $(BIN)/python -m pip install --quiet mutmut==3.8.1
	$(BIN)/python benchmarks/mutants.py $(ARGS)

clean:
	rm -rf build site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
