# Exactly what CI runs. PYTHON is the interpreter of the environment in which `pip install -e .[dev]` was done.
PYTHON ?= python

.PHONY: check test bench docs site format

check:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -n auto

bench:
	$(PYTHON) benchmarks/speed.py

docs:
	$(PYTHON) -m finescale.zoo > docs/networks.md
	$(PYTHON) benchmarks/tables.py

# The manual as pages in out/site, which need no server and no network; the extra "docs" brings what builds them.
site:
	$(PYTHON) -m mkdocs build --strict --quiet

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
