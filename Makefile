# Two commands on a fresh machine with Python 3.11+ and make: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: demo test lint types docs imports bench clean

$(BIN)/matinee: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable . --constraint constraints.txt
	touch $@

$(BIN)/.test: $(BIN)/matinee
	$(BIN)/python -m pip install --quiet --group test --constraint constraints.txt
	touch $@

demo: $(BIN)/matinee  ## a whole service with known truth, then the console
	$(BIN)/matinee demo

test: $(BIN)/.test  ## every test
	$(BIN)/python -m pytest -n $(JOBS) -m browser
	$(BIN)/python -m pytest -n $(JOBS) -m "not browser"

lint: $(BIN)/.test
	$(BIN)/ruff check --no-cache .

types: $(BIN)/.test
	$(BIN)/mypy

docs: $(BIN)/.test  ## the code blocks of the guides
	$(BIN)/python -m pytest tests/test_docs.py

imports: $(BIN)/.test  ## who may know whom, and how light `import matinee` is
	$(BIN)/python -m pytest tests/test_imports.py

clean:
	rm -rf $(VENV) demo-studio out .mypy_cache .ruff_cache .pytest_cache
