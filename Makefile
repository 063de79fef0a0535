# `make help` lists the targets. Each does its own set-up: on a fresh machine it is the only command needed.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A file's tests share nights that take long to run: they stay together. `make test SIDE_BY_SIDE=` runs all in a row.
SIDE_BY_SIDE := -n 2 --dist loadfile

.PHONY: help setup demo ui clean-demo test test-faults test-standalone lint bench image-check up down

help:  ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv with everything (one to ten minutes, by your network)

# torch first, by pip: it takes the build that your index offers for this platform. The rest by uv, which is faster.
$(READY): requirements.txt requirements.lock pyproject.toml
	@echo "setup: making $(VENV) with everything that embft needs"
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "setup: embft needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)" "$$(grep '^torch==' requirements.txt)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt -c requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $(READY)
	@echo "setup: done; try \`make demo\`"

demo: $(READY)  ## Run three nights of the demo shop through Airflow, end to end (about 5 minutes)
	@echo "demo: three nights of a made-up shop, below .demo"
	$(BIN)/python -m demo.run

ui: $(READY)  ## Open the demo's Airflow, MLflow and files, with the nights just run in them
	@echo "ui: Airflow, MLflow and files of the demo, on this machine alone"
	$(BIN)/python -m demo.ui

clean-demo:  ## Remove all that the demo made
	rm -rf .demo
	@echo "clean-demo: .demo is gone"

test: $(READY)  ## Run the tests (about 14 minutes on two cores)
	@echo "test: unit, integration and Airflow tests; those on real clicks need EMBFT_DATA"
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not faults and not long and not standalone"

test-faults: $(READY)  ## Let pods, workers and the cluster fail in every way, and run thirty nights (about 8 minutes)
	@echo "test-faults: evictions, pre-emptions, killed workers, a cluster that is away; trainings that go on; thirty nights"
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "faults or long"

test-standalone: $(READY)  ## What only a whole Airflow shows: faults, approvals, backfills (about 5 minutes, on an idle machine)
	@echo "test-standalone: killed workers and triggerers, time limits, approvals, a backfill beside a night, in a whole Airflow"
	$(BIN)/python -m pytest -m standalone

lint: $(READY)  ## Check style, types, and the direction of dependencies
	@echo "lint: style, types, and the direction of imports"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## Run every benchmark and rewrite benchmarks/RESULTS.md (about 45 minutes)
	@echo "bench: every benchmark of benchmarks/, into benchmarks/RESULTS.md"
	$(BIN)/python -m benchmarks.run

image-check: $(READY)  ## Run the train image's steps in a clean environment (network, minutes, a few GB)
	@echo "image-check: the steps of the Dockerfile's train image, in a temporary folder"
	$(BIN)/python -m tests.image_check

up:  ## Start Airflow, MLflow and S3 with docker compose
	docker compose up --build --detach --wait
	@echo "up: Airflow http://127.0.0.1:8080  MLflow http://127.0.0.1:5000  S3 http://127.0.0.1:9000"

down:  ## Stop what `make up` started
	docker compose down
