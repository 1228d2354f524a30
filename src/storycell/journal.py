"""How far a long preparation has come, so that one that was stopped goes on from there.

In: where the unfinished files go, and a digest of what is read. Out: a folder for them, and in it a JSON object that
says what is done, saved every two seconds.

The surprising decision: the folder is named after the digest and held by a lock, which a killed process lets go of;
so the same work finds it again, and another process that does the same work at the same time gets a folder of its own.
"""

import hashlib
import json
import time
import uuid
from pathlib import Path
from typing import Any

import filelock

_EVERY_S = 2.0
_LARGEST = 64 << 20


class Journal:
    """A folder of unfinished work. `known` is what is done in it; `close` before the folder is moved or removed."""

    def __init__(self, beside: Path, prefix: str, digest: str) -> None:
        self._digest, self._saved_at = digest, time.monotonic()
        self.folder = beside / f"{prefix}.{digest[:16]}.part"
        if not self._taken():
            self.folder = beside / f"{prefix}.{uuid.uuid4().hex[:8]}.part"
            self._taken()
        self._path = self.folder / "journal.json"
        self.known = self._read()
        self.is_worth_keeping = bool(self.known)

    def _taken(self) -> bool:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(self.folder / ".lock")
            self._lock.acquire(timeout=0)
        except (filelock.Timeout, FileNotFoundError):  # another process has it, or has just finished with it
            return False
        return True

    def _read(self) -> dict[str, Any]:
        try:
            with self._path.open("rb") as file:
                check, _, body = file.read(_LARGEST).partition(b"\n")
        except OSError:
            return {}
        known: dict[str, Any] = json.loads(body) if check == self._check(body) else {}
        return known

    def _check(self, body: bytes) -> bytes:
        """What stands before the JSON: nothing else than what was saved for this work is ever gone on with."""
        return hashlib.blake2b(self._digest.encode() + body, digest_size=16).hexdigest().encode()

    def is_due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved_at > _EVERY_S

    def save(self, **done: Any) -> None:
        """Keep what is done, in place of what was kept under the same names."""
        self.known |= done
        body = json.dumps(self.known).encode()
        new = self._path.with_suffix(".new")
        new.write_bytes(self._check(body) + b"\n" + body)
        new.replace(self._path)
        self._saved_at, self.is_worth_keeping = time.monotonic(), True

    def forget(self) -> None:
        """Remove the journal and let go of the folder, which holds the finished files and nothing else."""
        self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        self._lock.release()
        (self.folder / ".lock").unlink(missing_ok=True)
