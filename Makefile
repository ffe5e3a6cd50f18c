# Two commands do everything, each from nothing: `make demo` (the main comparison) and `make test`.
# They make .venv, install what they need there and compile the fast backend.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo
SOURCES := pyproject.toml setup.py $(wildcard kalnorm_ref/*.pyx kalnorm_ref/*.h)
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: help demo test lint bench clean

help:
	@echo "make demo   compare BN, BRN and KN at one image per statistics batch; writes $(OUT)/curves.png"
	@echo "make test   all tests, both backends; PEERS=1 adds PyTorch to compare with, PYTEST=... is passed on to pytest"
	@echo "make lint   ruff"
	@echo "make bench  times and memory; PEERS=1 installs PyTorch to compare with, BENCH=... is passed on to the command"
	@echo "make clean  remove $(VENV) and what was built"

demo: $(VENV)/.package
	$(BIN)/kalnorm-ref compare --data digits --seeds 0 1 2 --out $(OUT)

bench: $(VENV)/.package $(if $(PEERS),$(VENV)/.peers)
	$(BIN)/kalnorm-ref bench $(BENCH)

test: export KALNORM_REQUIRE_EXT = 1
test: $(VENV)/.test $(if $(PEERS),$(VENV)/.peers)
	$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build *.egg-info kalnorm_ref/_core.c kalnorm_ref/_core*.so

$(VENV)/.environment:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "setuptools>=77" "Cython>=3.1" "numpy>=2" "scipy>=1.13"
	@touch $@

$(VENV)/.package: $(VENV)/.environment $(SOURCES)
	$(PIP) install --no-build-isolation -e .
	@touch $@

$(VENV)/.test: $(VENV)/.environment $(SOURCES)
	KALNORM_REQUIRE_EXT=1 $(PIP) install --no-build-isolation -e ".[test,lint]"
	@touch $@ $(VENV)/.package

$(VENV)/.peers: $(VENV)/.test
	$(PIP) install --no-build-isolation -e ".[peers]"
	@touch $@
