"""The server's settings and limits, and who may talk to it: addresses, the key, an ASGI layer around everything.

A server that can be reached from other machines must have a key, or be told in so many words that anyone may use it; so
a forgotten flag never opens a machine to a network. Everything that a client can ask for has a limit.

The layer checks each request: the head must be within bounds; the Host header must name this server (a page of another
site can make its own name resolve to this machine); a request that changes something must not come from another origin;
the key, where there is one, must be right. Every answer carries the headers that keep a browser from running, framing
or leaking anything.
"""

import ipaddress
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storycell.errors import SettingsError
from storycell.server.errors import ApiError, error_response

KEY_VARIABLE = "STORYCELL_API_KEY"
_NAME = re.compile(r"[a-z0-9._-]+")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class ServerSettings:
    """Frozen; sizes are in characters (ids) unless the name says otherwise, times in seconds."""

    host: str = "127.0.0.1"
    api_key: str | None = None
    allow_anyone: bool = False
    extra_hosts: frozenset[str] = frozenset()  # names under which clients may address the server, beside its own
    max_streams: int = 512  # texts being generated at once, over all requests
    max_held_streams: int = 4  # of them with a unit held, or steered: each of those is computed by itself
    max_prompt: int = 100_000
    max_tokens: int = 100_000
    max_traced: int = 4_000
    max_body_bytes: int = 1_000_000
    max_answer_bytes: int = 100_000_000  # of an answer that is not streamed, and so kept until it is complete
    max_kept_bytes: int = 400_000_000  # of all such answers together
    max_slots: int = 1_000
    max_connections: int = 2_000
    slot_expiry_s: float = 3_600.0
    request_timeout_s: float = 10.0  # for a head, and for a body
    stall_timeout_s: float = 60.0  # for a reader that takes nothing
    steer: str | None = None  # the file of a direction that requests may add
    speakers: tuple[str, str] | None = None  # of a model of transcripts: who asks in a chat, and who answers

    def __post_init__(self) -> None:
        object.__setattr__(self, "extra_hosts", frozenset(map(plain_name, self.extra_hosts)))
        for name in self.extra_hosts:
            if not (_is_address(name) or _NAME.fullmatch(name)):
                raise SettingsError(
                    f"--allow-host {name}: give a name or an address alone as browsers send it, without scheme and port"
                )
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise SettingsError(f"{KEY_VARIABLE} holds characters that cannot be sent in a header; use plain ASCII")
        if not self.is_loopback and self.api_key is None and not self.allow_anyone:
            raise SettingsError(
                f"--host {self.host} can be reached from other machines: set {KEY_VARIABLE} to a key that clients "
                "must send, or say --allow-anyone"
            )
        if self.max_streams < 1:
            raise SettingsError(f"max_streams = {self.max_streams}: it must be at least 1")

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        host = plain_name(self.host)
        return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)

    def answers_to(self, name: str) -> bool:
        """Whether a request may address the server by this host name (without port, in any case).

        A page of another site can make its own name resolve to this machine (DNS rebinding), but it cannot make an
        address or `localhost` its own. So names must be known, and addresses are safe.
        """
        name = plain_name(name)
        if name in _LOOPBACK_NAMES or name == plain_name(self.host) or name in self.extra_hosts:
            return True
        return not self.is_loopback and _is_address(name)


def plain_name(name: str) -> str:
    """A host name or address as it is compared: in lower case, without brackets and the dot of a full name."""
    return name.strip("[]").lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


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
_PLACE = r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?"
_HOST = re.compile(_PLACE)
_ORIGIN = re.compile(f"(?P<scheme>https?)://{_PLACE}", re.IGNORECASE)
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_READS = ("GET", "HEAD", "OPTIONS")
MAX_HEAD_BYTES = 65_536
HEAD_BYTES = "storycell.head_bytes"  # in the scope: what the head holds, where the connection counts it


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
        if scope.get(HEAD_BYTES, 0) > MAX_HEAD_BYTES:  # the first check, because some of its headers are missing
            raise ApiError(431, f"the path and the headers are longer than {MAX_HEAD_BYTES:,} bytes")
        host = self._check_host(headers)
        if scope["method"] not in _READS:
            self._check_origin(headers, host)
        if self._settings.api_key is not None and scope["path"] not in self._open_paths:
            self._check_key(self._settings.api_key, headers)

    def _check_host(self, headers: Headers) -> re.Match[str]:
        given = headers.getlist("host")
        matched = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        if matched is None:
            raise ApiError(400, "the request needs one Host header, a name or an address")
        name = plain_name(matched["name"])
        if not self._settings.answers_to(name):
            raise ApiError(
                421,
                f"this server is not {name!r}; address it as it printed itself, or start it with --allow-host {name}",
            )
        return matched

    def _check_origin(self, headers: Headers, host: re.Match[str]) -> None:
        """Refuse what another page sends. The scheme says nothing: a proxy that ends TLS is https to the browser.

        Sec-Fetch-Site is the browser's own word, which no page and no proxy changes; browsers without it, and those
        that do not trust a plain http address, are told by the Origin. (The same order as in Go's
        `http.CrossOriginProtection`.) A proxy may put another name or no port into Host, so with the browser's word
        the Origin need only be a name of this server's, which also shuts out names that were made to resolve to it.
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in (None, "same-origin", "none"):
            if origin is None:
                return
            if matched := _ORIGIN.fullmatch(origin):
                default = _DEFAULT_PORTS[matched["scheme"].lower()]
                is_same = plain_name(matched["name"]) == plain_name(host["name"]) and (
                    (matched["port"] or default) == (host["port"] or default)
                )
                if is_same or (site is not None and self._settings.answers_to(plain_name(matched["name"]))):
                    return
        raise ApiError(
            403,
            "a page of another origin may not write here; if it is this server's own page behind a proxy, start the "
            "server with --allow-host and the name in the browser's address",
            code="cross_origin",
        )

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
