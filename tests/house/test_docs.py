"""What README and docs say is there: commands parse, files and links exist, the Python in them runs."""

import ast
import importlib
import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import click
import pytest
from support.shell_lines import commands

import storycell
from storycell.cli.main import VERBS

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "native/README.md")
] + sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("**/README.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHERS_FLAGS = {"--cpus", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint"}  # docker, torchrun
NAMES = {"model": storycell.Model, "run": storycell.Run, "storycell": storycell}  # what examples call by these names


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def without_blocks(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """What stands between backticks in the prose of a page."""
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", without_blocks(page))]


def parse(words: list[str]) -> None:
    """Parse a call as the command line does, without running it; a wrong verb, flag or value raises."""
    if words:  # none: the shell's completion
        verb, *rest = words
        assert verb in VERBS, f"there is no verb {verb!r}"
        command: click.Command = importlib.import_module(f"storycell.cli.{verb}").command
        command.make_context(verb, [word for word in rest if word != "…"])


def all_flags() -> set[str]:
    found = {"--help", "--version"}
    for verb in VERBS:
        for option in importlib.import_module(f"storycell.cli.{verb}").command.params:
            found |= {*option.opts, *option.secondary_opts}
    return found


def test_there_are_pages_with_commands_and_programs() -> None:
    assert len(PAGES) > 15
    shown = [words for page in PAGES for body in blocks(page, "sh") for words in commands(body)]
    assert len(shown) > 50
    assert {words[0] for words in shown if words} >= set(VERBS)
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 6


def test_a_command_is_found_in_pipes_and_behind_launchers_and_settings() -> None:
    text = "A=1 storycell info  # why\nxz -dc x | storycell train - \\\n  --steps 2\ncd storycell\n"
    assert list(commands(f"{text}torchrun -m storycell eval 'a b' > c")) == [
        ["info"],
        ["train", "-", "--steps", "2"],
        ["eval", "a b"],
    ]


@pytest.mark.parametrize(
    "words", [["tell"], ["train", "--minuets", "3"], ["sample", "--chars", "x"], ["eval", "a", "--out"]]
)
def test_a_wrong_command_is_not_parsed(words: list[str]) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_of_a_page_parses(page: Path) -> None:
    for body in blocks(page, "sh"):
        for words in commands(body):
            parse(words)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_and_flag_in_the_prose_of_a_page_is_there(page: Path) -> None:
    known = all_flags()
    for span in spans(page):
        flags = re.findall(r"(?<!\S)--[a-z][a-z-]*", span)
        if span.split()[0] in ("pip", "uv", "cmake", "docker"):
            continue
        assert set(flags) <= known | OTHERS_FLAGS, f"{page_id(page)}: `{span}`"
        if match := re.match(r"storycell ([a-z]+)", span):
            assert match[1] in VERBS, f"{page_id(page)}: `{span}`"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_to_a_file_of_the_repository_leads_there(page: Path) -> None:
    text = without_blocks(page)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in targets:
        if not re.match(r"https?://|#|mailto:", target):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page_id(page)}: {target}"


PATH = re.compile(r"(src|native|tests|benchmarks|docs|tools)/[\w./*-]+|[\w*-]+/[\w./*-]+\.(py|h|cpp|inc|js|css|json)")


def missing_paths(page: Path) -> list[str]:
    """Paths between backticks where no file is: from the root, from the page's folder, or within the package."""
    named = {name for span in spans(page) for name in expand(span) if PATH.fullmatch(name)}
    real = {name for name in named if "NAME" not in name and not name.startswith("runs/")}  # of an example
    bases = [ROOT, page.parent, ROOT / "src" / "storycell"]
    return sorted(name for name in real if not any(list(base.glob(name.rstrip("/"))) for base in bases))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    assert missing_paths(page) == []


