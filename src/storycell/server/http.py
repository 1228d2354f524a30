"""HTTP below the routes: heads and bodies that arrive in time and within bounds, clients that vanish.

* `Connection` is uvicorn's, with a limit on the time and size of a request's head. Without it a client could open
  connections, send half a head on each, and hold them for ever; or send heads without end. A head is measured by what
  it holds (its path, the names and values of its headers), however it arrives; of one that is too large no more is
  kept, and the application refuses it when it is complete.
* `read_json` reads a body in time and within bounds. `unless_gone`, `EventStream` and `LongJSON` cancel the work of a
  client that goes away, and cut off one that takes nothing for too long.
* `Drain`, an ASGI layer around everything, deals with a body that is unread when the answer is there. A server that
  answers and closes while the client is still sending resets the connection, and the client then sees a broken
  connection instead of the answer (401, 404, 405, 413, …). So a small body is read first; with a large one the answer
  is sent at once and in full, and the request ends when the rest has been read and thrown away, or after `patience_s`
  seconds or `_DRAINED_BYTES`.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import ExitStack, aclosing
from typing import Any, TypeVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from storycell.server.errors import ApiError, decode_json
from storycell.server.security import HEAD_BYTES, MAX_HEAD_BYTES, ServerSettings

R = TypeVar("R")
_PART_BYTES = 65_536  # of a long answer that are sent at once
ABORT = "storycell.abort"  # in the scope: a function that cuts the connection


class ClientGoneError(Exception):
    """Nobody is there to be answered."""


async def read_json(request: Request, settings: ServerSettings) -> None:
    """Read the body, a JSON object, so that the request has it; `ApiError` says what is wrong with it."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "the body must be JSON, with the header `Content-Type: application/json`")
    try:
        async with asyncio.timeout(settings.request_timeout_s):
            body = await _body(request, settings.max_body_bytes)
    except TimeoutError:
        close = {"Connection": "close"}
        raise ApiError(408, "the body did not arrive in time; send the request again", headers=close) from None
    data = decode_json(body)
    if not isinstance(data, dict):
        raise ApiError(400, "the body must be a JSON object")
    request._body, request._json = body, data  # where Starlette keeps what it has read


async def _body(request: Request, most: int) -> bytes:
    """The whole body; `ApiError` 413 as soon as it is known to be too large."""
    body, more = bytearray(), True
    declared = request.headers.get("content-length", "")
    too_large = declared.isdecimal() and int(declared) > most
    while more and not too_large:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        more = message.get("more_body", False)
        too_large = len(body) > most
    if too_large:
        raise ApiError(413, f"the body is larger than {most:,} bytes")
    return bytes(body)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, R]) -> R:
    """The result of `work`; if the client vanishes before, `work` is cancelled and `ClientGoneError` raised."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        for other in (task, watch):
            other.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class NoResponse(Response):
    """The answer to a client that is gone: none."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


class _Parts(Response):
    """An answer that is sent in parts; the iterator is closed when the client is gone or takes nothing for
    `stall_timeout_s`. An error before the first part can still be answered with its status.

    `places` is left at the end, however it comes.
    """

    def __init__(
        self,
        parts: AsyncGenerator[bytes],
        places: ExitStack,
        stall_timeout_s: float,
        media_type: str,
        headers: Mapping[str, str],
    ) -> None:
        self._parts, self._places, self._stall_timeout_s = parts, places, stall_timeout_s
        super().__init__(media_type=media_type)
        del self.headers["content-length"]
        self.headers.update(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send every part as it comes."""
        with self._places:
            try:
                await unless_gone(receive, self._send_all(send))
            except ClientGoneError:
                pass
            except TimeoutError:  # a server that gives no way to cut the connection does so for an answer without end
                if abort := scope.get(ABORT):
                    abort()
                    await asyncio.sleep(0)  # so that the connection knows it is lost before we return

    async def _send_all(self, send: Send) -> None:
        begun = False
        async with aclosing(self._parts) as parts:
            async for part in parts:
                if not begun:
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    begun = True
                async with asyncio.timeout(self._stall_timeout_s):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStream(_Parts):
    """Server-sent events."""

    def __init__(self, events: AsyncGenerator[bytes], places: ExitStack, stall_timeout_s: float) -> None:
        super().__init__(events, places, stall_timeout_s, "text/event-stream", {"X-Accel-Buffering": "no"})


class LongJSON(_Parts):
    """One JSON object that may be long, and is there already; `parts` are joined as they are sent."""

    def __init__(self, parts: Sequence[bytes | bytearray], places: ExitStack, stall_timeout_s: float) -> None:
        headers = {"Content-Length": str(sum(map(len, parts)))}
        super().__init__(_portions(parts), places, stall_timeout_s, "application/json", headers)


async def _portions(parts: Sequence[bytes | bytearray]) -> AsyncGenerator[bytes]:
    """The same bytes, about `_PART_BYTES` at a time."""
    waiting = bytearray()
    for part in parts:
        for at in range(0, len(part), _PART_BYTES):
            waiting += part[at : at + _PART_BYTES]
            if len(waiting) >= _PART_BYTES:
                yield bytes(waiting)
                waiting.clear()
    yield bytes(waiting)


_SMALL_BYTES = 65_536
_DRAINED_BYTES = 50_000_000


class Drain:
    """Wraps an application."""

    def __init__(self, app: ASGIApp, patience_s: float) -> None:
        self._app, self._patience_s = app, patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and read what it has left of the body."""
        if scope["type"] != "http" or not _may_have_body(scope):
            await self._app(scope, receive, send)
            return
        headers, body = Headers(scope=scope), _Body(receive)
        declared = headers.get("content-length", "")
        is_small = declared.isdecimal() and int(declared) <= _SMALL_BYTES

        async def answer(message: Message) -> None:
            # A client that waits for `100 Continue` sends nothing before it, and need not after another answer
            comes = not body.complete and (body.begun or "expect" not in headers)
            if message["type"] == "http.response.start" and not body.complete:
                if is_small and comes:
                    await body.drain(self._patience_s)
                if not body.complete:
                    MutableHeaders(scope=message)["Connection"] = "close"
            elif message["type"] == "http.response.body" and not message.get("more_body", False) and comes:
                await send({**message, "more_body": True})
                await body.drain(self._patience_s)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self._app(scope, body.receive, answer)


def _may_have_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return (
        "transfer-encoding" in headers
        or headers.get("content-length", "0") != "0"
        or scope.get(HEAD_BYTES, 0) > MAX_HEAD_BYTES  # some headers are missing
    )


class _Body:
    """Passes a body's messages on and notices its beginning and its end, which may be the client's."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.begun = self.complete = False

    async def receive(self) -> Message:
        """The next message."""
        self.begun = True
        message = await self._receive()
        self.complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def drain(self, patience_s: float) -> None:
        """Read on to the end, in bounds."""
        seen = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not self.complete and seen < _DRAINED_BYTES:
                    seen += len((await self.receive()).get("body", b""))


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
