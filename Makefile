# make story: set up and train a first model.  make test: set up and run the tests.  make coverage: and count lines.
# Everything is installed into .venv, with the versions in constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
TESTED := .venv/installed-dev

FUZZED := .venv/installed-fuzz
FUZZ_SECONDS ?= 3600

.PHONY: story test wheels wasm arm-test windows-test coverage lint check docs course soak fuzz lock locked audit clean

story: $(INSTALLED)
	$(BIN)/storycell train stories --recipe quick

# A process for each core.
test: $(TESTED)
	$(BIN)/python -m pytest -n auto --dist worksteal

# Lines of the package that the default suite runs, in the processes that it starts too, as `serve`.
coverage: $(TESTED)
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report term

# The wheels of every system, by Zig's cross compiler, into dist/; each is opened and looked into.
wheels: $(TESTED)
	$(BIN)/python -m pip install -q ziglang==0.17.1 lief ninja wheel
	$(BIN)/python tools/wheels.py

# The engine for browsers, by Zig from PyPI: the two modules that the package ships, the same bytes on every machine.
wasm: $(TESTED)
	$(BIN)/python -m pip install -q ziglang==0.17.1
	$(BIN)/python tools/wasm.py

# The kernels for 64-bit Arm under QEMU's emulation (Debian: qemu-user-static), built by Zig from PyPI.
arm-test: $(TESTED)
	$(BIN)/python -m pip install -q ziglang
	$(BIN)/python tools/arm.py test

# The engine's test for Windows under Wine (Debian: wine), built by Zig from PyPI.
windows-test: $(TESTED)
	$(BIN)/python -m pip install -q ziglang
	$(BIN)/python tools/windows.py

lint: $(TESTED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

check: lint test

# The documentation as a site that opens from disk, in build/site; a link that leads nowhere is an error.
docs: $(TESTED)
	$(BIN)/python tools/docs.py

# Run the course and write what its pages show: ten minutes, most of them the article's trainings.
course: $(TESTED)
	$(BIN)/python tools/course.py

# The long tests, more examples of those that draw at random, and each fuzz target for FUZZ_SECONDS (an hour).
soak: $(TESTED) fuzz
	STORYCELL_FUZZ_EXAMPLES=2000 $(BIN)/python -m pytest -m soak --timeout 7200

fuzz: $(FUZZED)
	$(BIN)/python tests/fuzz --seconds $(FUZZ_SECONDS)

# requirements.lock: every package that the tests and the command need, with the hashes of its files, for CPython 3.11 on
# x86-64 Linux. It takes torch's CPU build from PIP_FIND_LINKS or UV_FIND_LINKS, where one lies.
lock:
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/python -m pip install -q uv
	.venv/lock/bin/uv pip compile pyproject.toml --extra dev --extra fuzz --constraint constraints.txt --upgrade \
	  --no-sources --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --custom-compile-command "make lock" \
	  $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) --quiet --output-file requirements.lock

# An environment of exactly these files, and nothing that pip did not check.
locked: requirements.lock
	$(PYTHON) -m venv .venv/locked
	.venv/locked/bin/python -m pip install -q --require-hashes -r requirements.lock
	.venv/locked/bin/python -m pip install -q --no-deps --no-build-isolation .

audit: $(TESTED)
	$(BIN)/python tools/audit.py

$(INSTALLED): pyproject.toml constraints.txt $(wildcard native/CMakeLists.txt native/arch/* native/ops/* native/engine/*)
	$(PYTHON) -c 'import sys; sys.exit("storycell needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(TESTED): $(INSTALLED)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

$(FUZZED): $(TESTED)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[fuzz]'
	touch $@

clean:
	rm -rf .venv build dist
