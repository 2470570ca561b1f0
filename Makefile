# Everything a developer runs. Each target sets up what it needs, once, in a virtual environment:
#   make test                                        the tests, with python3, in .venv
#   make PYTHON=python3.13 VENV=.venv-3.13 test      another interpreter, an environment of its own
#   make test ARGS='-k logs -x'                      more arguments for the program that runs

VENV ?= .venv
# That of the environment, if it is there: else one of another version would be made anew.
PYTHON ?= $(firstword $(wildcard $(VENV)/bin/python) python3)
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1
# Else each of the many programs that the tests run would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

IN_VENV := $(VENV)/bin/python
# Empty when $(PYTHON) cannot run; the environment of another version is made anew.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
STAMPS := $(VENV)/.stamps-$(PYTHON_VERSION)

# Only folders that hold Python files: the type checker refuses an empty one.
TYPED := src tests $(sort $(patsubst %/,%,$(dir $(wildcard examples/*.py benchmarks/*.py))))
EXAMPLE_TESTS := $(wildcard tests/test_examples.py tests/examples)

.DEFAULT_GOAL := help
# Targets share one environment and install into it.
.NOTPARALLEL:
.PHONY: help demo test simulate examples lint format types mypy verifytypes docs bench clean

help:
	@echo 'make demo      run examples/demo.py'
	@echo 'make test      run the tests'
	@echo 'make simulate  play 300 fixed histories of faults, 60 with SQLite, 100 fresh ones, 1,000 of the core'
	@echo 'make examples  run the tests of the examples'
	@echo 'make lint      check style and format (make format: mend them)'
	@echo 'make types     check types, and that the public ones are complete'
	@echo 'make docs      build the documentation into site/'
	@echo 'make bench     run the benchmarks'
	@echo 'make clean     remove environments, caches and what was built'
	@echo "PYTHON=python3.N and VENV=dir choose the interpreter and the environment; ARGS='...' adds arguments"

demo: $(STAMPS)/test
	$(IN_VENV) examples/demo.py $(ARGS)

# A file is run by one process, so that what its tests share is made once. ARGS='-n 0': one after another.
test: $(STAMPS)/test
	$(IN_VENV) -m pytest -n auto --dist loadfile $(ARGS)

# The fresh ones differ in each run: a failure prints its seed and the command that replays it.
simulate: $(STAMPS)/test
	$(IN_VENV) -m tests.simulation --seeds 300 --processes 2 $(ARGS)
	$(IN_VENV) -m tests.simulation --seeds 60 --first 5000 --processes 2 --shadow $(ARGS)
	$(IN_VENV) -m tests.simulation --seeds 100 --first $$($(IN_VENV) -c 'import secrets; print(10_000 + secrets.randbelow(10**9))') --processes 2 $(ARGS)
	$(IN_VENV) -m tests.scheduling.histories --seeds 1000

examples: $(STAMPS)/test
	$(if $(EXAMPLE_TESTS),,$(error There are no tests of examples: tests/test_examples.py or tests/examples))
	$(IN_VENV) -m pytest $(EXAMPLE_TESTS) $(ARGS)

lint: $(STAMPS)/lint
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m ruff format --check .

format: $(STAMPS)/lint
	$(IN_VENV) -m ruff check --fix .
	$(IN_VENV) -m ruff format .

types: mypy verifytypes

mypy: $(STAMPS)/lint
	$(IN_VENV) -m mypy $(TYPED)

# With this option pyright looks for the package by the first `python` on PATH, whatever else it is told.
verifytypes: $(STAMPS)/lint
	PATH="$(abspath $(VENV))/bin:$$PATH" $(IN_VENV) -m pyright --verifytypes hodei_core --ignoreexternal

docs: $(STAMPS)/docs
	$(IN_VENV) -m mkdocs build --strict

bench: $(STAMPS)/test
	$(IN_VENV) -m benchmarks $(ARGS)

clean:
	rm -rf .venv .venv-* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist site
	find src tests examples benchmarks -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# The package itself, editable, with its extras and the tools of its tests. Groups need pip 25.1.
$(STAMPS)/test: pyproject.toml | $(STAMPS)/venv
	@echo 'Installing hodei_core and the test tools into $(VENV)'
	@$(IN_VENV) -m pip install -qq 'pip>=25.1'
	@$(IN_VENV) -m pip install -qq --editable '.[cli,docker]' --group test
	@$(IN_VENV) -m compileall -q src
	@touch $@

$(STAMPS)/lint $(STAMPS)/docs: $(STAMPS)/test
	@echo 'Installing the $(@F) tools into $(VENV)'
	@$(IN_VENV) -m pip install -qq --group $(@F)
	@touch $@

# Debian keeps ensurepip, without which `venv` fails, in a package of its own.
$(STAMPS)/venv:
	@$(PYTHON) -c '' || { echo '$(PYTHON) does not run: install Python 3.10 or newer, or name one with PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo 'Python 3.10 or newer is needed, $(PYTHON) is $(PYTHON_VERSION): name another with PYTHON=...' >&2; exit 1; }
	@if [ -e '$(VENV)' ] && [ ! -e '$(VENV)/pyvenv.cfg' ]; then echo '$(VENV) exists and is no virtual environment: name another with VENV=...' >&2; exit 1; fi
	@$(PYTHON) -c 'import venv, ensurepip; ensurepip.version()' 2>/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		echo 'Installing python$(PYTHON_VERSION)-venv' && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python$(PYTHON_VERSION)-venv >/dev/null; \
	} || { echo '$(PYTHON) cannot make virtual environments: as root, apt-get install python$(PYTHON_VERSION)-venv' >&2; exit 1; }
	@$(PYTHON) -m venv --clear '$(VENV)'
	@mkdir -p $(@D)
	@touch $@
