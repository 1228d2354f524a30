"""Running the server: a socket, uvicorn on it, until a signal comes.

`on_ready` is called with the address once connections are accepted. The socket is opened here and not by uvicorn, so
that a port in use is one clear sentence and port 0 tells which one it became.
"""

import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from storycell import threads
from storycell.api import Model
from storycell.errors import SettingsError
from storycell.server.app import create_app
from storycell.server.http import Connection
from storycell.server.security import ServerSettings
from storycell.training.loop import STOPPING

_SWITCH_S = 0.001  # how long the engine's Python may keep the event loop waiting; Python's own 5 ms add up
_GRACE_S = 3  # for answers under way when the server is stopped


def serve(model: Model, settings: ServerSettings, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT (unless it is ignored) or SIGTERM; `SettingsError` if the address cannot be had."""
    threads.use(
        min(threads.default(), max(1, threads.cores() - 1))
    )  # one core stays free to answer while others generate
    sys.setswitchinterval(_SWITCH_S)
    app = create_app(model, settings)  # what does not fit is refused before anything is opened
    listener = _listener(settings.host, port)
    connection = type("TimedConnection", (Connection,), {"head_timeout_s": settings.request_timeout_s})
    config = uvicorn.Config(
        app,
        http=connection,
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=1024,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_GRACE_S,
        limit_concurrency=settings.max_connections,
    )
    server = _Server(config)
    with listener, _signals_stop(server):
        on_ready(_address(listener))
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's, which would also heed a signal that is ignored, as SIGINT is in the background of a script."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ignored = {number for number in STOPPING if signal.getsignal(number) is signal.SIG_IGN}

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, unless the signal was to be ignored."""
        if sig not in self._ignored:
            super().handle_exit(sig, frame)


def _listener(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65_536:
        raise SettingsError(f"port {port}: it must be from 0 (any that is free) to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"cannot listen on {host} port {port}: {reason}; choose another with --port") from None


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _signals_stop(server: _Server) -> Iterator[None]:
    """Within, a signal stops the server, even one that comes before uvicorn listens to signals.

    uvicorn raises the signal that stopped it once more; by then it has done its work.
    """
    heeded = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, server.handle_exit) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
