# make demo: set up and show the program at work.    make test: set up and run all tests.
#
# Needs Python 3.11 or newer with venv, and make. Everything is installed into .venv-$(EXTRA) here.

PYTHON ?= python3
EXTRA ?= cpu
PYTEST_ARGS ?=

VENV := .venv-$(EXTRA)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check install

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types clean check-python

help:
	@echo "make demo    convert and run the embedded model"
	@echo "make test    run all tests                        (PYTEST_ARGS='-k pool' for some)"
	@echo "make check   style, types and the quick tests, while working"
	@echo "make lint    ruff check, ruff format, import contracts"
	@echo "make types   mypy --strict"
	@echo "make clean   remove the environments, caches and built files"
	@echo
	@echo "PYTHON=python3.12   another Python (3.11 or newer)"
	@echo "EXTRA=gpu           the CUDA environment instead of the CPU one"

demo: $(VENV)/.run
	@$(BIN)/onnx2snn demo

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

check: lint types
	@$(BIN)/python -m pytest -n auto tests/unit tests/passes $(PYTEST_ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(VENV)/.dev
	@$(BIN)/mypy

clean:
	rm -rf .venv-cpu .venv-gpu build dist
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment per extra: onnxruntime and onnxruntime-gpu own the same import folder.
$(VENV)/.run: pyproject.toml | check-python
	@echo "Setting up $(VENV) (about a minute) ..."
	@'$(PYTHON)' -m venv --clear $(VENV)
	@$(PIP) --editable '.[$(EXTRA)]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "Adding the development tools to $(VENV) (about a minute) ..."
	@$(PIP) --editable '.[$(EXTRA),report,dev]'
	@touch $@

check-python:
	@command -v '$(PYTHON)' >/dev/null || { \
	    echo "'$(PYTHON)' not found. Install Python 3.11 or newer,"; \
	    echo "or say where it is: make demo PYTHON=/path/to/python3.11"; \
	    exit 1; } >&2
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "onnx2snn needs Python 3.11 or newer; '$(PYTHON)' is $$('$(PYTHON)' --version 2>&1)."; \
	    found=; \
	    for name in python3.14 python3.13 python3.12 python3.11; do \
	        if "$$name" -c '' 2>/dev/null; then found=$$name; break; fi; \
	    done; \
	    if [ -n "$$found" ]; then echo "There is a newer one: make demo PYTHON=$$found"; \
	    else echo "Install a newer one and name it: make demo PYTHON=python3.11"; fi; \
	    exit 1; } >&2
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "'$(PYTHON)' cannot make virtual environments: its venv package is missing."; \
	    echo "On Debian and Ubuntu: sudo apt install python3-venv"; \
	    echo "(or python3.11-venv, for the version that '$(PYTHON)' is)"; \
	    exit 1; } >&2
