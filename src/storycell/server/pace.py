"""How many characters one slice of the batch should write.

In: what slices took. Out: the length of the next one. Long slices cost less per character (one event for each stream
and slice), short ones let new requests in and bring the first characters sooner. So a slice is as long as fits into
`SLICE_S` at the measured speed, and short while somebody waits for a first character.
"""

SLICE_S = 0.04  # seconds of computing that a slice aims at
MOST = 32  # characters of one stream in one slice
FIRST = 4  # while a stream has written nothing yet
_MEMORY = 0.7  # weight of the past in the running mean


class Pace:
    """Learns what one character of every stream costs, as a line through the origin of the number of streams."""

    def __init__(self) -> None:
        self._stream_s = 1e-5  # seconds for one character of one stream

    def chars(self, streams: int, first: bool) -> int:
        """The length of the next slice for `streams` streams; `first` if one of them has written nothing yet."""
        fits = int(SLICE_S / (self._stream_s * max(streams, 1)))
        return max(1, min(fits, FIRST if first else MOST))

    def learn(self, streams: int, chars: int, elapsed_s: float) -> None:
        """Take in what a slice cost."""
        cost = elapsed_s / max(streams * chars, 1)
        self._stream_s = _MEMORY * self._stream_s + (1 - _MEMORY) * cost
