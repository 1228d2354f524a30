"""Ids of one stream -> text that can be shown, up to a stop text, whatever the sizes of the slices they come in.

In: ids in slices. Out: text, and how many ids it covers. A text ends before the stop that is complete first, and what
could become a stop is held back; so the text does not depend on where the slices were cut.
"""

import codecs
from collections import deque
from collections.abc import Iterable, Sequence
from functools import cache

from storycell.vocab import Vocabulary

_JOINED = 4096  # pieces of a text that are joined at once


def gathered(pieces: Iterable[tuple[int, str]], count: int) -> list[str]:
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


class Pieces:
    """`stopped` once a stop text has appeared; `covered` counts the ids whose text has been given."""

    def __init__(self, vocab: Vocabulary, stops: Sequence[str] = ()) -> None:
        self._vocab, self._stops = vocab, [stop for stop in stops if stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._sizes: deque[int] = deque()  # characters that each id has added, of the ids not covered yet
        self.covered = 0
        self.stopped = False

    def take(self, ids: Sequence[int]) -> str:
        """The text that can be shown now that `ids` were drawn."""
        if not self._stops and self._vocab.kind == "characters":  # nothing is ever held back
            self.covered += len(ids)
            return "".join(map(_texts(self._vocab).__getitem__, ids))
        for k in ids:
            text = self._decoder.decode(self._vocab.bytes_of(k))
            self._held += text
            self._sizes.append(len(text))
        ends = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if ends:
            self.stopped = True
            return self._show(min(ends)[1])
        return self._show(len(self._held) - self._doubtful())

    def rest(self) -> str:
        """What was held back, once nothing can follow."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(b"", final=True)
        shown, self._held = self._held, ""
        self.covered += len(self._sizes)
        self._sizes.clear()
        return shown

    def _doubtful(self) -> int:
        """The length of the longest end of the held text that could become a stop."""
        return max((n for stop in self._stops for n in range(1, len(stop)) if self._held.endswith(stop[:n])), default=0)

    def _show(self, chars: int) -> str:
        shown, self._held = self._held[:chars], self._held[chars:]
        while self._sizes and self._sizes[0] <= chars:
            chars -= self._sizes.popleft()
            self.covered += 1
        return shown
