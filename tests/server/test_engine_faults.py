"""Faults put into the engine: the request that meets one gets a 500, and all others their texts as if nothing was."""

import asyncio
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from support.live_server import in_this_process

import storycell
from storycell.errors import NotFiniteError
from storycell.generation.sampler import advance

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")

from storycell.server import engine as engines
from storycell.server.engine import Engine
from storycell.server.http import EventStream, LongJSON
from storycell.server.jobs import describe

PATH = "/v1/completions"
FINE = [
    {"prompt": "Once upon a time", "max_tokens": 90, "seed": seed, "temperature": 0.9, "logprobs": 1}
    for seed in range(4)
]
MARK = 7  # top_k of the request that a fault is for
FAULTY = FINE[0] | {"top_k": MARK}


@pytest.fixture(scope="module", params=["auto", "torch"])
def model(request: pytest.FixtureRequest, endless: Path) -> storycell.Model:
    return storycell.load(endless, backend=request.param)


@pytest.fixture(scope="module")
def alone(model: storycell.Model) -> list[Any]:
    """What each request gets where nothing goes wrong."""
    return run(model, FINE)


def run(model: storycell.Model, together: list[Any], *then: Any) -> list[Any]:
    """Some requests at once, then others one by one: of each the only choice, or its status and error."""

    async def scene() -> list[Any]:
        async with in_this_process(model) as ask:
            answers = await asyncio.gather(*(ask(PATH, body) for body in together))
            answers += [await ask(PATH, body) for body in then]
            while (await ask("/health", None, method="GET")).json["streams"]:  # until all have left the batch
                await asyncio.sleep(0.01)
        return [one.choice() if one.status == 200 else (one.status, one.json["error"]["message"]) for one in answers]

    return asyncio.run(asyncio.wait_for(scene(), 60))


def texts(found: list[Any]) -> list[str]:
    """Log-probabilities may differ by a rounding where the batch has another size."""
    return [choice["text"] for choice in found]


def in_batch(streams: list[Any]) -> bool:
    return any(stream.sampling.top_k == MARK for stream in streams)


