# The developer's whole interface. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh

BIN := .venv/bin
STAMP := .venv/.installed
# The first of these that is Python 3.11 or newer builds .venv; `make PYTHON=/path/to/python` names another.
PYTHONS := python3.11 python3 python3.12 python3.13 python3.14 python
PYTHON ?= $(shell for python in $(PYTHONS); do \
	if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then echo "$$python"; break; fi; done)
PYTEST := $(BIN)/python -m pytest
# One process more than processors, since tests wait for clocks and disks too; 4 at most. A module of tests
# stays in one process, for its tests share a server; modules begin in the order that tests/conftest.py gives.
WORKERS := $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n < 3 ? n + 1 : 4)))
PARALLEL := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
# The folders of quick tests stand in memory where there is plenty; slow tests always have a real disk.
IN_MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 8388608 { print "PYTEST_DEBUG_TEMPROOT=/dev/shm" }')
# Tests start hundreds of processes: where each compiles what it imports anew, they take twice as long.
unexport PYTHONDONTWRITEBYTECODE
SOURCES := src tests scripts examples $(wildcard bench contrib)
# contrib patches other people's classes, which is just what mypy is there to forbid
TYPED := $(filter-out contrib,$(SOURCES))
# POOLED=1: the suites on PostgreSQL reach it through a pgbouncer of their own, in transaction mode.
POOLED ?= $(MIXDOWN_TEST_POOLED)
# What starts a server, or opens a store, and so runs on PostgreSQL where it is asked to: tests/engine.py. The
# others keep no data (model, bench), or use a PostgreSQL of their own at any time (moving, torture).
SUITES := $(addprefix tests/,store admin bounds cli contract docs durability erasure explorer fold history hostile \
	http_writes live operations reads reports sdk)

.PHONY: help install serve test test-slow test-postgres test-postgres-slow torture torture-postgres fuzz lint format types imports docs-check check bench bench-full bench-reads bench-events bench-reports bench-pages bench-postgres bench-skew bench-sizes screenshots bounds lock build clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## build .venv from the lock (every other target does it when needed)
	@:

$(STAMP): requirements-dev.lock pyproject.toml scripts/install.py
	@if [ -z "$(PYTHON)" ]; then \
		echo "make install: Mixdown needs Python 3.11 or newer, and none of these is: $(PYTHONS)." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make install: $(PYTHON) is not Python 3.11 or newer" >&2; exit 1; }
	@"$(PYTHON)" scripts/install.py

serve: $(STAMP) ## start the server on 127.0.0.1:6493 (ARGS="--port 8080 ...")
	@exec $(BIN)/mixdown serve $(ARGS)

test: $(STAMP) ## run the test suite, without the slow tests (ARGS="-k word ...")
	@$(IN_MEMORY) $(PYTEST) $(PARALLEL) -m "not slow" $(ARGS)

test-slow: $(STAMP) ## run the slow tests: crashes, browsers, other languages' SDKs
	@status=0; \
	$(PYTEST) $(PARALLEL) -m "slow and not alone" $(ARGS) || status=$$?; \
	$(PYTEST) -m "slow and alone" $(ARGS) || alone=$$?; \
	none=5; for ended in $$status $${alone:-0}; do [ $$ended -eq 0 ] || [ $$ended -eq $$none ] || exit $$ended; done

test-postgres: $(STAMP) ## run the suites on PostgreSQL, which the tests start themselves (SUITES="tests/reads ...", POOLED=1: by pgbouncer)
	@MIXDOWN_TEST_STORES=postgres MIXDOWN_TEST_POOLED=$(POOLED) $(IN_MEMORY) $(PYTEST) $(PARALLEL) -m "not slow" $(SUITES) $(ARGS)

test-postgres-slow: $(STAMP) ## run SDKs, clients and browsers, and other slow tests, on PostgreSQL (likewise)
	@MIXDOWN_TEST_STORES=postgres MIXDOWN_TEST_POOLED=$(POOLED) $(PYTEST) $(PARALLEL) -m "slow and not alone" $(SUITES) $(ARGS)