def test_a_path_that_is_not_there_is_missed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`src/storycell/api.py` `cli/{sample,tell}.py` `tests/no/` `runs/mine` `nn/cells/NAME.py` `a.py`")
    assert missing_paths(page) == ["cli/tell.py", "tests/no/"]


def expand(name: str) -> list[str]:
    """The names that a shell makes of `a/{b,c}.py`."""
    if match := re.fullmatch(r"(.*?)\{([^{}]*)\}(.*)", name):
        return [full for part in match[2].split(",") for full in expand(f"{match[1]}{part}{match[3]}")]
    return [name]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=page_id)
def test_the_python_of_a_page_names_what_is_there(page: Path) -> None:
    """It compiles; what it takes from `storycell`, a model or a run is there, and takes the arguments given."""
    for body in blocks(page, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.Attribute) and (owner := find(node.value)) is not None:
                assert has(owner, node.attr), f"{page_id(page)}: {ast.unparse(node)}"
            if isinstance(node, ast.Call) and (function := find(node.func)) is not None:
                taken = inspect.signature(function).parameters
                anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
                for keyword in node.keywords:  # of `**`, which names none, nothing is known
                    assert anything or keyword.arg in {None, *taken}, f"{page_id(page)}: {ast.unparse(node)}"


def find(node: ast.expr) -> object:
    """What an expression of an example is: a module, class or function of storycell's; None if it is not known."""
    if isinstance(node, ast.Name):
        return NAMES.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = find(node.value)
        if inspect.ismodule(owner) and not hasattr(owner, node.attr):
            return importlib.import_module(f"{owner.__name__}.{node.attr}")
        found = getattr(owner, node.attr, None)
        return found if inspect.ismodule(found) or inspect.isclass(found) or inspect.isfunction(found) else None
    return None


def has(owner: object, name: str) -> bool:
    if hasattr(owner, name) or name in getattr(owner, "__annotations__", {}):
        return True
    try:
        return bool(importlib.import_module(f"{owner.__name__}.{name}")) if inspect.ismodule(owner) else False
    except ModuleNotFoundError:
        return False


def test_the_readmes_first_program_runs(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = blocks(ROOT / "README.md", "python")[0]
    assert program.count("minutes=3") == 1
    monkeypatch.chdir(tmp_path)
    for name in ("book.txt", "other.txt"):
        shutil.copy(text, name)
    names: dict[str, Any] = {}
    exec(program.replace("minutes=3", "steps=2, hidden=8, threads=1"), names)
    assert names["run"].summary["step"] == 2
    assert names["model"].path.resolve() == (tmp_path / "runs" / "mine").resolve()


def test_the_program_of_the_page_on_inspection_runs() -> None:
    (program,) = blocks(ROOT / "docs" / "inspect.md", "python")
    stories = (ROOT / "tests" / "data" / "stories-100.txt").read_text(encoding="utf-8")[:6000]
    names: dict[str, Any] = {"storycell": storycell, "text": stories}
    assert program.count("lags=128") == 1
    exec(program.replace("lags=128", "lags=8"), names)
    assert names["trace"]["i", 0].shape == (len(names["trace"].nats), names["trace"].hidden)
    assert names["flow"].norms["c", 1].shape[1] == 8 + 1


def test_every_test_and_page_that_a_comment_names_is_there() -> None:
    """In the sources, where nothing else would notice that a file has moved."""
    places = [ROOT / name for name in ("src", "native", "tests", "tools", "benchmarks")]
    sources = [p for place in places for p in place.rglob("*") if p.suffix in (".py", ".h", ".cpp", ".inc", ".js")]
    named = {
        (name, page_id(path))
        for path in sources
        for name in re.findall(r"`((?:tests|docs|native|benchmarks)/[\w./-]+\.\w+)`", path.read_text(encoding="utf-8"))
        if path != Path(__file__)
    }
    assert len(named) > 5
    assert [entry for entry in sorted(named) if not (ROOT / entry[0]).exists()] == []
