"""What is told of each character: as it was drawn, as the model has it, where it stands, how much of it may be kept."""

import asyncio
import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.live_server import in_this_process

import storycell
from storycell import Sampling
from storycell.data.vocab import BYTES
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY, UNKNOWN

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")

from storycell.server.completions import GrowingChoice, Said
from storycell.server.engine import MOST, Engine
from storycell.server.jobs import Wanted, describe

PROMPT = "Once upon a time Ann"
SMALL = 1e-4  # float32 logits through two paths of the backend
FILTERS = [
    {"temperature": 1.0},
    {"temperature": 0.6},
    {"temperature": 1.3, "top_k": 3},
    {"temperature": 1.0, "top_p": 0.6},
    {"temperature": 0.9, "min_p": 0.3},
    {"temperature": 1.1, "top_k": 9, "top_p": 0.8, "min_p": 0.05},
    {"temperature": 0.0},
]


@pytest.fixture(scope="module")
def model(endless: Path) -> storycell.Model:
    return storycell.load(endless)


@pytest.fixture(scope="module")
def byte_model(endless: Path) -> storycell.Model:
    """A model of bytes with random weights: much of what it writes is no UTF-8."""
    known = storycell.load(endless)
    lm = CharLM(len(BYTES), 8, 1, "lstm", embedding_size=4, seed=3).eval()
    with torch.no_grad():
        lm.output.bias[BOUNDARY] = -20.0
    return storycell.Model(TorchModel(lm), BYTES, known.config, known.path)


def answered(model: storycell.Model, *bodies: Any, **settings: Any) -> list[Any]:
    """The answers of one server to some completion requests."""

    async def scene() -> list[Any]:
        async with in_this_process(model, **settings) as ask:
            return [await ask("/v1/completions", body) for body in bodies]

    return asyncio.run(scene())


def choice_of(model: storycell.Model, **body: Any) -> Any:
    [answer] = answered(model, {"prompt": PROMPT, "max_tokens": 40, "seed": 2} | body)
    return answer.choice()


def logits_of(model: storycell.Model, text: str) -> Any:
    """The logits each character of a text was drawn from, `[T V]`, and its ids."""
    ids = model.vocab.encode(text).astype(np.int64)
    with model.lm.reading():
        logits, _ = model.lm(torch.tensor([[BOUNDARY, *ids[:-1]]]))
    return logits[0].numpy(), ids


@pytest.mark.parametrize("how", FILTERS, ids=str)
def test_logprobs_are_of_the_probabilities_that_were_drawn_from(model: storycell.Model, how: dict[str, Any]) -> None:
    choice = choice_of(model, logprobs=4, **how)
    logits, ids = logits_of(model, PROMPT + choice["text"])
    p = Sampling(**how).probabilities(logits)[len(PROMPT) :]
    written = ids[len(PROMPT) :]
    found = choice["logprobs"]
    assert found["tokens"] == list(choice["text"])
    assert found["text_offset"] == list(range(len(choice["text"])))
    assert np.exp(found["token_logprobs"]) == pytest.approx(p[np.arange(len(written)), written], abs=SMALL)
    for token, logprob, top, row in zip(
        found["tokens"], found["token_logprobs"], found["top_logprobs"], p, strict=True
    ):
        assert top[token] == logprob
        possible = int(np.count_nonzero(row))
        assert min(4, possible) <= len(top) <= min(5, possible)
        best = sorted((math.exp(one) for one in top.values()), reverse=True)[:4]
        assert best == pytest.approx(sorted(row, reverse=True)[: len(best)], abs=SMALL)


def test_the_drawn_character_is_among_the_likeliest_always(model: storycell.Model) -> None:
    for likeliest in (0, 1, 2):
        found = choice_of(model, logprobs=likeliest, temperature=1.5, max_tokens=80)["logprobs"]
        sizes = {len(top) for top in found["top_logprobs"]}
        assert sizes == ({1} if likeliest == 0 else {likeliest, likeliest + 1})
        for token, logprob, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
            assert top[token] == logprob


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=4, max_size=12),
    st.sampled_from(FILTERS),
    st.integers(0, 5),
    st.integers(0, 11),
)
def test_what_is_told_can_be_sent_as_json_whatever_was_drawn(
    row: list[float], how: dict[str, Any], top: int, k: int
) -> None:
    logits = np.array([row], dtype=np.float32)
    drawn = k % len(row)
    [one] = describe(logits, [drawn], Wanted(top, nats=True), Sampling(**how))
    assert json.dumps([one.logprob, one.top, one.nats], allow_nan=False)
    assert drawn in dict(one.top)
    assert len(one.top) <= top + 1
    assert UNKNOWN not in dict(one.top) or drawn == UNKNOWN
    expected = math.log(sum(math.exp(other - row[drawn]) for other in row))
    assert one.nats == pytest.approx(expected, abs=1e-6)


