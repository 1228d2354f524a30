"""One pass over a corpus, which goes on where an earlier attempt was stopped.

In: a corpus, a task that takes its blocks, and a journal. Out: nothing; the task has what it wanted. Every few seconds
the journal gets the place behind the last block and what the task needs to go on from there.

The surprising decision: a place is in the middle of a file, between any two blocks, so the state of a task is small and
plain: counts, lengths, the beginning of a story. What is on disk by then is written on, never rewritten.
"""

from collections.abc import Callable
from typing import Any, Protocol

from storycell.corpus import Corpus
from storycell.corpus.blocks import START, Bookmark, Place
from storycell.journal import Journal

Progress = Callable[[str, int, int], None]  # what is being done, bytes done, bytes in all


def silent(what: str, done: int, total: int) -> None:
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
    advance = told(what, corpus, progress, first)
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


def told(what: str, corpus: Corpus, progress: Progress, first: int = 0) -> Callable[[int], None]:
    """Tells how many bytes of a corpus are read; those of the sources before `first` have been."""
    done, total = sum(source.size_bytes for source in corpus.sources[:first]), corpus.size_bytes

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(what, min(done, total), total)

    return advance
