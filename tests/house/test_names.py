"""Names of runs and files are data: whatever they hold, no C, no script and no formula comes of them."""

import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_models import CHARACTERS, model
from support.tiny_runs import FLAGS, command

import storycell
from storycell.export import c, onnx
from storycell.export.export import export
from storycell.naming import show_name
from storycell.report.drawings import Series, draw_bars, draw_curves
from storycell.report.page import embed_json, render
from storycell.training import curve

COMPILER = shutil.which("cc")
INJECTED = r"m*\ int injected_by_a_name = 42; \*"
NASTY = [
    INJECTED,
    "*/ int injected_by_a_name = 42; /*",
    "a *\\/ int injected_by_a_name; /\\*",
    "*??/\n/ int injected_by_a_name = 42; /*",
    "line\n*/\nint injected_by_a_name = 42;\n#define V 3\n/*",
    "static const char *const weights[STRINGS] = {",
    'x\nstatic const char *const weights[STRINGS] = {\n"AAAA"',
    "// */ // /* ??/",
    "</title><script>alert(1)</script><!--",
    "@MODEL@ @WEIGHTS@ @POLICY@",
    "\x00\x1b[2J\u2028\u2029\u202e",
    "caf\udce9",
    "$\\foo$ and $x$",
    "'; touch injected; '",
    "",
]
KIND = "rnn-L1-H5-D2-bias"
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def without_comments(source: str) -> str:
    return COMMENT.sub(" ", source)


@pytest.fixture(scope="module")
def plain_source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the compiler reads of the exported file of a run with a name of letters."""
    path = tmp_path_factory.mktemp("plain") / "story.c"
    export(model(KIND), CHARACTERS, path, name="mine")
    return without_comments(path.read_text())


@pytest.mark.parametrize("name", NASTY)
def test_the_compiler_reads_the_same_whatever_the_run_and_the_file_are_called(
    name: str, plain_source: str, tmp_path: Path
) -> None:
    file = re.sub("[/\0]", "_", name) or "x"
    path = tmp_path / f"{file}.c"
    export(model(KIND), CHARACTERS, path, name=name, maker=name)
    source = path.read_bytes().decode("ascii")
    assert without_comments(source) == plain_source
    assert "??" not in source.partition("#include")[0]
    assert "injected;" not in source.partition("#include")[0].partition("cc -O2")[2].partition("\n")[0]


@given(name=st.text(max_size=40) | st.text("*/\\?\n\r\"'{}[]#@ x", max_size=40))
@settings(max_examples=300, deadline=None)
def test_no_text_leaves_a_comment(name: str) -> None:
    assert COMMENT.fullmatch(f"/* {c.comment(name)} */")
    assert not set("*\\?\n\r") & set(c.comment(name))
    assert "//" not in c.comment(name)


@pytest.mark.skipif(COMPILER is None, reason="no C compiler here")
def test_a_run_folder_with_c_in_its_name_adds_no_symbol(made: Path, tmp_path: Path) -> None:
    run, source, program = tmp_path / INJECTED, tmp_path / "story.c", tmp_path / "story"
    shutil.copytree(made, run)
    storycell.load(run).export(source)
    words = [str(COMPILER), "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", source, "-lm", "-o", program]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stderr == ""
    assert b"injected_by_a_name" not in program.read_bytes()


@pytest.mark.parametrize("name", NASTY)
def test_a_page_and_a_graph_hold_any_name_as_text(name: str, tmp_path: Path) -> None:
    lm = model(KIND)
    for ending in (".html", ".onnx"):
        export(lm, CHARACTERS, tmp_path / f"story{ending}", name=name)
    page = (tmp_path / "story.html").read_text(encoding="utf-8")
    assert page.count("<script") == 6  # two are the engine, as data
    assert page.count("<title>") == page.count("</title>") == 1
    pytest.importorskip("onnx")
    assert onnx.facts_of((tmp_path / "story.onnx").read_bytes())["name"] == show_name(name)


@given(name=st.text(st.characters(exclude_categories=()), max_size=30))
@settings(max_examples=200, deadline=None)
def test_what_is_shown_is_one_line_of_text(name: str) -> None:
    line = show_name(name)
    assert len(line) == len(name)
    assert "\n" not in line
    assert len(line.splitlines()) <= 1
    assert line.encode("utf-8").decode("utf-8") == line
    assert show_name(line) == line


@given(text=st.text(st.characters(exclude_categories=()), max_size=30))
@settings(max_examples=200, deadline=None)
def test_reports_hold_any_text(text: str) -> None:
    page = render("report/page.html", title=text, sections={})
    for markup in (page, embed_json("numbers", {text: [text]})):
        assert markup.encode("utf-8").decode("utf-8") == markup
    for element in ("title", "h1"):
        (shown,) = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
        assert not set("<>\"'") & set(shown)
    assert embed_json("numbers", {text: text}).count("<") == 2


@pytest.mark.parametrize("name", [*filter(None, NASTY), "a$b$c", "$$", "\\$x$"])
def test_a_figure_shows_a_name_letter_by_letter(name: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        assert curve.loss_curve([], name).startswith(b"\x89PNG")
        for drawn in (draw_bars([name], [1.0], [0.1], "x"), draw_curves([Series(name, [1], [2])], "x", "y")):
            assert drawn.startswith("<?xml")
            if name == "a$b$c":
                assert name in drawn


def test_a_run_may_have_any_name(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained, with its figure, and exported; a formula in a title once was a traceback."""
    for name in ("$\\foo$", INJECTED):
        run = tmp_path / name
        assert command(capsys, "train", text, "--out", run, *FLAGS).code == 0
        for file in ("story.html", "story.c"):
            assert command(capsys, "export", run, tmp_path / file).code == 0


def test_a_name_that_is_not_utf8_is_refused_before_training(
    made: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / os.fsdecode(b"caf\xe9")
    command(capsys, "train", text, "--out", run, *FLAGS).stated(1, "caf\ufffd is not UTF-8", "another name")
    assert not [p for p in tmp_path.iterdir() if p != text]
    try:
        shutil.copytree(made, run)
    except OSError:
        return  # this file system takes no such name
    command(capsys, "sample", run).stated(1, "is not UTF-8")


def test_a_command_that_is_suggested_can_be_copied(
    made: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "my story; x.c"
    assert f"cc -O2 '{odd}' -lm" in command(capsys, "export", made, odd).err
    packed = tmp_path / "a b.scz"
    assert f"decompress {made} '{packed}'" in command(capsys, "compress", made, text, "--out", packed).err
