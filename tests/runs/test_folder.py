"""The run folder: what becomes of it when files are missing, damaged or edited."""

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.tiny_runs import FLAGS, command

import storycell
from storycell.errors import RunFolderError
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM
from storycell.runs import tensors
from storycell.runs.folder import LOGS, RunFolder

FLIPS = 40  # bits, each in a copy of its own
NAMES = ("config.json", "vocab.json", "model.safetensors")

Damage = Callable[[Path], object]


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def edited(path: Path, *keys: str, value: Any) -> None:
    data = json.loads(path.read_text())
    place = data
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(data))


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def without(path: Path, *keys: str) -> None:
    data = json.loads(path.read_text())
    place = data
    for key in keys[:-1]:
        place = place[key]
    del place[keys[-1]]
    path.write_text(json.dumps(data))


ANY_FILE: dict[str, Damage] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncated,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "random bytes": lambda path: path.write_bytes(random.Random(1).randbytes(1000)),
    "not JSON": lambda path: path.write_text("layers = 1\n"),
    "a number": lambda path: path.write_text("3"),
    "a list": lambda path: path.write_text("[]"),
    "an empty object": lambda path: path.write_text("{}"),
    "NaN": lambda path: path.write_text("NaN"),
    "nested 100,000 deep": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "a number of 5,000 digits": lambda path: path.write_text("1" * 5_000),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}
OF_ONE: dict[str, tuple[str, Damage]] = {
    "wrong type": ("config.json", lambda p: edited(p, "settings", "model", "hidden", value="8")),
    "unknown key": ("config.json", lambda p: edited(p, "settings", "model", "colour", value=3)),
    "no settings": ("config.json", lambda p: without(p, "settings")),
    "no text": ("config.json", lambda p: without(p, "text", "digest")),
    "huge hidden": ("config.json", lambda p: edited(p, "settings", "model", "hidden", value=10**9)),
    "huge layers": ("config.json", lambda p: edited(p, "settings", "model", "layers", value=10**6)),
    "huge embedding": ("config.json", lambda p: edited(p, "settings", "model", "embedding", value=10**400)),
    "largest hidden": ("config.json", lambda p: edited(p, "settings", "model", "hidden", value=65_536)),
    "most layers": ("config.json", lambda p: edited(p, "settings", "model", "layers", value=64)),
    "another hidden": ("config.json", lambda p: edited(p, "settings", "model", "hidden", value=9)),
    "another cell": ("config.json", lambda p: edited(p, "settings", "model", "cell", value="gru")),
    "no such cell": ("config.json", lambda p: edited(p, "settings", "model", "cell", value="nosuch")),
    "one-hot now": ("config.json", lambda p: edited(p, "settings", "model", "embedding", value=0)),
    "no biases now": ("config.json", lambda p: edited(p, "settings", "model", "gate_bias", value=False)),
    "NaN rate": ("config.json", lambda p: edited(p, "settings", "training", "lr", value=float("nan"))),
    "two budgets": ("config.json", lambda p: edited(p, "settings", "training", "minutes", value=1.0)),
    "later format": ("config.json", lambda p: edited(p, "format", value=2)),
    "UTF-16": ("config.json", lambda p: p.write_bytes(p.read_text().encode("utf-16"))),
    "deep entry": ("config.json", lambda p: edited(p, "text", "words", value=[[[[[[[[1]]]]]]]])),
    "a character less": ("vocab.json", lambda p: p.write_text(p.read_text().replace('"a", ', ""))),
    "a character more": ("vocab.json", lambda p: p.write_text(p.read_text().replace('"a", ', '"`", "a", '))),
    "another character": ("vocab.json", lambda p: p.write_text(p.read_text().replace('"u"', '"v"'))),
    "two characters swapped": ("vocab.json", lambda p: p.write_text(p.read_text().replace('"a", "b"', '"b", "a"'))),
    "two in one": ("vocab.json", lambda p: p.write_text(p.read_text().replace('"a", "b"', '"ab"'))),
    "bytes now": ("vocab.json", lambda p: edited(p, "kind", value="bytes")),
    "no kind": ("vocab.json", lambda p: without(p, "kind")),
    "no characters": ("vocab.json", lambda p: edited(p, "characters", value=[])),
    "a surrogate": ("vocab.json", lambda p: edited(p, "characters", value=["\ud800"])),
    "numbers": ("vocab.json", lambda p: edited(p, "characters", value=list(range(40)))),
    "a header of 10 GB": ("model.safetensors", lambda p: p.write_bytes(struct.pack("<Q", 10**10) + b"{" * 100)),
    "a header of zero": ("model.safetensors", lambda p: p.write_bytes(bytes(8))),
    "a header of 2^64 - 1": ("model.safetensors", lambda p: p.write_bytes(b"\xff" * 8 + p.read_bytes()[8:])),
    "a byte more": ("model.safetensors", lambda p: p.write_bytes(p.read_bytes() + b"\0")),
    "a byte less": ("model.safetensors", lambda p: os.truncate(p, p.stat().st_size - 1)),
    "no digest": ("model.safetensors", lambda p: rewritten(p, lambda about: None)),
    "metadata of a list": ("model.safetensors", lambda p: rewritten(p, lambda about: "[]")),
    "metadata nested deep": ("model.safetensors", lambda p: rewritten(p, lambda about: "[" * 10**5)),
    "another step": ("model.safetensors", lambda p: rewritten(p, lambda about: about.replace('"step": ', '"step": 1'))),
    "other names": ("model.safetensors", lambda p: safetensors.torch.save_file({"weight": torch.zeros(3)}, p)),
    "no tensors": ("model.safetensors", lambda p: safetensors.torch.save_file({}, p)),
    "other weights": ("model.safetensors", lambda p: other_weights(p)),
}  # fmt: skip


