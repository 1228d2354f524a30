"""Many clients at once, slow ones, half ones and vanishing ones: nobody disturbs the others."""

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.live_server import Served, head_and_body, opened, serving, streamed, text_of

import storycell

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")

PROMPT = "Once upon a time "
CHARS = 200
# greedy: a barely trained model that draws would soon end its story
ENDLESS = {"prompt": PROMPT, "max_tokens": 100_000, "temperature": 0, "stream": True, "n": 8}
SOON_S = 20.0  # for what happens within milliseconds on a machine that is not busy


@pytest.fixture(scope="module")
def quick(made: Path) -> Iterator[Served]:
    """A server that waits one second where others wait ten."""
    with serving(made, request_timeout_s=1.0, stall_timeout_s=1.5) as server:
        yield server


def soon(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + SOON_S
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_many_streams_at_once_write_what_each_writes_alone(quick: Served, made: Path) -> None:
    async def all_at_once() -> list[tuple[str, float]]:
        asked = ({"prompt": PROMPT, "max_tokens": CHARS, "temperature": 0.9, "seed": seed} for seed in range(60))
        return list(await asyncio.gather(*(streamed(quick, body) for body in asked)))

    texts = [text for text, _ in asyncio.run(all_at_once())]
    model = storycell.load(made)
    for seed, text in enumerate(texts):
        if seed % 6 == 0:
            assert PROMPT + text == model.generate(PROMPT, CHARS, 0.9, seed=seed)
    assert len(set(texts)) == 60
    assert quick.streams() == 0


def test_a_seeded_text_is_the_same_under_load(quick: Served) -> None:
    asked = {"prompt": PROMPT, "max_tokens": CHARS, "temperature": 0.9, "seed": 7, "stop": ["zzz"], "logprobs": 1}
    alone = quick.post("/v1/completions", asked)["choices"]
    with opened(quick, 2_048) as other:
        other.sendall(head_and_body(ENDLESS, "localhost"))
        other.recv(100)
        assert quick.post("/v1/completions", asked)["choices"] == alone


def test_a_client_that_vanishes_frees_its_streams_at_once(quick: Served) -> None:
    for body in (ENDLESS, ENDLESS | {"stream": False}):
        connection = opened(quick)
        connection.sendall(head_and_body(body, "localhost"))
        assert soon(lambda: quick.streams() > 0)
        connection.close()
        assert soon(lambda: quick.streams() == 0)


def test_a_reader_that_takes_nothing_holds_nobody_up(served: Served) -> None:
    with opened(served, 2_048) as slow:
        slow.sendall(head_and_body(ENDLESS, "localhost"))
        assert soon(lambda: served.streams() > 0)
        served.post("/v1/completions", {"prompt": PROMPT, "max_tokens": CHARS})
        assert served.streams() > 0  # it still takes nothing
    assert soon(lambda: served.streams() == 0)


def test_a_reader_that_takes_nothing_is_cut_off(quick: Served) -> None:
    with opened(quick, 2_048) as slow:
        slow.sendall(head_and_body(ENDLESS, "localhost"))
        assert soon(lambda: quick.streams() > 0)
        assert soon(lambda: quick.streams() == 0)
        slow.settimeout(SOON_S)
        with contextlib.suppress(ConnectionResetError):
            while slow.recv(65_536):
                pass


def test_a_slow_reader_gets_its_whole_text(quick: Served, made: Path) -> None:
    asked = {"prompt": PROMPT, "max_tokens": 3_000, "temperature": 1.0, "seed": 3, "stream": True, "n": 1}
    answer = bytearray()
    with opened(quick, 2_048) as slow:
        slow.sendall(head_and_body(asked, "localhost"))
        while piece := slow.recv(700):
            answer += piece
            time.sleep(0.001)
    assert PROMPT + text_of(bytes(answer)) == storycell.load(made).generate(PROMPT, 3_000, 1.0, seed=3)


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"POST /v1/comp",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 99\r\n\r\n{"prompt":',
    ],
)
def test_half_a_request_is_not_waited_for_for_ever(quick: Served, half: bytes) -> None:
    with opened(quick) as connection:
        began = time.monotonic()
        connection.sendall(half)
        answer = bytearray()
        while piece := connection.recv(4_096):
            answer += piece
        assert time.monotonic() - began > 0.5  # and not cut off at once; `recv` waits for the end, but not for ever
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
        assert bool(answer) == half.endswith(b'{"prompt":')


def test_an_endless_head_is_cut_off(quick: Served) -> None:
    def send_on(connection: socket.socket) -> None:
        for _ in range(10_000):
            connection.sendall(b"X: " + b"y" * 1_000 + b"\r\n")

    with opened(quick) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_on(connection)


def test_long_prompts_do_not_block_the_others(quick: Served) -> None:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(opened(quick)) for _ in range(16)]
        for long in connections:
            long.sendall(head_and_body({"prompt": "Ben had 3 red. " * 6_600, "max_tokens": 1}, "localhost"))
        quick.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 5})
        answered, _, _ = select.select(connections, [], [], 0)
        assert len(answered) < len(connections)  # the others are still being read
        for long in connections:
            answer = bytearray()
            while piece := long.recv(65_536):
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200")
            assert b'"prompt_tokens":99000' in answer


def test_the_metrics_count_what_happened(quick: Served) -> None:
    def metric(name: str) -> float:
        lines = quick.request("GET", "/metrics")[2].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    before = (
        metric("storycell_chars_written_total"),
        metric('storycell_requests_total{route="/v1/completions",status="400"}'),
    )
    quick.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 50, "temperature": 1.0, "seed": 1})
    quick.refusal("/v1/completions", {})
    after = (
        metric("storycell_chars_written_total"),
        metric('storycell_requests_total{route="/v1/completions",status="400"}'),
    )
    assert 0 < after[0] - before[0] <= 50
    assert after[1] - before[1] == 1
    assert metric("storycell_first_char_seconds_count") > 0
