# Two commands: `make study` runs the study and `make test` proves the code. Each sets up what it needs, and no more.
# `make bench` measures it against its peers, `make docs` builds the documentation into site/.
#
#   VENV=PATH       the virtual environment's folder; one may serve several clones
#   ARGS="..."      more arguments for the study or the benchmarks
#   DOSIMETER_DATA  folder of the real images; without it the study runs on phantoms

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Named after what pyproject.toml asks for, so that a change of dependencies installs again.
ASKED := $(firstword $(shell cksum < pyproject.toml))
RUNS := $(VENV)/.runs-$(ASKED)
READY := $(VENV)/.ready-$(ASKED)

# Each clone runs its own sources, whichever clone the environment was made from.
export PYTHONPATH := $(CURDIR)/src
# Compiled modules are kept, whatever the surroundings ask: tests begin many processes, and each would compile them again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: study setup test tests coverage lint docs bench sources lowest

study: $(RUNS)
	$(BIN)/python -m dosimeter study $(ARGS)

setup: $(READY)

# What a study needs: the package and its fast engines.
$(RUNS): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[fast]'
	touch $@

# What the developers need beside that: every extra that is tested, linters, browsers' and clusters' packages.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(RUNS)

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

# The documentation as files that need no network; a link that leads nowhere is an error. `mkdocs serve` shows it while it is written.
docs: $(RUNS)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	@echo site/index.html

# `make test ARGS=slow` runs the tests that are marked so as well; `make test ARGS=fast` those of tests/fast.txt alone,
# without lint. Those that need real images run where DOSIMETER_DATA is set.
FAST := $(filter fast,$(ARGS))
QUICK := $(if $(filter slow,$(ARGS)),,not slow)
UNREAL := $(if $(DOSIMETER_DATA),,not real)
CHOSEN := $(QUICK)$(if $(and $(QUICK),$(UNREAL)), and )$(UNREAL)
# Files of tests side by side, each process with one thread: their threads would wait for one another. The files begin in
# their folders' order: by their number of tests, as xdist has it, the few that run whole studies would come last.
SIDE_BY_SIDE := -n auto --maxprocesses=4 --dist loadfile --no-loadscope-reorder
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE)

ifneq ($(FAST),)
test: setup
	$(PYTEST) -m "not real and not slow" @tests/fast.txt
else
test: setup  # lint needs one core, so it runs beside the tests
	$(MAKE) --no-print-directory --keep-going --jobs=2 lint tests
endif

tests: setup
	$(PYTEST) -m "$(CHOSEN)"

# The same tests with their lines counted, which takes half as long again.
coverage: setup
	$(PYTEST) -m "$(CHOSEN)" --cov --cov-fail-under=95

# The tests of sources of networks whose packages are large: the others skip them.
sources: setup
	$(BIN)/python -m pip install --quiet --editable '.[huggingface,monai,xrv]'
	$(PYTEST) tests/models

# The tests with the lowest versions of the dependencies that pyproject.toml allows, torch and torchvision aside.
lowest:
	test -x $(VENV)-lowest/bin/python || $(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet uv
	$(VENV)-lowest/bin/python benchmarks/lowest.py > $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/python -m uv pip install --quiet --python $(VENV)-lowest/bin/python \
		--constraint $(VENV)-lowest/lowest.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest -m "not real" $(SIDE_BY_SIDE)

# The peers it is measured against. torchattacks pins an old release of requests, hence --no-deps.
bench: setup
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m pip install --quiet --no-deps torchattacks==3.5.1
	$(BIN)/python benchmarks/run_all.py $(ARGS)
