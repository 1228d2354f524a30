"""Training whose float32 products go to a BLAS: on a Mac Accelerate's, here OpenBLAS's by the same code.

In: `native/`, built with the option that looks for one. The library is loaded when the program runs, so the build needs
none; where OpenBLAS is not installed the numbers cannot be compared.
"""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.native_build import NATIVE, built, run

ENGINE_TESTS = Path(__file__).parents[1] / "engine"
USED = """
import sys
from storycell.engine import library
library.use_isa(sys.argv[1])
print(library.blas())
"""


@pytest.fixture(scope="module")
def looks_for_blas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library with the option."""
    options = ("-DSTORYCELL_BLAS=ON", "-DCMAKE_CXX_FLAGS_RELEASE=-O1")  # one run each: what is compiled sooner wins
    return built("storycell_kernel", tmp_path_factory.mktemp("blas"), *options) / "libstorycell_kernel.so"


def environment(library: Path, choice: str) -> dict[str, str]:
    return os.environ | {"STORYCELL_KERNEL": str(library), "STORYCELL_BLAS": choice, "STORYCELL_REQUIRE_KERNEL": "1"}


@pytest.fixture
def openblas() -> None:
    try:
        ctypes.CDLL("libopenblas.so.0")
    except OSError:
        pytest.skip("OpenBLAS is not installed (Debian: libopenblas0)")


def test_the_library_neither_links_a_blas_nor_needs_one_to_load(looks_for_blas: Path) -> None:
    needed = subprocess.run(["readelf", "-d", looks_for_blas], capture_output=True, text=True, check=True).stdout
    assert "libc.so" in needed
    assert "blas" not in needed.replace("storycell", "").lower().replace(looks_for_blas.name, "")


@pytest.mark.parametrize(("choice", "name"), [("on", "OpenBLAS"), ("", "OpenBLAS"), ("off", "")])
@pytest.mark.usefixtures("openblas")
def test_the_variable_switches_it(choice: str, name: str, looks_for_blas: Path) -> None:
    told = run(sys.executable, "-c", USED, "portable", env=environment(looks_for_blas, choice))
    assert told.stdout.strip() == name, told.stderr


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("openblas")
def test_the_engine_computes_the_reference_with_it(looks_for_blas: Path) -> None:
    """Losses, gradients and exact resume, on every instruction set; bits may depend on threads."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not threads"]
    files = [ENGINE_TESTS / "test_engine_model.py", ENGINE_TESTS / "test_engine_gate_norm.py"]
    tests = run(*words, *files, env=environment(looks_for_blas, "on"))
    assert tests.returncode == 0, tests.stdout[-4000:]
    passed = re.search(r"(\d+) passed", tests.stdout)
    assert passed is not None
    assert int(passed[1]) >= 120, tests.stdout


def test_only_training_reaches_it() -> None:
    """What must not depend on the batch has no way to ask for it."""
    asking = {p.name for p in NATIVE.glob("engine/*.cpp") if "blas_wins" in p.read_text(encoding="utf-8")}
    assert asking == {"blas.cpp", "model.cpp"}


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("openblas")
def test_the_cpp_test_passes_with_it(tmp_path: Path) -> None:
    """Every size and cell on every instruction set, memory refused at every allocation."""
    folder = built("kernel_test", tmp_path, "-DSTORYCELL_TESTS=ON", "-DSTORYCELL_BLAS=ON")
    test = run(folder / "kernel_test")
    assert test.returncode == 0, test.stdout
    lines = test.stdout.splitlines()
    assert lines[0] == "OpenBLAS multiplies too"
    assert lines[-1] == "all passed"
