# Two commands: `make demo` and `make test`. Everything they need is made on the way.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE := 1
export DO_NOT_TRACK := 1

CONTROLS := control-labels control-face control-voice

PORT ?= 4200

# One process per core; the tests of a module share its fixtures in one of them. The modules start
# in the order of tests/conftest.py, the longest first, and not in that of their number of tests.
PYTEST := $(BIN)/python -m pytest --quiet
PARALLEL := --dist=loadfile --no-loadscope-reorder --numprocesses
# One more process than cores: some tests wait for a server or for a process that they kill.
TEST_PROCESSES := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# Commands that tests start keep nothing that they compile (tests/conftest.py), so that each would
# compile all that it imports: a second each. This compiles it before they start.
COMPILE := $(BIN)/python -m compileall -q features models flows vaflow.py

.PHONY: help venv demo controls $(CONTROLS) serve check quick test operations torture real lint docs encoders clean

help:
	@echo "make demo       the whole pipeline on rendered videos, under data/demo/"
	@echo "make controls   the demo with labels, faces or voices taken away: the score must go"
	@echo "make serve      Prefect's server, a worker and all deployments, until Ctrl-C"
	@echo "make check      lint and the quick tests, for use while working"
	@echo "make test       all tests, but for those of operations"
	@echo "make operations tests that start servers and workers: Prefect, Dask, S3"
	@echo "make torture    the long form of the tests' proofs: kills, full disks, many processes"
	@echo "make real       tests on real videos and pictures, which are downloaded into data/real/"
	@echo "make lint       ruff, pyright, import-linter"
	@echo "make docs       the documentation as HTML, in docs/_build"
	@echo "make venv       the environment in $(VENV)"
	@echo "make encoders   train the small encoders again"
	@echo "make clean      remove $(VENV) and data/demo"

venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("vaflow needs Python 3.11, 3.12 or 3.13; $(PYTHON) is %d.%d: give one with make PYTHON=python3.12" % v)'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet -c constraints.txt --editable . --group dev
	@touch $@

demo: venv
	$(BIN)/vaflow demo

controls: $(CONTROLS)

$(CONTROLS): control-%: venv
	$(BIN)/vaflow demo --control $*

serve: venv
	$(BIN)/vaflow serve --port $(PORT)

check: venv # both at the same time; the output of each is shown when it has ended
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint quick

quick: venv
	@$(COMPILE)
	$(PYTEST) $(PARALLEL)=auto -m "not slow and not torture and not real"

test: venv
	@$(COMPILE)
	$(PYTEST) $(PARALLEL)=$(TEST_PROCESSES) --durations=10 -m "not operations and not torture and not real"

operations: venv
	@$(COMPILE)
	$(PYTEST) $(PARALLEL)=$(TEST_PROCESSES) --durations=10 -m "operations and not torture"

torture: venv
	@$(COMPILE)
	$(PYTEST) --durations=10 -m torture

real: venv
	$(PYTEST) --durations=5 -rs -m real tests/real

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/lint-imports

docs: venv
	$(BIN)/sphinx-build -W --keep-going --quiet docs docs/_build
	@echo "docs: open docs/_build/index.html"

encoders: venv
	$(BIN)/python -m features.synthetic.training.train

clean:
	rm -rf $(VENV) data/demo
