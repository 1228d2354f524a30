"""What one choice of a completion has to say: slices from the engine in, text and log-probabilities out.

One for each choice of a request. It cuts at stop texts, names the finish, and keeps what is told of each character in
step with the text that is shown, held-back characters included.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from storycell.server.engine import Slice, Writing
from storycell.server.logprobs import CharLogprobs, Wanted, surprises, token_text
from storycell.text_stream import Pieces, Shown
from storycell.vocab import Vocabulary

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Said:
    """A part of a text; the last part has a `finish`. `logprobs` and `nats` are None where they were not wanted."""

    index: int
    text: str
    logprobs: dict[str, list[Any]] | None
    nats: list[float] | None
    finish: Finish | None


def said(
    vocab: Vocabulary,
    index: int,
    shown: Shown,
    known: list[CharLogprobs],
    wanted: Wanted,
    offset: int,
    finish: Finish | None,
) -> Said:
    """A part of a text, with what is known of the ids it covers; `offset` is where the stream begins in the text."""
    logprobs: dict[str, list[Any]] | None = None
    if wanted.likeliest is not None:
        logprobs = {
            "tokens": [token_text(vocab, one.k) for one in known],
            "token_logprobs": [one.logprob for one in known],
            "top_logprobs": [{token_text(vocab, k): p for k, p in one.top} for one in known],
            "text_offset": [offset + at for at in shown.offsets],
        }
    nats = None
    if wanted.nats:
        nats = surprises(known, [at - shown.start for at in shown.offsets], len(shown.text))
    return Said(index, shown.text, logprobs, nats, finish)


class Transcript:
    """`chars` counts the characters (ids) of the text so far, the prompt not included."""

    def __init__(self, vocab: Vocabulary, writing: Writing, stops: list[str], offset: int) -> None:
        self._vocab, self._offset = vocab, offset  # where the first character stands in the whole text
        self.writing = writing
        self._pieces = Pieces(vocab, stops)
        self._waiting: deque[CharLogprobs] = deque()  # of ids whose text is not shown yet
        self.done = False

    @property
    def chars(self) -> int:
        """How many ids the text covers so far."""
        return self._pieces.covered

    @property
    def stopped(self) -> bool:
        """Whether it was a stop text that ended it, so that the stream has written more than is shown."""
        return self._pieces.stopped

    def take(self, piece: Slice) -> Said | None:
        """What can be said after another slice; None if it is nothing, or all has been said."""
        if self.done:
            return None
        shown = self._pieces.take(piece.ids)
        if piece.done:
            rest = self._pieces.rest()
            shown = Shown(shown.text + rest.text, shown.start, shown.offsets + rest.offsets)
        self.done = piece.done or self._pieces.stopped
        if self._pieces.stopped:
            self.writing.cancelled = True
        self._forget_marks()
        self._waiting.extend(piece.known or ())
        known = [self._waiting.popleft() for _ in shown.offsets] if self._waiting else []
        if not (shown.text or self.done):
            return None
        finish = self._finish() if self.done else None
        return said(self._vocab, piece.index, shown, known, self.writing.wanted, self._offset, finish)

    def _finish(self) -> Finish:
        return "stop" if self._pieces.stopped or self.writing.stream.ended else "length"

    def _forget_marks(self) -> None:
        """Keep the last copy of the stream that lies before everything which may still be cut off."""
        marks = self.writing.marks
        while marks is not None and len(marks) > 1 and marks[1][0] <= self._pieces.covered:
            marks.popleft()
