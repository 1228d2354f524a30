"""Progress: a bar on a terminal, gone when it is done; a picture in a notebook; nothing where nobody watches."""

import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.tiny_runs import command

import storycell
from storycell.training import display
from storycell.training.display import preparing, say

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal(io.StringIO):
    """A terminal of 80 columns that remembers everything it was sent."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> list[str]:
        """The lines as they were written, without colours and movements."""
        return [line.strip() for line in re.split(r"[\r\n]+", ESCAPES.sub("", self.getvalue())) if line.strip()]

    def screen(self) -> list[str]:
        """The lines that are left in the end: `\\x1b[1A` goes up one, `\\x1b[2K` wipes the line."""
        lines, row = [""], 0
        for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif part == "\x1b[1A":
                row -= 1
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part != "\r" and not part.startswith("\x1b"):
                lines[row] += part
        return [line for line in lines if line.strip()]


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error is a terminal from here on; not a fixture, between which and the test pytest sets it anew."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(display, "_REFRESH_S", -1.0)  # show every call
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "LINES": "25"}.items():
        monkeypatch.setenv(name, value)
    return terminal


def test_on_a_terminal_each_step_has_a_bar_with_its_share_and_nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with preparing() as progress:
        for done in (1, 5, 10):
            progress("counting", done, 10)
        progress("writing", 3, 4)
    for step, share in (("counting", "10%"), ("counting", "50%"), ("writing", "75%")):
        assert any(f"reading the text: {step}" in line and share in line for line in terminal.shown())
    assert terminal.screen() == []
    assert sys.stderr is terminal


def test_an_error_in_the_middle_leaves_no_bar_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)

    def fail() -> None:
        with preparing("") as progress:
            progress("compressing", 1, 2)
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    say("storycell: gone")
    assert terminal.screen() == ["storycell: gone"]
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is back


def test_a_note_in_the_middle_stands_on_a_line_of_its_own_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with preparing() as progress:
        progress("counting", 1, 10)
        say("some.txt is read as UTF-16")
        progress("counting", 2, 10)
    assert [line.strip() for line in terminal.screen()] == ["some.txt is read as UTF-16"]


def test_a_total_that_is_not_known_is_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with preparing("") as progress:
        progress("decompressing", 5, 0)
    assert any("decompressing" in line for line in terminal.shown())
    assert "%" not in terminal.getvalue()


def test_a_step_that_is_done_leaves_the_terminal_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a training does, which shows its own picture after the text is read."""
    terminal = open_terminal(monkeypatch)
    with preparing() as progress:
        progress("counting", 5, 10)
        progress("counting", 10, 10)
        assert sys.stderr is terminal
        assert terminal.screen() == []


@pytest.mark.parametrize("kind", ["pipe", "dumb terminal"])
def test_where_no_bar_can_be_nothing_is_written(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    if kind == "pipe":
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    with preparing() as progress:
        progress("counting", 1, 2)
    assert terminal.getvalue() == ""


def test_the_command_shows_its_steps_on_a_terminal(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    terminal = open_terminal(monkeypatch)
    assert command(capsys, "prepare", text, "--out", tmp_path / "out").code == 0
    assert any("reading the text: " in line and "%" in line for line in terminal.shown())
    held_out, following = [line for line in terminal.screen() if line.strip()]
    assert held_out.startswith("held out to validate on: ")
    assert following == f"next: storycell train {tmp_path / 'out'}"


TINY = {"hidden": 8, "embedding": 4, "streams": 4, "chunk": 16, "steps": 6, "evaluations": 2, "threads": 1}


def test_a_training_from_python_shows_how_far_it_is_on_a_terminal(
    story_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = open_terminal(monkeypatch)
    run = storycell.train(story_file, out=tmp_path / "run", **TINY)
    shown = "\n".join(terminal.shown())
    assert "step 6" in shown
    assert "100%" in shown
    assert f"{run.metrics[-1]['valid_nats']:.4f}" in shown
    before = len(terminal.getvalue())
    storycell.resume(run.path, steps=8)
    assert "step 8" in ESCAPES.sub("", terminal.getvalue()[before:])


@pytest.mark.parametrize("why", ["quiet", "a pipe", "a callback"])
def test_a_training_from_python_shows_nothing_otherwise(
    why: str, story_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, seen = open_terminal(monkeypatch), []
    if why == "a pipe":
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    more: dict[str, Any] = {"quiet": {"quiet": True}, "a callback": {"callback": seen.append}}.get(why, {})
    storycell.train(story_file, out=tmp_path / "run", **TINY, **more)
    assert "step" not in terminal.getvalue()
    assert len(seen) == (6 if why == "a callback" else 0)


def test_in_a_notebook_one_picture_replaces_itself(
    story_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kernel's display is given; tests/examples/ runs real ones."""
    shown: list[dict[str, str]] = []
    updated: list[dict[str, str]] = []

    def show(picture: dict[str, str], *, raw: bool, display_id: bool) -> SimpleNamespace:
        shown.append(picture)
        return SimpleNamespace(update=lambda picture, raw: updated.append(picture))

    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=show))
    monkeypatch.setattr(display, "_REFRESH_S", -1.0)
    run = storycell.train(story_file, out=tmp_path / "run", **TINY)
    assert len(shown) == 1
    assert len(updated) == 5
    assert updated[-1]["text/html"].startswith("<progress max='1' value='1.000'>")
    assert f"validation {run.metrics[-1]['valid_nats']:.4f}" in updated[-1]["text/plain"]
    storycell.resume(run.path, steps=8, quiet=True)
    assert len(shown) == 1
