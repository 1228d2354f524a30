"""Every fuzz target leaves its seeds, and what some changes make of them, without an error.

`make fuzz` runs the same targets for an hour each, guided by coverage; this keeps them alive in between.
"""

import importlib
import random
from pathlib import Path

import pytest
from fuzz import TARGETS
from fuzz import __file__ as package

from storycell.data import files

CHANGES = 12  # of every seed


def changed(seed: bytes, chance: random.Random) -> bytes:
    """A few bytes replaced, removed, doubled or put in."""
    data = bytearray(seed)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.randrange(1, 9)]
            case 2:
                data[at:at] = data[: chance.randrange(1, 40)]
            case _:
                data[at:at] = chance.choice([b"\0", b"\xff", b"[", b'"', b"<|endoftext|>\n", b"\r", b"1e999", b"-"])
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_stands_its_seeds_and_changes_of_them(name: str) -> None:
    target = importlib.import_module(f"fuzz.{name}")
    chance = random.Random(name)
    for seed in target.SEEDS:
        target.one_input(seed)
        assert len(seed) < 4096
        for _ in range(CHANGES):
            target.one_input(changed(seed, chance))
    target.one_input(b"")
    assert files.CHUNK_BYTES == 1 << 20  # what a target sets for an input it takes back


def test_every_target_is_listed() -> None:
    assert {path.stem for path in Path(package).parent.glob("[a-z]*.py")} == set(TARGETS)
