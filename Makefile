# The two commands that anybody needs are `make demo` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Tests that need no server but our own: they run in seconds.
UNIT   := $(wildcard tests/mcp_discovery/test_*.py tests/adapters/test_*.py) tests/adapters/embedded tests/adapters/remote
WORKERS ?= 3
SECONDS ?= 600
FUZZ_SECONDS ?= 120
STORES ?= consul etcd

# Tests start some thousand short-lived processes: each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test soak bench check fmt stores test-docker clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

demo: $(READY) ## Show what it does; ARGS=--once ends by itself
	@$(BIN)/mcp-discovery demo $(ARGS)

test: check stores ## Every check and every test, real stores included
	$(BIN)/pytest -n $(WORKERS) --dist=loadgroup $(ARGS)

check: $(READY) ## Format, lint, types, floors and unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n $(WORKERS) $(UNIT)

fmt: $(READY) ## Format and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

stores: ## Real Consul, etcd, other programs and the MCP SDK 1.x for the tests, into .stores/
	@scripts/fetch-stores
	@PYTHON="$(PYTHON)" scripts/fetch-tools
	@PYTHON="$(PYTHON)" scripts/fetch-sdk1

soak: $(READY) stores ## Break real clusters on purpose: SECONDS=600, SEED=…, STORES="consul etcd"
	@$(BIN)/pip install --quiet --disable-pip-version-check atheris==3.0.0 || \
	  echo "atheris cannot be installed: fuzzing goes without its guidance"
	$(BIN)/pytest -m soak
	$(BIN)/python -m tests.faults.fuzz --seconds $(FUZZ_SECONDS) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.faults.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) --stores $(STORES)

bench: $(READY) stores ## Measure all that docs/performance.md tells, beside others; ARGS=--quick
	@scripts/fetch-bench-tools || echo "going on: rows whose tools are missing say so"
	$(BIN)/python -m benchmarks $(or $(ARGS),--json docs/performance/figures.json \
	  --plots docs/performance --page docs/performance.md)

test-docker: $(READY) stores ## The tests that need a Docker daemon
	$(BIN)/pytest -m docker $(ARGS)

clean: ## Remove what the other targets made
	rm -rf $(VENV) .stores .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(READY): pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mcp-discovery needs Python 3.11 or later; run make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "install Python's venv module (Debian: python3-venv)"; exit 1; }
	@echo "Installing into $(VENV) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
