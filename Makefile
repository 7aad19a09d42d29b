# Every task of this project. Each sets up what it needs in .venv first, once: with uv if it is
# there, else with Python's own venv and pip. Nothing but make and Python 3.11 or newer is assumed.

# The first of these that is new enough makes the environment.
PYTHON ?= python3 python3.13 python3.12 python3.11 python3.14 python
VENV ?= .venv
# More arguments for pytest or the speed suite, as in: make test ARGS="tests/test_data.py -x"
ARGS ?=

# Versions and extras of an environment; see test-lowest and test-newest.
CONSTRAINTS ?= constraints.txt
EXTRAS ?= data,mlflow,pennylane,qiskit,tensorboard,torch,wandb
# What those two run: solvers, derivatives, circuits, configurations, files of one's own. Old versions
# of one package warn of new ones of another.
SELECTION = $(addprefix tests/test_,solvers.py adjoints.py circuit.py build.py config.py own_files.py)
# Means of a table read from a file and from a frame differ in the last bit with old versions.
LAST_BIT = tests/test_own_files.py::test_a_run_says_what_it_was_trained_on

BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
INSTALL = $(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install \
	--quiet --disable-pip-version-check) --constraint $(CONSTRAINTS)
# Tests share one machine with JAX's own threads, hence four workers at most; what they cache stays
# away from the user's own cache.
PYTEST = QDEQ_CACHE="$(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)/cache" $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-lowest test-newest wheel wheel-check lint types format docs benchmark clean

help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.package ## Train a small quantum equilibrium model on real digits
	$(BIN)/qdeq train --preset demo

test: $(VENV)/.develop ## Run the tests and the examples in docstrings, except slow ones
	$(PYTEST) $(ARGS)

test-slow: $(VENV)/.develop $(VENV)/.docs ## Run the slow tests
	$(PYTEST) -m slow $(ARGS)

test-lowest: ## Run a selection of tests with the oldest versions that are allowed
	$(MAKE) VENV=$(VENV)-lowest CONSTRAINTS=constraints-lowest.txt EXTRAS=data test \
		ARGS="$(SELECTION) -W ignore::DeprecationWarning --deselect $(LAST_BIT)"

test-newest: ## Run it with the newest versions (Python 3.12 or newer)
	$(MAKE) VENV=$(VENV)-newest CONSTRAINTS=constraints-newest.txt EXTRAS=data test \
		ARGS="$(SELECTION) -W ignore::DeprecationWarning"

wheel: $(VENV)/.develop ## Build the wheel with kernels for this kind of machine into dist/
	QDEQ_KERNELS=1 $(BIN)/python -m build --wheel

wheel-check: wheel ## Install that wheel into a fresh environment and check it as a user would
	rm -rf $(VENV)-wheel
	$(BIN)/python -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt dist/qdeq-*-py3-none-*linux*.whl
	$(VENV)-wheel/bin/python tests/wheel_check.py

lint: $(VENV)/.develop ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.develop ## Check types
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.develop ## Format the code and repair what can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

benchmark: $(VENV)/.develop ## Run the speed suite; its options are ARGS="--quick"
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove the environment, caches and builds; runs/ stays
	rm -rf $(VENV) $(VENV)-* build dist site .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps, each touched only when its step is complete. An existing .venv is reused, never wiped.
$(VENV)/.created:
	@for candidate in $(PYTHON); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
		then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "qdeq needs Python 3.11 or newer, which is none of: $(PYTHON). Install one, or name it: make PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi; \
	echo "setting up $(VENV) with $$("$$python" --version)$(if $(UV), and uv)"; \
	$(if $(UV),uv venv --quiet --allow-existing --python "$$python" $(VENV),"$$python" -m venv $(VENV)) || { \
		echo "$$python could not make $(VENV): install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2; \
		exit 1; \
	}
# pip 25.1 is the first that knows dependency groups.
	$(if $(UV),,@$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1")
	@touch $@

$(VENV)/.package: $(VENV)/.created pyproject.toml $(CONSTRAINTS)
	$(INSTALL) --editable ".[data]"
	@touch $@

$(VENV)/.develop: $(VENV)/.package
	$(INSTALL) --group dev --editable ".[$(EXTRAS)]"
	@touch $@

$(VENV)/.docs: $(VENV)/.package
	$(INSTALL) --group docs
	@touch $@
