# Every target works from a bare clone: it makes .venv first and rebuilds the kernels when their
# sources changed. Needs Python 3.11+ and, for the kernels, a C++20 compiler.

PYTHON ?= python3
WORKERS ?= 2
GPU_WORKERS ?= 8
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=

BIN := .venv/bin
CONSTRAINTS := $(CURDIR)/constraints.txt
export PIP_CONSTRAINT := $(CONSTRAINTS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# -q leaves the compiler's own errors visible.
PIP := $(BIN)/python -m pip install -q -c $(CONSTRAINTS)

CXX_SOURCES := $(shell find csrc -type f 2>/dev/null)
CXX_FORMAT = $(filter %.cpp %.h,$(CXX_SOURCES))
# A compiler that is there must succeed, and the tests must then find the kernels; only a machine
# without one gets the pure-torch package.
ifeq ($(origin CXX),default)
  COMPILER := $(firstword $(shell command -v c++ g++ clang++ 2>/dev/null))
else
  COMPILER := $(shell command -v $(firstword $(CXX)) 2>/dev/null)
  export CXX
endif
ifneq ($(COMPILER),)
  export BATCHNORM_REQUIRE_NATIVE ?= 1
  export REQUIRE_NATIVE ?= 1
endif

.PHONY: help setup demo test bench bench-tools triton gpu bench-gpu check format docs clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/.installed ## make .venv with torch, the built package and all tools

demo: setup ## train with and without batch norm; writes out/demo/report.html
	$(BIN)/batchnorm demo $(DEMO_ARGS)

test: setup ## run the tests (PYTEST_ARGS="-m slow" for the long ones)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

bench: setup ## measure against torch and the copy floor; writes benchmarks/results
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-tools: setup ## measure folding, recalibration, watching and synchronising, which docs/ quote
	$(BIN)/python -m benchmarks.folding
	$(BIN)/python -m benchmarks.recalibration
	$(BIN)/python -m benchmarks.watch
	$(BIN)/python -m benchmarks.sync_points
	$(BIN)/python -m benchmarks.sync_docs

triton: setup ## the tests of the GPU kernels alone, in Triton's interpreter and compiler
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/triton $(PYTEST_ARGS)

gpu: setup ## the tests that need a GPU; a skip is a failure
	REQUIRE_GPU=1 $(BIN)/python -m pytest -n $(GPU_WORKERS) --dist worksteal tests/gpu $(PYTEST_ARGS)

bench-gpu: setup ## measure on a GPU against torch and a copy; writes docs/gpu.md
	$(BIN)/python -m benchmarks.gpu $(BENCH_ARGS)

check: setup ## lint, formatting and types, without changing a file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(CXX_FORMAT),$(BIN)/clang-format --dry-run -Werror $(CXX_FORMAT))

format: setup ## let ruff and clang-format rewrite what `check` would refuse
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(CXX_FORMAT),$(BIN)/clang-format -i $(CXX_FORMAT))

docs: .venv/.docs ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## remove everything that the other targets made
	rm -rf .venv build dist out site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------ stamps

# torch and the build tools come first: the build below is not isolated and reads torch's headers.
.venv/.tools: constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "batchnorm needs Python 3.11+"'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch==2.13.0
	$(PIP) scikit-build-core cmake ninja
	touch $@

.venv/.installed: .venv/.tools pyproject.toml CMakeLists.txt $(CXX_SOURCES)
	$(PIP) --no-build-isolation -e '.[dev,lab]'
	touch $@

.venv/.docs: .venv/.installed
	$(PIP) --no-build-isolation -e '.[dev,lab,docs]'
	touch $@
