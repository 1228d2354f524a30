"""How many characters to generate in one slice, from the measured speed of the last ones.

Long slices take less time per character, short ones let a signal, a reader or a new request have its turn sooner. So a
slice is as long as fits into a given time at the measured speed, within bounds: on a machine that is busy with other
things short slices would only add work.
"""

_GUESS_S = 1e-3  # what a character costs before any was generated: a slow backend, so that the first slice is short
_MEMORY = 0.7  # weight of the past in the running mean


class Pace:
    """Learns what one character of one stream costs; a slice aims at `slice_s` seconds of computing."""

    def __init__(self, slice_s: float, least: int, most: int) -> None:
        self.slice_s, self.least, self.most = slice_s, least, most  # characters of one stream in one slice
        self._stream_s: float | None = None

    def chars(self, streams: int) -> int:
        """The length of the next slice for `streams` streams."""
        stream_s = _GUESS_S if self._stream_s is None else self._stream_s
        return max(self.least, min(int(self.slice_s / (stream_s * max(streams, 1))), self.most))

    def learn(self, streams: int, chars: int, elapsed_s: float) -> None:
        """Take in what a slice cost."""
        cost = elapsed_s / max(streams * chars, 1)
        self._stream_s = cost if self._stream_s is None else _MEMORY * self._stream_s + (1 - _MEMORY) * cost
