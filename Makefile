# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Another interpreter: `make install PYTHON=python3.12`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# As many test processes as there are cores; `make test JOBS=0` runs them in one.
JOBS ?= auto
# How long `make fuzz` looks; what it found stays in build/fuzz for the next time.
FUZZ_SECONDS ?= 600
# Where `make bench` keeps its models for the next time; nowhere if empty.
BENCH_FOLDER ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test check lint format bench fuzz clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Set up .venv with everything (about 2 GB the first time)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "bninspect needs Python 3.11 or newer; name it: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@echo "setting up $(VENV): TensorFlow and PyTorch are large, this takes some minutes once" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'
	@# It asks for the package `tensorflow`, and would put that over `tensorflow-cpu`.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --no-deps tf_keras
	@touch $@

demo: install ## Export the same network from Keras and PyTorch, inspect both, compare them
	@$(BIN)/python scripts/demo.py build/demo

test: install ## Run the tests
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

lint: install ## Format, lint, import contracts, strict types, README against --help
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy
	@$(BIN)/python scripts/check_readme.py

check: lint test ## Everything that has to hold before a commit

format: install ## Rewrite the sources as `lint` wants them
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP).bench ## Time the command line against its floor and its peers (6 GB of disk)
	@$(BIN)/python scripts/bench_start.py
	@$(BIN)/python scripts/bench_recognise.py
	@$(BIN)/python scripts/bench_read.py $(if $(BENCH_FOLDER),--folder $(BENCH_FOLDER))

fuzz: $(STAMP).fuzz ## Look for files that crash the reader, for FUZZ_SECONDS (600)
	@$(BIN)/python scripts/fuzz_read.py --seconds $(FUZZ_SECONDS)

# What only these two need.
$(STAMP).%: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[$*]'
	@touch $@

clean: ## Remove what was built, .venv too
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