def rewritten(path: Path, change: Callable[[str], str | None]) -> None:
    """The same tensors, with other metadata."""
    with safetensors.safe_open(path, "pt") as file:
        about = change(file.metadata()["about"])
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors, path, None if about is None else {"about": about})


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon", "normuon"])
def test_a_save_that_lacks_a_tensor_is_refused_before_a_step_is_computed(
    text: Path, tmp_path: Path, optimizer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rightly written, with a checksum that fits: found by a fuzzer, in the middle of a step."""
    run = tmp_path / "run"
    assert command(capsys, "train", text, "--out", run, *FLAGS, "--optimizer", optimizer).code == 0
    path = run / "last.safetensors"
    whole = path.read_bytes()
    state, about = tensors.read_tensors(path)
    moments = [name for name in state if name.startswith("optimizer.")]
    assert moments
    for name in ("model.output.weight", "state.h", *moments[::4]):
        path.write_bytes(tensors.pack_tensors({k: t for k, t in state.items() if k != name}, about))
        outcome = command(capsys, "train", "--resume", run, "--steps", 5)
        outcome.stated(1, "last.safetensors does not")
        path.write_bytes(whole)
    assert command(capsys, "train", "--resume", run, "--steps", 5).code == 0


def other_weights(path: Path) -> None:
    """Rightly written, but by a run of another size."""
    folder = RunFolder(path.parent)
    lm = CharLM(len(folder.vocab()), 5, embedding_size=4)
    folder.save_weights(TorchModel(lm).weights(), {"step": 0})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ANY_FILE)
def test_a_damaged_file_is_named_in_one_sentence(
    name: str, damage: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ANY_FILE[damage](run / name)
    command(capsys, "sample", run).stated(1, name, str(run))


@pytest.mark.parametrize("case", OF_ONE)
def test_what_does_not_fit_together_is_named_in_one_sentence(
    case: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, damage = OF_ONE[case]
    damage(run / name)
    command(capsys, "info", run).stated(1, name, str(run))


@pytest.mark.parametrize("damage", ANY_FILE)
def test_a_damaged_last_save_stops_resuming_and_nothing_else(
    damage: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ANY_FILE[damage](run / "last.safetensors")
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file() and p.name != ".lock"}
    command(capsys, "train", "--resume", run, "--steps", 5).stated(1, "last.safetensors", str(run))
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.is_file() and p.name != ".lock"} == before
    assert command(capsys, "sample", run, "--chars", 3).code == 0


@pytest.mark.parametrize("name", ["vocab.json", "model.safetensors", "last.safetensors"])
def test_a_changed_bit_is_noticed_or_changes_nothing(name: str, run: Path) -> None:
    whole = (run / name).read_bytes()
    model = storycell.load(run)
    before = model.generate("", 30, seed=1), RunFolder(run).load_last(model.lm.shapes())[1]
    chance = random.Random(name)
    noticed = 0
    for _ in range(FLIPS):
        bit = chance.randrange(8 * len(whole))
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        (run / name).write_bytes(changed)
        try:
            model = storycell.load(run)
            assert (model.generate("", 30, seed=1), RunFolder(run).load_last(model.lm.shapes())[1]) == before
        except RunFolderError as error:
            noticed += 1
            assert name in str(error)  # noqa: PT017 - not every change is an error
    assert noticed >= FLIPS * 3 // 4


def test_a_changed_bit_in_the_settings_is_no_crash(run: Path) -> None:
    whole = (run / "config.json").read_bytes()
    chance = random.Random(7)
    for _ in range(FLIPS):
        bit = chance.randrange(8 * len(whole))
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        (run / "config.json").write_bytes(changed)
        try:
            storycell.load(run)
        except RunFolderError as error:
            assert "config.json" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff\xfe\n", b"{}\n", b"[1]\n", b"NaN\n", b'{"step": "x"}\n', b"[" * 10**5 + b"\n", b'{"step": 4, "el'],
)
def test_a_damaged_line_of_the_log_is_left_out(line: bytes, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = RunFolder(run).metrics()
    log = run / "metrics.jsonl"
    log.write_bytes(log.read_bytes() + line)
    assert RunFolder(run).metrics() == entries
    assert len(entries) == 3
    assert command(capsys, "info", run).code == 0
    resumed = command(capsys, "train", "--resume", run, "--steps", 4, "--json")
    assert resumed.code == 0
    assert [entry["step"] for entry in RunFolder(run).metrics()] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", [*LOGS, "loss.png"])
def test_a_run_opens_and_resumes_without_its_logs(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / name).unlink()
    assert command(capsys, "info", run).code == 0
    assert command(capsys, "train", "--resume", run, "--steps", 4).code == 0
    assert (run / name).exists()


def test_a_folder_that_is_no_run_is_said_to_be_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file.txt").write_text("text")
    for name, said in (("", "has no config.json"), ("file.txt", "is a file"), ("nosuch", "there is no run folder")):
        for words in (
            ("sample", f"{tmp_path}/{name}"),
            ("eval", tmp_path / name),
            ("train", "--resume", tmp_path / name),
        ):
            command(capsys, *words).stated(1, said, "`storycell train")
