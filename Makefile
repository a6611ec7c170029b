# What there is: make demo | test | test-slow | fuzz | lint | docs | wheel-check | sanitize | coverage | bench | models
# | reproduce | cuda | cxx | cross | clean. Each sets up what it needs in .venv first, once: a stamp in .venv remembers it until what it was made from
# changes.
#
#   PAIR=ms_flair          (demo) another pair of examples/data
#   JOBS=1                (test) processes; each file of tests is run by one of them, with one thread
#   MINUTES=60            (fuzz) how long; SEED=7 damages other bytes
#   WITHOUT="a.h5 a.mat"  (fuzz) kinds of files to leave out
#   SANITIZE=thread       (sanitize) races of threads instead of wrong addresses and undefined behaviour
#   DATA=folder            images for `make bench`, `models` and `reproduce`, see docs/reproduction.md
#   PYTHON=python3.12      another interpreter (3.10 or newer)
#   TORCH_INDEX=URL        a package index to take torch from besides the usual one; by default PyTorch's own with CPU
#                          builds, which are much smaller, if it can be reached; TORCH_INDEX= for the usual one alone

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
MAKEFLAGS += --no-print-directory

# OpenMP threads that wait for each other shall not keep a busy machine busy (itk_ncr/cli/__init__.py).
export GOMP_SPINCOUNT ?= 1000

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_CPU := https://download.pytorch.org/whl/cpu
PROBE_SECONDS := 8
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check
INSTALL := $(PIP) install --progress-bar off -c constraints.txt