def test_a_stream_that_cannot_be_written_fails_alone(
    model: storycell.Model, alone: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def faulty(lm: Any, streams: list[Any], chars: int, *, logits: bool = False, step: Any = None) -> Any:
        sizes.append(len(streams))
        if in_batch(streams):
            raise RuntimeError("injected")
        return advance(lm, streams, chars, logits=logits, step=step)

    monkeypatch.setattr(engines, "advance", faulty)
    *found, failed, again = run(model, [*FINE, FAULTY], FINE[0])
    assert failed == (500, "unexpected RuntimeError: this is a bug in storycell")
    assert texts([*found, again]) == texts([*alone, alone[0]])
    assert max(sizes) > 1  # they were written together


def test_numbers_that_are_not_finite_are_the_servers_fault_and_said(
    model: storycell.Model, alone: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(lm: Any, streams: list[Any], chars: int, *, logits: bool = False, step: Any = None) -> Any:
        if in_batch(streams):
            raise NotFiniteError("its weights are damaged")
        return advance(lm, streams, chars, logits=logits, step=step)

    monkeypatch.setattr(engines, "advance", faulty)
    *found, failed = run(model, [*FINE, FAULTY])
    assert failed == (500, "its weights are damaged")
    assert texts(found) == texts(alone)


def test_a_slice_that_cannot_be_described_fails_alone(
    model: storycell.Model, alone: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(logits: Any, ids: Any, wanted: Any, sampling: Any) -> Any:
        if sampling is not None and sampling.top_k == MARK:
            raise MemoryError
        return describe(logits, ids, wanted, sampling)

    monkeypatch.setattr(engines, "describe", faulty)
    *found, failed, again = run(model, [*FINE, FAULTY], FINE[1])
    assert failed[0] == 500
    assert texts([*found, again]) == texts([*alone, alone[1]])


@pytest.mark.parametrize("name", ["_groups", "_is_finished"])
def test_a_fault_of_the_engine_itself_leaves_nobody_waiting_and_the_next_is_served(
    model: storycell.Model, alone: list[Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    right, left = getattr(engines, name), [1]

    def faulty(*arguments: Any) -> Any:
        if left and left.pop():
            raise KeyError("injected")
        return right(*arguments)

    monkeypatch.setattr(engines, name, faulty)
    *found, again = run(model, FINE, FINE[2])
    assert (500, "unexpected KeyError: this is a bug in storycell") in found
    served = [k for k, one in enumerate(found) if not isinstance(one, tuple)]
    assert texts([found[k] for k in served]) == texts([alone[k] for k in served])
    assert again["text"] == alone[2]["text"]


def test_a_chore_that_fails_at_its_work_or_at_its_end_fails_alone(endless: Path) -> None:
    lm = storycell.load(endless).network

    def broken() -> Generator[None, None, int]:
        yield
        raise OSError("injected")

    def stubborn() -> Generator[None, None, int]:
        try:
            while True:
                yield
        finally:
            raise ValueError("injected at its end")

    def fine() -> Generator[None, None, int]:
        yield
        return 5

    async def scene() -> None:
        engine = Engine(lm)
        engine.start(asyncio.get_running_loop())
        try:
            gone = asyncio.ensure_future(engine.run(stubborn()))
            await asyncio.sleep(0.05)
            gone.cancel()
            results = await asyncio.gather(*(engine.run(c()) for c in (broken, fine, fine)), return_exceptions=True)
            assert repr(results) == "[OSError('injected'), 5, 5]"
            assert await engine.run(fine()) == 5
        finally:
            engine.stop()

    asyncio.run(asyncio.wait_for(scene(), 60))


@pytest.mark.parametrize("begun", [False, True])
def test_a_stream_that_breaks_has_a_status_or_ends_in_an_error(
    model: storycell.Model, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    calls = [0]

    def faulty(lm: Any, streams: list[Any], chars: int, *, logits: bool = False, step: Any = None) -> Any:
        calls[0] += 1
        if calls[0] > 2 * begun:
            raise RuntimeError("injected")
        return advance(lm, streams, chars, logits=logits, step=step)

    monkeypatch.setattr(engines, "advance", faulty)

    async def scene() -> Any:
        async with in_this_process(model) as ask:
            return await ask(PATH, FINE[0] | {"stream": True})

    answer = asyncio.run(asyncio.wait_for(scene(), 60))
    if begun:
        assert answer.status == 200
        *_, last, nothing = answer.content.split(b"\n\n")
        assert nothing == b""
        assert "unexpected RuntimeError" in json.loads(last.removeprefix(b"data: "))["error"]["message"]
    else:
        assert answer.status == 500
        assert "unexpected RuntimeError" in answer.json["error"]["message"]


@pytest.mark.parametrize("cut", [[], [True]], ids=["any server", "ours"])
def test_a_reader_that_stalls_is_left_whatever_server_runs_the_application(cut: list[bool]) -> None:
    from contextlib import ExitStack

    calls: list[str] = []

    async def events() -> Any:
        try:
            while True:
                yield b"data: 1\n\n"
        finally:
            calls.append("closed")

    async def scene() -> None:
        places = ExitStack()
        places.callback(calls.append, "left")
        sent: list[str] = []

        async def send(message: Any) -> None:
            sent.append(message["type"])
            if len(sent) > 3:
                await asyncio.sleep(3_600)

        async def receive() -> Any:
            await asyncio.sleep(3_600)

        scope = {"type": "http"} | ({"storycell.abort": lambda: calls.append("cut")} if cut else {})
        await EventStream(events(), places, 0.05)(scope, receive, send)
        assert sent == ["http.response.start", *["http.response.body"] * 3]

    asyncio.run(asyncio.wait_for(scene(), 60))
    assert calls == ["closed", *(["cut"] if cut else []), "left"]


def test_a_long_answer_goes_out_in_portions_that_are_all_of_it() -> None:
    from contextlib import ExitStack

    parts = [b"a" * 10, bytearray(b"b" * 200_000), b"", b"c" * 70_000]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.sleep(3_600)

    async def scene() -> None:
        await LongJSON(parts, ExitStack(), 5.0)({"type": "http"}, receive, send)

    asyncio.run(asyncio.wait_for(scene(), 60))
    whole = b"".join(parts)
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(whole)).encode()
    assert b"".join(message["body"] for message in sent[1:]) == whole
    assert max(len(message["body"]) for message in sent[1:]) < 2 * 65_536
    assert len(sent) > 4
