"""Folders that cannot be written, files that are still open: what Windows refuses is avoided, or tried again."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pytest
from support.forked_training import Nursery, one_sentence
from support.tiny_runs import FLAGS, command

import storycell
from storycell.api import Model
from storycell.atomic import write_atomically
from storycell.data import corpus
from storycell.data import prepare as prepare_module
from storycell.data.prepare import prepare, prepare_cached
from storycell.errors import RunFolderError
from storycell.runs import files

TEXT = "Once upon a time Ann had 3 red balls.\n"
MAPS = Path("/proc/self/maps")
needs_maps = pytest.mark.skipif(not MAPS.exists(), reason="mappings are listed in Linux's /proc")


def mapped(folder: Path) -> list[str]:
    """The mappings of this process of files in a folder, deleted ones too."""
    return [line for line in MAPS.read_text().splitlines() if str(folder) in line]


# The cache


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nursery, Path]]:
    """Trainings, and the path of their cache, at which nothing is."""
    if not hasattr(os, "fork"):
        pytest.skip("the trainings are forked")
    cache = tmp_path_factory.mktemp("home") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYCELL_CACHE", str(cache))
        with Nursery() as made:
            yield made, cache


def read_only(cache: Path, text: Path) -> None:
    (cache / "tokens").mkdir(parents=True)
    (cache / "tokens").chmod(0o555)


def closed(cache: Path, text: Path) -> None:
    cache.mkdir()
    cache.chmod(0o000)


def file_in_its_place(cache: Path, text: Path) -> None:
    cache.write_text("no folder")


def damaged_and_read_only(cache: Path, text: Path) -> None:
    prepared = prepare_cached(corpus.open_corpus([str(text)]))
    (prepared.folder / "train.tokens").write_bytes(b"")
    for path in (prepared.folder, prepared.folder.parent):
        path.chmod(0o555)


@pytest.mark.parametrize("unusable", [read_only, closed, file_in_its_place, damaged_and_read_only])
def test_a_cache_that_cannot_be_written_is_an_error_that_names_its_variable(
    nursery: tuple[Nursery, Path],
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unusable: Callable[[Path, Path], None],
) -> None:
    trainings, cache = nursery
    monkeypatch.setenv("STORYCELL_CACHE", str(cache))
    unusable(cache, text)
    ended = trainings.run("train", text, "--out", tmp_path / "run", *FLAGS, within=tmp_path / "run", obeys_modes=1)
    for path in (cache, *(cache.rglob("*") if cache.is_dir() else ())):
        path.chmod(0o755)
    shutil.rmtree(cache) if cache.is_dir() else cache.unlink()
    message = one_sentence(ended)
    assert str(cache) in message
    assert "STORYCELL_CACHE" in message
    assert not (tmp_path / "run").exists()


def test_a_text_in_the_cache_needs_no_right_to_write(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_cached(corpus.open_corpus([str(text)]))

    def fail(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", fail)
    assert prepare_cached(corpus.open_corpus([str(text)])) == first


# Temporary folders


@pytest.mark.parametrize("measure", [Model.evaluate, Model.score, Model.trace])
def test_without_a_temporary_folder_the_error_names_its_variable(
    made: Path, monkeypatch: pytest.MonkeyPatch, measure: Callable[[Model, str], object]
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    with pytest.raises(RunFolderError, match=r"No usable temporary directory.*TMPDIR"):
        measure(storycell.load(made), TEXT)


@needs_maps
@pytest.mark.parametrize("measure", [Model.evaluate, Model.score, Model.trace])
def test_nothing_in_a_folder_is_mapped_when_it_is_removed(
    made: Path, monkeypatch: pytest.MonkeyPatch, measure: Callable[[Model, str], object]
) -> None:
    cleanup, seen = tempfile.TemporaryDirectory.cleanup, list[list[str]]()

    def watched(self: "tempfile.TemporaryDirectory[str]") -> None:
        assert any(Path(self.name).iterdir())
        seen.append(mapped(Path(self.name)))
        cleanup(self)

    monkeypatch.setattr(tempfile.TemporaryDirectory, "cleanup", watched)
    model = storycell.load(made)
    measure(model, TEXT * 30)
    assert seen == [[]]


@needs_maps
def test_a_damaged_text_in_the_cache_is_not_mapped_when_it_is_replaced(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORYCELL_CACHE", str(tmp_path / "cache"))
    rmtree, seen = prepare_module.shutil.rmtree, list[list[str]]()

    def watched(folder: Path, ignore_errors: bool = False) -> None:
        seen.append(mapped(folder))
        rmtree(folder, ignore_errors)

    first = prepare_cached(corpus.open_corpus([str(text)]))
    good = (first.folder / "valid.tokens").read_bytes()
    (first.folder / "valid.tokens").write_bytes(b"")
    monkeypatch.setattr(prepare_module.shutil, "rmtree", watched)
    again = prepare_cached(corpus.open_corpus([str(text)]))
    assert (again.folder / "valid.tokens").read_bytes() == good
    assert seen
    assert not any(seen)


@needs_maps
def test_a_loaded_model_does_not_hold_its_file(made: Path) -> None:
    """Otherwise a training could not save over the weights that somebody, or itself, has loaded."""
    model = storycell.load(made)
    assert mapped(made) == []
    assert model.params > 0


# Replacing files


def in_use(times: int, winerror: int | None, calls: list[Path]) -> Callable[[Path, Path], Path]:
    """`Path.replace` as it is on Windows while another program has the file open, so many times."""
    replace = Path.replace

    def refusing(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) > times:
            return replace(self, target)
        error = PermissionError(13, "Access is denied")
        error.winerror = winerror  # type: ignore[attr-defined]
        raise error

    return refusing


def test_a_file_that_is_open_elsewhere_for_a_moment_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses, calls = list[float](), list[Path]()
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(Path, "replace", in_use(3, 32, calls))
    (tmp_path / "a.json").write_text("old")
    write_atomically(tmp_path / "a.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "new"
    assert (len(calls), len(pauses)) == (4, 3)


@pytest.mark.parametrize(("winerror", "tries"), [(5, 8), (32, 8), (None, 1)])
def test_a_file_that_stays_open_elsewhere_is_left_as_it_was_and_the_training_says_so(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, winerror: int | None, tries: int
) -> None:
    """Where it is not Windows that refuses, nobody waits."""
    calls = list[Path]()
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(Path, "replace", in_use(1000, winerror, calls))
    (tmp_path / "a.json").write_text("old")
    with (
        pytest.raises(RunFolderError, match="cannot be written: access is denied; what was saved before is whole"),
        files.writing(tmp_path),
    ):
        write_atomically(tmp_path / "a.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"
    assert len(calls) == tries


def test_an_export_over_a_file_in_use_is_tried_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(Path, "replace", in_use(2, 5, []))
    (tmp_path / "a.html").write_text("old")
    storycell.load(made).export(tmp_path / "a.html")
    assert "<html" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_file_system_without_locks_is_named(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text is prepared there all the same; to train into a folder there is an error."""

    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    assert prepare(corpus.open_corpus([str(text)]), tmp_path / "tokens").train.chars > 0
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "tokens"}
    command(capsys, "train", text, "--out", tmp_path / "run", *FLAGS).stated(1, "file system without locks")
