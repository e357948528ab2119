# `make help` lists the targets. Everything is installed below this folder (.venv, .venv-proto,
# .venv-deploy, target) from PyPI and the Rust registry; nothing else of the machine is changed.

PYTHON ?= python3
WORKERS ?= 3
# The oldest version that is promised, where Debian's package puts its programs.
POSTGRES15 ?= /usr/lib/postgresql/15/bin
BIN := .venv/bin
# VIRTUAL_ENV: built for this environment, wherever make was called from. PIP_QUIET: pip would name
# every requirement that is there already.
MATURIN := PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin
PIP := pip install --quiet --disable-pip-version-check
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help check-tools build demo dev test test-postgres15 races mutants faults lint lint-deploy
.PHONY: format proto docs bench bench-purge bench-sessions bench-import soak dist lock clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

check-tools:
	@command -v cargo >/dev/null || { echo "error: cargo was not found"; \
		echo "hint: install Rust 1.88 or newer, for example with rustup"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: \`$(PYTHON)\` is not Python 3.11 or newer"; \
		echo "hint: install one and name it: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: \`$(PYTHON)\` cannot make virtual environments"; \
		echo "hint: on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

.venv/installed: requirements/dev.txt | check-tools
	@echo "installing Python packages into .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

.venv-proto/installed: requirements/proto.txt | check-tools
	@test -x .venv-proto/bin/python || $(PYTHON) -m venv .venv-proto
	@.venv-proto/bin/$(PIP) --require-hashes -r requirements/proto.txt
	@touch $@

.venv-deploy/installed: requirements/deploy.txt | check-tools
	@test -x .venv-deploy/bin/python || $(PYTHON) -m venv .venv-deploy
	@.venv-deploy/bin/$(PIP) --require-hashes -r requirements/deploy.txt
	@touch $@

build: .venv/installed ## Install what is needed and build; leaves .venv/bin/watchword ready
	@$(BIN)/$(PIP) --no-deps --no-build-isolation -e clients/python
	@$(MATURIN) develop --locked

demo: build ## Show one whole sign-in on a temporary PostgreSQL
	@$(BIN)/watchword demo

dev: build ## Run Watchword with its own PostgreSQL; ARGS="--port-offset 100" for other ports
	@$(BIN)/watchword dev $(ARGS)

# Most tests wait more than they work, so that three share two cores well; each worker has its own
# PostgreSQL. What kills servers measures their time, and runs alone.
test: build ## Run all tests
	cargo test --locked
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --ignore=tests/faults --durations 20
	$(BIN)/python -m pytest tests/faults

test-postgres15: build ## Run the tests of storage on an installed PostgreSQL 15
	@if test -x $(POSTGRES15)/postgres; then \
		WATCHWORD_DEV_POSTGRES_BIN=$(POSTGRES15) $(BIN)/python -m pytest tests/storage; \
	else \
		echo "skipped: there is no PostgreSQL 15 in $(POSTGRES15)"; \
		echo "hint: on Debian 12: apt-get install postgresql-15; or name the folder of its" \
			"programs: make test-postgres15 POSTGRES15=..."; \
	fi

races: build ## Race three servers at full size, resumable; appends to docs/proof.md; about an hour
	WATCHWORD_TEST_FULL=1 $(BIN)/python -m pytest -s tests/races

mutants: build ## Show that the races catch seeded bugs; about 5 minutes
	$(BIN)/python -m tests.mutants

faults: build ## Kill the server 20 times and PostgreSQL 10 times under load, roll keys; about 20 minutes
	WATCHWORD_TEST_FULL=1 $(BIN)/python -m pytest -s tests/faults

lint: build ## Check format, lint, types, layers and the contract; changes nothing
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=service $(BIN)/python -m mypy.stubtest watchword._core
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against proto/released.binpb

lint-deploy: .venv-deploy/installed ## Check the Dockerfile, the compose file and the Kubernetes manifest
	.venv-deploy/bin/hadolint Dockerfile
	.venv-deploy/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	.venv-deploy/bin/kubernetes-validate --strict deploy/kubernetes.yaml

format: build ## Format everything
	cargo fmt --all
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

proto: .venv-proto/installed ## Generate the stubs of clients/python from proto/
	.venv-proto/bin/python proto/generate.py

docs: build ## Generate docs/configuration.md, docs/errors.md and the tables of docs/limits.md
	$(BIN)/python -m docs.generate

bench: .venv/installed ## Measure sign-ins and session checks, with the core built for release
	@$(BIN)/$(PIP) --no-deps --no-build-isolation -e clients/python
	@$(MATURIN) develop --locked --release
	$(BIN)/python -m benchmarks

# Each wheel is made from its source distribution, which shows that this is complete.
dist: .venv/installed ## Build wheels and source distributions of server and client into dist/
	@rm -rf dist
	@$(MATURIN) build --locked --release --sdist --auditwheel check --target-dir target --out dist
	@cd clients/python && $(CURDIR)/$(BIN)/uv build --quiet --offline --no-build-isolation \
		--python $(CURDIR)/$(BIN)/python --out-dir $(CURDIR)/dist
	@ls dist

soak: build ## Watch memory and files while the service is busy; 30 minutes, or ARGS="--minutes 2"
	$(BIN)/python -m benchmarks.soak $(ARGS)

bench-purge: .venv/installed ## Measure what a purge costs those who sign in meanwhile
	@$(BIN)/$(PIP) --no-deps --no-build-isolation -e clients/python
	@$(MATURIN) develop --locked --release
	$(BIN)/python -m benchmarks.purge

bench-sessions: .venv/installed ## Measure session checks beside tonic and Redis; about 5 minutes
	@$(BIN)/$(PIP) --no-deps --no-build-isolation -e clients/python
	@$(MATURIN) develop --locked --release
	$(BIN)/python -m benchmarks.session_checks $(ARGS)

bench-import: .venv/installed ## Measure the import of 100,000 users beside COPY
	@$(BIN)/$(PIP) --no-deps --no-build-isolation -e clients/python
	@$(MATURIN) develop --locked --release
	$(BIN)/python -m benchmarks.user_import $(ARGS)

lock: .venv/installed ## Resolve requirements/*.txt anew, within what is locked where that fits
	$(LOCK) pyproject.toml --extra dev --group check --no-emit-package watchword-client \
		-o requirements/dev.txt
	$(LOCK) pyproject.toml --constraint requirements/dev.txt --no-emit-package watchword-client \
		-o requirements/runtime.txt
	$(LOCK) --group build --constraint requirements/dev.txt -o requirements/build.txt
	$(LOCK) requirements/deploy.in -o requirements/deploy.txt
	$(LOCK) requirements/proto.in -o requirements/proto.txt

clean: ## Remove everything that was built or installed
	rm -rf .venv .venv-proto .venv-deploy target dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f service/watchword/_core*.so
