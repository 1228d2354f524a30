"""A hub on this machine: one data set repository served over real HTTP, failing on request.

In: the files as bytes, and `faults`, what the next body requests (GET) shall do instead of answering well, first one
first. Out: `endpoint` for HF_ENDPOINT and `requests`, every (method, file name, Range header) in order of arrival.

A cut and a reset are two different faults: a cut closes the connection in good order, which the client
tries again by itself; a reset drops it, which the client takes for final.
"""

from __future__ import annotations

import hashlib
import socket
import struct
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from support.local_server import LocalServer

COMMIT = "c0ffee" + "0" * 34
FOLDER = "/datasets/roneneldan/TinyStories/resolve/"
STORE = "/store/"
RESET = struct.pack("ii", 1, 0)


@dataclass
class Fault:
    """Answer with `status` if it is set; otherwise break the body off after `after` bytes, by a cut or a reset.

    `head_too`: it strikes the question before the body already, and then without any answer. `forever`: every time.
    """

    status: int = 0
    after: int = 0
    reset: bool = False
    head_too: bool = False
    forever: bool = False


@dataclass
class FakeHub(LocalServer):
    files: dict[str, bytes]
    faults: list[Fault] = field(default_factory=list)
    ranges: bool = True
    headers: bool = True
    elsewhere: bool = False  # as the real hub does with large files: it redirects to a store on another host
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def bodies(self) -> list[str | None]:
        """The Range header of every body request so far."""
        return [span for method, _, span in self.requests if method == "GET"]

    def next_fault(self, method: str) -> Fault | None:
        if not self.faults or (method == "HEAD" and not self.faults[0].head_too):
            return None
        return self.faults[0] if self.faults[0].forever else self.faults.pop(0)


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if not self.path.startswith((FOLDER, STORE)):
            return self._refuse(404)
        name = self.path.rpartition("/")[2]
        if self.hub.elsewhere and not self.path.startswith(STORE):
            return self._redirect(name)
        self.hub.requests.append((self.command, name, self.headers["Range"]))
        fault = self.hub.next_fault(self.command)
        if fault and fault.status:
            self._refuse(fault.status)
        elif name not in self.hub.files:
            self._refuse(404)
        elif fault and fault.head_too:
            self._break_off(fault)
        else:
            self._send(self.hub.files[name], fault)

    def _redirect(self, name: str) -> None:
        etag = hashlib.sha256(self.hub.files[name]).hexdigest()
        facts = {"X-Repo-Commit": COMMIT, "X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(self.hub.files[name]))}
        chunked = {"X-Xet-Hash": etag, "X-Xet-Refresh-Route": "/api/xet"}  # offers the other transfer, served nowhere
        store = f"http://localhost:{self.hub.endpoint.rpartition(':')[2]}{STORE}{name}"
        self.send_response(302)
        for key, value in {**facts, **chunked, "Location": store, "Content-Length": "0"}.items():
            self.send_header(key, value)
        self.end_headers()

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, fault: Fault | None) -> None:
        span = self.headers["Range"] if self.hub.ranges else None
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.hub.headers:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start : start + fault.after] if fault else content[start:])
            if fault:
                self._break_off(fault)

    def _break_off(self, fault: Fault) -> None:
        if fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


FakeHub.handler = _Handler