def test_an_echoed_prompt_is_told_as_the_model_has_it_and_its_first_character_as_openai_does(
    model: storycell.Model,
) -> None:
    choice = choice_of(model, logprobs=2, echo=True, temperature=0.3, top_k=2, max_tokens=5)
    found, nats = choice["logprobs"], model.score(PROMPT)
    assert (found["token_logprobs"][0], found["top_logprobs"][0]) == (None, None)
    assert found["token_logprobs"][1 : len(PROMPT)] == pytest.approx([-one for one in nats[1:]], abs=SMALL)
    assert all(found["token_logprobs"][len(PROMPT) + k] is not None for k in range(5))
    assert found["text_offset"] == list(range(len(PROMPT) + 5))
    for token, logprob, top in list(zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True))[
        1:
    ]:
        assert top[token] == logprob
    bare = choice_of(model, prompt="", logprobs=0, echo=True, max_tokens=3)
    assert None not in bare["logprobs"]["token_logprobs"]  # nothing is echoed


def test_the_surprise_of_each_character_is_the_models_own_whatever_it_was_drawn_with(model: storycell.Model) -> None:
    for how in FILTERS:
        choice = choice_of(model, score=True, echo=True, **how)
        assert choice["logprobs"] is None
        assert choice["nats"] == pytest.approx(list(model.score(choice["text"])), abs=SMALL + 5e-5)
    assert "nats" not in choice_of(model)


def test_a_long_echo_says_the_same_as_a_short_one_slice_by_slice(model: storycell.Model) -> None:
    prompt = "Ben had 3 red. " * 50
    choice = choice_of(model, prompt=prompt, echo=True, logprobs=1, score=True, max_tokens=0)
    assert choice["text"] == prompt
    assert choice["nats"] == pytest.approx(list(model.score(prompt)), abs=SMALL + 5e-5)
    assert choice["logprobs"]["text_offset"] == list(range(len(prompt)))
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_offsets_and_surprises_count_characters_with_a_vocabulary_of_bytes(
    byte_model: storycell.Model, stream: bool
) -> None:
    prompt = "é! 😀"
    body = {"prompt": prompt, "max_tokens": 60, "seed": 1, "echo": True, "logprobs": 1, "score": True}
    [answer] = answered(byte_model, body | {"stream": stream})
    if stream:
        lines = [line[6:] for line in answer.content.decode().split("\n\n") if line.startswith("data: {")]
        parts = [json.loads(line)["choices"][0] for line in lines]
        text = "".join(part["text"] for part in parts)
        offsets = [at for part in parts for at in part["logprobs"]["text_offset"]]
        nats = [one for part in parts for one in part["nats"]]
    else:
        choice = answer.choice()
        text, offsets, nats = choice["text"], choice["logprobs"]["text_offset"], choice["nats"]
    assert text.startswith(prompt)
    assert offsets[: len(prompt.encode())] == [0, 0, 1, 2, 3, 3, 3, 3]
    assert offsets == sorted(offsets)
    assert len(offsets) == len(prompt.encode()) + 60
    assert set(offsets) == set(range(len(text)))
    assert len(nats) == len(text)
    of_bytes = byte_model.score(prompt)
    assert nats[0] == pytest.approx(of_bytes[0] + of_bytes[1], abs=1e-3)


def test_a_stop_of_several_bytes_is_not_counted_and_not_in_the_saved_state(byte_model: storycell.Model) -> None:
    wanted = "aéb"
    ids = BYTES.encode(wanted).tolist()
    with torch.no_grad():
        lm = CharLM(len(BYTES), 8, 1, "lstm", embedding_size=4, seed=3).eval()
    fixed = storycell.Model(TorchModel(lm), BYTES, byte_model.config, byte_model.path)

    def write(_: Any, streams: list[Any], chars: int, logits: bool = False, step: Any = None) -> list[Any]:
        written = []
        for stream in streams:
            at = getattr(stream, "at", 0)
            piece = ids[at : at + chars]
            stream.at, stream.next_id = at + len(piece), piece[-1] if piece else stream.next_id
            rows = np.zeros((len(piece), len(BYTES)), dtype=np.float32)
            written.append(storycell.generation.sampler.Sampled(piece, rows if logits else None))
            stream.ended = stream.at >= len(ids)
        return written

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storycell.server.engine.advance", write)
        body = {"prompt": "", "stop": ["é"], "save_state": True, "logprobs": 0}
        [answer] = answered(fixed, body)
    choice = answer.choice()
    assert (choice["text"], choice["finish_reason"]) == ("a", "stop")
    assert answer.json["usage"]["completion_tokens"] == 1
    assert choice["logprobs"]["tokens"] == ["a"]


