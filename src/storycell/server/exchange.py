"""One request and its answer on the wire: a body that is read in time and in bounds, a client that may vanish.

In: ASGI's receive and send. Out: parsed requests, streamed answers. A client that goes away cancels the work for it
at once, and one that takes nothing for too long is cut off.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import ExitStack, aclosing
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from storycell.server import schemas
from storycell.server.errors import ApiError, decoded_json, explained
from storycell.server.settings import ServerSettings

R = TypeVar("R")
Asked = TypeVar("Asked", bound=schemas.Request)
_PART_BYTES = 65_536  # of a long answer that are sent at once
ABORT = "storycell.abort"  # in the scope: a function that cuts the connection


class ClientGoneError(Exception):
    """Nobody is there to be answered."""


async def parsed(request: Request, kind: type[Asked], settings: ServerSettings) -> Asked:
    """The body of a request as `kind`; `ApiError` says what is wrong with it."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "the body must be JSON, with the header `Content-Type: application/json`")
    try:
        async with asyncio.timeout(settings.request_timeout_s):
            body = await _body(request, settings.max_body_bytes)
    except TimeoutError:
        close = {"Connection": "close"}
        raise ApiError(408, "the body did not arrive in time; send the request again", headers=close) from None
    data = decoded_json(body)
    if not isinstance(data, dict):
        raise ApiError(400, "the body must be a JSON object")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise explained(error) from None


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


class Nobody(Response):
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
