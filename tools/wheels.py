"""Builds the wheels of every system on one machine, and looks into them.

    make wheels            all of them, into dist/
    python tools/wheels.py manylinux-x86_64 windows-x86_64

Zig, a C++ compiler from PyPI, builds for all of them. The library has a C interface and is loaded through ctypes, so
one wheel of a system serves every Python. Each wheel is opened again: its library must export the engine, need only
the system's own libraries, and run on as old a system as its name says.
"""

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cross
import lief

DIST = cross.SOURCE / "dist"
MOST_BYTES = 6_000_000
ENTRY = "storycell_model_create"


@dataclass(frozen=True)
class Target:
    """A system that wheels are built for."""

    zig: str  # its name for the target
    system: str  # CMake's names
    processor: str
    tag: str  # of the wheel
    libraries: tuple[str, ...]  # all that the library may need
    oldest: tuple[int, ...] = ()  # version of glibc, or of macOS


TARGETS = {
    "manylinux-x86_64": Target(
        "x86_64-linux-gnu.2.17", "Linux", "x86_64", "manylinux_2_17_x86_64", ("lib", "ld-linux"), (2, 17)
    ),
    "manylinux-aarch64": Target(
        "aarch64-linux-gnu.2.17", "Linux", "aarch64", "manylinux_2_17_aarch64", ("lib", "ld-linux"), (2, 17)
    ),
    "musllinux-x86_64": Target("x86_64-linux-musl", "Linux", "x86_64", "musllinux_1_2_x86_64", ("libc.so",)),
    "musllinux-aarch64": Target("aarch64-linux-musl", "Linux", "aarch64", "musllinux_1_2_aarch64", ("libc.so",)),
    "macos-arm64": Target(
        "aarch64-macos.11.0", "Darwin", "arm64", "macosx_11_0_arm64", ("/usr/lib/", "/System/"), (11, 0)
    ),
    "macos-x86_64": Target(
        "x86_64-macos.11.0", "Darwin", "x86_64", "macosx_11_0_x86_64", ("/usr/lib/", "/System/"), (11, 0)
    ),
    "windows-x86_64": Target(
        "x86_64-windows-gnu", "Windows", "AMD64", "win_amd64", ("KERNEL32", "api-ms-win-crt", "ntdll")
    ),
}


def build(target: Target) -> Path:
    """The wheel of a target, in dist/."""
    defines = cross.settings(target.zig, target.system, target.processor) | {
        "CMAKE_SHARED_LINKER_FLAGS": "-s",
        "CMAKE_INSTALL_NAME_TOOL": "true",  # CMake insists on one for macOS, and needs none here
    }
    settings = [word for name, value in defines.items() for word in ("-C", f"cmake.define.{name}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder]
        subprocess.run([*words, *settings, str(cross.SOURCE)], check=True)
        [made] = Path(folder).glob("*.whl")
        tagged = subprocess.run(
            [sys.executable, "-m", "wheel", "tags", "--platform-tag", target.tag, "--remove", str(made)],
            check=True,
            capture_output=True,
            text=True,
        )
        DIST.mkdir(exist_ok=True)
        name = tagged.stdout.split()[-1]
        return (Path(folder) / name).replace(DIST / name)


def check(target: Target, wheel: Path) -> str:
    """One line about a wheel; `SystemExit` where it is not what its name promises."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [n for n in archive.namelist() if "storycell_kernel" in n]
        library = lief.parse(list(archive.read(name)))
        demo = any(n.endswith("demo/model.safetensors") for n in archive.namelist())
    if library is None:
        raise SystemExit(f"{wheel.name}: {name} is no library")
    exported = {f.name.removeprefix("_") for f in library.exported_functions}
    needed = [str(lib.name if hasattr(lib, "name") else lib) for lib in library.libraries]
    strange = [lib for lib in needed if not lib.startswith(target.libraries) and "storycell_kernel" not in lib]
    size = wheel.stat().st_size
    faults = [
        f"it does not export {ENTRY}" * (ENTRY not in exported),
        f"it needs {', '.join(strange)}" * bool(strange),
        f"it has {size:,} bytes, more than {MOST_BYTES:,}" * (size > MOST_BYTES),
        "it has no demo" * (not demo),
    ]
    newest = _newest_system(library)
    if target.oldest and newest > target.oldest:
        faults.append(f"it needs version {newest} of the system, not {target.oldest}")
    if any(faults):
        raise SystemExit(f"{wheel.name}: {'; '.join(filter(None, faults))}")
    return f"{wheel.name}: {size:,} bytes, {len(exported)} functions, needs {', '.join(needed) or 'nothing'}"


def _newest_system(library: object) -> tuple[int, ...]:
    """The version of glibc or macOS that a library needs; empty where it names none."""
    if isinstance(library, lief.ELF.Binary):
        names = [v.name for needed in library.symbols_version_requirement for v in needed.get_auxiliary_symbols()]
        versions = [tuple(map(int, n.removeprefix("GLIBC_").split("."))) for n in names if n.startswith("GLIBC_")]
        return max(versions, default=())
    if isinstance(library, lief.MachO.Binary) and library.build_version is not None:
        return tuple(library.build_version.minos[:2])
    return ()


def main(names: list[str]) -> None:
    """Build and check those named, or all."""
    if unknown := [name for name in names if name not in TARGETS]:
        raise SystemExit(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    for name in names or TARGETS:
        print(check(TARGETS[name], build(TARGETS[name])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
