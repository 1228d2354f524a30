"""uvicorn's HTTP connection, with what it lacks: a request head must arrive in time and in bounds.

Without it a client could open connections, send half a head on each, and hold them for ever; or send heads without end.
A head is measured by what it holds (its path, the names and values of its headers), however it arrives: one that holds
too much is kept no further, and the application learns of it when it is complete, and refuses it.
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from storycell.server.exchange import ABORT
from storycell.server.security import HEAD_BYTES, MAX_HEAD_BYTES

_PATIENCE_BYTES = 4 * MAX_HEAD_BYTES  # of a head that does not end


class Connection(HttpToolsProtocol):
    """One connection; `head_timeout_s` is set by the server before the first."""

    head_timeout_s = 10.0

    _deadline: asyncio.TimerHandle | None = None
    _in_head = True  # whether what comes next belongs to a head
    _arrived_bytes = 0  # since the last head or message was complete
    _head_bytes = 0  # that this head holds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first head."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes; those of a head count against its time and size."""
        if self._in_head:
            self._expect_head()
        self._arrived_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._arrived_bytes > _PATIENCE_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Give the application a way to cut this connection."""
        super().on_message_begin()
        self._head_bytes = 0
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]

    def on_url(self, url: bytes) -> None:
        """Take in a part of the path and query."""
        self._head_bytes += len(url)
        if self._head_bytes <= MAX_HEAD_BYTES:
            super().on_url(url)
        else:
            self.url = b"/"

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes <= MAX_HEAD_BYTES:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is over: let the application answer."""
        self._in_head, self._arrived_bytes = False, 0
        self._stop_waiting()
        self.scope[HEAD_BYTES] = self._head_bytes  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is over: what comes next is another head."""
        self._in_head, self._arrived_bytes = True, 0
        super().on_message_complete()

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
