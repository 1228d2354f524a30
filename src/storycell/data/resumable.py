"""Passes over a corpus that go on where an earlier attempt was stopped.

`walk` hands a `Task` the blocks of a corpus; every few seconds a `Journal`, a JSON file beside the unfinished output,
gets the place behind the last block and what the task needs to go on from there. A place may lie in the middle of a
file, between any two blocks, so the state of a task is small: counts, lengths, the beginning of a story. Output that is
on disk by then is appended to, never rewritten.

The journal's folder is named after a digest of the input and held by a lock, which a killed process releases. So the
same work finds it again, and another process that does the same work at the same time gets a folder of its own.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from storycell import atomic
from storycell.data.blocks import START, Bookmark, Place
from storycell.data.corpus import Corpus

LOCK = ".lock"
_EVERY_S = 2.0
_LARGEST = 64 << 20


class Journal:
    """A folder of unfinished work. `known` is what is done in it; `finish` puts it in its place, `close` ends it."""

    def __init__(self, beside: Path, prefix: str, digest: str) -> None:
        self._holds = True  # the name of the folder, until that becomes another
        self._digest, self._saved_at = digest, time.monotonic()
        self.folder = beside / f"{prefix}.{digest[:16]}.part"
        if not self._take_lock():
            self.folder = beside / f"{prefix}.{uuid.uuid4().hex[:8]}.part"
            if not self._take_lock():  # nor can this one be held: nobody else knows its name
                self.folder.mkdir(parents=True, exist_ok=True)
        self._path = self.folder / "journal.json"
        self.known = self._read()
        self.is_worth_keeping = bool(self.known)

    def _take_lock(self) -> bool:
        """Hold the folder; False where another process does, or has just finished with it, or there are no locks.

        Whoever lets go removes the lock's file while it holds it, so a lock on a file that is there no more is none.
        """
        import filelock  # when a text is first prepared: its import takes as long as reading a model

        path = self.folder / LOCK
        self._lock = filelock.FileLock(path)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as same:  # open all the while: no other file gets its number
                self._lock.acquire(timeout=0)
                if os.path.samestat(os.fstat(same.fileno()), path.stat()):
                    return True
        except (filelock.Timeout, FileNotFoundError):
            pass
        except NotImplementedError:
            with suppress(OSError):
                path.unlink()
                self.folder.rmdir()
        self._lock.release()
        return False

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
        atomic.write_atomically(self._path, self._check(body) + b"\n" + body)
        self._saved_at, self.is_worth_keeping = time.monotonic(), True

    def finish(self, out: Path, names: Sequence[str]) -> None:
        """Put the finished files where they belong: the whole folder becomes `out`, or they move into it, beside it."""
        for path in (self._path, atomic.temporary_name(self._path)):  # the second is left by a kill
            atomic.remove(path)
        if self.folder.parent == out:
            for name in names:
                atomic.put_in_place(self.folder / name, out / name)
            return
        if os.name == "nt":  # where a folder with an open file in it cannot be renamed
            self._let_go()
        atomic.put_in_place(self.folder, out)
        self._holds = False  # whatever comes to be under its old name is another's
        atomic.remove(out / LOCK)

    def close(self, keep: bool) -> None:
        """Let go of the folder, which is kept for a later attempt, or removed before anybody else can take it."""
        if self._holds and not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._let_go()
        if self._holds and not keep:
            with suppress(OSError):  # on Windows it is still there, empty; whoever has taken it since keeps it
                self.folder.rmdir()

    def _let_go(self) -> None:
        """Remove the lock's file while it is held; on Windows, which removes no open file, afterwards."""
        if os.name == "nt":
            self._lock.release()
        if self._holds:
            with suppress(OSError):
                (self.folder / LOCK).unlink()
        self._lock.release()


Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all


def no_progress(what: str, done: int, total: int) -> None:
    """The progress display of a caller that wants none."""


class Task(Protocol):
    """What a pass is made for."""

    def take(self, block: bytes) -> None:
        """The next block of a source."""

    def end_of_source(self) -> None:
        """The source has ended, and with it a story."""

    def state(self) -> Any:
        """What `go_on` needs, as JSON; whatever was written by now is safe on disk."""

    def go_on(self, state: Any) -> bool:
        """Be as when `state` was asked for; False, and nothing changed, if that cannot be."""


def walk(corpus: Corpus, task: Task, what: str, progress: Progress, journal: Journal | None = None) -> None:
    """Hand the blocks of a corpus to a task, from where the journal says that they were not yet."""
    first, place = 0, START
    known = journal.known.get(what) if journal else None
    if known and task.go_on(known["state"]):
        first, place = known["source"], Place(*known["place"])
    advance = with_progress(what, corpus, progress, first)
    for k, source in enumerate(corpus.sources[first:], first):
        bookmark, place = Bookmark(place), START
        for block in source.blocks(advance, bookmark):
            task.take(block)
            _keep(journal, what, task, k, bookmark.place)
        task.end_of_source()
        _keep(journal, what, task, k + 1, START)


def _keep(journal: Journal | None, what: str, task: Task, source: int, place: Place) -> None:
    """Note that everything before a place has been done, if it is time to."""
    if journal and journal.is_due():
        journal.save(**{what: {"source": source, "place": place, "state": task.state()}})


def with_progress(what: str, corpus: Corpus, progress: Progress, first: int = 0) -> Callable[[int], None]:
    """Tells how many bytes of a corpus are read; those of the sources before `first` have been."""
    done, total = sum(source.size_bytes for source in corpus.sources[:first]), corpus.size_bytes

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(what, min(done, total), total)

    return advance
