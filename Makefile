# make story: set up and train a first model.  make test: set up and run the tests.
# Everything is installed into .venv, with the versions in constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
TESTED := .venv/installed-dev

.PHONY: story test lint check soak clean

story: $(INSTALLED)
	$(BIN)/storycell train stories --recipe quick

test: $(TESTED)
	$(BIN)/python -m pytest

lint: $(TESTED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

check: lint test

soak: $(TESTED)
	$(BIN)/python -m pytest -m soak --timeout 7200

$(INSTALLED): pyproject.toml constraints.txt $(wildcard native/CMakeLists.txt native/kernel/*)
	$(PYTHON) -c 'import sys; sys.exit("storycell needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(TESTED): $(INSTALLED)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist
