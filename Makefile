# icsim: one command per task. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
CANISTERS := ledger exchange assets compute universal universal_heartbeat counter timer
BENCHES := messages idle growth start memory install quickstart sandbox http
RESULTS := bench/results
BENCH_CANISTERS := sha256 sorting matrix garbage
MINUTES := 10

AGENTS := .icsim/agents/.ready tests/agents/js/node_modules/.ready

.PHONY: help setup demo test test-agents quick check mutants fuzz test-sandbox chaos model matrix bench canisters format clean $(addprefix bench-,$(BENCHES))

help: ## this list
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo "bench-NAME    one of: $(BENCHES)"

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "icsim needs Python 3.11 or newer: apt install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "icsim needs Python 3.11 to 3.14, found $$($(PYTHON) --version): set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "Python's venv module is missing: apt install python3-venv" >&2; exit 2; }
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing icsim into $(VENV) ..."
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

setup: $(STAMP) ## a virtual environment in .venv with everything installed

demo: $(STAMP) ## run the quickstart network and check its invariants
	@$(BIN)/icsim run configs/quickstart.toml

test: $(STAMP) ## every test that a fresh machine can run (under 15 minutes)
	@$(BIN)/pytest -q -n 2 --dist loadfile

test-agents: $(STAMP) $(AGENTS) ## unmodified agents and a browser against a live network (Node, npm, Chromium)
	@$(BIN)/pytest -q tests/agents/agents_test.py tests/processes/test_http_interface.py

.icsim/agents/.ready: tests/agents/py/requirements.txt
	@$(PYTHON) -m venv .icsim/agents
	@.icsim/agents/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

tests/agents/js/node_modules/.ready: tests/agents/js/package.json
	@command -v npm >/dev/null || { echo "npm is missing: apt install nodejs npm" >&2; exit 2; }
	@cd tests/agents/js && npm install --silent --no-package-lock --no-audit --no-fund
	@touch $@

quick: $(STAMP) ## tests without real processes (under a minute)
	@$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow" tests/unit tests/spec

check: $(STAMP) ## formatting, lint, types, house rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/pytest -q tests/unit/test_tidy.py

mutants: $(STAMP) ## take every condition of the specification out in turn: a test that names it must fail (RULE=...)
	@$(BIN)/python -m tools.mutants $(if $(RULE),--rule $(RULE))

fuzz: $(STAMP) ## odd modules and odd replies of sandboxes for ten minutes (MINUTES=N)
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

test-sandbox: $(STAMP) ## every test of sandboxes: modules, metering, System API, memory, hostile processes, fuzzing
	@$(BIN)/pytest -q -n 2 --dist loadfile tests/unit/wasm tests/unit/sandbox_process tests/unit/sandbox_node \
	  tests/unit/sandbox_properties tests/fuzz tests/processes/test_hostile_sandbox.py tests/processes/test_hostile_confinement.py

model: $(STAMP) ## random actions on two subnets, each step compared with a model of the specification (MINUTES=N SEED=S)
	@$(BIN)/python -m tests.spec_model --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

matrix: $(STAMP) ## every scenario near and far, on 1 and 4 nodes, sliced and not, with sandboxes killed (SEED=S)
	@$(BIN)/python -m tests.scenarios $(if $(SEED),--seed $(SEED))

chaos: $(STAMP) ## kill sandboxes at every fault point and compare hashes with an undisturbed run
	@$(BIN)/python -m tests.chaos

bench: $(addprefix bench-,$(BENCHES)) ## all benchmarks; results in bench/results

$(addprefix bench-,$(BENCHES)): bench-%: $(STAMP)
	@$(BIN)/python -m bench.$*

canisters: $(STAMP) ## rebuild the examples' and benchmarks' *.wasm (clang, lld, rustc with wasm32, Node)
	@cd examples/canisters/motoko && npm install --silent --no-package-lock
	@for name in $(CANISTERS); do echo $$name; PYTHON=$(CURDIR)/$(BIN)/python examples/canisters/build.sh $$name; done
	@for name in $(BENCH_CANISTERS); do echo $$name; bench/canisters/build.sh $$name; done

format: $(STAMP) ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove the virtual environment, caches and runs
	rm -rf $(VENV) .icsim runs *.egg-info .mypy_cache .ruff_cache .hypothesis
