# Everything runs in .venv; only Python 3.10+ and make are needed on the machine.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-first test-second docs wheel wheel-arm64 setup install-packages install-program lint clean

FIRST := tests/train tests/pretraining tests/benchmarks tests/inference tests/explore tests/weights

demo: setup
	rm -rf demo/study && mkdir -p demo
	$(BIN)/tiny-biomoe embed examples/study.csv --window 5 -o demo/study
	$(BIN)/tiny-biomoe show examples/recordings/ecg.csv -o demo/ecg.png
	$(BIN)/tiny-biomoe report demo/study -o demo/report.html
	@echo "vectors: demo/study/embeddings   the six images of one recording: demo/ecg.png"
	@echo "report of the study: demo/report.html"

# two at a time, for two processors, of one thread each
test: setup
	$(MAKE) --no-print-directory -j2 test-first lint test-second

test-first test-second: export OMP_NUM_THREADS := 1

test-first:
	$(BIN)/python -m pytest $(FIRST)

test-second:
	$(BIN)/python -m pytest tests tiny_biomoe $(addprefix --ignore=,$(FIRST))

# the pages, from docs/ and the docstrings, into build/docs; a warning is an error
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/docs

# dist/: the sdist and the wheel of this platform, checked and tried in an empty environment
wheel: setup
	$(BIN)/python wheels/build.py

# dist/arm64/: the wheel for Linux on 64-bit ARM, by Debian's g++-aarch64-linux-gnu; its program is tried by qemu-user
wheel-arm64: setup
	CXX=aarch64-linux-gnu-g++ _PYTHON_HOST_PLATFORM=linux-aarch64 $(BIN)/python wheels/build.py --no-trial --out dist/arm64
	NEON_WHEEL=$$(echo $(CURDIR)/dist/arm64/*.whl) $(BIN)/python -m pytest tests/inference/test_neon.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: .venv/ready

PROGRAM := setup.py tiny_biomoe/inference/native_build.py $(wildcard tiny_biomoe/inference/cpp/*)

# Python compiles what is imported, pip would compile all 20 000 files
INSTALL := $(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check

# While packages are fetched, the programs are compiled: an installation beside this one leaves them in the tree, and the
# one proper finds no compiler. pip installs torch, pinned, before all else: it finds a CPU build that is on the machine,
# where a range, or uv, would take one of several gigabytes. uv finds out what the other 180 packages need and fetches
# them in a fifth of pip's time. It knows nothing of pip's settings: where these name an index, or uv fails, pip does it.
.venv/ready: pyproject.toml constraints.txt $(PROGRAM)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(MAKE) --no-print-directory -j2 install-packages install-program
	touch $@

# steps of setup
install-packages:
	$(INSTALL) -c constraints.txt uv torch
	export CXX=none; unset UV_NO_EDITABLE UV_RESOLUTION UV_EXCLUDE_NEWER; \
	{ ! $(BIN)/python -m pip config list | grep -q "[.]index-url=" && \
		$(BIN)/uv --no-config pip install --quiet --python $(BIN)/python -c constraints.txt --editable ".[test]"; } || \
	{ echo "installed by pip, without uv: this takes minutes" && $(INSTALL) -c constraints.txt --editable ".[test]"; }

install-program:
	$(INSTALL) --no-deps --prefix build/beside --editable .

clean:
	rm -rf .venv demo build dist *.egg-info tiny_biomoe/inference/programs
