"""What the tools share that build the engine for another system than this one.

Zig, a C++ compiler that carries the headers and libraries of every target, comes from PyPI (`pip install ziglang`).
"""

import subprocess
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).parents[1]


def zig() -> Path:
    """Zig's program; `SystemExit` where there is none."""
    package = find_spec("ziglang")
    if package is None or package.origin is None:
        raise SystemExit("building for another system needs Zig: pip install ziglang")
    return Path(package.origin).parent / "zig"


def settings(target: str, system: str, processor: str) -> dict[str, str]:
    """CMake's settings for one of Zig's targets; `system` and `processor` are CMake's names."""
    return {
        "CMAKE_CXX_COMPILER": str(zig()),
        "CMAKE_CXX_COMPILER_ARG1": f"c++ -target {target}",
        "CMAKE_SYSTEM_NAME": system,
        "CMAKE_SYSTEM_PROCESSOR": processor,
    }


def build_test(program: str, folder: Path, target: str, system: str, processor: str) -> Path:
    """One of the programs under `native/tests/`, built in `folder`; `SystemExit` with the compiler's words."""
    defines = settings(target, system, processor) | {"STORYCELL_TESTS": "ON"}
    configure = ["-S", SOURCE / "native", "-B", folder, *(f"-D{name}={value}" for name, value in defines.items())]
    for step in (configure, ["--build", folder, "--target", program]):
        done = subprocess.run(["cmake", *map(str, step)], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
    return folder / (f"{program}.exe" if system == "Windows" else program)
