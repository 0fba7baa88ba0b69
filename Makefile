# `make demo` and `make test` install everything that they need into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two processes. The tests of a file run in one process, so that its fixtures are created once. Long files start first.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test lint format coverage docs notebooks fuzz recipes lowest vulnerabilities clean
.DELETE_ON_ERROR:

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
# W&B's sweep engine, for comparison in tests. Its metadata requires numpy 1, but it runs without numpy 1: use --no-deps.
	$(BIN)/python -m pip install --quiet --no-deps sweeps jsonref
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/python -m microg_da fit --experiment ava2microg

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Branch coverage; the floor is `fail_under` in pyproject.toml.
coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet "coverage>=7.10" pytest-cov
	$(BIN)/python -m pytest $(PYTEST_ARGS) --cov --cov-report=term --cov-report=xml

# Builds the documentation into site/. Warnings are errors.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m mkdocs build --strict

# Executes each notebook from its .py file. Keeps the outputs and removes metadata that changes from run to run.
notebooks: $(VENV)/.installed-dev
	$(BIN)/python notebooks/build.py $(NOTEBOOKS)

# Tests every reader with random and damaged inputs. `make fuzz N=500` uses fewer inputs.
N ?= 10000
fuzz: $(VENV)/.installed-dev
	FUZZ_EXAMPLES=$(N) $(BIN)/python -m pytest -n 0 --timeout 0 --durations 0 tests/robustness/test_fuzzing.py

# Runs two steps of every recipe on generated data with random weights, in about 15 minutes.
recipes: $(VENV)/.installed-dev
	EVERY_RECIPE=1 $(BIN)/python -m pytest -n 0 --timeout 0 tests/integration/test_every_recipe.py

# Installs the lowest versions that pyproject.toml allows into .venv-lowest (6 GB) and runs the fast tests.
lowest: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable ".[dev]"
	.venv-lowest/bin/python -m pytest $(PYTEST_ARGS) -m "not slow"

# Checks the installed packages for known vulnerabilities on PyPI. A package without an answer is a failure.
vulnerabilities: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip freeze --exclude-editable \
	  | $(BIN)/python -m pip_audit --strict --no-deps --disable-pip --progress-spinner off --requirement /dev/stdin

clean:
	rm -rf $(VENV) .venv-lowest build dist site
