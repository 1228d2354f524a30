"""What goes over the wire where a request is too large or is refused early: the answer arrives, whole and in order."""

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from support.live_server import Served, opened

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")

from storycell.server.http import Drain
from storycell.server.security import MAX_HEAD_BYTES

LARGE = 6_000_000  # more than all the buffers between two programs
HEALTH = "GET /health HTTP/1.1\r\nHost: localhost\r\n"


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """The status and body of one answer, which is read to its end and no further."""
    answer = bytearray()
    while b"\r\n\r\n" not in answer:
        piece = connection.recv(1)
        assert piece, f"the connection ended within a head: {bytes(answer)!r}"
        answer += piece
    head = bytes(answer).decode().lower()
    size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    body = bytearray()
    while len(body) < size:
        piece = connection.recv(size - len(body))
        assert piece, "the connection ended within a body"
        body += piece
    return int(head.split(" ")[1]), bytes(body)


def request_head(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


EARLY = {
    "wrong path": ("POST", "/v1/nothing", {}, 404),
    "wrong method": ("PUT", "/v1/completions", {}, 405),
    "too large": ("POST", "/v1/completions", {"Content-Type": "application/json"}, 413),
    "wrong type": ("POST", "/v1/completions", {"Content-Type": "text/plain"}, 415),
    "wrong host": ("POST", "/v1/completions", {"Host": "evil.example"}, 421),
    "other origin": ("POST", "/v1/completions", {"Origin": "http://evil.example"}, 403),
    "head too long": ("POST", "/v1/completions", {"X-Long": "x" * 70_000}, 431),
}


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("kind", EARLY)
def test_who_sends_a_large_body_gets_the_early_answer_and_may_send_to_the_end(
    served: Served, kind: str, framing: str
) -> None:
    method, path, headers, expected = EARLY[kind]
    frame = {"Content-Length": str(LARGE)} if framing == "length" else {"Transfer-Encoding": "chunked"}
    with opened(served) as connection:
        connection.sendall(request_head(method, path, {"Host": "localhost"} | headers | frame))
        for _ in range(LARGE // 50_000):
            connection.sendall(b"x" * 50_000 if framing == "length" else b"C350\r\n" + b"x" * 50_000 + b"\r\n")
        if framing == "chunks":
            connection.sendall(b"0\r\n\r\n")
        assert read_answer(connection)[0] == expected
        assert connection.recv(1) == b""  # and then it is closed, in order


def test_a_missing_key_is_told_to_who_sends_a_large_body(locked: Served) -> None:
    with opened(locked) as connection:
        connection.sendall(
            request_head("POST", "/v1/completions", {"Host": "localhost", "Content-Length": str(LARGE)}) + b"x" * LARGE
        )
        assert read_answer(connection)[0] == 401
        assert connection.recv(1) == b""


def test_the_early_answer_is_there_before_the_body_has_been_sent(served: Served) -> None:
    with opened(served) as connection:
        connection.sendall(
            request_head("POST", "/v1/nothing", {"Host": "localhost", "Content-Length": str(LARGE)}) + b"x" * 100
        )
        assert read_answer(connection)[0] == 404
        connection.sendall(b"x" * (LARGE - 100))
        assert connection.recv(1) == b""


def test_who_asks_first_whether_to_send_need_not(served: Served) -> None:
    headers = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(LARGE)}
    with opened(served) as connection:
        connection.sendall(request_head("POST", "/v1/completions", headers | {"Expect": "100-continue"}))
        assert read_answer(connection)[0] == 413
        assert connection.recv(1) == b""


def test_a_connection_is_kept_after_an_early_answer_to_a_small_body(served: Served) -> None:
    with opened(served) as connection:
        for _ in range(3):
            head = request_head("POST", "/v1/nothing", {"Host": "localhost", "Content-Length": "5"})
            connection.sendall(head)
            connection.sendall(b"hello")
            assert read_answer(connection)[0] == 404
        connection.sendall(HEALTH.encode() + b"\r\n")
        assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("piece", [1_000, 10_000, 1_000_000], ids=lambda piece: f"{piece} bytes at once")
@pytest.mark.parametrize("kind", ["one header", "many headers", "path"])
@pytest.mark.parametrize("first", [False, True], ids=["after another", "first"])
def test_a_head_above_the_limit_is_refused_however_it_arrives(
    served: Served, kind: str, piece: int, first: bool
) -> None:
    def head(size: int) -> bytes:
        held = {
            "one header": f"{HEALTH}X-Long: {'x' * size}\r\n\r\n",
            "many headers": HEALTH + "X-Long: 012345678901\r\n" * (size // 18) + "\r\n",
            "path": f"GET /health?{'x' * min(size, 65_000)} HTTP/1.1\r\nHost: localhost\r\nY: {'y' * size}\r\n\r\n",
        }
        return held[kind].encode()

    small = (MAX_HEAD_BYTES - 200) // (2 if kind == "path" else 1)
    for size, expected in ((small, 200), (MAX_HEAD_BYTES + 100, 431)):
        with opened(served) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sent = (b"" if first else HEALTH.encode() + b"\r\n") + head(size)
            for at in range(0, len(sent), piece):
                connection.sendall(sent[at : at + piece])
            if not first:
                assert read_answer(connection)[0] == 200
            status, body = read_answer(connection)
            assert status == expected
            assert expected == 200 or b"longer than 65,536 bytes" in body


def test_a_head_without_end_is_cut_off(served: Served) -> None:
    with opened(served) as connection:
        connection.sendall(f"{HEALTH}X-Long: ".encode())
        with contextlib.suppress(ConnectionError):
            for _ in range(1_000):
                connection.sendall(b"x" * 10_000)
            pytest.fail("ten million bytes of one header were taken")


def drained(messages: list[dict[str, Any]], headers: dict[str, str], patience_s: float = 5.0) -> tuple[int, list[Any]]:
    """How many of these messages are read where the application answers at once, and what is sent. No more come."""
    sent: list[Any] = []
    left = list(reversed(messages))

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async def receive() -> Any:
        if not left:
            await asyncio.sleep(3_600)
        return left.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(asyncio.wait_for(Drain(application, patience_s)(scope, receive, send), 60))
    return len(messages) - len(left), sent


def piece(size: int, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


def test_patience_with_a_body_that_nobody_wants_ends() -> None:
    taken, sent = drained([piece(1_000_000)] * 100, {"transfer-encoding": "chunked"})
    assert taken == 50
    assert [message.get("more_body", False) for message in sent] == [False, True, False]
    assert (b"connection", b"close") in sent[0]["headers"]
    taken, sent = drained([piece(10)], {"content-length": "1000"}, patience_s=0.05)
    assert taken == 1
    assert sent[-1]["more_body"] is False


def test_nothing_is_read_where_nothing_was_left_and_a_small_body_is_read_first() -> None:
    assert drained([piece(1)], {})[0] == 0
    assert drained([piece(1)], {"content-length": "0"})[0] == 0
    taken, sent = drained([piece(5), piece(5, more=False), piece(1)], {"content-length": "10"})
    assert taken == 2
    assert sent == [
        {"type": "http.response.start", "status": 404, "headers": []}, {"type": "http.response.body", "body": b"no"},
    ]  # fmt: skip
    assert drained([piece(5), {"type": "http.disconnect"}, piece(1)], {"content-length": "10000000"})[0] == 2
    taken, sent = drained([piece(5)], {"content-length": "10000000", "expect": "100-continue"})
    assert taken == 0
    assert (b"connection", b"close") in sent[0]["headers"]
