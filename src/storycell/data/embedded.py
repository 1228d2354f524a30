"""The embedded corpus as a source: the first of the grammar's endless stories."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from storycell.data.blocks import Bookmark, Place
from storycell.data.files import Advance
from storycell.data.stories.corpus import generate
from storycell.data.vocab import BOUNDARY_BYTE

STORIES = 16_000
SEED = 1
_GROUP = 200  # stories in one block


@dataclass(frozen=True)
class StoriesSource:
    """A corpus of stories whose true probabilities are known."""

    name: str = "stories"
    size_bytes: int = STORIES  # progress is counted in stories here
    stamp: tuple[int, ...] = ()

    def blocks(self, advance: Advance = lambda _: None, bookmark: Bookmark | None = None) -> Iterator[bytes]:
        """The stories, a boundary after each; an offset counts stories."""
        mark = bookmark or Bookmark()
        stories = islice(generate(SEED), mark.place.offset, STORIES)
        advance(mark.place.offset)
        while group := list(islice(stories, _GROUP)):
            advance(len(group))
            mark.place = Place(mark.place.offset + len(group))
            yield b"".join(story.encode() + BOUNDARY_BYTE for story in group)

    def raw_chunks(self) -> Iterator[bytes]:
        """The first stories stand for all: they change whenever the grammar does."""
        yield "".join(islice(generate(SEED), _GROUP)).encode()