torture: $(STAMP) ## kill, cut and fill while clients write, for two minutes (ARGS="--seconds 600 --seed 7")
	@$(BIN)/python -m tests.torture $(ARGS)

torture-postgres: $(STAMP) ## kill, part and hang what nodes on PostgreSQL need (ARGS="--seconds 600 --seed 7")
	@$(BIN)/python -m tests.torture.postgres $(ARGS)

lint: $(STAMP) ## check style with ruff
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/ruff format --check --quiet $(SOURCES) || \
		{ echo "ruff format would change files: run make format" >&2; exit 1; }

format: $(STAMP) ## let ruff rewrite what it can
	@$(BIN)/ruff check --quiet --fix-only $(SOURCES)
	@$(BIN)/ruff format --quiet $(SOURCES)

types: $(STAMP) ## check types with mypy, strictly
	@$(BIN)/mypy $(TYPED)

imports: $(STAMP) ## check that imports go one way
	@$(BIN)/lint-imports --no-logo --cache-dir .import_linter_cache

docs-check: $(STAMP) ## check the links, anchors and make targets that the documents name
	@$(BIN)/python scripts/docs_check.py

check: lint types imports docs-check test test-postgres test-slow ## all of the checks and tests

bench: $(STAMP) ## measure this machine, in about five minutes (ARGS="--only ack,fold --keys zipf ...")
	@$(BIN)/python -m bench $(ARGS)

bench-reads: $(STAMP) ## reads of a million profiles, quiet and under load, in about ten minutes
	@$(BIN)/python -m bench.reads $(ARGS)

bench-events: $(STAMP) ## twenty million events in store: size, counts, an export; about a quarter of an hour
	@$(BIN)/python -m bench.stored_events $(ARGS)

bench-reports: $(STAMP) ## segmentation, a funnel, retention over twenty million events; about half an hour
	@$(BIN)/python -m bench.reports $(ARGS)

bench-pages: $(STAMP) ## the explorer's pages in Chromium, over a million profiles; about a quarter of an hour
	@$(BIN)/python -m bench.pages $(ARGS)

bench-skew: $(STAMP) ## reckon how unevenly a large project falls on partitions; half a minute, no server
	@$(BIN)/python -m bench.skew $(ARGS)

bench-sizes: $(STAMP) ## what profiles, updates and keys take of a PostgreSQL, in bytes; about three minutes
	@$(BIN)/python -m bench.sizes $(ARGS)

bench-postgres: $(STAMP) ## on PostgreSQL, near and 5 ms away: about eight minutes (ARGS="--only ack,fold --save")
	@$(BIN)/python -m bench.postgres $(ARGS)

bench-full: $(STAMP) ## and other databases, growth to 10 M profiles, a slower disk: about an hour
	@$(BIN)/python -m bench --full $(ARGS)

fuzz: $(STAMP) ## try made-up input on the decoders and the record parser (ARGS="--inputs 10000000 --seed 1")
	@$(BIN)/python -m tests.hostile.fuzz $(ARGS)

screenshots: $(STAMP) ## take the pictures of the explorer in docs/screenshots (ARGS="users profile")
	@$(BIN)/python -m tests.explorer.screenshots $(ARGS)

bounds: $(STAMP) ## measure memory, and a normal client beside hostile ones (ARGS=--save keeps it)
	@$(BIN)/python -m bench.bounds $(ARGS)

lock: $(STAMP) ## renew requirements-dev.lock after a change of pyproject.toml (ARGS=--upgrade for newer packages)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" $(ARGS) \
		--output-file requirements-dev.lock pyproject.toml

build: $(STAMP) ## build the wheel and the source archive into dist/
	@$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python

clean: ## remove what the tools made; the data of servers stays
	@rm -rf .venv .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
