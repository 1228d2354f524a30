"""What a server is told and what it allows: addresses, the key, and a limit for everything that a client can ask for.

A server that can be reached from other machines must have a key, or be told in so many words
that anyone may use it; so a forgotten flag never opens a machine to a network.
"""

import ipaddress
import re
from dataclasses import dataclass

from storycell.errors import SettingsError

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
    max_streams: int = 512  # texts being written at once, over all requests
    max_held_streams: int = 4  # of them with a unit held: those are computed by the slow, readable loop
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
