"""The run folder: everything that is left of a training, written atomically and read without trust.

In: settings, vocabulary, tensors. Out: the files that section "run folder" of the documentation lists. Every file is
written under a temporary name, flushed to disk and renamed, so a run that is killed at any instant opens and resumes.
Reading never unpickles: JSON and safetensors only, checked against the settings before anything is built.

The surprising decision: the two logs, `metrics.jsonl` and `samples.txt`, are appended to, and `last.safetensors`
remembers how long they were; resuming cuts them back to that, to the byte.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import filelock
import safetensors
import safetensors.torch
import torch
from pydantic import Field

from storycell.config import Settings, StrictModel, validated
from storycell.errors import RunFolderError, SettingsError, StorycellError, VocabularyError
from storycell.model import CharLM
from storycell.vocab import Vocabulary

LOGS = ("metrics.jsonl", "samples.txt")
_LARGEST_JSON = 64 << 20


class TextRecord(StrictModel):
    """Which text a run was trained on."""

    words: list[str]
    valid_words: list[str] | None = None
    encoding: str = "utf-8"
    vocab: str = "characters"
    digest: str
    train_chars: int = Field(ge=0)
    valid_chars: int = Field(ge=0)


class RunConfig(StrictModel):
    """What `config.json` holds: every setting, resolved; the text; versions; the machine."""

    format: Literal[1] = 1
    made_at: str
    settings: Settings
    text: TextRecord
    init: str | None = None
    versions: dict[str, str]
    machine: dict[str, str | int]


class RunFolder:
    """A folder with the files of one run. `create` makes one; the constructor takes one that is there."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise RunFolderError(f"there is no run folder {self.path}; `storycell train` makes one")
        if not (self.path / "config.json").is_file():
            raise RunFolderError(f"{self.path} is not a run folder: it has no config.json; `storycell train` makes one")

    @classmethod
    def create(cls, path: str | Path, config: RunConfig, vocab: Vocabulary, model: CharLM) -> "RunFolder":
        """A new run folder, complete from the moment it exists: settings, vocabulary, the weights of step 0."""
        path = Path(path)
        refuse_occupied(path)
        partial = path.with_name(f".{path.name}.new")
        with _disk_errors(path):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write_atomically(partial / "config.json", _json(config.model_dump()))
            write_atomically(partial / "vocab.json", vocab.to_json().encode())
            run = cls(partial)
            run.save_weights(model, {"step": 0})
            partial.rename(path)
            _flush_folder(path.parent)
        return cls(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one training; `RunFolderError` if another one holds it."""
        lock = filelock.FileLock(self.path / ".lock")
        try:
            with _disk_errors(self.path):
                lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunFolderError(
                f"another training is writing to {self.path}; stop it first, or train into another folder"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def config(self) -> RunConfig:
        """The settings and everything else in `config.json`."""
        path = self.path / "config.json"
        try:
            return validated(RunConfig, _parsed(path))
        except SettingsError as error:
            raise RunFolderError(f"{path} is damaged or was edited by hand: {error}") from None

    def write_config(self, config: RunConfig) -> None:
        """Replace `config.json`, as when a resumed run gets another budget."""
        with _disk_errors(self.path):
            write_atomically(self.path / "config.json", _json(config.model_dump()))

    def vocab(self) -> Vocabulary:
        """The characters of the model."""
        path = self.path / "vocab.json"
        try:
            return Vocabulary.from_json(_text(path))
        except VocabularyError as error:
            raise RunFolderError(f"{path} is damaged or was edited by hand: {error}") from None

    def save_weights(self, model: CharLM, about: dict[str, Any]) -> None:
        """Write `model.safetensors`: the best weights so far; `about` becomes its metadata."""
        self._save("model.safetensors", model.state_dict(), about)

    def load_weights(self, model: CharLM) -> dict[str, Any]:
        """Give a model, which may be a meta model, the best weights as float32; returns their metadata."""
        tensors, about = self._load("model.safetensors")
        self._refuse_misfit("model.safetensors", tensors, model.state_dict())
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
        return about

    def save_last(self, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
        """Write `last.safetensors`, with the present length of the logs; the logs reach the disk first."""
        with _disk_errors(self.path):
            lengths = {name: _flushed_length(self.path / name) for name in LOGS}
        self._save("last.safetensors", tensors, {**about, "log_bytes": lengths})

    def load_last(self, model: CharLM) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What `save_last` wrote, checked to fit the model."""
        tensors, about = self._load("last.safetensors")
        weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        self._refuse_misfit("last.safetensors", weights, model.state_dict())
        return tensors, about

    def cut_logs(self, about: dict[str, Any]) -> None:
        """Cut the logs back to what they were when `last.safetensors` was written."""
        with _disk_errors(self.path):
            for name, length in about["log_bytes"].items():
                path = self.path / name
                if name in LOGS and path.exists() and path.stat().st_size > length:
                    os.truncate(path, length)

    def log(self, entry: dict[str, Any]) -> None:
        """Append a line to `metrics.jsonl`."""
        self._append("metrics.jsonl", json.dumps(entry) + "\n")

    def add_sample(self, heading: str, text: str) -> None:
        """Append to `samples.txt`."""
        self._append("samples.txt", f"── {heading} ──\n{text}\n\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; one that a kill cut short is left out."""
        path = self.path / "metrics.jsonl"
        entries = []
        for line in _text(path).splitlines() if path.exists() else []:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict):
                entries.append(entry)
        return entries

    def write(self, name: str, data: bytes) -> None:
        """Write another file of the run, such as `loss.png`."""
        with _disk_errors(self.path):
            write_atomically(self.path / name, data)

    def _append(self, name: str, text: str) -> None:
        with _disk_errors(self.path), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def _save(self, name: str, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
        plain = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        metadata = {"format": "pt", "about": json.dumps({**about, "digest": _tensor_digest(plain)})}
        with _disk_errors(self.path):
            write_atomically(self.path / name, safetensors.torch.save(plain, metadata))

    def _load(self, name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        path = self.path / name
        try:
            with safetensors.safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            about = json.loads(metadata.get("about", "{}"))
        except FileNotFoundError:
            raise RunFolderError(f"{self.path} has no {name}; copy the whole folder, or train again") from None
        except OSError as error:
            raise RunFolderError(f"{path} cannot be read: {error.strerror or error}") from None
        except (safetensors.SafetensorError, ValueError, RecursionError) as error:
            raise RunFolderError(
                f"{path} is truncated or damaged ({error}); restore it from a copy, or train again"
            ) from None
        if "digest" in about and about["digest"] != _tensor_digest(tensors):
            raise RunFolderError(
                f"{path} is damaged: its numbers are not the ones that were written; restore it from a copy"
            )
        return tensors, about

    def _refuse_misfit(self, name: str, found: dict[str, torch.Tensor], expected: dict[str, Any]) -> None:
        wrong = sorted(set(found) ^ set(expected)) or [k for k in expected if found[k].shape != expected[k].shape]
        if wrong:
            raise RunFolderError(
                f"{self.path / name} does not fit config.json and vocab.json beside it: see {wrong[0]}; "
                "one of these files was replaced or edited"
            )


def refuse_occupied(path: Path) -> None:
    """Raise `RunFolderError` unless a run folder can be made at `path` without losing anything."""
    if (path / "config.json").exists():
        raise RunFolderError(
            f"{path} holds a run already; go on with `storycell train --resume {path}`, or name another --out"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunFolderError(f"{path} exists and holds something else; name another --out")


def now() -> str:
    """This instant, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, even after a crash."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(path: Path) -> None:
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _flushed_length(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except StorycellError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunFolderError(
            f"{path} cannot be written: {reason[0].lower()}{reason[1:]}; what was saved before is whole, "
            "and `storycell train --resume` goes on from it once there is room and permission"
        ) from None


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=2) + "\n").encode()


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise RunFolderError(f"{path} is too large to be what storycell writes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunFolderError(f"{path.parent} has no {path.name}; copy the whole folder, or train again") from None
    except UnicodeDecodeError:
        raise RunFolderError(f"{path} is damaged: it is not UTF-8 text") from None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {error.strerror}") from None


def _parsed(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged or was edited by hand: it is not JSON ({error})") from None


def _tensor_digest(tensors: dict[str, torch.Tensor]) -> str:
    content = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        content.update(f"{name}{tuple(tensors[name].shape)}{tensors[name].dtype}".encode())
        content.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()
