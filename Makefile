# Two commands: `make run` does the main job, `make test` passes the tests. Both set up first.
# `make serve` answers requests with what `make run` pushed; `make image` builds the image of the
# pipeline's steps, for VARIANT=cpu or gpu and for TARGET=kubeflow or beam (workers of its own).
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
WORKERS ?= 2
ROOT ?= runs/default
PORT ?= 8500
REST_PORT ?= 8501
IMAGE ?= keras-ae
VARIANT ?= cpu
TARGET ?= kubeflow
UV := uv==0.13.9
PYTEST_FLAGS = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
PYTEST = $(BIN)/python -m pytest $(PYTEST_FLAGS)

.PHONY: run serve test test-fast coverage format lint audit browser image setup lock clean

run: setup
	$(BIN)/python pipeline/run_local.py $(ARGS)

serve: setup
	@exec serving/deploy/serve.sh "$(ROOT)" $(PORT) $(REST_PORT) $(BIN)/python $(ARGS)

test: lint browser
	$(PYTEST) $(ARGS)

# For every save: all but the files that take longest, which tests/durations.txt lists.
test-fast: lint browser
	$(PYTEST) -m "not slow" $(ARGS)

# Over the processes that tests start as well. A killed process writes no coverage data.
coverage: setup browser
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(PYTEST_FLAGS) $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint pipeline/Dockerfile

# Known vulnerabilities of the locked packages; the tests hold the locks against the bundled copy.
audit: setup
	$(BIN)/python -m tests.supply_chain.renew
	$(BIN)/python -m pytest -q tests/supply_chain/test_advisories.py

# The tests of the pages need a browser; they are skipped where none can be had.
browser:
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing chromium for the tests of the pages"; \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium; } \
	    >/dev/null 2>&1 || echo "chromium cannot be installed: tests of the pages will be skipped"; \
	else echo "no chromium or google-chrome on the PATH: tests of the pages will be skipped"; fi

image:
	@command -v docker >/dev/null || { echo "there is no docker here: install it, or build the image where it is" >&2; exit 1; }
	@docker info >/dev/null 2>&1 || { echo "no Docker engine answers the docker here: start one, or build the image where one runs" >&2; exit 1; }
	docker build --platform linux/amd64 --file pipeline/Dockerfile --build-arg VARIANT=$(VARIANT) \
	  --target $(TARGET) --tag $(IMAGE):$(VARIANT) .

setup: $(VENV)/.done

$(VENV)/.done: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "Python 3.11 is needed; got " + sys.version.split()[0] + ". Say which with: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --compile-bytecode -r requirements-dev.lock
	@touch $@

# What the tests need is resolved first; what runs, without and with CUDA, is a part of it.
lock: COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --override overrides.txt --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate
lock:
	$(COMPILE) requirements-dev.in -o requirements-dev.lock
	$(COMPILE) --constraints requirements-dev.lock requirements.in -o requirements.lock
	$(COMPILE) --constraints requirements-dev.lock --override overrides-gpu.txt requirements.in -o requirements-gpu.lock

clean:
	rm -rf $(VENV) runs
