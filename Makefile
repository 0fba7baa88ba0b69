# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two processes; what a file's tests share is made once. Long files come first.
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
# W&B's sweep engine, to compare with; it asks for numpy 1 and does not need it.
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

# The documentation into site/; warnings are errors.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m mkdocs build --strict

# Each from its text, executed, outputs kept, and what changes without meaning stripped.
notebooks: $(VENV)/.installed-dev
	$(BIN)/python notebooks/build.py $(NOTEBOOKS)

# Random and damaged inputs for every reader; `make fuzz N=500` for fewer.
N ?= 10000
fuzz: $(VENV)/.installed-dev
	FUZZ_EXAMPLES=$(N) $(BIN)/python -m pytest -n 0 --timeout 0 --durations 0 tests/robustness/test_fuzzing.py

# Two steps of every recipe on a made-up tree with made-up weights; a quarter of an hour.
recipes: $(VENV)/.installed-dev
	EVERY_RECIPE=1 $(BIN)/python -m pytest -n 0 --timeout 0 tests/integration/test_every_recipe.py

# The lowest versions that pyproject.toml allows, in an environment of their own (6 GB), and the fast tests on them.
lowest: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable ".[dev]"
	.venv-lowest/bin/python -m pytest $(PYTEST_ARGS) -m "not slow"

# Known vulnerabilities of what is installed, as PyPI tells them; what it does not answer for is a failure too.
vulnerabilities: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/python -m pip freeze --exclude-editable \
	  | $(BIN)/python -m pip_audit --strict --no-deps --disable-pip --progress-spinner off --requirement /dev/stdin

clean:
	rm -rf $(VENV) .venv-lowest build dist site
