"""The pages in `examples/`: their scripts and commands, run from the first to the last with less text and shorter."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.shell_lines import commands
from support.tiny_runs import command

import storycell

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COUNTS = {"names": 2000, "spells": 600, "chat": 60, "tunes": 80}  # of what each script makes here
SMALL = ["--chars=200000", "--hidden=32", "--embedding=16", "--streams=16", "--evaluations=1", "--threads=1"]
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def lines(name: str) -> list[str]:
    page = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    return [line for body in FENCE.findall(page) for line in body.splitlines()]


def shortened(words: list[str]) -> list[str]:
    """A command with a small network and budget, or fewer texts."""
    verb, *rest = words
    if verb == "train":
        rest = [word for k, word in enumerate(rest) if "--chars" not in (word, rest[k - 1])]
        return [verb, *rest, *SMALL]
    return [verb, *(str(min(int(w), 40)) if rest[k - 1] == "--count" else w for k, w in enumerate(rest))]


def check_names(folder: Path, said: list[str]) -> None:
    known = set((folder / "names.txt").read_text().splitlines())
    new = (folder / "new.csv").read_text().splitlines()[1:]
    assert len(set(new)) == len(new) == 40
    assert not known & set(new)
    assert all(line.startswith("Little ") for line in said[2].splitlines())
    assert len(said[3].splitlines()) == 10


def check_spells(folder: Path, said: list[str]) -> None:
    run = storycell.load(folder / "runs" / "spells")
    assert set(run.labels["school"]) == {"fire", "ice", "growth", "mind"}
    assert len(said[1].splitlines()) == 6
    assert len(said[2].splitlines()) == 4
    assert all(re.fullmatch(r"[A-Z][^:]*: heals [^.]*\. It costs [^.]*\.", line) for line in said[2].splitlines())


def check_chat(folder: Path, said: list[str]) -> None:
    assert "--anonymise: 3 people get made-up names" in said[0]
    assert said[1].startswith("Alex: did anybody see my umbrella?\n")
    real = ("ottilie", "grabowski", "zbyszek", "nowak", "ines", "7700", "example.org")
    there = [name for name in real if name in (folder / "_chat.txt").read_text().lower()]
    assert len(there) == len(real)
    for path in (folder / "runs").rglob("*"):
        held = path.read_bytes().lower() if path.is_file() else b""
        assert not [name for name in real if name != "ines" and name.encode() in held], path
        assert not re.search(rb"\bines\b", held), path


def check_tunes(folder: Path, said: list[str]) -> None:
    assert storycell.load(folder / "runs" / "tunes").config.text.has_tunes
    assert "ABCJS" in (folder / "tunes.html").read_text(encoding="utf-8")
    assert said[1].startswith("X:")


CHECKS: dict[str, Callable[[Path, list[str]], None]] = {
    "names": check_names, "spells": check_spells, "chat": check_chat, "tunes": check_tunes,
}  # fmt: skip


def test_every_example_has_a_page_that_the_list_of_them_leads_to() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    folders = {path.name for path in EXAMPLES.iterdir() if (path / "README.md").exists()}
    assert folders == set(CHECKS)
    assert all(f"({name}/README.md)" in listed for name in folders)
    for name in folders:
        linked = re.findall(r"\]\((?!http)([^)#]+)", (EXAMPLES / name / "README.md").read_text(encoding="utf-8"))
        assert linked
        assert all((EXAMPLES / name / path).exists() for path in linked)


@pytest.mark.parametrize("name", CHECKS)
def test_the_commands_of_a_page_make_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script, *rest = lines(name)
    made = re.fullmatch(r"python (make_\w+\.py) (\d+) > (\S+)", script)
    assert made
    assert int(made[2]) > COUNTS[name]
    done = subprocess.run(
        [sys.executable, EXAMPLES / name / made[1], str(COUNTS[name])], capture_output=True, check=True, timeout=60
    )
    Path(made[3]).write_bytes(done.stdout)
    said = list[str]()
    for words in commands("\n".join(rest)):
        outcome = command(capsys, *shortened(words))
        assert outcome.code == 0, outcome.err
        said.append(outcome.out if outcome.out.strip() and words[0] == "sample" else outcome.err)
    assert len(said) == len(rest)
    CHECKS[name](tmp_path, said)
