"""The kernels' sources: headers that stand alone, the contract of an instruction set, other systems' compilers."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from support.native_build import NATIVE, compiler, run

AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"]
AMX = [*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"]
FLAGS = {"simd_avx2.h": AVX2, "simd_avx512.h": AVX512, "amx_emulated.h": AVX512, "tile_amx.h": AMX}
ARM = ["simd_neon.h", "tile_neon.h", "tile_bfmmla.h"]
BF16 = ["-mcpu=generic+bf16"]
HEADERS = sorted(path.relative_to(NATIVE).as_posix() for path in NATIVE.glob("*/*.h"))
CONTRACT = (NATIVE / "arch" / "simd.h").read_text()
MEMBERS = re.findall(r"= &S::(\w+);", CONTRACT)
PORTABLE = NATIVE / "arch" / "simd_portable.h"
FOR_ALL = [*(NATIVE / "engine").glob("*.cpp"), NATIVE / "arch" / "isa.cpp", NATIVE / "arch" / "isa_portable.cpp"]
DOT = ["-mcpu=generic+dotprod"]
MATRICES = ["-mcpu=generic+bf16+i8mm+dotprod"]
ARM_SOURCES = {
    "isa_neon": [],
    "isa_neondot": DOT,
    "isa_neonbf16": BF16,
    "isa_bfmmla": MATRICES,
}  # with the flags of each
SYSTEMS = {
    "aarch64-linux-gnu": ["-DSTORYCELL_ARM", "-DSTORYCELL_ARM_BF16"],
    "aarch64-macos": ["-DSTORYCELL_ARM", "-DSTORYCELL_ARM_BF16"],
    "aarch64-windows-gnu": ["-DSTORYCELL_ARM", "-DSTORYCELL_ARM_BF16"],
    "x86_64-windows-gnu": ["-DSTORYCELL_X86"],
    "wasm32-wasi": ["-msimd128"],
}


def zig() -> list[str]:
    """The command of the compiler in the `ziglang` package; skips where that is not installed."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs the ziglang package: pip install ziglang")
    return [sys.executable, "-m", "ziglang", "c++"]


def check(
    source: str, folder: Path, *flags: str, first: tuple[str, ...] = (), command: list[str] | None = None
) -> tuple[int, str]:
    """The compiler's verdict on a text: exit status and messages."""
    text = folder / "source.cpp"
    text.write_text(source)
    words = [*(command or [compiler()]), "-std=c++17", "-Wall", "-Wextra", "-Werror"]
    # Zig would take -fsyntax-only for a program, and build its libraries first.
    words += ["-c", "-o", str(folder / "compiled.o")] if command else ["-fsyntax-only"]
    done = run(*words, *first, f"-I{NATIVE}", "-Wno-unused-function", *flags, text)
    return done.returncode, done.stderr


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_needs_no_other_before_it(header: str, tmp_path: Path) -> None:
    if Path(header).name in ARM:
        for flags in ([], BF16):
            arm = [*zig(), "-target", "aarch64-linux-gnu", *flags]
            if header == "arch/tile_bfmmla.h" and not flags:
                continue  # it has no other form
            status, messages = check(f'#include "{header}"\n', tmp_path, command=arm)
            assert status == 0, messages
        return
    if header == "arch/simd_wasm.h":
        browser = [*zig(), "-target", "wasm32-wasi", "-msimd128"]
        status, messages = check(f'#include "{header}"\n', tmp_path, command=browser)
        assert status == 0, messages
        return
    flags = FLAGS.get(Path(header).name, [])
    if flags and check("#include <immintrin.h>\n", tmp_path, *flags)[0]:
        pytest.skip("this compiler does not know the instruction set")
    status, messages = check(f'#include "{header}"\n', tmp_path, *flags)
    assert status == 0, messages


def vectors(folder: Path, old: str, new: str) -> tuple[int, str]:
    """The verdict on the portable vectors with a change."""
    text = PORTABLE.read_text()
    assert old in text
    (folder / "simd_changed.h").write_text(text.replace(old, new))
    flag = f'-DSTORYCELL_SIMD="{folder / "simd_changed.h"}"'
    return check('#include "arch/simd.h"\n', folder, flag)


@pytest.mark.parametrize("member", MEMBERS)
def test_vectors_that_lack_a_member_do_not_compile(member: str, tmp_path: Path) -> None:
    assert len(MEMBERS) == 28
    status, messages = vectors(tmp_path, f" {member}(", f" other_{member}(")
    assert status != 0
    assert (
        re.search(rf"simd\.h:\d+.*error.*{member}", messages) or f"'{member}'" in messages or f"‘{member}’" in messages
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("int width = 4", "int width = 5", "whole number of vectors"),
        ("int width = 4", "int width = 8", "F must hold"),
        ("int tile_rows = 2", "int tile_rows = 9", "1 to 8 rows"),
        ("static F sqrt(F v)", "static F sqrt(float* v)", "sqrt"),
    ],
)
def test_vectors_of_another_shape_do_not_compile(old: str, new: str, reason: str, tmp_path: Path) -> None:
    assert vectors(tmp_path, "namespace {", "namespace {")[0] == 0
    status, messages = vectors(tmp_path, old, new)
    assert status != 0
    assert reason in messages


def test_a_kernel_that_is_forgotten_does_not_compile(tmp_path: Path) -> None:
    table = (NATIVE / "arch" / "kernels_for_isa.inc").read_text()
    filled = re.findall(r"    k\.\w+ = [\w:]+;\n", table)
    assert len(filled) == 26
    use = '#include "changed.inc"\nSTORYCELL_KERNELS(kChanged, "changed")\n'
    (tmp_path / "changed.inc").write_text(table)
    status, messages = check(use, tmp_path)
    assert status == 0, messages
    (tmp_path / "changed.inc").write_text(table.replace("    k.adam_step = adam_step;\n", ""))
    status, messages = check(use, tmp_path)
    assert status != 0
    assert "a kernel is missing" in messages


def test_a_struct_whose_layout_is_not_told_does_not_compile(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    arguments = (NATIVE / "engine" / "arguments.h").read_text()
    layout = (NATIVE / "engine" / "layout.cpp").read_text()
    for old, new in (
        ("int64_t descending;         // panels", "int64_t other, descending;         // panels"),
        ("int64_t precision, rows, inner, columns;", "int64_t rows, precision, inner, columns;"),
        ("double scale;", "float scale;"),
    ):
        assert old in arguments
        (tmp_path / "engine" / "arguments.h").write_text(arguments.replace(old, new))
        status, messages = check(layout, tmp_path, first=(f"-I{tmp_path}",))
        assert status != 0
        assert "static assertion" in messages


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_sources_compile_for_other_systems(system: str, tmp_path: Path) -> None:
    """With the compiler of the `ziglang` package, where that is installed."""
    command = [*zig(), "-target", system, *SYSTEMS[system], "-std=c++17", f"-I{NATIVE}"]
    sources: list[tuple[Path, list[str]]] = [(source, []) for source in FOR_ALL]
    if system.startswith("aarch64"):
        sources += [(NATIVE / "arch" / f"{name}.cpp", flags) for name, flags in ARM_SOURCES.items()]
    for source, flags in sources:
        compiled = tmp_path / f"{source.stem}.o"
        done = run(*command, "-Wall", "-Wextra", "-Werror", *flags, "-c", source, "-o", compiled)
        assert done.returncode == 0, done.stderr
        assert compiled.stat().st_size > 0
