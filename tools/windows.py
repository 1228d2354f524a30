"""Tests the engine for Windows on any x86-64 machine with Linux.

    make windows-test      or: python tools/windows.py

Zig, a C++ compiler from PyPI (`pip install ziglang`), builds it; Wine (Debian: `apt install wine`) runs it, on every
instruction set of this processor and then with each of them asked for by STORYCELL_ISA. Wine runs the real processor's
instructions, and stands in for Windows' own libraries: threads, memory, files, time.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import cross

BUILD = cross.SOURCE / "build" / "windows"
LONGEST_S = 900  # of one program, on a busy machine; alone it takes seconds
TESTED = re.compile(r"^(\w+) done", re.MULTILINE)
STEPS = {  # numbers of the two programs that count steps elsewhere: as little as goes through every part of them
    "training_steps": ("1", "48", "3", "5", "2"),  # precision, units, streams, steps, updates
    "writing_steps": ("2", "48", "2", "3", "20"),  # precision, units, layers, streams, length
}


def wine() -> str:
    """Wine's program; `SystemExit` where there is none."""
    found = shutil.which("wine64") or shutil.which("wine")
    if not found:
        raise SystemExit("tools/windows.py needs Wine: apt install wine")
    return found


def run(program: Path, *words: str, **variables: str) -> str:
    """What a program for Windows prints, line ends made Unix's; `SystemExit` where it fails."""
    quiet = {"WINEPREFIX": str(BUILD / "wine"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
    command = [wine(), str(program), *words]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | quiet | variables,
        timeout=LONGEST_S,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}{program.name} {' '.join(words)} fails under Wine: exit {done.returncode}")
    return done.stdout


def test() -> None:
    """Runs the engine's own test and its programs; `SystemExit` where one fails."""
    programs = {
        name: cross.build_test(name, BUILD, "x86_64-windows-gnu", "Windows", "AMD64")
        for name in ("kernel_test", *STEPS)
    }
    said = run(programs["kernel_test"])
    print(said, end="", flush=True)
    sets = TESTED.findall(said)
    if "portable" not in sets:
        raise SystemExit("the engine's test names no instruction set that it ran on")
    for isa in sets:  # the test fails where the library chooses another than the first word
        run(programs["kernel_test"], isa, STORYCELL_ISA=isa)
        for name, numbers in STEPS.items():
            run(programs[name], isa, *numbers)
        print(f"STORYCELL_ISA={isa}: passed", flush=True)


if __name__ == "__main__":
    test()
