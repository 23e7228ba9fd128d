# Every target prepares what it needs by itself: the virtual environment from the lock, and, where this is root on a
# Debian-like system, the system packages that its programs come from. Arguments go through ARGS:
#   make run ARGS="--once"      make test ARGS="tests/unit -x"      make bench ARGS="http1 --quick"

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

ARGS ?=
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
STAMPS := $(VENV)/.ready

# A version manager may put names on the path that only print an error, so a candidate counts when it runs.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)

.PHONY: help run test test-cluster fuzz check format bench measured soak bench-report gen lock clean
help:
	@echo 'make run    the demo mesh (ARGS="--once": one round of calls, then end)'
	@echo 'make test   all tests (ARGS go to pytest)'
	@echo 'make test-cluster  the tests on a real Kubernetes (root, Go 1.26; the first time it is built, for a quarter of an hour)'
	@echo 'make fuzz   look for inputs that break a parser (ARGS="--seconds 600 http1"); what was found lies in build/fuzz'
	@echo 'make check  format, lint, types, import contracts, generated code up to date'
	@echo 'make format write what the formatter and the linter can mend'
	@echo 'make bench  measure against the peers (ARGS="http1 --quick")'
	@echo 'make soak   mixed load for ten minutes while identities and policies change (ARGS="--minutes 60")'
	@echo 'make bench-report  write docs/performance.md from a report (ARGS=FILE)'
	@echo 'make gen    write ringfence/wire/gen from the .proto files, schema, reference and CRDs of policy documents, and, by helm, the manifests'
	@echo 'make lock   write requirements/*.txt anew from pyproject.toml'
	@echo 'make clean  remove the virtual environment, caches and build results'

run: $(STAMPS)/run
	@exec $(BIN)/ringfence demo $(ARGS)

COMPUTES := tests/unit tests/property tests/fuzz
# It starts the example on the ports that the page names, which other tests may have at that moment.
ALONE := tests/integration/test_allowlists_walk.py
test: $(STAMPS)/check $(STAMPS)/system-test
ifeq ($(strip $(ARGS)),)
# One process a processor. Tests of a file with real processes stay together: they share what is costly to start.
	@$(BIN)/python -m pytest --numprocesses auto $(COMPUTES)
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(COMPUTES:%=--ignore=%) $(ALONE:%=--ignore=%)
	@$(BIN)/python -m pytest $(ALONE)
else
	@$(BIN)/python -m pytest $(ARGS)
endif

test-cluster: $(STAMPS)/check $(STAMPS)/system-cluster
	@$(BIN)/python -m tests.cluster build
# Two processes: what starts in a cluster waits mostly. Tests of a file stay together and share theirs.
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(if $(strip $(ARGS)),$(ARGS),tests/cluster)

fuzz: $(STAMPS)/check
	@$(BIN)/python -m tests.fuzz $(ARGS)

check: $(STAMPS)/check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m ringfence.wire.generate --check
	$(BIN)/python -m controlplane.policy.publish --check
	$(BIN)/python -m k8s.crds.generate --check
	$(BIN)/python -m k8s.manifests.render --check

format: $(STAMPS)/check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is measured runs on what the image runs on, Debian's Python, where this machine has it: the same steps take up to a
# third longer on another build of the same version. It has an environment of its own.
IMAGE_PYTHON := /usr/bin/python3
MEASURED_PYTHON = $(if $(filter file,$(origin PYTHON)),$(shell \
	$(IMAGE_PYTHON) -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $(IMAGE_PYTHON) || echo $(PYTHON)),$(PYTHON))
bench: $(STAMPS)/system-bench
	@exec $(MAKE) VENV=build/bench-venv PYTHON=$(MEASURED_PYTHON) measured
measured: $(STAMPS)/bench
	@exec $(BIN)/python -m benchmarks $(ARGS)

soak: $(STAMPS)/check
	@exec $(BIN)/python -m benchmarks.soak $(ARGS)

bench-report: $(STAMPS)/check
	@exec $(BIN)/python -m benchmarks.report $(ARGS)

gen: $(STAMPS)/check
	$(BIN)/python -m ringfence.wire.generate
	$(BIN)/python -m controlplane.policy.publish
	$(BIN)/python -m k8s.crds.generate
	$(BIN)/python -m k8s.manifests.render

# One environment for all; each lock is a superset of the one before it, with the same versions.
$(STAMPS)/run $(STAMPS)/check $(STAMPS)/bench: $(STAMPS)/%: requirements/%.txt pyproject.toml | $(STAMPS)/venv
	@echo "installing the packages of requirements/$*.txt into $(VENV)" >&2
	@$(PIP) install --require-hashes -r requirements/$*.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/venv:
	@if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3" >&2; exit 1; fi
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/system-%: .ci/system-packages | $(STAMPS)/venv
	@if bash .ci/system-packages $*; then touch $@; fi

LOCK_VENV := build/lock-venv
PIP_COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(LOCK_VENV)/bin/pip-compile --quiet --generate-hashes --strip-extras \
	--allow-unsafe --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	--build-deps-for editable
lock: $(STAMPS)/venv
	@[ -x $(LOCK_VENV)/bin/pip-compile ] || { $(PYTHON) -m venv $(LOCK_VENV) && $(LOCK_VENV)/bin/pip install --quiet pip-tools; }
	rm -f requirements/*.txt
	$(PIP_COMPILE) --extra test,dev,bench,kubernetes,otlp,postgresql --output-file requirements/bench.txt pyproject.toml
	cp requirements/bench.txt requirements/check.txt
	$(PIP_COMPILE) --extra test,dev,kubernetes,otlp,postgresql --output-file requirements/check.txt pyproject.toml
	cp requirements/check.txt requirements/image.txt
	$(PIP_COMPILE) --extra kubernetes,otlp,postgresql --output-file requirements/image.txt pyproject.toml
	cp requirements/image.txt requirements/run.txt
	$(PIP_COMPILE) --output-file requirements/run.txt pyproject.toml

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .ringfence *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
