"""Real servers for the tests: a process of its own on a free port of the loopback address, and raw requests to it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAM = """
import json, sys
from storycell import api
from storycell.server.security import ServerSettings
from storycell.server.serve import serve
settings = ServerSettings(**json.loads(sys.argv[2]))
serve(api.load(sys.argv[1]), settings, 0, lambda url: print(url, flush=True))
"""
START_S = 60  # a busy machine may take long to import torch


@dataclass(frozen=True)
class Answer:
    """What the application answered."""

    status: int
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    def choice(self) -> Any:
        """The only choice of a completion that must be a success."""
        assert self.status == 200, self.content
        [choice] = self.json["choices"]
        return choice


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    url: str
    process: "subprocess.Popen[str]"

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request over a plain connection: status, headers, body."""
        import http.client

        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            sent = (
                {"Content-Type": "application/json"} | dict(headers or {}) if method == "POST" else dict(headers or {})
            )
            content = raw if raw is not None else None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any, **keywords: Any) -> Any:
        """The JSON of an answer that must be a success."""
        status, _, content = self.request("POST", path, body, **keywords)
        assert status in (200, 201), content
        return json.loads(content)

    def refusal(
        self, path: str, body: Any = None, *, raw: bytes | None = None, method: str = "POST"
    ) -> tuple[int, str]:
        """The status and message of an answer that must be an error in OpenAI's shape."""
        status, _, content = self.request(method, path, body, raw=raw)
        error = json.loads(content)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert 400 <= status < 500, content
        assert error["message"]
        return status, error["message"]

    def streams(self) -> int:
        """How many texts are being written now."""
        return int(json.loads(self.request("GET", "/health")[2])["streams"])


@contextmanager
def serving(run: Path | str, key: str | None = None, **settings: Any) -> Iterator[Served]:
    """A server with these settings, until the block ends."""
    environment = {name: value for name, value in os.environ.items() if name != "STORYCELL_API_KEY"}
    settings |= {} if key is None else {"api_key": key}
    words = [sys.executable, "-c", _PROGRAM, str(run), json.dumps(settings)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment | {"OMP_NUM_THREADS": "1"})
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), "the server did not start"
        yield Served(url, process)
    finally:
        process.terminate()
        assert process.wait(START_S) == 0
        if process.stdout is not None:
            process.stdout.close()


def head_and_body(body: Any, host: str, key: str = "none") -> bytes:
    """The bytes of a completion request."""
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content


def opened(served: Served, receive_buffer: int | None = None) -> socket.socket:
    """A bare connection, with a small buffer where a reader is to be slow."""
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(30)
    connection.connect(served.address)
    return connection


def text_of(answer: bytes) -> str:
    """The text in a streamed answer as it came over the wire; the stream must be complete."""
    assert answer.startswith(b"HTTP/1.1 200"), answer[:300]
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"), answer[-300:]
    events = [line for line in answer.split(b"\n") if line.startswith(b"data: {")]
    return "".join(choice["text"] for event in events for choice in json.loads(event[6:])["choices"])


async def streamed(served: Served, body: Any) -> tuple[str, float]:
    """One streamed completion: its text, and the seconds to its first character."""
    loop = asyncio.get_running_loop()
    host, port = served.address
    began, first_s, answer = loop.time(), 0.0, bytearray()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head_and_body(body | {"stream": True}, host))
    while piece := await reader.read(65_536):
        answer += piece
        if not first_s and b"data: {" in answer:
            first_s = loop.time() - began
    writer.close()
    await writer.wait_closed()
    return text_of(bytes(answer)), first_s


@asynccontextmanager
async def in_this_process(model: Any, **settings: Any) -> AsyncIterator[Callable[..., Awaitable[Answer]]]:
    """The application itself, without a network; gives a function that asks it."""
    from storycell.server.app import create_app
    from storycell.server.security import ServerSettings

    app = create_app(model, ServerSettings(**settings))

    async def ask(path: str, body: Any, method: str = "POST") -> Answer:
        return await asked(app, path, body, method)

    async with app.router.lifespan_context(app):
        yield ask


async def asked(app: Any, path: str, body: Any, method: str = "POST") -> Answer:
    """One request to an ASGI application. (What Starlette raises again after a 500 is left out.)"""
    content = json.dumps(body).encode()
    headers = {"host": "localhost", "content-type": "application/json", "content-length": str(len(content))}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": None, "server": None,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    waiting, sent = [{"type": "http.request", "body": content, "more_body": False}], list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        while not waiting:
            await asyncio.sleep(3_600)  # the client stays
        return waiting.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    def is_over() -> bool:
        return bool(sent) and sent[-1]["type"] == "http.response.body" and not sent[-1].get("more_body", False)

    try:
        await app(scope, receive, send)
    except Exception:
        if not is_over():
            raise
    assert is_over()
    return Answer(sent[0]["status"], b"".join(message["body"] for message in sent[1:]))
