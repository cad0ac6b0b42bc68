# make train        sets up .venv and trains; CONFIG=configs/resnext.py:cifar10 ARGS="--workdir=runs/x"
# make test         sets up .venv with the test tools and runs every test
# make test-oldest  the same with the oldest versions that pyproject.toml admits, without PyTorch
# make test-newest  the same with the newest that there are; PYTHON=python3.13
# make lint         checks style, types and the documentation
# make docs         builds the documentation, build/site/index.html
# make lock         pins and hashes all that may be installed: requirements.lock, docs/licences.md
# make parity       compares models with PyTorch and writes docs/parity.md; MODELS="resnet*"

PYTHON ?= python3
VENV ?= .venv
CONFIG ?= configs/resnext.py
ARGS ?=
MODELS ?= *

# What this machine has decides which jax is installed.
HARDWARE := $(shell \
	if nvidia-smi -L >/dev/null 2>&1; then echo cuda12; \
	elif test -e /dev/accel0 || test -e /dev/vfio/0; then echo tpu; \
	else echo cpu; fi)
JAX := jax$(if $(filter-out cpu,$(HARDWARE)),[$(HARDWARE)])
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

RESOLUTION_oldest := lowest-direct
RESOLUTION_newest := highest

.PHONY: train test test-oldest test-newest lint docs lock parity clean

train: $(VENV)/.train-$(HARDWARE)
	$(BIN)/python train.py --config=$(CONFIG) $(ARGS)

test: $(VENV)/.dev-$(HARDWARE)
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadgroup $(ARGS)

test-oldest test-newest: test-%: $(VENV)/.dev-$(HARDWARE)
	$(BIN)/uv venv --quiet --clear --python=$(PYTHON) $(VENV)-$*
	$(BIN)/uv pip install --quiet --python=$(VENV)-$* --resolution=$(RESOLUTION_$*) --upgrade \
		-r pyproject.toml --extra=dev --extra=stablehlo
	$(VENV)-$*/bin/python -m pytest --numprocesses=auto --dist=loadgroup $(ARGS)

lint: $(VENV)/.dev-$(HARDWARE) docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.dev-$(HARDWARE)
	JAX_PLATFORMS=cpu $(BIN)/python -m docs.build

lock: $(VENV)/.dev-$(HARDWARE)
	$(BIN)/uv pip compile --quiet --universal --python-version=3.11 --generate-hashes --upgrade \
		--no-annotate --no-header --no-emit-index-url --output-file=requirements.lock \
		requirements.txt requirements-tpu.txt requirements-parity.txt
	$(BIN)/python -m docs.licences

parity: $(VENV)/.dev-$(HARDWARE)
	$(BIN)/python -m benchmarks.parity_table '$(MODELS)' $(ARGS)

$(VENV)/.train-$(HARDWARE): requirements-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "flaxzoo needs Python 3.11 or newer; got " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) -r requirements-cpu.txt "$(JAX)"
	@touch $@

$(VENV)/.dev-$(HARDWARE): $(VENV)/.train-$(HARDWARE) requirements-dev.txt requirements-parity.txt
	$(PIP) -r requirements-cpu.txt "$(JAX)" -r requirements-dev.txt
	$(PIP) --no-deps -r requirements-parity.txt
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-* build
