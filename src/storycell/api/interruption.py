"""Ctrl-C and SIGTERM as a request to stop after the step at hand; a second one stops at once.

Under a launcher of several processes a second one says nothing: it passes on what the terminal has sent already, and
kills by itself what does not stop in time.
"""

import signal
import threading
from types import FrameType, TracebackType


class Interruption:
    """A context within which `number` is that of the signal that came, or 0."""

    def __init__(self, launched: bool = False) -> None:
        self.number, self._launched = 0, launched
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup: it stays ignored
                    self._before[number] = signal.signal(number, self._note) or signal.SIG_DFL
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if not self._launched:
            self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)  # type: ignore[arg-type]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not (self._launched and self.number):
            self._restore()


def name_of(number: int) -> str:
    """The name of a signal; empty for 0."""
    return signal.Signals(number).name if number else ""
