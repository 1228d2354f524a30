"""Reads of files that anything may have happened to, and writes that may be refused.

Whatever the disk refuses becomes a `RunFolderError` of one sentence.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storycell.atomic import write_atomically
from storycell.errors import RunFolderError
from storycell.naming import show_name

_LARGEST_JSON = 64 << 20
_LARGEST_LOG = 1 << 30
_GOES_ON = (
    "what was saved before is whole, and `storycell train --resume` goes on from it once there is room and permission"
)
OTHER_OUT = "free space, or name another --out"


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
