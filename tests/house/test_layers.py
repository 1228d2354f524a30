"""The architecture, enforced: a module imports only from lower ranks and from its own folder."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "storycell"
RANKS = {
    "config": 0, "errors": 0, "types": 0, "loss": 0, "threads": 0, "naming": 0, "language_model": 0, "extras": 0,
    "context": 0, "quantized": 0, "atomic": 0,
    "data": 1, "engine": 1, "nn": 1, "web": 1,
    "runs": 2,
    "generation": 3, "evaluation": 3,
    "training": 4, "inspect": 4, "export": 4,
    "api": 5, "report": 5,
    "lab": 6, "server": 6,
    "cli": 7,
}  # fmt: skip
SAME_RANK = {
    ("config", "errors"),  # a wrong setting is an error that a user can see
    ("extras", "errors"),  # and so is a package that is missing
    ("language_model", "context"),  # a model says what its characters meet
    ("quantized", "context"),  # whose table is what is stored in bytes
    ("nn", "engine"),  # torch's backend and the engine share one library of kernels
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


def test_data_and_model_never_meet_below_the_run_folder() -> None:
    for path in FILES:
        if part_of(path) == "data":
            assert not imported_parts(path) & {"nn", "engine"}
        if part_of(path) in ("nn", "engine"):
            assert "data" not in imported_parts(path)


def test_packages_only_describe_themselves_and_re_export() -> None:
    for path in SOURCE.rglob("__init__.py"):
        if path.parent != SOURCE:
            docstring, *rest = ast.parse(path.read_text(encoding="utf-8")).body
            assert isinstance(docstring, ast.Expr)
            assert all(isinstance(node, ast.ImportFrom | ast.Assign) for node in rest), f"{path} defines something"


def test_no_module_imports_itself_through_others() -> None:
    """No circle of imports between modules, whatever is imported first."""
    names = {".".join(("storycell", *p.relative_to(SOURCE).with_suffix("").parts)) for p in FILES}
    graph: dict[str, set[str]] = {}
    for path in FILES:
        module = ".".join(("storycell", *path.relative_to(SOURCE).with_suffix("").parts))
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("storycell"):
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & names
        graph[module] = found - {module}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join((*way[way.index(module) :], module))}"
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*way, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_contributing_shows_these_ranks_and_every_module_in_its_tree() -> None:
    page = (SOURCE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = {
        name.rstrip("/"): int(rank)
        for rank, names in re.findall(r"^\| (\d) \| (.*) \|$", page, re.MULTILINE)
        for name in re.findall(r"`(\w+/?)`", names)
    }
    assert shown == RANKS
    tree = page.partition("src/storycell/\n")[2].partition("```")[0]
    top = {re.sub(r"/$|\.py$", "", name) for line in tree.splitlines() for name in re.findall(r"[\w./]+", line[:33])}
    assert top >= set(RANKS)
