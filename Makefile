# The two commands that anybody needs are `make demo` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# The tests that start no program (`tests/selection.py` finds out which), of every floor. Reading
# the OpenAPI document for schemathesis costs each worker seconds, and none of its tests is fast.
FAST   := -m "not slow and not docker and not soak" tests/mcp_discovery tests/adapters tests/sidecar tests/facade \
  $(wildcard tests/test_*.py) -p no:schemathesis --ignore=tests/facade/http/test_schemathesis.py
# Most tests wait for stores and servers, so that more of them run than there are processors; the
# fast ones do not wait.
WORKERS ?= 4
FAST_WORKERS ?= 3
# The seed of all that is drawn in `make soak`: another one each time, unless one is given.
ifndef SEED
SEED := $(shell date +%s)
endif
SECONDS ?= 600
FUZZ_SECONDS ?= 120
STORES ?= consul etcd
# Those of their releases that `make soak` breaks: debian, recent or both; both unless one is named.
RELEASES ?=

# Tests start some thousand short-lived processes: each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check lint fmt soak bench docs stores test-docker clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

demo: $(READY) ## Show what it does; ARGS=--once ends by itself
	@$(BIN)/mcp-discovery demo $(ARGS)

test: lint stores ## Every check and every test, real stores included
	$(BIN)/pytest -n $(WORKERS) --dist=loadgroup $(ARGS)

check: lint ## Format, lint, types, floors, and the fast tests of every floor
	$(BIN)/pytest -q -n $(FAST_WORKERS) $(FAST)

lint: $(READY) ## Format, lint, types and floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(READY) ## Format and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

stores: ## Real Consul and etcd, old and new, and the other programs and MCP servers that the tests use
	@scripts/fetch-stores
	@PYTHON="$(PYTHON)" scripts/build-stores
	@PYTHON="$(PYTHON)" scripts/fetch-tools
	@PYTHON="$(PYTHON)" scripts/fetch-foreign
	@scripts/fetch-issuer
	@scripts/fetch-bench-tools
	@PYTHON="$(PYTHON)" scripts/fetch-tool-sets

soak: $(READY) stores ## Random tests with a new seed, and broken clusters: SECONDS=600, SEED=…, STORES="consul etcd", RELEASES="debian recent"
	@echo "SEED=$(SEED): 'make soak SEED=$(SEED)' draws the same again"
	@$(BIN)/pip install --quiet --disable-pip-version-check atheris==3.0.0 || \
	  echo "atheris cannot be installed: fuzzing goes without its guidance"
	$(BIN)/pytest -m soak
	TESTS_SEED=$(SEED) $(BIN)/pytest -n $(WORKERS) --dist=loadgroup -m "drawn and not docker" \
	  --hypothesis-profile=fresh --hypothesis-seed=$(SEED)
	$(BIN)/python -m tests.faults.fuzz --seconds $(FUZZ_SECONDS) --seed $(SEED)
	$(BIN)/python -m tests.faults.soak --seconds $(SECONDS) --seed $(SEED) --stores $(STORES) --releases $(RELEASES)

bench: $(READY) stores ## Measure all that docs/performance.md tells, beside others; ARGS=--quick
	@scripts/fetch-finders
	$(BIN)/python -m benchmarks $(or $(ARGS),--json docs/performance/figures.json \
	  --plots docs/performance --page docs/performance.md)

docs: $(READY) ## The documentation as a site in build/site/, every link checked
	$(BIN)/mkdocs build --strict

test-docker: $(READY) stores ## The tests that need a Docker daemon
	$(BIN)/pytest -m docker $(ARGS)

clean: ## Remove what the other targets made
	rm -rf $(VENV) .stores .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build .import_linter_cache

$(READY): pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mcp-discovery needs Python 3.11 or later; run make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "install Python's venv module (Debian: python3-venv)"; exit 1; }
	@echo "Installing into $(VENV) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