NATIVE := $(shell find cpp_ext wrapping tests/native -name '*.[ch]pp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
ITK_NATIVE := $(shell find wrapping/itk -name '*.hxx') $(wildcard examples/cpp/*.cpp benchmarks/*.cpp)
# An editable install knows the modules by name: a new file means a new install, an edit does not.
MODULES := $(shell find itk_ncr itk_ncr_reproduction -name '*.py' | LC_ALL=C sort | cksum | cut -d' ' -f1)
RUNS := $(VENV)/.runs-$(MODULES)
DEVELOPS := $(VENV)/.develops-$(MODULES)

PAIR ?= t1
FIXED := examples/data/fixed_$(PAIR).nii.gz
MOVING := examples/data/moving_$(PAIR).nii.gz
LABELS := $(if $(filter t1,$(PAIR)),examples/data/moving_labels.nii.gz)

# The index to take torch from: what was given, else the one of CPU builds if it answers soon, else none.
define FIND_TORCH_INDEX
$(if $(filter undefined,$(origin TORCH_INDEX)),$\
  index="$(TORCH_CPU)"; "$(1)" -c $(PROBE) "$(TORCH_CPU)/torch/" $(PROBE_SECONDS) 2>/dev/null || index=,$\
  index="$(TORCH_INDEX)")
endef
# The timer ends what no timeout of a socket does: a name server that does not answer.
PROBE := 'import os, sys, threading, urllib.request as r; \
  limit = threading.Timer(float(sys.argv[2]), os._exit, [1]); limit.daemon = True; limit.start(); \
  r.urlopen(sys.argv[1])'

.PHONY: help demo test test-slow fuzz lint docs wheel-check sanitize coverage bench models reproduce cuda cxx cross clean torch-index

help:
	@sed -n '1,13s/^# \{0,1\}//p' Makefile

torch-index:
	@$(call FIND_TORCH_INDEX,$(PYTHON))
	echo "$$index"

$(VENV)/.made: constraints.txt
	@if [ ! -x $(BIN)/python ]; then
	  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	    || { echo "error: Python 3.10 or newer is needed; give one with PYTHON=..." >&2; exit 1; }
	  "$(PYTHON)" -m venv $(VENV) \
	    || { echo "error: no virtual environment could be made; on Debian: apt install python3-venv" >&2; exit 1; }
	fi
	echo "Installing torch and the build tools into $(VENV) (some minutes, once) ..."
	$(call FIND_TORCH_INDEX,$(BIN)/python)
	torch="$$(grep '^torch==' constraints.txt)"
	install() { $(PIP) install --progress-bar off --no-deps --retries 1 "$$@"; }
	if [ -n "$$index" ]; then
	  install --extra-index-url "$$index" "$$torch" || install "$$torch"
	else
	  install "$$torch"
	fi
	$(INSTALL) scikit-build-core pybind11 hatch-fancy-pypi-readme cmake ninja
	touch $@

$(RUNS): $(VENV)/.made pyproject.toml CMakeLists.txt $(NATIVE)
	@echo "Building and installing itk_ncr ..."
	$(INSTALL) --no-build-isolation -e '.[itk,report]'
	rm -f $(VENV)/.runs-*
	touch $@

$(DEVELOPS): $(RUNS)
	@echo "Installing what the tests need ..."
	$(INSTALL) --no-build-isolation -e '.[dev]'
	rm -f $(VENV)/.develops-*
	touch $@

DOCUMENTS := $(VENV)/.documents-$(MODULES)
$(DOCUMENTS): $(DEVELOPS)
	@echo "Installing what the documentation needs ..."
	$(INSTALL) --no-build-isolation -e '.[docs]'
	rm -f $(VENV)/.documents-*
	touch $@

demo: $(RUNS)
	@echo "Registering $(MOVING) to $(FIXED) ..."
	$(BIN)/itk-ncr register $(FIXED) $(MOVING) $(addprefix --labels ,$(LABELS)) \
	  -o demo-output --overwrite
	echo
	echo "Open demo-output/report.html in a browser first (demo-output/overview.png is one picture of it);"
	echo "demo-output/summary.json has the figures."
	echo "In 3D Slicer or ITK-SNAP: demo-output/warped.nii.gz over $(FIXED),"
	echo "with demo-output/mask.nii.gz as a segmentation. Where the images come from: examples/data/SOURCES.md"

JOBS ?= 2
test: $(DEVELOPS)
	@$(if $(filter-out 1,$(JOBS)),OMP_NUM_THREADS=1) $(BIN)/pytest -m "not slow" \
	  $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist loadfile)

# What takes minutes: commands that are killed at random moments.
test-slow: $(DEVELOPS)
	@$(BIN)/pytest -m slow

# Damaged files of every kind, for some minutes; those that go wrong are kept in build/fuzz.
MINUTES ?= 10
SEED ?= 0
fuzz: $(DEVELOPS)
	@$(BIN)/python tests/fuzz/fuzz.py --minutes $(MINUTES) --seed $(SEED) $(if $(WITHOUT),--without $(WITHOUT))

lint: $(DEVELOPS)
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/_extensions/docstrings.py
	$(if $(NATIVE),$(BIN)/clang-format --dry-run -Werror $(NATIVE) $(ITK_NATIVE))

# The documentation site, examples executed, in build/docs/html: a warning or a broken link is an error. DOCS_QUICK=1
# executes nothing.
DOCS_QUICK ?=
docs: $(DOCUMENTS)
	@$(BIN)/python -m sphinx -q -W --keep-going -d build/docs/doctrees \
	  $(if $(DOCS_QUICK),-D sphinx_gallery_conf.plot_gallery=0 -D nb_execution_mode=off) docs build/docs/html
	$(BIN)/python docs/_extensions/links.py build/docs/html
	echo "Open build/docs/html/index.html"

# A wheel and an sdist as for release, checked, and the wheel tried in an environment of its own with torch's CPU build:
# its size, the time of an import, one OpenMP runtime, and the demo pair.
WHEELS := build/wheels
wheel-check: $(VENV)/.made
	@rm -rf $(WHEELS)
	$(PIP) install build twine check-wheel-contents
	$(BIN)/python -m build --quiet -C cmake.define.NCR_CUDA=OFF -o $(WHEELS)
	$(BIN)/twine check --strict $(WHEELS)/*
	$(BIN)/check-wheel-contents $(WHEELS)/*.whl
	$(BIN)/python -m venv $(WHEELS)/venv
	$(call FIND_TORCH_INDEX,$(BIN)/python)
	torch="$$(grep '^torch==' constraints.txt)"
	$(WHEELS)/venv/bin/pip install -q $${index:+--extra-index-url "$$index"} "$$torch" $(WHEELS)/*.whl
	$(WHEELS)/venv/bin/python benchmarks/wheel.py $(FIXED) $(MOVING)

# Another build of the package beside the installed one, in build/NAME, and the tests of its kernels. Python's -S leaves
# out the editable install, which would be found first; the CUDA source is compiled by its test, without instruments.
define INSTRUMENT
$(PIP) install --no-build-isolation --no-deps --upgrade --target build/$(1) -C build-dir=build/$(1)-objects \
  -C cmake.build-type=Debug -C cmake.define.NCR_CUDA=OFF -C cmake.define.$(2) .
endef
PACKAGES = $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
KERNEL_TESTS = PYTHONPATH="$$PWD/build/$(1):$(PACKAGES)" $(BIN)/python -S $(BIN)/pytest tests/ops \
  --ignore tests/ops/test_cuda_source.py
PRELOAD = LD_PRELOAD="$$(g++ -print-file-name=lib$(1).so):$$(g++ -print-file-name=libstdc++.so)"

# Wrong addresses and undefined behaviour, or races of threads; the first finding ends a run. Needs gcc on Linux
# (setarch: the thread sanitizer wants the usual addresses).
SANITIZE ?= address
RUN_address = $(call PRELOAD,asan) ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
RUN_thread = $(call PRELOAD,tsan) TSAN_OPTIONS="halt_on_error=1 ignore_noninstrumented_modules=1" setarch -R env
sanitize: $(DEVELOPS)
	@$(call INSTRUMENT,$(SANITIZE),NCR_SANITIZE=$(SANITIZE))
	$(RUN_$(SANITIZE)) $(call KERNEL_TESTS,$(SANITIZE))

coverage: $(DEVELOPS)
	@$(BIN)/pytest --cov --cov-report=term --cov-report=html:build/coverage-python --cov-fail-under=90
	$(call INSTRUMENT,coverage,NCR_COVERAGE=ON)
	find build/coverage-objects -name '*.gcda' -delete
	$(call KERNEL_TESTS,coverage)
	$(BIN)/gcovr --root . --filter cpp_ext/ --filter wrapping/ --merge-lines --fail-under-line 85 build/coverage-objects

bench: $(DEVELOPS)
	@$(BIN)/python benchmarks/kernels.py || true
	$(if $(DATA),$(BIN)/python benchmarks/registration.py --data "$(DATA)" $(if $(shell $(BIN)/python -c 'import ants' 2>/dev/null && echo 1),,--no-ants),echo "With DATA=folder the registration is measured too: see docs/benchmarks.md.")

# Makes the models that ship anew, hours on two cores; stopped, it goes on where it was. The variants
# of docs/benchmarks.md come with them.
RUN := build/models
LISTS := $(RUN)/lists
MASKS = --lesion-masks "$(DATA)/stroke_lesions/masks"
TRAIN := $(BIN)/itk-ncr train --threads 1
models: $(DEVELOPS)
	@[ -d "$(DATA)" ] || { echo "error: DATA must be a folder with images; see docs/benchmarks.md" >&2; exit 1; }
	$(BIN)/python benchmarks/manifests.py "$(DATA)" $(LISTS)
	$(TRAIN) $(LISTS)/ixi-2d.csv --preset brain-t1-2d --budget full $(MASKS) -o $(RUN)/brain-t1-2d-begun \
	  --reduce 2 --learning-rate 0.002 --steps 8000
	$(TRAIN) $(LISTS)/ixi-2d.csv --preset brain-t1-2d --budget full $(MASKS) -o $(RUN)/brain-t1-2d-more \
	  --start $(RUN)/brain-t1-2d-begun/model --seed 1 --remapped 0.5
	$(TRAIN) $(LISTS)/ixi-2d.csv --preset brain-t1-2d --budget full $(MASKS) -o $(RUN)/brain-t1-2d \
	  --start $(RUN)/brain-t1-2d-more/model --steps 2500 --seed 2 --remapped 0.5
	$(TRAIN) $(LISTS)/ixi-3d.csv --preset brain-t1-3d --budget full $(MASKS) -o $(RUN)/brain-t1-3d-begun
	$(TRAIN) $(LISTS)/ixi-3d.csv --preset brain-t1-3d --budget full $(MASKS) -o $(RUN)/brain-t1-3d-more \
	  --start $(RUN)/brain-t1-3d-begun/model --steps 8000 --seed 1
	$(TRAIN) $(LISTS)/ixi-3d.csv --preset brain-t1-3d --budget full $(MASKS) -o $(RUN)/brain-t1-3d \
	  --start $(RUN)/brain-t1-3d-more/model --steps 8000 --seed 2 --remapped 0.5
	$(TRAIN) $(LISTS)/oct.csv --preset oct-2d --budget full -o $(RUN)/oct-2d
	for v in regnet ncr-b ncr-u ncr-s; do
	  $(TRAIN) $(LISTS)/ixi-2d.csv --preset mri-2d --budget small --variant $$v $(MASKS) -o $(RUN)/small-$$v
	done
	$(BIN)/python benchmarks/network_quality.py --data "$(DATA)" --dimension 2 --pairs 20 \
	  --model brain-t1-2d=$(RUN)/brain-t1-2d/model --json $(RUN)/brain-t1-2d.json
	$(BIN)/python benchmarks/network_quality.py --data "$(DATA)" --dimension 3 --pairs 6 \
	  --versions none,L1,L4 --model brain-t1-3d=$(RUN)/brain-t1-3d/model --json $(RUN)/brain-t1-3d.json
	for d in 2 3; do
	  $(BIN)/python benchmarks/ship.py $(RUN)/brain-t1-$${d}d/model brain-t1-$${d}d --figures $(RUN)/brain-t1-$${d}d.json
	done
	$(BIN)/python benchmarks/ship.py $(RUN)/oct-2d/model oct-2d

# The paper's tables and figures, an hour of two cores; stopped, it goes on where it was.
BUDGET ?= small
reproduce: $(DEVELOPS)
	@[ -d "$(DATA)" ] || { echo "error: DATA must be a folder with images; see docs/reproduction.md" >&2; exit 1; }
	$(BIN)/itk-ncr reproduce "$(DATA)" --budget $(BUDGET) -o build/reproduction-$(BUDGET)

# Compiles the CUDA kernels for every architecture and installs nothing; nvcc must be there.
cuda: $(VENV)/.made
	@$(BIN)/cmake -S . -B build/cuda -G Ninja --log-level=WARNING -DNCR_CUDA=ON \
	  -DCMAKE_MAKE_PROGRAM="$$PWD/$(BIN)/ninja" -DPython_EXECUTABLE="$$PWD/$(BIN)/python" \
	  -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)"
	$(BIN)/cmake --build build/cuda --target ncr_cuda

# Builds the ITK filters for C++, and their example as a project of its own, and tests them beside
# ITK's; ITK's headers must be there (Debian: libinsighttoolkit5-dev).
cxx: $(DEVELOPS)
	@configure() {
	  $(BIN)/cmake "$$@" -G Ninja --log-level=ERROR -DCMAKE_MAKE_PROGRAM="$$PWD/$(BIN)/ninja"
	}
	configure -S . -B build/cxx -DNCR_ITK=ON -DNCR_CUDA=OFF -DPython_EXECUTABLE="$$PWD/$(BIN)/python" \
	  -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)"
	$(BIN)/cmake --build build/cxx --target _itk_cxx itk_filters
	configure -S examples/cpp -B build/cxx/example
	$(BIN)/cmake --build build/cxx/example
	NCR_CXX_BUILD=build/cxx $(BIN)/pytest tests/filters/test_cxx_filters.py
	build/cxx/wrapping/itk/itk_filters

# The laws of the kernels in C++ alone: here, and on Arm by an emulator where both are installed (Debian:
# g++-aarch64-linux-gnu, qemu-user).
cross: $(VENV)/.made
	@laws() {
	  $(BIN)/cmake -S . -B build/laws-$$1 -G Ninja --log-level=WARNING -DCMAKE_MAKE_PROGRAM="$$PWD/$(BIN)/ninja" \
	    -DNCR_PYTHON=OFF -DNCR_CUDA=OFF -DNCR_LAWS=ON "$${@:2}"
	  $(BIN)/cmake --build build/laws-$$1
	  $(BIN)/ctest --test-dir build/laws-$$1 --output-on-failure
	}
	laws native
	if command -v aarch64-linux-gnu-g++ qemu-aarch64 >/dev/null; then
	  laws aarch64 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
	    -DCMAKE_CROSSCOMPILING_EMULATOR="qemu-aarch64;-L;/usr/aarch64-linux-gnu"
	else
	  echo "no aarch64-linux-gnu-g++ or qemu-aarch64 here: the kernels are not tried on Arm"
	fi

clean:
	rm -rf build demo-output .coverage* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
