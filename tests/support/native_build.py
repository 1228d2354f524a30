"""What the tests that compile native/ share: its folder, a compiler or a skip, and a build of one target."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

NATIVE = Path(__file__).parents[2] / "native"


def run(*command: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def missing(what: str) -> NoReturn:
    """Skip for lack of something to build with; where the kernel is required, fail."""
    if "STORYCELL_REQUIRE_KERNEL" in os.environ:
        pytest.fail(what)
    pytest.skip(what)


def compiler() -> str:
    """The C++ compiler's command; skips where there is none."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    missing("no C++ compiler on this machine")


def built(target: str, folder: Path, *options: str) -> Path:
    """The target, built with emulated AMX; skips where there is nothing to build with."""
    cmake = shutil.which("cmake") or shutil.which("cmake", path=Path(sys.executable).parent)
    if cmake is None:
        missing("no cmake on this machine")
    configured = run(cmake, "-S", NATIVE, "-B", folder, "-DSTORYCELL_EMULATE_AMX=ON", *options)
    if "CMAKE_CXX_COMPILER" in configured.stderr:
        missing("no C++ compiler on this machine")
    assert configured.returncode == 0, configured.stderr
    made = run(cmake, "--build", folder, "--target", target)
    if "cannot find -lasan" in made.stderr or "cannot find -lubsan" in made.stderr:
        missing("this compiler has no sanitizers")
    assert made.returncode == 0, made.stderr
    assert "warning" not in made.stderr
    return folder
