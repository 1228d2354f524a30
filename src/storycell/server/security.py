"""Who may talk to the server, and what a browser is told about what it gets: an ASGI layer around everything.

In: any request. Out: the same to the application, or a refusal. The checks: the Host header must name this server (a
page of another site can make its own name resolve to this machine); a write must not come from another origin; the
key, where there is one, must be right. Every answer carries the headers that keep a browser from running, framing or
leaking anything.
"""

import re
import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storycell.server.errors import ApiError, error_response
from storycell.server.settings import ServerSettings

_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
_READS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Wraps an application; refuses before the application sees anything. `open_paths` need no key."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, open_paths: frozenset[str]) -> None:
        self._app, self._settings, self._open_paths = app, settings, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
        except ApiError as error:
            await error_response(error)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["method"] not in _READS:
            self._check_origin(scope, headers)
        if self._settings.api_key is not None and scope["path"] not in self._open_paths:
            self._check_key(self._settings.api_key, headers)

    def _check_host(self, headers: Headers) -> None:
        given = headers.getlist("host")
        matched = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        if matched is None:
            raise ApiError(400, "the request needs one Host header, a name or an address")
        name = matched["name"].strip("[]").lower().rstrip(".")
        if not self._settings.answers_to(name):
            raise ApiError(
                421,
                f"this server is not {name!r}; address it as it printed itself, or start it with --allow-host {name}",
            )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        own = f"{scope['scheme']}://{headers['host']}".lower()
        if site not in (None, "same-origin", "none") or (origin is not None and origin.lower() != own):
            raise ApiError(403, "a page of another origin may not write here", code="cross_origin")

    def _check_key(self, key: str, headers: Headers) -> None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        given_bytes = given.strip().encode("latin-1")
        if not (scheme.lower() == "bearer" and secrets.compare_digest(given_bytes, key.encode())):
            raise ApiError(
                401,
                "the key is missing or wrong; send it as `Authorization: Bearer KEY`",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
