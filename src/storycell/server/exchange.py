"""One request and its answer on the wire: a body that is read in time and in bounds, a client that may vanish.

In: ASGI's receive and send. Out: parsed requests, streamed answers. A client that goes away cancels the work for it
at once, and one that takes nothing for too long is cut off.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
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
_PATIENCE_BYTES = 50_000_000  # of a body that is too large
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
    """The whole body. What is too large is read to its end (within reason) and forgotten: a client that is still
    sending when the connection closes would see that, and never the answer that says why."""
    body, seen, more = bytearray(), 0, True
    while more and seen <= most + _PATIENCE_BYTES:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece = message.get("body", b"")
        seen += len(piece)
        if seen <= most:
            body += piece
        more = message.get("more_body", False)
    if seen > most:
        raise ApiError(413, f"the body is larger than {most:,} bytes", headers={"Connection": "close"})
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


class EventStream(Response):
    """Server-sent events; the iterator is closed when the client is gone or takes nothing for `stall_timeout_s`.

    `places` is left at the end, however it comes.
    """

    def __init__(self, events: AsyncGenerator[bytes], places: ExitStack, stall_timeout_s: float) -> None:
        self._events, self._places, self._stall_timeout_s = events, places, stall_timeout_s
        super().__init__(media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send every event as it comes."""
        with self._places:
            try:
                await unless_gone(receive, self._send_all(send))
            except ClientGoneError:
                pass
            except TimeoutError:
                scope[ABORT]()
                await asyncio.sleep(0)  # so that the connection knows it is lost before we return

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._events) as events:
            async for event in events:
                async with asyncio.timeout(self._stall_timeout_s):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
