"""The architecture, enforced: a module imports only from lower ranks and from its own folder."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "storycell"
RANKS = {
    "errors": 0, "shapes": 0, "config": 0, "threads": 0, "naming": 0,
    "vocab": 1, "loss": 1, "cells": 1, "journal": 1, "processes": 1, "pace": 1,
    "corpus": 2, "tokens": 2, "batches": 2, "backends": 2, "text_stream": 2,
    "model": 3, "layer": 3,
    "optim": 4, "checkpoint": 4,
    "trainer": 5, "sampler": 5, "evaluator": 5, "baselines": 5,
    "inspector": 6, "export": 6, "codec": 6, "plots": 6,
    "api": 7, "report": 7,
    "experiments": 8, "server": 8,
    "cli": 9,
}  # fmt: skip
SAME_RANK = {
    ("tokens", "corpus"),  # token files are written from a corpus, which knows nothing of them
    ("config", "errors"),  # a wrong setting is an error that a user can see
}
FILES = sorted(p for p in SOURCE.rglob("*.py") if p.relative_to(SOURCE).parts[0] not in ("__init__.py", "__main__.py"))


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        parts |= {name.split(".")[1] for name in names if name.startswith("storycell.")}
    return parts


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_come_from_lower_ranks(path: Path) -> None:
    part = part_of(path)
    for other in imported_parts(path) - {part}:
        assert RANKS[other] < RANKS[part] or (part, other) in SAME_RANK, f"{part} must not import {other}"


def test_every_part_has_a_rank_and_modules_open_with_what_they_are() -> None:
    assert len(FILES) > 30
    for path in FILES:
        assert part_of(path) in RANKS
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_data_and_model_never_meet_below_the_trainer() -> None:
    for path in FILES:
        if part_of(path) in ("corpus", "tokens", "batches"):
            assert not imported_parts(path) & {"model", "backends", "cells"}
        if part_of(path) in ("model", "backends", "cells"):
            assert not imported_parts(path) & {"corpus", "tokens", "batches"}
