"""What a reader of texts has to say, though it can go on: each thing once for a corpus.

It goes to the logger `storycell`, as a warning: on the command line, and in a program that says nothing else about
logging, it is a line on standard error.
"""

import logging

_LOGGER = logging.getLogger("storycell")


class Notes:
    """Remembers what has been said."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, kind: str, note: str) -> None:
        """Say something, unless something of the same kind has been said."""
        if kind not in self._said:
            self._said.add(kind)
            _LOGGER.warning("%s", note)
