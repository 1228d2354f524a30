"""Fuzz targets: each module has `one_input(data)`, which any bytes must leave without an error, and small `SEEDS`.

`python tests/fuzz NAME… [--seconds N]` runs them under atheris, guided by the coverage of storycell; the default test
suite runs the seeds and some simple changes of them (`tests/house/test_fuzz_targets.py`).
"""

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from storycell.errors import StorycellError

TARGETS = (
    "corpus_reader",
    "run_folder",
    "prepared_folder",
    "codec_files",
    "native_binding",
    "engine_network",
    "engine_model",
)


def folder() -> Path:
    """A folder for a target's files, in memory where that can be."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="storycell-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@contextlib.contextmanager
def refusing(*parts: str) -> Iterator[None]:
    """Within: an error that a user can see is fine, if it is one line that holds all `parts`."""
    try:
        yield
    except StorycellError as error:
        message = str(error)
        if not message or "\n" in message or not all(part in message for part in parts):
            raise AssertionError(f"not a sentence about {parts}: {message!r}") from error
