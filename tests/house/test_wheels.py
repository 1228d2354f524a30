"""Installing goes on without a compiler and says so, or takes one from PyPI where asked; and what wheels there are."""

import ast
import os
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.native_build import NATIVE, compiler, missing, run

from storycell import extras
from storycell.errors import MissingExtraError

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def configure(folder: Path, **variables: str) -> tuple[int, str]:
    """CMake as an installation calls it: its exit status and what it says."""
    cmake = shutil.which("cmake") or shutil.which("cmake", path=Path(sys.executable).parent)
    if cmake is None:
        missing("no cmake on this machine")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STORYCELL_")}
    words = (cmake, "-S", NATIVE, "-B", folder, "-DSKBUILD=2", f"-DPYTHON_EXECUTABLE={sys.executable}")
    done = run(*words, env=kept | variables)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_without_a_compiler_nothing_is_built_and_the_way_to_one_is_named(tmp_path: Path) -> None:
    status, said = configure(tmp_path, CXX="/bin/false")
    assert status == 0
    assert "There is no C++ compiler, so storycell's engine is not built" in said
    assert "STORYCELL_ZIG=1 in the environment" in said


def test_a_required_kernel_without_a_compiler_is_an_error(tmp_path: Path) -> None:
    status, said = configure(tmp_path, CXX="/bin/false", STORYCELL_REQUIRE_KERNEL="1")
    assert status != 0
    assert "CXX" in said


def test_zig_of_the_build_environment_compiles_where_asked_for(tmp_path: Path) -> None:
    """Whatever CXX says: here a program that hands on to the real compiler what Zig would get."""
    package = tmp_path / "ziglang"
    package.mkdir()
    (package / "__init__.py").touch()
    zig = package / "zig"
    zig.write_text(f'#!/bin/sh\n[ "$1 $2" = "c++ -mcpu=baseline" ] || exit 9\nshift 2\nexec "{compiler()}" "$@"\n')
    zig.chmod(0o755)
    wanted = {"CXX": "/bin/false", "STORYCELL_ZIG": "1", "PYTHONPATH": str(tmp_path)}
    status, said = configure(tmp_path / "build", **wanted)
    assert status == 0, said
    assert f"Check for working CXX compiler: {zig}" in said


def test_a_build_asks_for_zig_and_pip_prepares_metadata_without_compiling() -> None:
    overrides = PROJECT["tool"]["scikit-build"]["overrides"]
    assert [o["build"]["requires"] for o in overrides if o["if"].get("env", {}).get("STORYCELL_ZIG")] == [
        ["ziglang>=0.14"]
    ]
    assert not any("failed" in o["if"] for o in overrides)  # scikit-build-core would compile for the metadata, too


def test_there_are_wheels_for_every_system() -> None:
    tree = ast.parse((ROOT / "tools" / "wheels.py").read_text(encoding="utf-8"))
    [targets] = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "TARGETS"]
    assert isinstance(targets, ast.Dict)
    tags = {ast.literal_eval(call.args[3]) for call in targets.values if isinstance(call, ast.Call)}
    assert tags == {
        *(
            f"{system}_{processor}"
            for system in ("manylinux_2_17", "musllinux_1_2")
            for processor in ("x86_64", "aarch64")
        ),
        *("macosx_11_0_arm64", "macosx_11_0_x86_64", "win_amd64"),
    }


def test_uv_takes_torch_for_a_cpu_on_linux_and_nothing_else_from_there() -> None:
    [index] = PROJECT["tool"]["uv"]["index"]
    assert index["explicit"] is True  # asked for what names it, and for nothing else
    assert PROJECT["tool"]["uv"]["sources"] == {
        "torch": [{"index": index["name"], "marker": "sys_platform == 'linux'"}]
    }
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert f"--index-url {index['url']}`" in page  # what pip is told there


@pytest.mark.parametrize(
    ("system", "processor", "taken"),
    [("linux", "x86_64", True), ("linux", "aarch64", False), ("darwin", "arm64", True), ("win32", "AMD64", True)],
)
def test_the_entropy_coder_is_taken_where_it_has_wheels(system: str, processor: str, taken: bool) -> None:
    [coder] = [r for r in map(Requirement, PROJECT["project"]["dependencies"]) if r.name == "constriction"]
    assert coder.marker is not None
    assert coder.marker.evaluate({"sys_platform": system, "platform_machine": processor}) is taken
    assert [Requirement(r).name for r in PROJECT["project"]["optional-dependencies"]["compress"]] == ["constriction"]


def test_without_the_entropy_coder_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(MissingExtraError, match=r"storycell\[compress\]"):
        extras.require("constriction", "the entropy coder")
