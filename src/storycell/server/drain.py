"""What becomes of a request's body that nobody has read when the answer is there: an ASGI layer around everything.

A server that answers and closes while the client is still sending resets the connection, and the client then sees a
broken connection instead of the answer (401, 404, 405, 413, …). So a small body is read first, and with a large one the
answer is sent at once and in full, and the request is over only when the rest has been read and thrown away, or when
patience ends: `patience_s` seconds, or `_PATIENCE_BYTES`.
"""

import asyncio
import contextlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storycell.server.security import HEAD_BYTES, MAX_HEAD_BYTES

_SMALL_BYTES = 65_536
_PATIENCE_BYTES = 50_000_000


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
                while not self.complete and seen < _PATIENCE_BYTES:
                    seen += len((await self.receive()).get("body", b""))
