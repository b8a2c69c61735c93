# Two commands: `make run` does the main job, `make test` passes the tests. Both set up first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
UV := uv==0.13.9

.PHONY: run test lint setup lock clean

run: setup
	$(BIN)/python pipeline/run_local.py $(ARGS)

test: lint
	$(BIN)/python -m pytest $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(VENV)/.done

$(VENV)/.done: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "Python 3.11 is needed; got " + sys.version.split()[0] + ". Say which with: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --compile-bytecode -r requirements.lock
	@touch $@

lock:
	$(BIN)/uv pip compile --quiet --python-version 3.11 --override overrides.txt --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate requirements.in -o requirements.lock

clean:
	rm -rf $(VENV) runs
