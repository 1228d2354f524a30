"""Files and folders that come into their place whole: a crash leaves the old one or the new one, never a part.

The one place of the package that renames files, and removes those that must be gone. Windows refuses both while another
program has the file open, or a file in the folder, as a viewer, a search index or a virus scanner does for a moment; so
it is asked again for a second or two. No other system answers that way, and nobody waits there.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_IN_USE = (5, 32)  # access denied, sharing violation: what Windows answers where a file is open elsewhere
_PAUSES_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, even after a crash."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file to write; it takes the place of `path` at the end, and is gone if an error comes before."""
    temporary = temporary_name(path)
    remove(temporary)  # left by a kill, or a link that leads out of the folder
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def temporary_name(path: Path) -> Path:
    """What a file is called, in the same folder, until it is whole."""
    return path.with_name(f".{path.name}.part")


def put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file over another one, or over nothing; or a folder, over nothing."""
    _ask_again(lambda: temporary.replace(path))


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    _ask_again(lambda: path.unlink(missing_ok=True))


def _ask_again(act: Callable[[], object]) -> None:
    """Do what Windows may refuse for a moment; its `PermissionError` where it does so to the end."""
    for pause_s in _PAUSES_S:
        try:
            act()
            return
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _IN_USE:
                raise
            time.sleep(pause_s)
    act()


def flush_folder(path: Path) -> None:
    """Make what was created or renamed in a folder survive a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
