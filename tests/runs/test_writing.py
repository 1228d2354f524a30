"""The run folder while it is made and written: complete or not there, one training at a time, old file or new file."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from support import torch_tensors
from support.tiny_runs import command

import storycell
from storycell.atomic import write_atomically
from storycell.errors import RunFolderError
from storycell.nn.adapter import TorchModel
from storycell.runs import folder as checkpoint
from storycell.runs import tensors
from storycell.runs.folder import RunFolder

NAMES = ("config.json", "vocab.json", "model.safetensors")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_one_training_at_a_time(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder(run).locked():
        command(capsys, "train", "--resume", run, "--steps", 5).stated(1, "another training is writing to", str(run))
        with pytest.raises(RunFolderError, match="another training"), RunFolder(run).locked():
            pytest.fail("locked twice")
    assert command(capsys, "train", "--resume", run, "--steps", 4).code == 0


def test_a_folder_appears_complete_or_not_at_all(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(run)
    config, vocab, weights = folder.config(), folder.vocab(), TorchModel(storycell.load(run).lm).weights()

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(RunFolderError, match=r"new cannot be written: no space left on device; make room there"):
            RunFolder.create(tmp_path / "new", config, vocab, weights, {}, {})
    assert {p.name for p in tmp_path.iterdir()} == {"run"}
    RunFolder.create(tmp_path / "new", config, vocab, weights, {}, {})
    assert {p.name for p in (tmp_path / "new").iterdir()} == {*NAMES, "last.safetensors"}
    assert {p.name for p in tmp_path.iterdir()} == {"run", "new"}


def test_two_trainings_that_make_one_folder_do_not_mix(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes while the first is still writing: one of them is told, and the other's files are whole."""
    folder = RunFolder(run)
    config, vocab, weights = folder.config(), folder.vocab(), TorchModel(storycell.load(run).lm).weights()
    replace = Path.replace

    def late(partial: Path, path: Path) -> Path:
        if path == tmp_path / "new":  # not one of the files in it
            monkeypatch.setattr(Path, "replace", replace)
            RunFolder.create(tmp_path / "new", config, vocab, weights, {}, {})
        return replace(partial, path)

    monkeypatch.setattr(Path, "replace", late)
    with pytest.raises(RunFolderError, match="holds a run already"):
        RunFolder.create(tmp_path / "new", config, vocab, weights, {}, {})
    storycell.load(tmp_path / "new")
    assert {p.name for p in tmp_path.iterdir()} == {"run", "new"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int) -> None:
        raise error

    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_folder_is_taken_and_any_other_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("Dear Ann,")
    checkpoint.refuse_occupied(tmp_path / "empty")
    checkpoint.refuse_occupied(tmp_path / "new" / "deep")
    for path, said in (("full", "holds something else"), ("full/letter.txt", "holds something else")):
        with pytest.raises(RunFolderError, match=said):
            checkpoint.refuse_occupied(tmp_path / path)
    for name in (".", "", "..", "/"):
        with pytest.raises(RunFolderError, match="a folder of its own"):
            checkpoint.refuse_occupied(Path(name))


def test_the_weights_are_float32_whatever_the_file_holds_and_carry_their_step(run: Path) -> None:
    folder, model = RunFolder(run), storycell.load(run)
    assert all(p.dtype == torch.float32 for p in model.lm.parameters())
    assert folder.load_weights(model.lm.shapes())[1]["step"] == 3
    path, rounded = run / "model.safetensors", model.lm.bfloat16().state_dict()
    path.write_bytes(torch_tensors.pack(rounded, tensors.read_tensors(path)[1]))
    again = storycell.load(run).lm
    assert all(p.dtype == torch.float32 for p in again.parameters())
    assert all(torch.equal(p, rounded[name].float()) for name, p in again.named_parameters())
