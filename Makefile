# Two commands do all: `make demo` and `make test`. Each says what it does.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONUNBUFFERED := 1
TEST_ARGS ?=
DEMO_ARGS ?=

.PHONY: help demo up down status reset services services-stop test test-fast test-faults fuzz check lock bench browser

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv/.runtime: requirements.txt
	@echo "==> installing the runtime into .venv (about a minute, the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	@echo "==> installing the tools for tests and checks into .venv (about half a minute, the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

.venv/.bench: .venv/.runtime benchmarks/requirements.txt
	@echo "==> installing the benchmarks' peers into .venv"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r benchmarks/requirements.txt
	@touch $@

demo: .venv/.runtime ## analyse a batch of real medical images by priority, and show it live
	@python -m examples.imaging.demo $(DEMO_ARGS)

up: .venv/.runtime ## start the whole stack in the background, on A2A_PORT (8000)
	@python -m stack up

down: .venv/.runtime ## stop it
	@python -m stack down

status: .venv/.runtime ## what runs
	@python -m stack status

reset: .venv/.runtime ## delete the embedded data
	@python -m stack reset

services: .venv/.runtime ## start real RabbitMQ, PostgreSQL and Redis for tests and development
	@python -m stack services

services-stop: .venv/.runtime ## stop them
	@python -m stack services --stop

browser: ## install Chromium for the browser tests, where there is none
	@command -v chromium >/dev/null || { echo "==> installing chromium (about a minute)"; \
	  apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

test: .venv/.dev check browser services ## everything: checks, then all tests against real services
	@echo "==> all tests (about twelve minutes)"
	@status=0; python -m $(if $(TEST_ARGS),pytest $(TEST_ARGS),tests) || status=$$?; python -m stack services --stop; exit $$status

test-fast: .venv/.dev services ## the tests that need no broker, in seconds
	@python -m pytest -m "not services and not browser" -q $(TEST_ARGS)

test-faults: .venv/.dev services ## only the tests that kill, stop and restart everything under load
	@echo "==> fault tests (about five minutes; A2A_TEST_SEED=<number> repeats a chaos)"
	@python -m $(if $(TEST_ARGS),pytest tests/faults $(TEST_ARGS),tests faults)

fuzz: .venv/.dev services ## fuzz the three A2A bindings, each time otherwise (A2A_FUZZ_EXAMPLES=300 a test: minutes)
	@echo "==> what fails prints its case: put it into tests/protocol/corpus, see tests/protocol/fuzzing/__init__.py"
	@A2A_FUZZ_EXAMPLES=$${A2A_FUZZ_EXAMPLES:-300} python -m pytest tests/protocol/test_fuzz.py --timeout 3600 -q $(TEST_ARGS)

check: .venv/.dev ## style, types, import floors, Django's checks, missing migrations
	@echo "==> checks: ruff, mypy, import-linter, django (about a minute the first time)"
	@ruff check . && ruff format --check -q . && mypy . && lint-imports >/dev/null
	@A2A_OPEN_MODE=1 python manage.py check --fail-level WARNING
	@A2A_OPEN_MODE=1 python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run >/dev/null && echo "==> checks passed"

bench: .venv/.bench services ## the benchmarks, as ratios to peers in the same run
	@python -m benchmarks

lock: .venv/.dev ## resolve the lock files anew (needs npm)
	@for dir in . benchmarks tests/clients; do for file in $$dir/requirements*.in; do \
	  (cd $$dir && if [ -f overrides.txt ]; then export UV_OVERRIDE=overrides.txt; fi; uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q \
	    $$(basename $$file) -o $$(basename $${file%.in}.txt)); done; done
	@cd tests/clients/js && npm install --package-lock-only
