"""`RunFolder`: the files of one run, and `RunConfig`, what its `config.json` holds.

docs/run-folder.md lists the files. Each is written under a temporary name, flushed to disk and renamed, so a run that
is killed at any instant opens and resumes. Reading is JSON and safetensors only, checked against the settings before
anything is built.

The two logs, `metrics.jsonl` and `samples.txt`, are appended to instead. `last.safetensors` remembers how long they
were, and resuming cuts them back to that, to the byte. Of the checkpoints, the weights at log-spaced steps in 16 bits,
resuming cuts those of later steps.
"""

import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from storycell import atomic, extras, quantized
from storycell.config import Settings, StrictModel, validate
from storycell.context import TABLE
from storycell.data.vocab import Vocabulary
from storycell.engine.library import CELLS
from storycell.errors import RunFolderError, SettingsError, VocabularyError
from storycell.language_model import Floats
from storycell.runs import files, tensors
from storycell.runs.tensors import Array


class TextRecord(StrictModel):
    """Which text a run was trained on."""

    words: list[str]
    valid_words: list[str] | None = None
    encoding: str = "utf-8"
    column: str | None = None
    lines: bool = False  # whether each line is a story
    anonymise: bool = False  # whether the names of people are replaced
    labels: dict[str, list[str]] = Field(default_factory=dict)  # with their values, the most frequent first
    vocab: str = "characters"
    digest: str
    train_chars: int = Field(ge=0)
    valid_chars: int = Field(ge=0)
    has_tunes: bool = False  # whether its stories are tunes in ABC
    tells_stories: bool | None = None  # has it a story's first words; None where an older version made the run


class RunConfig(StrictModel):
    """The whole of `config.json`."""

    format: Literal[1] = 1
    made_at: str
    settings: Settings
    text: TextRecord
    init: str | None = None
    versions: dict[str, str]
    machine: dict[str, str | int]


