"""What a server is told and what it allows: addresses, the key, and a limit for everything that a client can ask for.

The surprising decision: a server that can be reached from other machines must have a key, or be told in so many words
that anyone may use it; so a forgotten flag never opens a machine to a network.
"""

import ipaddress
from dataclasses import dataclass

from storycell.errors import SettingsError

KEY_VARIABLE = "STORYCELL_API_KEY"
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
    max_slots: int = 1_000
    max_connections: int = 2_000
    slot_expiry_s: float = 3_600.0
    request_timeout_s: float = 10.0  # for a head, and for a body
    stall_timeout_s: float = 60.0  # for a reader that takes nothing

    def __post_init__(self) -> None:
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
        return self.host == "localhost" or (_is_address(self.host) and ipaddress.ip_address(self.host).is_loopback)

    def answers_to(self, name: str) -> bool:
        """Whether a request may address the server by this host name (without port, in lower case).

        A page of another site can make its own name resolve to this machine (DNS rebinding), but it cannot make an
        address or `localhost` its own. So names must be known, and addresses are safe.
        """
        if name in _LOOPBACK_NAMES or name == self.host or name in self.extra_hosts:
            return True
        return not self.is_loopback and _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
