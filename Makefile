# Two commands do everything, each from nothing: `make demo` (the main comparison) and `make test`.
# They make .venv, install what they need there and compile the fast backend.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo
INSTRUCTOR ?= instructor
SOURCES := pyproject.toml setup.py $(wildcard kalnorm_ref/*.pyx kalnorm_ref/*.h)
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: help demo test tutorials instructor docs lint bench clean

help:
	@echo "make demo   compare BN, BRN and KN at one image per statistics batch; writes $(OUT)/curves.png"
	@echo "make test   all tests, both backends; PEERS=1 adds PyTorch to compare with, PYTEST=... is passed on to pytest"
	@echo "make tutorials   runs every notebook of tutorials/ and prints its seconds; TUTORIALS=03 only that one"
	@echo "make instructor  the notebooks with their exercises solved, into $(INSTRUCTOR)"
	@echo "make docs   the site, every notebook run, every link checked; open docs/_build/html/index.html"
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

tutorials: $(VENV)/.tutorials
	$(BIN)/python tutorials/manage.py run $(TUTORIALS)

instructor: $(VENV)/.tutorials
	$(BIN)/python tutorials/manage.py instructor --out $(INSTRUCTOR)

docs: $(VENV)/.docs
	began=$$(date +%s); OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W -n -j auto docs docs/_build/html && \
		echo "built in $$(( $$(date +%s) - began )) s"
	$(BIN)/python docs/_extensions/check_links.py docs/_build/html

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build docs/_build *.egg-info kalnorm_ref/_core.c kalnorm_ref/_core*.so

$(VENV)/.environment:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install "setuptools>=77" "Cython>=3.1" "numpy>=2" "scipy>=1.13"
	@touch $@

$(VENV)/.package: $(VENV)/.environment $(SOURCES)
	$(PIP) install --no-build-isolation -e .
	@touch $@

$(VENV)/.test: $(VENV)/.environment $(SOURCES)
	KALNORM_REQUIRE_EXT=1 $(PIP) install --no-build-isolation -e ".[test,lint,cluster]"
	@touch $@ $(VENV)/.package

$(VENV)/.peers: $(VENV)/.test
	$(PIP) install --no-build-isolation -e ".[peers]"
	@touch $@

$(VENV)/.tutorials: $(VENV)/.environment $(SOURCES)
	$(PIP) install --no-build-isolation -e ".[tutorials]"
	@touch $@ $(VENV)/.package

$(VENV)/.docs: $(VENV)/.environment $(SOURCES)
	$(PIP) install --no-build-isolation -e ".[docs]"
	@touch $@ $(VENV)/.package
