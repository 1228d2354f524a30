"""Renaming and removing: one place of the package does both, and asks again where Windows refuses for a moment."""

import ast
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny_runs import FLAGS, command

from storycell.atomic import put_in_place, remove, write_atomically
from storycell.data import resumable, tinystories

SOURCE = Path(__file__).parents[1] / "src" / "storycell"
MOVES = {"rename", "renames", "link", "symlink_to", "hardlink_to"}
OF_TEXT = {"anonymiser.replace"}  # takes one argument, and no file
REFUSALS = 3


class Windows:
    """Refuses to rename and to remove each file or folder at first, as where a virus scanner reads what is new."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusals: int = REFUSALS) -> None:
        self.renamed, self.removed = Counter[Path](), Counter[Path]()
        self._replace, self._unlink, self._refusals = Path.replace, Path.unlink, refusals
        monkeypatch.setattr(Path, "replace", lambda path, target: self._rename(path, Path(target)))
        monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: self._remove(path, missing_ok))
        monkeypatch.setattr(time, "sleep", lambda _: None)

    def _rename(self, path: Path, target: Path) -> Path:
        if path.exists():
            self.renamed[target] += 1
            self._refuse(self.renamed[target])
        return self._replace(path, target)

    def _remove(self, path: Path, missing_ok: bool) -> None:
        if path.exists():
            self.removed[path] += 1
            self._refuse(self.removed[path])
        self._unlink(path, missing_ok)

    def _refuse(self, asked: int) -> None:
        if asked <= self._refusals:
            error = PermissionError(13, "The process cannot access the file because it is being used")
            error.winerror = 32  # type: ignore[attr-defined]
            raise error

    def names(self) -> set[str]:
        """The last part of everything that was renamed in the end."""
        return {path.name for path, asked in self.renamed.items() if asked > self._refusals}


def test_a_preparation_goes_on_where_files_are_open_elsewhere_for_a_moment(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The journal, which is saved again and again, and the folder that takes its place at the end."""
    monkeypatch.setattr(resumable, "_EVERY_S", -1.0)
    windows = Windows(monkeypatch)
    assert command(capsys, "prepare", text, "--out", tmp_path / "tokens").code == 0
    assert windows.names() == {"journal.json", "tokens"}
    assert {path.name for path in windows.removed} >= {"journal.json"}
    assert {p.name for p in (tmp_path / "tokens").iterdir()} == {
        "train.tokens", "valid.tokens", "vocab.json", "prepared.json",
    }  # fmt: skip


