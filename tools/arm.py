"""Tests the kernels for 64-bit Arm on any machine, and counts their instructions.

    make arm-test              or: python tools/arm.py test
    python tools/arm.py count  instructions for each character that is learned from or written, in minutes

Zig, a C++ compiler from PyPI (`pip install ziglang`), builds the programs; they run under QEMU's user emulation
(Debian: `apt install qemu-user-static`), as processors with and without bfloat16. Emulation shows what is computed and
by how many instructions, not how fast.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cross

BUILD = cross.SOURCE / "build" / "arm"
# The instruction sets to test on each processor, of which the library must choose the first by itself.
PROCESSORS = {
    "cortex-a53": ("neon", "portable"),  # nothing but the first 64-bit instructions
    "neoverse-n1": ("neondot", "neon"),  # dot products of bytes, no bfloat16
    "max": ("bfmmla", "neonbf16"),
}
UNITS, STREAMS, STEPS = 256, 64, 6  # of the model that is counted, and of its chunk
LEARNING = [("portable", 0), ("neon", 0), ("portable", 1), ("neon", 1), ("neonbf16", 1), ("bfmmla", 1)]
LAYERS, LENGTH = 2, 20  # of the network that writes, and of its text
WRITING = [(isa, 2) for isa in ("portable", "neon", "neondot", "bfmmla")]
PRECISIONS = ("float32", "bf16", "int8")
BLOCK = re.compile(rb"0x([0-9a-f]+):")


def emulator() -> str:
    """QEMU's program; `SystemExit` where there is none."""
    found = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if not found:
        raise SystemExit("tools/arm.py needs QEMU's user emulation: apt install qemu-user-static")
    return found


def build(program: str) -> Path:
    """A test program for Arm, without any library of the system's."""
    return cross.build_test(program, BUILD, "aarch64-linux-musl", "Linux", "aarch64")


def test() -> None:
    """Runs the kernels' own test as every processor; `SystemExit` where one fails."""
    program = build("kernel_test")
    for processor, sets in PROCESSORS.items():
        print(f"{processor}: {', '.join(sets)}", flush=True)
        if subprocess.run([emulator(), "-cpu", processor, program, *sets]).returncode:
            raise SystemExit(f"the kernels' test fails as {processor}")


def instructions(*command: str) -> int:
    """Instructions that a program for Arm executes: for each run of a block of QEMU's the instructions in it."""
    log = ["-d", "in_asm,exec,nochain", "-D", "/dev/stderr"]
    lengths: dict[bytes, int] = {}
    runs: Counter[bytes] = Counter()
    with subprocess.Popen(
        [emulator(), *log, "-cpu", "max", *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stderr is not None
        block = b""
        for line in process.stderr:
            if line.startswith(b"Trace"):  # Trace 0: host address [flags/address/...
                runs[line.split(b"/", 2)[1]] += 1
            elif line.startswith(b"IN:"):
                block = b""  # the next line's address names it
            elif found := BLOCK.match(line):
                if not block:
                    block = found[1].rjust(16, b"0")
                    lengths[block] = 0
                lengths[block] += 1
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} fails")
    return sum(lengths[block] * n for block, n in runs.items())


def count() -> None:
    """Prints what a character costs, and its share of the portable kernels': of a longer run what is more.

    So what every run does once, whatever its length, is not in it.
    """
    print(f"learning: lstm, {UNITS} units, {STREAMS} streams")
    program = str(build("training_steps"))
    _print_costs(LEARNING, STREAMS, STEPS, lambda steps: (program, UNITS, STREAMS, steps, 1))
    writer = str(build("writing_steps"))
    for streams in (1, 16):
        print(f"writing: lstm, {LAYERS} x {UNITS} units, {streams} streams")
        _print_costs(WRITING, streams, LENGTH, lambda length, streams=streams: (writer, UNITS, LAYERS, streams, length))


def _print_costs(
    counted: list[tuple[str, int]], streams: int, steps: int, command: Callable[[int], tuple[object, ...]]
) -> None:
    portable: dict[int, float] = {}
    for isa, precision in counted:
        program, *numbers = (str(word) for word in command(steps))
        _, *longer = (str(word) for word in command(2 * steps))
        few = instructions(program, isa, str(precision), *numbers)
        each = (instructions(program, isa, str(precision), *longer) - few) / (streams * steps)
        share = each / portable.setdefault(precision, each)
        print(f"{isa:10} {PRECISIONS[precision]:8} {each:12,.0f} {share:6.2f}", flush=True)


if __name__ == "__main__":
    actions = {"test": test, "count": count}
    if len(sys.argv) != 2 or sys.argv[1] not in actions:
        raise SystemExit("python tools/arm.py test, or: python tools/arm.py count")
    actions[sys.argv[1]]()
