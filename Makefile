# Needs only git, make and Python 3. Works from any folder: make -C DIR demo, make -f DIR/Makefile demo.
SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# The folder of this file; written so that a path with spaces survives.
IN := cd "$(shell dirname "$$(printf '%s' "$(MAKEFILE_LIST)" | sed 's/^ *//')")" &&

PYTHON3 ?= python3
PY := .venv/bin/python

# Where it is set, each of many processes would compile again every module that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:  ## Show the targets
	@$(IN) grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 18

.PHONY: demo
demo:  ## Start everything; PHOTOS=folder for your own photos, ARGS="--port 8060" for flags
	@caller="$$PWD"; [ -d "$(PWD)/$$PHOTOS" ] && caller="$(PWD)"; \
	case "$$PHOTOS" in \
	    ""|/*|*://*) photos="$$PHOTOS" ;; \
	    "~/"*) photos="$$HOME/$${PHOTOS#"~/"}" ;; \
	    *) photos="$$caller/$$PHOTOS" ;; esac; \
	$(IN) $(PYTHON3) deploy/bootstrap.py && \
	if [ -n "$$photos" ]; then set -- --photos "$$photos"; fi && \
	exec $(PY) -m dashboard.cli demo "$$@" $(ARGS)

.PHONY: test
test:  ## All tests, with real Cassandra, Spark and a headless browser; WORKERS=2 for all of them on 4 cores or more
	@$(IN) $(PYTHON3) deploy/bootstrap.py --dev --browser || exit; \
	$(PY) -m pytest --half beside -n $(or $(WORKERS),logical) $(ARGS); beside=$$?; \
	$(PY) -m pytest --half alone -n $(or $(WORKERS),0) $(ARGS); alone=$$?; \
	case "$$beside $$alone" in "0 0"|"0 5"|"5 0") exit 0 ;; esac; \
	echo "the half that runs side by side ended with $$beside, the other with $$alone" \
	    "(0: all passed, 5: none chosen)" >&2; exit 1

.PHONY: soak
soak:  ## Users and an ingest for MINUTES=15, then the kill tests ROUNDS=50 times, the first with KILLS=200
	@$(IN) $(PYTHON3) deploy/bootstrap.py --dev && round=0 && \
	$(PY) -m tests.bench.soak --minutes $(or $(MINUTES),15) && \
	while [ $$round -lt $(or $(ROUNDS),50) ]; do \
	    round=$$((round + 1)); echo "round $$round"; \
	    kills=3; [ $$round -gt 1 ] || kills=$(or $(KILLS),200); \
	    KILLS=$$kills $(PY) -m pytest -q tests/faults $(ARGS) || exit 1; done

.PHONY: check
check: setup-dev  ## Format, lint, types, fast tests
	@$(IN) $(PY) -m ruff format --check . && $(PY) -m ruff check . && $(PY) -m mypy && \
	exec $(PY) -m pytest -q -m "not service and not browser and not slow" $(ARGS)

.PHONY: setup
setup:  ## Install what is missing, start nothing
	@$(IN) $(PYTHON3) deploy/bootstrap.py

.PHONY: setup-dev
setup-dev:
	@$(IN) $(PYTHON3) deploy/bootstrap.py --dev

.PHONY: bench-extract
bench-extract: setup  ## Extraction: images/s, shares of decode, model and write
	@$(IN) exec $(PY) -m dashboard.cli bench extract $(ARGS)

.PHONY: bench-search
bench-search:  ## Search beside its peers; ARGS="--quick --json FILE", "--full --json FILE"
	@$(IN) $(PYTHON3) deploy/bootstrap.py --bench && exec $(PY) -m tests.bench.search $(ARGS)

.PHONY: bench-analytics
bench-analytics:  ## Analytics beside its peers; ARGS="--quick --json FILE", "--full --json FILE"
	@$(IN) $(PYTHON3) deploy/bootstrap.py --dev --bench && exec $(PY) -m tests.bench.analytics $(ARGS)

.PHONY: lock
lock: setup-dev  ## Resolve requirements/*.txt again from pyproject.toml
	@$(IN) sh deploy/lock.sh

.PHONY: clean
clean:  ## Remove everything that set-up and demo made, collections included
	@$(IN) rm -rf .sightline .venv dashboard/map/node_modules assets/map.js assets/map.js.map
