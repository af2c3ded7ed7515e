# make demo | test | test-all | lint | bench: each makes .venv and installs what it needs when missing, installs
# again when pyproject.toml or constraints.txt change, and works offline after that.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: demo test test-all lint format bench browser clean

demo: $(STAMP)
	$(BIN)/python examples/digits.py

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

test-all: $(STAMP)
	$(BIN)/python -m pytest -n 2

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# the report's own tests open it in headless Chromium where there is one; this brings one on Debian and Ubuntu
browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[browser]'
	command -v chromium || apt-get install --yes chromium

clean:
	rm -rf .venv .bench-venvs runs

# torch goes first: the pinned version decides which build everything else sees
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)
