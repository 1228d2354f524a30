"""Lists to learn: names of a grammar, and a table of spells whose beginning tells their school."""

import random
from pathlib import Path
from typing import Any

import storycell

ONSETS = ["b", "br", "c", "d", "f", "g", "k", "l", "m", "n", "r", "s", "st", "t", "th", "v"]
VOWELS, ENDS = ["a", "e", "i", "o", "u", "ia"], ["n", "ric", "s", "th", "wyn"]


def names(count: int, seed: int = 1) -> list[str]:
    """Different names of two or three syllables, sorted."""
    draw, found = random.Random(seed), set[str]()
    while len(found) < count:
        syllables = [draw.choice(ONSETS) + draw.choice(VOWELS) for _ in range(draw.choice((2, 2, 3)))]
        found.add("".join(syllables).capitalize() + draw.choice(ENDS))
    return sorted(found)


def train_names(folder: Path, count: int = 1500) -> Path:
    """A run that has learnt a little of a list of names, `names.txt` beside it."""
    (folder / "names.txt").write_text("\n".join(names(count)) + "\n", encoding="utf-8")
    network: dict[str, Any] = {"hidden": 32, "embedding": 8, "streams": 16, "evaluations": 1, "threads": 1}
    storycell.train(folder / "names.txt", lines=True, out=folder / "run", chars=150_000, **network)
    return folder / "run"


def train_spells(folder: Path) -> Path:
    """A run that knows the labels fire, whose spells begin with a, and ice, whose spells begin with z."""
    rows = [("fire", "a" + "bc"[k % 2] * (k % 5 + 1)) for k in range(90)]
    rows += [("ice", "z" + "bc"[k % 2] * (k % 5 + 1)) for k in range(80)]
    text = "name,school\n" + "".join(f"{name},{school}\n" for school, name in rows)
    (folder / "spells.csv").write_text(text, encoding="utf-8")
    network: dict[str, Any] = {"hidden": 16, "embedding": 8, "streams": 8, "evaluations": 1, "threads": 1}
    storycell.train(
        folder / "spells.csv",
        column="name",
        labels=["school"],
        recipe="items",
        out=folder / "run",
        chars=100_000,
        lr=2e-2,
        **network,
    )
    return folder / "run"
