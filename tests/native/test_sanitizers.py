"""The C++ test of the kernels under sanitizers, with the AMX path on emulated tiles, built here from the source.

In: `native/`. Out: a verdict over every cell, precision and instruction set that this processor runs, on odd sizes and
arrays of exactly the promised size, with memory refused at every allocation and threads that throw. AMX counts among
the instruction sets wherever AVX-512 runs, because the instructions on tiles are replaced by C++ that refuses whatever
the processor would refuse.
"""

import os
import sys
from pathlib import Path

import pytest
from support.native_build import built, run

MEMORY_ERRORS_END_THE_TEST = {"ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
USES_AMX = "from storycell.nn.backends.native.library import use_isa; use_isa('amx')"


@pytest.mark.timeout(1200)  # half a minute of computing, much longer on a busy machine
def test_kernels_run_clean_under_the_sanitizers(tmp_path: Path) -> None:
    folder = built("kernel_test", tmp_path, "-DSTORYCELL_TESTS=ON", "-DSTORYCELL_SANITIZE=ON", "-DSTORYCELL_BLAS=ON")
    test = run(folder / "kernel_test", env=MEMORY_ERRORS_END_THE_TEST)
    assert test.returncode == 0, test.stdout + test.stderr
    lines = test.stdout.splitlines()
    assert "portable done" in lines
    assert ("amx done" in lines) == ("avx512 done" in lines)
    assert lines[-1] == "all passed"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_amx_path_computes_what_torch_computes(tmp_path: Path) -> None:
    """All tests of the native backend, with the library whose tiles are emulated."""
    folder = built("storycell_kernel", tmp_path)
    library = folder / "libstorycell_kernel.so"
    kernels = os.environ | {"STORYCELL_KERNEL": str(library), "STORYCELL_REQUIRE_KERNEL": "1"}
    if run(sys.executable, "-c", USES_AMX, env=kernels).returncode:
        pytest.skip("this processor has no AVX-512, which the AMX path needs")
    tests = run(sys.executable, "-m", "pytest", "-q", Path(__file__).with_name("test_kernels.py"), env=kernels)
    assert tests.returncode == 0, tests.stdout
