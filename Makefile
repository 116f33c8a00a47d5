# Exactly what CI runs. PYTHON is the interpreter of the environment in which `pip install -e .[dev]` was done.
PYTHON ?= python

# What CI installs; `perceptual` brings a hundred packages, and is not tested.
EXTRAS = train spandrel export hub serve remote lmdb heic distributed docs dev
TORCH = 2.13.0
# Lines for CUDA and torchvision follow from PyTorch's own build.
COMPILE = uv pip compile --quiet --no-header --no-annotate pyproject.toml $(addprefix --extra ,$(EXTRAS))
WITHOUT_CUDA = grep -vE '^(nvidia-|cuda-|triton|torchvision)'
LOWEST = build/lowest

.PHONY: check test bench docs site gpu format constraints lowest dist

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

# What a CUDA device proves, in under nine minutes.
gpu:
	$(PYTHON) benchmarks/gpu.py

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

constraints:
	echo "# The versions that CI tests, for: pip install -c constraints.txt ... Written by \`make constraints\`." > constraints.new
	echo "torch==$(TORCH)" | $(COMPILE) --universal --python-version 3.10 --constraint - | $(WITHOUT_CUDA) >> constraints.new
	mv constraints.new constraints.txt

# spandrel's torchvision is left out: its tests have a stand-in.
lowest:
	rm -rf $(LOWEST)
	python3 -m venv $(LOWEST)
	echo "torch==$(TORCH)" | $(COMPILE) --resolution lowest-direct --constraint - | $(WITHOUT_CUDA) > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/pip install --no-deps -r $(LOWEST)/lowest.txt
	$(LOWEST)/bin/pip install --no-deps -e .
	$(LOWEST)/bin/python -m pytest -n auto -m "not slow and not fuzz" tests/cli tests/images tests/weights tests/weightfiles \
		tests/data tests/system tests/serve tests/engines tests/export

dist:
	rm -rf dist
	$(PYTHON) -m build
	$(PYTHON) -m twine check --strict dist/*
