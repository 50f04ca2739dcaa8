# `make quickstart` and `make test` do all of their own set-up: a virtual environment, the installation, the job.

PYTHON ?= python3
VENV ?= .venv
OUT ?= runs/quickstart
ARGS ?=

BIN := $(VENV)/bin
# pip tells of its progress only to a terminal, not to a log.
QUIET := $(shell [ -t 2 ] || echo --quiet)
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check $(QUIET) -c constraints.txt
INSTALL_FAILED := echo "error: the installation failed; pip's message stands above. Mend the cause and run make again."; exit 1;
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
# A changed list of packages is the only reason to install again: the checkout is installed in editable mode.
LISTS := pyproject.toml constraints.txt hatch_build.py

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow test-contract lint format audit clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/' | expand -t 22

quickstart: $(RUN_STAMP)  ## install, then train, judge and report a tiny model on real images (OUT=folder, ARGS=options)
	$(BIN)/semihv quickstart --out $(OUT) $(ARGS)

test: $(DEV_STAMP)  ## install, then run the tests that take seconds each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow" $(ARGS)

# The full quickstart has the machine to itself, since it must end in time. Exit code 5: ARGS chose none of these tests.
test-slow: $(DEV_STAMP)  ## install, then run the slow tests, the full quickstart first
	$(BIN)/python -m pytest -q -m slow tests/quickstart $(ARGS) || [ $$? = 5 ]
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m slow --ignore=tests/quickstart $(ARGS) || [ $$? = 5 ]

test-contract: $(DEV_STAMP)  ## install, then run the transformers library's own common tests against the model
	$(BIN)/python -m pytest -q -rfExX tests/upstream --upstream $(ARGS)

lint: $(DEV_STAMP)  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV_STAMP)  ## mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

audit: $(DEV_STAMP)  ## look for dangerous code (bandit) and for packages with known vulnerabilities (pip-audit)
	$(BIN)/python .ci/audit.py

clean:  ## remove what builds and tests leave; the environment, the runs and the package cache stay
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is not Python 3.11 or newer, which transformers 5.23 needs. Choose one: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -f $@; \
	  echo "error: no environment could be made in $(VENV). On Debian: apt-get install python3-venv"; exit 1; }

$(RUN_STAMP): $(LISTS) | $(BIN)/python
	@echo "Installing semihv-hf into $(VENV); the first time this takes some minutes."
	@$(PIP_INSTALL) -e '.[train,judge]' || { $(INSTALL_FAILED) }
	@touch $@

$(DEV_STAMP): $(LISTS) | $(BIN)/python
	@echo "Installing semihv-hf and its test tools into $(VENV); the first time this takes some minutes."
	@$(PIP_INSTALL) -e '.[train,curate,judge,metrics,review,serve,deepspeed,deidentify,ray,dev]' || { $(INSTALL_FAILED) }
	@touch $(RUN_STAMP) $@
