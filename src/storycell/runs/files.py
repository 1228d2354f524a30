"""Atomic writes (a crash leaves the old file or the new one), and reads of files that anything may have happened to.

Whatever the disk refuses becomes a `RunFolderError` of one sentence.
"""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from storycell.errors import RunFolderError
from storycell.naming import show_name

_LARGEST_JSON = 64 << 20
_LARGEST_LOG = 1 << 30
_IN_USE = (5, 32)  # access denied, sharing violation: what Windows answers where a file is open elsewhere
_PAUSES_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_GOES_ON = (
    "what was saved before is whole, and `storycell train --resume` goes on from it once there is room and permission"
)
OTHER_OUT = "free space, or name another --out"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, even after a crash."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file to write; it takes the place of `path` at the end, and is gone if an error comes before."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.unlink(missing_ok=True)  # left by a kill, or a link that leads out of the folder
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file over another one, or over nothing.

    Windows refuses while another program has the old one open, as a viewer, a search index or a virus scanner does for
    a moment, so it is asked again for a second or two.
    """
    for pause_s in _PAUSES_S:
        try:
            temporary.replace(path)
            return
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _IN_USE:
                raise
            time.sleep(pause_s)
    temporary.replace(path)


def flush_folder(path: Path) -> None:
    """Make what was created or renamed in a folder survive a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def flushed_length(path: Path) -> int:
    """The length of a file in bytes, once it has reached the disk; 0 where there is none."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


@contextmanager
def writing(path: Path, advice: str = _GOES_ON) -> Iterator[None]:
    """Within, an error of the disk becomes a `RunFolderError` about `path` that ends in `advice`."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"{path} cannot be written: {reason(error)}; {advice}") from None


def reason(error: OSError) -> str:
    """What the system says about an error, such as `no space left on device`."""
    said = error.strerror or str(error) or type(error).__name__
    return said[0].lower() + said[1:]


def read_text(path: Path, *, log: bool = False) -> str:
    """The text of a file of a run. A log may be longer, and damaged bytes in it are U+FFFD."""
    most = _LARGEST_LOG if log else _LARGEST_JSON
    try:
        refuse_odd(path)
        with path.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise RunFolderError(f"{path} is too large to be what storycell wrote; restore it from a copy")
        return data.decode("utf-8", "replace" if log else "strict")
    except FileNotFoundError:
        raise RunFolderError(f"{path.parent} has no {path.name}; copy the whole folder, or train again") from None
    except UnicodeDecodeError:
        raise RunFolderError(f"{path} is damaged: it is not UTF-8 text; restore it from a copy") from None
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read: {reason(error)}; see to its permissions") from None


def refuse_odd(path: Path) -> None:
    """Raise `RunFolderError` where a pipe or a device stands in a file's place: reading it might never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise RunFolderError(f"{path} is not a file; restore it from a copy")


def refuse_undecodable(path: Path) -> None:
    """Raise `RunFolderError` where a name has bytes that are not UTF-8: safetensors opens no such file."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise RunFolderError(f"the name of {show_name(str(path))} is not UTF-8; give the folder another name") from None


def read_json(path: Path) -> Any:
    """The JSON in a file of a run."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise RunFolderError(
            f"{path} is damaged or was edited by hand: it is not JSON ({error}); restore it from a copy"
        ) from None


def to_json(data: dict[str, Any]) -> bytes:
    """The bytes of a JSON file for people to read."""
    return (json.dumps(data, indent=2) + "\n").encode()


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file, of arrays too; its folder is made if need be, and numbers that are not finite become null."""
    with writing(path, OTHER_OUT):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(plain(data)))


def plain(value: Any) -> Any:
    """What JSON can hold: arrays as lists, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
