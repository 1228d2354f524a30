"""Builds the engine as WebAssembly, twice, into `src/storycell/web/`: what the package ships and its pages run.

    make wasm
    python tools/wasm.py FOLDER      elsewhere, to compare

Zig, a C++ compiler that carries WebAssembly's C library, comes from PyPI. The same version of it gives the same bytes
on every machine. `engine.wasm` needs vectors of 128 bits, which browsers have had since 2021 to 2023;
`engine-relaxed.wasm` also the relaxed instructions. A module exports what `functions` names.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import cross

NATIVE = cross.SOURCE / "native"
WEB = cross.SOURCE / "src" / "storycell" / "web"
VERSION = "0.17.1"
MODULES = {"engine.wasm": [], "engine-relaxed.wasm": ["-mrelaxed-simd"]}
MOST_BYTES = 300_000
OTHERS = ("malloc", "free", "storycell_isa", "storycell_layout", "storycell_explain")
FLAGS = [
    *("-target", "wasm32-wasi", "-mexec-model=reactor", "-std=c++17", "-O3", "-DNDEBUG", "-msimd128", "-flto"),
    *("-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-I.", "-s"),
]


def functions() -> list[str]:
    """What a module exports: the functions of a model and of a network, as their headers declare them."""
    declared = (NATIVE / "engine" / name for name in ("model.h", "inference.h"))
    found = [name for header in declared for name in re.findall(r"\b(storycell_\w+)\(", header.read_text())]
    return [*OTHERS, *found]


def sources() -> list[str]:
    """The engine's files, and the one instruction set, relative to `native/`."""
    listed = re.search(r"set\(SOURCES ([^)]*)\)", (NATIVE / "CMakeLists.txt").read_text())
    if listed is None:
        raise SystemExit("CMakeLists.txt lists no SOURCES")
    common = [name for name in listed[1].split() if name != "arch/isa_portable.cpp"]
    return [*common, "arch/isa_wasm.cpp", "arch/wasm_system.cpp"]


def build(name: str, folder: Path) -> Path:
    """One module."""
    exports = [f"-Wl,--export={function}" for function in functions()]
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / name
        words = [str(cross.zig()), "c++", *FLAGS, *MODULES[name], *exports, *sources(), "-o", str(made)]
        subprocess.run(words, cwd=NATIVE, check=True)
        data = made.read_bytes()
    if len(data) > MOST_BYTES:
        raise SystemExit(f"{name} has {len(data):,} bytes, more than {MOST_BYTES:,}")
    path = folder / name
    path.write_bytes(data)
    return path


def main(words: list[str]) -> None:
    """Build both, and say their sizes."""
    found = subprocess.run([str(cross.zig()), "version"], check=True, capture_output=True, text=True).stdout.strip()
    if found != VERSION:
        raise SystemExit(
            f"this is Zig {found}; another than {VERSION} makes other bytes: pip install ziglang=={VERSION}"
        )
    folder = Path(words[0]) if words else WEB
    for name in MODULES:
        print(f"{name}: {build(name, folder).stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
