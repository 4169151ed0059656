# `make demo` and `make test` work on a fresh clone: they create .venv once and install into it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo demo-depth docs test lint clean
.DELETE_ON_ERROR:

.venv/.runtime: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s: make PYTHON=python3.12 …" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[tasks]'
	touch $@

.venv/.dev: .venv/.runtime
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: .venv/.runtime
	$(BIN)/python tools/demo.py detection

demo-depth: .venv/.runtime
	$(BIN)/python tools/demo.py depth

docs: .venv/.dev
	$(BIN)/mkdocs build --quiet

test: .venv/.dev
	$(BIN)/pytest

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

clean:
	rm -rf .venv build dist
