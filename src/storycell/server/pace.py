"""How many characters one slice of the batch should write.

In: what slices took. Out: the length of the next one. Long slices cost less per character (one event for each stream
and slice), short ones let new requests in and a stop take effect sooner. So a slice is as long as fits into `SLICE_S`
at the measured speed, within bounds: on a machine that is busy with other things short slices would only add work.
"""

SLICE_S = 0.06  # seconds of computing that a slice aims at
LEAST, MOST = 8, 32  # characters of one stream in one slice
FIRST = 4  # of a stream that has written nothing yet, so that its reader sees something soon
_MEMORY = 0.7  # weight of the past in the running mean


class Pace:
    """Learns what one character of one stream costs."""

    def __init__(self) -> None:
        self._stream_s = 1e-5

    def chars(self, streams: int) -> int:
        """The length of the next slice for `streams` streams."""
        return max(LEAST, min(int(SLICE_S / (self._stream_s * max(streams, 1))), MOST))

    def learn(self, streams: int, chars: int, elapsed_s: float) -> None:
        """Take in what a slice cost."""
        cost = elapsed_s / max(streams * chars, 1)
        self._stream_s = _MEMORY * self._stream_s + (1 - _MEMORY) * cost
