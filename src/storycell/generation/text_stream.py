"""Ids of one stream -> text that can be shown, up to a stop text, whatever the sizes of the slices they come in.

It also tells where in the text the character of each id stands. A text ends before the stop that is complete first, and
what could become a stop is held back, so the text does not depend on where the slices were cut.
"""

import codecs
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

from storycell.data.vocab import Vocabulary
from storycell.types import BOUNDARY

_JOINED = 4096  # pieces of a text that are joined at once


def gather(pieces: Iterable[tuple[int, str]], count: int) -> list[str]:
    """The texts of `count` streams from their pieces, (number of the stream, piece), as they come.

    Many are joined at once: adding each to a string would copy all that came before it, and a list of them all takes
    eight times the memory of the text.
    """
    texts: list[list[str]] = [[] for _ in range(count)]
    fresh: list[list[str]] = [[] for _ in range(count)]
    for k, piece in pieces:
        waiting = fresh[k]
        waiting.append(piece)
        if len(waiting) == _JOINED:
            texts[k].append("".join(waiting))
            waiting.clear()
    return ["".join([*text, *waiting]) for text, waiting in zip(texts, fresh, strict=True)]


@cache
def _texts(vocab: Vocabulary) -> list[str]:
    return [vocab.text_of(k) for k in range(len(vocab))]


@dataclass(frozen=True)
class Shown:
    """Text, where it begins, and for each id that it covers where the id's character stands.

    Positions are counted in characters, from the first that the stream has shown.
    """

    text: str
    start: int
    offsets: list[int]


class Pieces:
    """`stopped` once a stop text has appeared; `covered` counts the ids whose text has been given.

    An id is covered when its character, of a piece the first one, has been given: the bytes of one character all at
    once, and those of a stop text never. A boundary between stories is a separator line.
    """

    def __init__(self, vocab: Vocabulary, stops: Sequence[str] = (), skipped: int = 0, most: int | None = None) -> None:
        """The first characters are `skipped`, of the others `most` are shown, the last id's perhaps in part."""
        self._vocab, self._stops = vocab, [stop for stop in stops if stop]
        self._skipped, self._left = skipped, most
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._given = 0  # characters
        self._offsets: deque[int] = deque()  # of the ids not covered yet
        self.covered = 0
        self.stopped = False

    def take(self, ids: Sequence[int]) -> Shown:
        """The text that can be shown now that `ids` were drawn."""
        if not self._stops and self._vocab.kind == "characters":  # nothing is ever held back
            texts = list(map(_texts(self._vocab).__getitem__, ids))
            start = self._given
            *offsets, self._given = accumulate(map(len, texts), initial=start)
            self.covered += len(ids)
            return Shown("".join(texts), start, offsets)
        if self._vocab.kind == "pieces":
            self._take_pieces(ids)
        else:
            self._decode(ids)
        ends = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if ends:
            self.stopped = True
            return self._show(self._allowed(min(ends)[1]))
        return self._show(self._allowed(len(self._held) - self._doubtful()))

    def rest(self) -> Shown:
        """What was held back, once nothing can follow."""
        if self.stopped:
            return Shown("", self._given, [])
        self._held += self._decoder.decode(b"", final=True)
        return self._show(self._allowed(len(self._held)))

    def _decode(self, ids: Sequence[int]) -> None:
        texts, end = [self._held], self._given + len(self._held)
        for k in ids:
            if k == BOUNDARY:
                texts.append(self._decoder.decode(b"", final=True))
                end += len(texts[-1])
                self._offsets.append(end)
                texts.append(self._vocab.text_of(BOUNDARY))
                end += len(texts[-1])
                continue
            texts.append(self._decoder.decode(self._vocab.bytes_of(k)))
            end += len(texts[-1])
            unfinished = self._decoder.getstate()[0]  # bytes of a character that more must follow
            self._offsets.append(end + len(unfinished.decode("utf-8", "replace")) - 1)
        self._held = "".join(texts)

    def _take_pieces(self, ids: Sequence[int]) -> None:
        """As `_decode`, of pieces; those that begin in what is skipped stand where the first character shown does."""
        texts, end = [self._held], self._given + len(self._held)
        for k in ids:
            text = self._vocab.text_of(k)
            cut = min(self._skipped, len(text))
            self._skipped -= cut
            self._offsets.append(end)
            texts.append(text[cut:])
            end += len(text) - cut
        self._held = "".join(texts)

    def _allowed(self, chars: int) -> int:
        """Of so many characters those that may be shown; `stopped` once there are no more."""
        if self._left is None:
            return chars
        shown = min(chars, self._left)
        self._left -= shown
        self.stopped = self.stopped or not self._left
        return shown

    def _doubtful(self) -> int:
        """The length of the longest end of the held text that could become a stop."""
        return max((n for stop in self._stops for n in range(1, len(stop)) if self._held.endswith(stop[:n])), default=0)

    def _show(self, chars: int) -> Shown:
        text, self._held = self._held[:chars], self._held[chars:]
        start, self._given = self._given, self._given + chars
        offsets: list[int] = []
        while self._offsets and self._offsets[0] < self._given:
            offsets.append(self._offsets.popleft())
        self.covered += len(offsets)
        return Shown(text, start, offsets)
