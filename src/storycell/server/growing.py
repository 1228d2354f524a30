"""One choice of an answer that is given as a whole, while its text comes.

In: the parts that are said. Out: the parts of its JSON object. The JSON grows in place: nothing that is there is copied
or dumped again, so a text of n characters costs n steps, and the event loop never a long one.
"""

import json
from collections.abc import Sequence
from typing import Any

from storycell.server.transcript import Finish, Said


def to_json(value: Any, *, ascii_only: bool = False) -> bytes:
    """The JSON of a value, in UTF-8 and without blanks; `ValueError` for what JSON has no number for."""
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"), allow_nan=False).encode()


class GrowingChoice:
    """`add` takes in what is said; `parts` gives the object."""

    def __init__(self) -> None:
        self._text = bytearray()  # without the quotation marks
        self._logprobs: dict[str, bytearray] | None = None  # lists without their brackets
        self._nats: bytearray | None = None
        self._finish: Finish | None = None

    def add(self, part: Said) -> None:
        """Take in another part of the text."""
        self._text += to_json(part.text)[1:-1]
        self._finish = part.finish
        if part.logprobs is not None:
            self._logprobs = self._logprobs or {name: bytearray() for name in part.logprobs}
            for name, grown in self._logprobs.items():
                _extend(grown, part.logprobs[name])
        if part.nats is not None:
            self._nats = bytearray() if self._nats is None else self._nats
            _extend(self._nats, part.nats)

    def parts(self, index: int, state: str | None) -> list[bytes | bytearray]:
        """The parts of the JSON object; `state` is the name of the state that was saved after the text."""
        found: list[bytes | bytearray] = [b'{"index":%d,"text":"' % index, self._text]
        found += [b'","finish_reason":', to_json(self._finish), b',"logprobs":']
        if self._logprobs is None:
            found.append(b"null")
        else:
            for number, (name, grown) in enumerate(self._logprobs.items()):
                found += [b'%b"%b":[' % (b"," if number else b"{", name.encode()), grown, b"]"]
            found.append(b"}")
        if self._nats is not None:
            found += [b',"nats":[', self._nats, b"]"]
        if state is not None:
            found += [b',"state":', to_json(state)]
        return [*found, b"}"]


def _extend(grown: bytearray, values: Sequence[Any]) -> None:
    if values:
        grown += b"," if grown else b""
        grown += to_json(values)[1:-1]