def now() -> str:
    """This instant, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


Shapes = Mapping[str, tuple[int, ...]]  # of a model's weights, by torch's names

LOGS = ("metrics.jsonl", "samples.txt")
CHECKPOINTS = "checkpoints"  # the folder of them
MOST_CHECKPOINTS = 20
LARGEST_CHECKPOINTS_BYTES = 256_000_000  # of all of them; of a large network fewer are kept
_FEWEST_CHECKPOINTS = 3
_ALWAYS = ("step", "elapsed_s", "chars", "chars_per_s")  # numbers in every line of metrics.jsonl
_AT_TIMES = ("train_nats", "valid_nats")  # numbers or null


class RunFolder:
    """A folder with the files of one run. `create` makes one; the constructor takes one that is there."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_file():
            raise RunFolderError(
                f"{self.path} is a file, not a run folder; `storycell train {self.path} --out RUN` makes one"
            )
        if not self.path.is_dir():
            raise RunFolderError(f"there is no run folder {self.path}; `storycell train` makes one")
        if not (self.path / "config.json").is_file():
            raise RunFolderError(f"{self.path} is not a run folder: it has no config.json; `storycell train` makes one")

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: RunConfig,
        vocab: Vocabulary,
        weights: Mapping[str, Any],
        state: Mapping[str, Any],
        about: dict[str, Any],
    ) -> "RunFolder":
        """A new run folder, complete from the moment it exists; `state` and `about` are those of `save_last`."""
        path = Path(path)
        refuse_occupied(path)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.new")
        try:
            with files.writing(path, "make room there, or name another --out"):
                partial.mkdir(parents=True)
                atomic.write_atomically(partial / "config.json", files.to_json(config.model_dump()))
                atomic.write_atomically(partial / "vocab.json", vocab.to_json().encode())
                run = cls(partial)
                run.save_weights(weights, {"step": 0})
                run.save_last(state, about)
                _put_in_place(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return cls(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one training; `RunFolderError` if another one holds it."""
        import filelock  # needed by trainings alone

        self._refuse_links()
        lock = filelock.FileLock(self.path / ".lock")
        with files.writing(self.path):
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:  # an OSError too
                raise RunFolderError(
                    f"another training is writing to {self.path}; stop it first, or train into another folder"
                ) from None
            except NotImplementedError:
                raise RunFolderError(
                    f"{self.path} is on a file system without locks, which keep two trainings apart; train into a "
                    "folder on another one"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def _refuse_links(self) -> None:
        """What is appended to must lie in the folder: one from elsewhere could name any file of the user's."""
        for name in (*LOGS, CHECKPOINTS, ".lock"):
            if (self.path / name).is_symlink():
                raise RunFolderError(
                    f"{self.path / name} is a link to another file, which training would write to; remove the link"
                )

    def config(self) -> RunConfig:
        """The settings and everything else in `config.json`."""
        path = self.path / "config.json"
        try:
            config = validate(RunConfig, files.read_json(path))
            refuse_unknown_cell(config.settings.model.cell)
        except SettingsError as error:
            raise RunFolderError(f"{path} is damaged or was edited by hand: {error}") from None
        return config

    def write_config(self, config: RunConfig) -> None:
        """Replace `config.json`, as when a resumed run gets another budget."""
        self.write("config.json", files.to_json(config.model_dump()))

    def vocab(self) -> Vocabulary:
        """The characters of the model."""
        path = self.path / "vocab.json"
        try:
            return Vocabulary.from_json(files.read_text(path))
        except VocabularyError as error:
            raise RunFolderError(
                f"{path} is damaged or was edited by hand: {error}; restore it from a copy, or train again"
            ) from None

    def save_weights(
        self, weights: Mapping[str, Any], about: dict[str, Any], in_bytes: Iterable[str] = (TABLE,)
    ) -> None:
        """Write `model.safetensors`: the best weights so far, by torch's names; `about` becomes its metadata.

        The matrices `in_bytes` are rounded to bytes, by default the context's table alone.
        """
        self._save("model.safetensors", quantized.in_bytes(weights, in_bytes), about)

    def load_weights(self, shapes: Shapes) -> tuple[dict[str, Floats], dict[str, Any]]:
        """The best weights in float32, checked to have the `shapes` of the model they are for, and their metadata."""
        stored, about = self._load("model.safetensors")
        weights = quantized.from_bytes(stored)
        self._refuse_misfit("model.safetensors", weights, shapes)
        return {name: weight.astype(np.float32, copy=False) for name, weight in weights.items()}, about

    def save_last(self, state: Mapping[str, Any], about: dict[str, Any]) -> None:
        """Write `last.safetensors`, with the present length of the logs; the logs reach the disk first."""
        with files.writing(self.path):
            lengths = {name: files.flushed_length(self.path / name) for name in LOGS}
        self._save("last.safetensors", state, {**about, "log_bytes": lengths})

    def load_last(self, shapes: Shapes) -> tuple[dict[str, Array], dict[str, Any]]:
        """What `save_last` wrote, its weights checked to have the `shapes` of the model they are for."""
        state, about = self._load("last.safetensors")
        weights = {name.removeprefix("model."): t for name, t in state.items() if name.startswith("model.")}
        self._refuse_misfit("last.safetensors", weights, shapes)
        return state, about

    def cut_logs(self, lengths: dict[str, int]) -> None:
        """Cut the logs back to what they were, in bytes, when `last.safetensors` was written."""
        with files.writing(self.path):
            for name in LOGS:
                path = self.path / name
                if path.exists() and path.stat().st_size > lengths[name]:
                    os.truncate(path, lengths[name])

    def save_checkpoint(self, step: int, weights: Mapping[str, Any]) -> None:
        """Keep the weights of a step, matrices in float16; of those before it the beginning and the latest stay."""
        with files.writing(self.path):
            (self.path / CHECKPOINTS).mkdir(exist_ok=True)
        self._save(_checkpoint(step), _in_16_bits(weights), {"step": step})
        most = most_checkpoints((self.path / _checkpoint(step)).stat().st_size)
        later = [one for one in self.checkpoints() if one]
        for one in later[: -(most - 1)]:
            with files.writing(self.path):
                atomic.remove(self.path / _checkpoint(one))

    def checkpoints(self) -> list[int]:
        """The steps whose weights were kept, in order."""
        folder = self.path / CHECKPOINTS
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(found[1]) for name in names if (found := _CHECKPOINT.fullmatch(name)))

    def load_checkpoint(self, step: int, shapes: Shapes) -> dict[str, Floats]:
        """The weights of a step in float32, checked to have the `shapes` of the model they are for."""
        name = _checkpoint(step)
        stored, about = self._load(name)
        weights = quantized.from_bytes(stored)
        self._refuse_misfit(name, weights, shapes)
        if about.get("step") != step:
            raise RunFolderError(f"{self.path / name} holds the weights of another step; restore it from a copy")
        return {key: weight.astype(np.float32) for key, weight in weights.items()}

    def cut_checkpoints(self, step: int) -> None:
        """Remove those of steps after `step`, and what a kill left of one."""
        with files.writing(self.path):
            for part in list((self.path / CHECKPOINTS).glob(".step-*.part")):
                atomic.remove(part)
            for one in self.checkpoints():
                if one > step:
                    atomic.remove(self.path / _checkpoint(one))

    def log(self, entry: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`."""
        self._append("metrics.jsonl", json.dumps(entry) + "\n")

    def add_sample(self, heading: str, text: str) -> None:
        """Append to `samples.txt`."""
        self._append("samples.txt", f"── {heading} ──\n{text}\n\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; one that a kill cut short, or that was damaged, is left out."""
        path = self.path / "metrics.jsonl"
        entries = []
        for line in files.read_text(path, log=True).splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if _is_metrics(entry):
                entries.append(entry)
        return entries

    def write(self, name: str, data: bytes) -> None:
        """Write another file of the run, such as `loss.png`."""
        with files.writing(self.path):
            atomic.write_atomically(self.path / name, data)

    def _append(self, name: str, text: str) -> None:
        with files.writing(self.path), (self.path / name).open("a", encoding="utf-8", newline="\n") as file:
            file.write(text)

    @cached_property
    def _vocab_digest(self) -> str:
        return _vocab_digest(self.vocab())

    def _save(self, name: str, state: Mapping[str, Any], about: dict[str, Any]) -> None:
        self.write(name, tensors.pack_tensors(state, {**about, "vocab": self._vocab_digest}))

    def _load(self, name: str) -> tuple[dict[str, Array], dict[str, Any]]:
        stored, about = tensors.read_tensors(self.path / name)
        state = {_name_of_now(key): value for key, value in stored.items()}
        if about.pop("vocab", None) != self._vocab_digest:
            raise RunFolderError(
                f"{self.path / name} was not written with the vocab.json beside it: one of the two was replaced or "
                "edited; restore it from a copy, or train again"
            )
        return state, about

    def _refuse_misfit(self, name: str, found: Mapping[str, Array], shapes: Shapes) -> None:
        wrong = sorted(set(found) ^ set(shapes)) or [k for k in shapes if found[k].shape != tuple(shapes[k])]
        if wrong:
            raise RunFolderError(
                f"{self.path / name} does not fit the config.json beside it (see {wrong[0]}): one of the two was "
                "replaced or edited; restore it from a copy, or train again"
            )


def _name_of_now(name: str) -> str:
    """A tensor's name; in runs of older versions the context's table, which held n-grams alone, has another."""
    return re.sub(r"(^|\.)ngram_table\.", r"\1context_table.", name)


_LARGEST_16 = float(np.finfo(np.float16).max)
_CHECKPOINT = re.compile(r"step-([0-9]{1,15})\.safetensors")


def _checkpoint(step: int) -> str:
    return f"{CHECKPOINTS}/step-{step}.safetensors"


def _in_16_bits(weights: Mapping[str, Any]) -> dict[str, Array]:
    """Matrices as float16, the context's table as int8, vectors as they are."""
    return {
        name: np.clip(weight, -_LARGEST_16, _LARGEST_16).astype(np.float16)
        if weight.ndim > 1 and weight.dtype.kind == "f"
        else weight
        for name, weight in quantized.in_bytes(weights).items()
    }


def is_checkpoint(step: int) -> bool:
    """Whether weights are kept at a step: 0, and two in every doubling (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, …)."""
    return step == 0 or round(2 ** (round(2 * math.log2(step)) / 2)) == step


def most_checkpoints(size_bytes: int) -> int:
    """How many are kept, of so many bytes each."""
    return min(MOST_CHECKPOINTS, max(_FEWEST_CHECKPOINTS, LARGEST_CHECKPOINTS_BYTES // max(1, size_bytes)))


def refuse_occupied(path: Path) -> None:
    """Raise `RunFolderError` unless a run folder can be made at `path` without losing anything."""
    if path.name in ("", ".."):
        raise RunFolderError(
            f"a run needs a folder of its own, and {path} is none; name a new one, as in --out runs/mine"
        )
    files.refuse_undecodable(path)
    if (path / "config.json").exists():
        raise RunFolderError(
            f"{path} holds a run already; go on with `storycell train --resume {path}`, or name another --out"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunFolderError(f"{path} exists and holds something else; name another --out")


def _put_in_place(partial: Path, path: Path) -> None:
    try:
        if path.is_dir():
            path.rmdir()  # an empty one; Windows would not rename onto it
        atomic.put_in_place(partial, path)
    except OSError:
        refuse_occupied(path)  # another training was faster
        raise
    atomic.flush_folder(path.parent)


def refuse_unknown_cell(cell: str) -> None:
    """`SettingsError` where there is no such cell. Without torch only the engine's are known, and others let pass."""
    if cell not in CELLS and extras.is_installed("torch"):
        from storycell.nn.cells import registry

        registry.name_form(cell, gate_norm=False)


def _vocab_digest(vocab: Vocabulary) -> str:
    return hashlib.blake2b(vocab.to_json().encode(), digest_size=16).hexdigest()


def _is_metrics(entry: Any) -> bool:
    """Whether a line of the log has what its readers rely on."""
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(name), int | float) for name in _ALWAYS)
        and all(name in entry and isinstance(entry[name], int | float | None) for name in _AT_TIMES)
    )