def test_a_text_prepared_into_a_folder_of_its_own_goes_on_too(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokens").mkdir()
    windows = Windows(monkeypatch)
    assert command(capsys, "prepare", text, "--out", tmp_path / "tokens").code == 0
    assert windows.names() >= {"train.tokens", "valid.tokens", "vocab.json", "prepared.json"}
    assert {p.name for p in (tmp_path / "tokens").iterdir()} >= {"train.tokens", "prepared.json"}


def test_a_training_and_its_resumption_go_on_where_files_are_open_elsewhere_for_a_moment(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    windows = Windows(monkeypatch)
    assert command(capsys, "train", text, "--out", run, *FLAGS).code == 0
    assert windows.names() >= {"run", "config.json", "vocab.json", "model.safetensors", "last.safetensors"}
    assert command(capsys, "train", "--resume", run, "--steps", 5).code == 0


@pytest.mark.parametrize(
    ("words", "made_file"),
    [
        (("export", "RUN", "OUT/story.html"), "story.html"),
        (("export", "RUN", "OUT/story.c"), "story.c"),
        (("export", "--trainer", "OUT/learn.html"), "learn.html"),
        (("sample", "RUN", "--count", "2", "--chars", "9", "--out", "OUT/list.txt"), "list.txt"),
        (("compress", "RUN", "TEXT", "--out", "OUT/text.scz"), "text.scz"),
    ],
)
def test_what_is_written_beside_a_run_goes_on_too(
    made: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    made_file: str,
) -> None:
    places = {"RUN": made, "OUT": tmp_path, "TEXT": text}
    filled = [str(Path(str(places.get(first, first)), *rest)) for first, *rest in (word.split("/") for word in words)]
    (tmp_path / made_file).write_text("old")
    windows = Windows(monkeypatch)
    outcome = command(capsys, *filled)
    assert outcome.code == 0, outcome.err
    assert windows.names() >= {made_file}
    assert (tmp_path / made_file).read_bytes() != b"old"
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


def test_a_download_goes_on_where_its_file_is_open_elsewhere_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = tmp_path / "blob"
    (tmp_path / "blob.storycell.incomplete").write_bytes(b"longer than it may be")
    monkeypatch.setattr(tinystories, "_append", lambda name, part, size: part.write_bytes(b"all"))
    windows = Windows(monkeypatch)
    tinystories._fetch("valid.txt", blob, 3)
    assert windows.names() == {"blob"}
    assert windows.removed[tmp_path / "blob.storycell.incomplete"] == REFUSALS + 1
    assert blob.read_bytes() == b"all"


@pytest.mark.parametrize(
    "act",
    [lambda path: put_in_place(path, path.with_name("b")), remove],
    ids=["put_in_place", "remove"],
)
def test_what_stays_in_use_is_an_error_in_the_end(
    act: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("a")
    windows = Windows(monkeypatch, refusals=1000)
    with pytest.raises(PermissionError, match="being used"):
        act(tmp_path / "a")
    assert [*windows.renamed.values(), *windows.removed.values()] == [8]
    assert (tmp_path / "a").read_text() == "a"


def test_a_write_that_is_refused_to_the_end_says_so_though_its_own_file_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("old")
    windows = Windows(monkeypatch, refusals=1000)
    with pytest.raises(PermissionError) as refused:
        write_atomically(tmp_path / "a", b"new")
    assert refused.value.__context__ is None
    assert windows.renamed[tmp_path / "a"] == 8
    assert (tmp_path / "a").read_text() == "old"


def moves_a_file(call: ast.Call) -> bool:
    """Whether a call renames a file: `str.replace` takes two arguments, `dataclasses.replace` keywords."""
    function = call.func
    if not isinstance(function, ast.Attribute):
        return False
    is_module = isinstance(function.value, ast.Name) and function.value.id in ("os", "shutil")
    if function.attr == "replace":
        return is_module or (len(call.args) == 1 and not call.keywords and ast.unparse(function) not in OF_TEXT)
    return function.attr in MOVES or (is_module and function.attr == "move")


def removes_a_file(call: ast.Call) -> bool:
    function = call.func
    return isinstance(function, ast.Attribute) and (
        function.attr == "unlink" or (ast.unparse(function) in ("os.remove", "os.unlink"))
    )


def test_nothing_else_renames_a_file_or_removes_one_that_it_needs_gone() -> None:
    """Where it does not matter, a removal stands alone under `suppress(OSError)`."""
    found = Counter[str]()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        excused = {
            call
            for block in ast.walk(tree)
            if isinstance(block, ast.With) and "suppress(OSError)" in map(ast.unparse, block.items)
            for call in ast.walk(block)
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = str(path.relative_to(SOURCE))
            found[name] += moves_a_file(call) or (removes_a_file(call) and call not in excused)
    assert +found == Counter({"atomic.py": 2})


@pytest.mark.parametrize(
    ("code", "moves"),
    [
        ("part.replace(path)", True),
        ("os.replace(a, b)", True),
        ("folder.rename(out)", True),
        ("shutil.move(a, b)", True),
        ("text.replace('a', 'b')", False),
        ("dataclasses.replace(report, notice=note)", False),
    ],
)
def test_a_move_is_told_from_a_change_of_text(code: str, moves: bool) -> None:
    [call] = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert moves_a_file(call) is moves