# ---- how much is kept


def said(chars: int, likeliest: int) -> Said:
    text = "é" * chars
    tops = [{f"x{k}": -1.25 for k in range(likeliest)} for _ in text]
    logprobs = {
        "tokens": list(text), "token_logprobs": [-0.5] * chars, "top_logprobs": tops, "text_offset": [7] * chars,
    }  # fmt: skip
    return Said(0, text, logprobs, [0.25] * chars, None)


def test_a_choice_that_grows_is_the_json_of_the_whole() -> None:
    choice, parts = GrowingChoice(), [said(3, 2), said(0, 0), said(2, 1)]
    for part in parts:
        choice.add(part)
    found = json.loads(b"".join(choice.parts(4, "state-x")))
    assert found["text"] == "ééééé"
    assert found["logprobs"] == {
        name: [value for part in parts for value in (part.logprobs or {})[name]]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    }
    assert found["nats"] == [0.25] * 5
    assert (found["index"], found["state"], found["finish_reason"]) == (4, "state-x", None)
    assert json.loads(b"".join(GrowingChoice().parts(0, None))) == {
        "index": 0, "text": "", "finish_reason": None, "logprobs": None,
    }  # fmt: skip


def test_a_choice_keeps_little_more_than_its_json_and_adding_to_it_copies_nothing() -> None:
    """The peak while a part is added to a long text is what the part costs, not what the text costs."""
    choice, part = GrowingChoice(), said(32, 20)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(400):
            choice.add(part)
        kept = tracemalloc.get_traced_memory()[0] - before
        peaks = []
        for _ in range(100):
            tracemalloc.reset_peak()
            now = tracemalloc.get_traced_memory()[0]
            choice.add(part)
            peaks.append(tracemalloc.get_traced_memory()[1] - now)
    finally:
        tracemalloc.stop()
    size = sum(map(len, choice.parts(0, None)))
    assert kept < 1.3 * size  # a list that grows has an eighth in reserve
    assert sorted(peaks)[50] < size / 20  # a few parts' worth; a copy would be all of it


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"logprobs": 0},
        {"logprobs": 20},
        {"logprobs": 20, "score": True, "echo": True, "n": 3},
        {"score": True, "prompt": ["Ann", "Ben"], "n": 2, "echo": True},
    ],
    ids=str,
)
def test_no_answer_is_longer_than_what_is_reserved_for_it(
    model: storycell.Model, byte_model: storycell.Model, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reserved: list[int] = []
    kept = storycell.server.service.Service.kept

    def noted(service: Any, answer_bytes: int) -> Any:
        reserved.append(answer_bytes)
        return kept(service, answer_bytes)

    monkeypatch.setattr("storycell.server.service.Service.kept", noted)
    for one in (model, byte_model):
        [answer] = answered(one, {"prompt": "Once", "max_tokens": 300, "seed": 1, "temperature": 1.5} | body)
        assert answer.status == 200
        choices = json.dumps(answer.json["choices"], separators=(",", ":"), ensure_ascii=False).encode()
        assert len(choices) <= reserved[-1] + 200 * len(answer.json["choices"])


def test_what_one_answer_and_all_may_keep_is_bounded_and_said(model: storycell.Model) -> None:
    large = {"prompt": "Once", "max_tokens": 100_000, "logprobs": 20, "n": 2, "seed": 1}

    async def scene() -> None:
        async with in_this_process(model, max_kept_bytes=60_000) as ask:
            refused = await ask("/v1/completions", large)
            assert refused.status == 400
            message = refused.json["error"]["message"]
            assert "at most 100,000,000" in message
            assert '"stream": true' in message
            busy = await ask("/v1/completions", {"prompt": "Once", "max_tokens": 100, "logprobs": 20})
            assert busy.status == 429
            streamed = {"prompt": "Once", "max_tokens": 100, "logprobs": 20, "stream": True}
            assert (await ask("/v1/completions", streamed)).status == 200
            for _ in range(5):  # what was reserved is given back
                small = {"prompt": "Once", "max_tokens": 50, "logprobs": 20}
                assert (await ask("/v1/completions", small)).status == 200

    asyncio.run(scene())


def test_a_reader_who_is_behind_has_the_fewer_characters_waiting_the_more_is_told_of_each(
    model: storycell.Model,
) -> None:
    engine = Engine(model.network)
    capacity: Callable[[int | None], int] = lambda likeliest: engine.outbox(3, Wanted(likeliest)).capacity  # noqa: E731
    assert capacity(None) == capacity(0)
    assert capacity(20) * 21 <= capacity(0)
    assert capacity(20) >= 3 * MOST  # a slice fits
