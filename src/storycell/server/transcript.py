"""What one choice of a completion has to say: slices from the engine in, text and log-probabilities out.

One for each choice of a request. It cuts at stop texts, names the finish, and keeps the log-probabilities in step
with the text that is shown, held-back characters included.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

from storycell.server.engine import Slice, Writing
from storycell.server.logprobs import CharLogprobs, token_text
from storycell.text_stream import Pieces
from storycell.vocab import Vocabulary

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Said:
    """A part of a text; the last part has a `finish`."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish: Finish | None


class Transcript:
    """`chars` counts the characters (ids) of the text so far, the prompt not included."""

    def __init__(self, vocab: Vocabulary, writing: Writing, stops: list[str], offset: int) -> None:
        self._vocab, self._offset = vocab, offset  # where the next character stands in the whole text
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
        covered = self._pieces.covered
        text = self._pieces.take(piece.ids)
        if piece.done:
            text += self._pieces.rest()
        self.done = piece.done or self._pieces.stopped
        if self._pieces.stopped:
            self.writing.cancelled = True
        self._forget_marks()
        logprobs = None
        if piece.logprobs is not None:
            self._waiting.extend(piece.logprobs)
            logprobs = arranged(self._vocab, self._pop(self._pieces.covered - covered), self._offset)
        self._offset += len(text)
        if not (text or self.done):
            return None
        return Said(piece.index, text, logprobs, self._finish() if self.done else None)

    def _finish(self) -> Finish:
        return "stop" if self._pieces.stopped or self.writing.stream.ended else "length"

    def _pop(self, count: int) -> list[CharLogprobs]:
        return [self._waiting.popleft() for _ in range(count)]

    def _forget_marks(self) -> None:
        """Keep the last copy of the stream that lies before everything which may still be cut off."""
        marks = self.writing.marks
        while marks is not None and len(marks) > 1 and marks[1][0] <= self._pieces.covered:
            marks.popleft()


def arranged(vocab: Vocabulary, scored: list[CharLogprobs], offset: int) -> dict[str, Any]:
    """Log-probabilities as OpenAI arranges them; `offset` is where the first character stands in the text."""
    tokens = [token_text(vocab, one.k) for one in scored]
    offsets, at = [], offset
    for one in scored:
        offsets.append(at)
        at += len(vocab.text_of(one.k))
    return {
        "tokens": tokens,
        "token_logprobs": [one.logprob for one in scored],
        "top_logprobs": [{token_text(vocab, k): p for k, p in one.top} for one in scored],
        "text_offset": offsets,
    }
