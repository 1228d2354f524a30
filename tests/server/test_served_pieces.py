"""A served model of word pieces: tokens are its pieces, prompts may end anywhere, and surprises are of characters."""

import asyncio
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.browser import needs_chromium, open_browser
from support.live_server import Answer, in_this_process, serving
from support.piece_models import WITHIN_A_STORY, train_pieces
from support.tiny_runs import endless

import storycell
from storycell import Sampling
from storycell.generation import sampler
from storycell.generation.generate import find_unsettled
from storycell.inspect.steering import Direction
from storycell.types import BOUNDARY

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")
pytest.importorskip("tokenizers", reason="the extra storycell[pieces] is not installed")

from storycell.server.jobs import log_softmax

SMALL = 1e-3  # surprises have four digits


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> storycell.Model:
    """One that has learnt a little: its texts differ from seed to seed."""
    return train_pieces(tmp_path_factory.mktemp("served"))


def ask(model: storycell.Model, *requests: tuple[str, Any], **settings: Any) -> list[Answer]:
    async def scene() -> list[Answer]:
        async with in_this_process(model, **settings) as call:
            return [await call(path, body) for path, body in requests]

    return asyncio.run(scene())


def complete(model: storycell.Model, **body: Any) -> Any:
    [answer] = ask(model, ("/v1/completions", body))
    return answer.choice()


def streamed(answer: Answer) -> list[dict[str, Any]]:
    """The parts of a streamed answer's only choice, put together."""
    assert answer.status == 200, answer.content
    events = [json.loads(line[6:]) for line in answer.content.split(b"\n\n") if line.startswith(b"data: {")]
    return [event["choices"][0] for event in events]


@pytest.mark.parametrize("prompt", WITHIN_A_STORY)
def test_a_text_is_what_sample_makes_of_the_seed(model: storycell.Model, prompt: str) -> None:
    for how in ({"temperature": 0.9}, {"temperature": 1.2, "top_k": 20}, {"temperature": 0.0}):
        body = {"prompt": prompt, "max_tokens": 30, "seed": 3, "n": 3, **how}
        [answer] = ask(model, ("/v1/completions", body))
        for k, choice in enumerate(answer.json["choices"]):
            sampling = Sampling(how["temperature"], how.get("top_k"))
            whole = prompt + "".join(model.stream(prompt, 300, sampling=sampling, seed=3 + k))
            assert whole.startswith(prompt + choice["text"])
            assert choice["finish_reason"] == "stop" or len(choice["text"]) >= 30
            assert choice["finish_reason"] == "length" or prompt + choice["text"] == whole


def test_streamed_or_echoed_the_text_is_the_same(model: storycell.Model) -> None:
    for prompt in WITHIN_A_STORY:
        body = {"prompt": prompt, "max_tokens": 25, "seed": 5, "temperature": 1.1, "score": True, "logprobs": 2}
        plain, echoed, parts, echoed_parts = ask(
            model,
            ("/v1/completions", body),
            ("/v1/completions", body | {"echo": True}),
            ("/v1/completions", body | {"stream": True}),
            ("/v1/completions", body | {"stream": True, "echo": True}),
        )
        text = plain.choice()["text"]
        assert echoed.choice()["text"] == prompt + text
        for whole, some in ((plain, parts), (echoed, echoed_parts)):
            pieces = streamed(some)
            assert "".join(part["text"] for part in pieces) == whole.choice()["text"]
            assert [one for part in pieces for one in part["nats"]] == whole.choice()["nats"]
            for part in pieces:
                assert len(part["nats"]) == len(part["text"])
            for name, values in whole.choice()["logprobs"].items():
                assert [one for part in pieces for one in part["logprobs"][name]] == values
        assert len(plain.choice()["nats"]) == len(text)
        assert echoed.choice()["nats"][len(prompt) :] == pytest.approx(plain.choice()["nats"], abs=SMALL)


def test_tokens_are_pieces_and_tell_where_they_stand(model: storycell.Model) -> None:
    prompt = "Once upon a ti"
    [answer] = ask(
        model, ("/v1/completions", {"prompt": prompt, "max_tokens": 12, "seed": 1, "logprobs": 3, "echo": True})
    )
    choice, told = answer.choice(), answer.choice()["logprobs"]
    offsets = told["text_offset"]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0
    for token, at, after in zip(told["tokens"], offsets, [*offsets[1:], len(choice["text"])], strict=True):
        assert choice["text"][at:after] == token
        assert token in model.vocab.texts
    assert max(map(len, told["tokens"])) > 1
    assert told["token_logprobs"][0] is None
    for token, logprob, top in list(zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True))[1:]:
        assert top[token] == logprob
    usage = answer.json["usage"]
    assert usage["prompt_tokens"] == len(model.vocab.encode(prompt))
    written = [at for at, token in zip(offsets, told["tokens"], strict=True) if at + len(token) > len(prompt)]
    assert usage["completion_tokens"] == len(written) <= 12
    assert choice["finish_reason"] == "stop" or len(written) == 12
    assert choice["text"].startswith("Once upon a time")


def test_without_echo_the_piece_that_the_prompt_began_is_told_with_what_it_adds(model: storycell.Model) -> None:
    body = {"prompt": "Once upon a ti", "max_tokens": 6, "seed": 1, "logprobs": 0}
    choice = complete(model, **body)
    assert choice["logprobs"]["tokens"][0].endswith("time")
    assert choice["logprobs"]["text_offset"][:2] == [0, 2]
    assert choice["text"].startswith("me")


def test_the_surprises_of_a_text_add_up_to_its_loss(model: storycell.Model) -> None:
    """Of settled pieces; what is drawn is scored as the ids that were drawn."""
    body = {"prompt": "Once upon a ti", "max_tokens": 20, "seed": 2, "temperature": 1.0, "score": True, "echo": True}
    choice = complete(model, **body, logprobs=0)
    ids = [{text: k for k, text in enumerate(model.vocab.texts, 2)}[token] for token in choice["logprobs"]["tokens"]]
    logits, _ = model.network.logits(np.array([[BOUNDARY, *ids[:-1]]]))
    nats = model.vocab.spell_nats(log_softmax(logits[0]), np.array(ids))
    assert choice["nats"] == pytest.approx(nats.tolist(), abs=SMALL)


def test_what_may_follow_has_the_probabilities_of_all_its_ways(model: storycell.Model) -> None:
    vocab, network, prompt = model.vocab, model.network, "Once upon a time Anna had 1"
    [answer] = ask(model, ("/v1/next", {"prompt": prompt, "top": 200, "temperature": 1.0, "score": True}))
    found = {one["text"]: one["probability"] for one in answer.json["next"]}
    assert len(found) == len(answer.json["next"])
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
    drawn: dict[str | None, int] = {}
    settled, unsettled = find_unsettled(vocab, *vocab.prompt_ids(prompt))
    assert unsettled is not None
    streams = sampler.start_streams(network, settled, Sampling(1.0), list(range(3000)), unsettled=unsettled)
    for stream in streams:
        ids = list(stream.healed)
        if vocab.count_chars(ids) == len(unsettled.text):
            [one] = sampler.advance(network, [stream], 1)
            ids += one.ids
        text = None if stream.ended else vocab.decode(ids)[len(unsettled.text) :]
        drawn[text] = drawn.get(text, 0) + 1
    for text, p in found.items():
        assert drawn.get(text, 0) / 3000 == pytest.approx(p, abs=4 * math.sqrt(p / 3000) + 2e-3)
    assert set(drawn) <= set(found)


def test_the_surprise_of_a_prompts_end_takes_into_account_that_words_go_on(model: storycell.Model) -> None:
    whole, part = "Once upon a time Anna had 3 balls.", "Once upon a ti"
    answers = ask(model, *(("/v1/next", {"prompt": text, "score": True}) for text in (whole, part)))
    long, short = (answer.json["nats"] for answer in answers)
    assert (len(long), len(short)) == (len(whole), len(part))
    assert short == pytest.approx(long[: len(part)], abs=0.2)  # the letters are as they were before the rest was there
    assert sum(short[-3:]) < 1


@pytest.mark.parametrize("cut", [5, 13, 14, 20])
def test_going_on_from_a_saved_state_is_going_on_from_the_text(model: storycell.Model, cut: int) -> None:
    text = "Once upon a time Anna had 3 ba"
    asked = {"max_tokens": 20, "seed": 4, "temperature": 0.9, "score": True}

    async def scene() -> None:
        async with in_this_process(model) as call:
            expected = (await call("/v1/completions", {"prompt": text, **asked})).choice()
            saved = (await call("/v1/states", {"prompt": text[:cut]})).json
            assert saved["chars"] == cut
            for extra in ({}, {"echo": True}):
                body = {"prompt": text[cut:], "state": saved["id"], **asked, **extra}
                found = (await call("/v1/completions", body)).choice()
                assert found["text"] == (text[cut:] if extra else "") + expected["text"]
                assert len(found["nats"]) == len(found["text"])
            fork = (await call(f"/v1/states/{saved['id']}/fork", {})).json
            further = (await call("/v1/states", {"prompt": text[cut:], "state": fork["id"]})).json
            assert further["chars"] == len(text)
            found = (await call("/v1/completions", {"prompt": "", "state": further["id"], **asked})).choice()
            assert found["text"] == expected["text"]
            following = [
                (await call("/v1/next", {"score": True, **body})).json
                for body in ({"prompt": text}, {"prompt": text[cut:], "state": saved["id"]})
            ]
            assert following[1]["next"] == following[0]["next"]
            assert following[1]["nats"] == following[0]["nats"][cut:]

    asyncio.run(scene())


def test_a_state_saved_after_a_text_is_that_of_the_text(model: storycell.Model) -> None:
    body = {"prompt": "Once upon a ti", "seed": 7, "temperature": 1.0, "save_state": True}
    greedy = {"max_tokens": 20, "temperature": 0}

    async def scene() -> None:
        async with in_this_process(model) as call:
            long = (await call("/v1/completions", {**body, "max_tokens": 40})).choice()["text"]
            for asked in (
                {"max_tokens": 1},
                {"max_tokens": 7},
                {"max_tokens": 40, "stop": long[9:12]},
                {"max_tokens": 0},
            ):
                choice = (await call("/v1/completions", {**body, **asked})).choice()
                so_far = body["prompt"] + choice["text"]
                assert choice["finish_reason"] == ("stop" if "stop" in asked else "length")
                expected = (await call("/v1/completions", {"prompt": so_far, **greedy})).choice()["text"]
                found = await call("/v1/completions", {"prompt": "", "state": choice["state"], **greedy})
                assert found.choice()["text"] == expected
                kept = (await call("/v1/states", {"prompt": "", "state": choice["state"]})).json
                assert kept["chars"] == len(so_far)

    asyncio.run(scene())


def test_a_text_ends_before_a_stop_within_a_piece(model: storycell.Model) -> None:
    body = {"prompt": "Once upon a ti", "max_tokens": 40, "seed": 1, "temperature": 0.8, "score": True, "logprobs": 0}
    long = complete(model, **body)["text"]
    for at in range(1, 20):
        stop = long[at : at + 3]
        for echo in (False, True):
            choice = complete(model, **body, stop=stop, echo=echo)
            expected = long[: long.index(stop)]
            assert choice["text"] == (body["prompt"] if echo else "") + expected
            assert choice["finish_reason"] == "stop"
            assert len(choice["nats"]) == len(choice["text"])


def test_a_stop_within_the_prompt_stops_nothing(model: storycell.Model) -> None:
    body = {"prompt": "Once upon a ti", "max_tokens": 10, "seed": 1}
    prompt, text = body["prompt"], complete(model, **body)["text"]
    stop = next(prompt[at:] for at in reversed(range(len(prompt))) if prompt[at:] not in text)
    assert complete(model, **body, stop=stop, echo=True)["text"] == prompt + text


def test_nothing_is_generated_of_no_tokens_and_one_of_one(model: storycell.Model) -> None:
    for prompt in WITHIN_A_STORY:
        none, one = ask(
            model,
            ("/v1/completions", {"prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": 1, "score": True}),
            ("/v1/completions", {"prompt": prompt, "max_tokens": 1, "seed": 1, "logprobs": 1}),
        )
        assert none.choice()["text"] == prompt
        assert "".join(none.choice()["logprobs"]["tokens"]) == prompt
        assert none.json["usage"]["completion_tokens"] == 0
        assert len(one.choice()["logprobs"]["tokens"]) == 1
        assert one.choice()["text"]
        assert one.json["usage"]["completion_tokens"] == 1


@pytest.mark.parametrize("how", [{"regex": "[a-z]+"}, {"guided_choice": ["a", "b"]}, {"grammar": 'root ::= "a"'}])
def test_rules_by_character_are_refused(model: storycell.Model, how: dict[str, Any]) -> None:
    [answer] = ask(model, ("/v1/completions", {"prompt": "Once", **how}))
    assert answer.status == 400
    assert "character by character" in answer.json["error"]["message"]


def test_a_held_unit_is_held_while_the_prompts_end_is_drawn(model: storycell.Model) -> None:
    hold = [{"name": "c", "layer": 0, "unit": 3, "value": 3.0}]
    body = {"prompt": "Once upon a time Anna had 1", "max_tokens": 20, "seed": 2, "temperature": 1.2}
    first = complete(model, **body, hold=hold)
    assert first["text"] == complete(model, **body, hold=hold)["text"]
    assert first["text"] != complete(model, **body)["text"]


def test_a_chat_goes_on_with_pieces(model: storycell.Model) -> None:
    body = {"messages": [{"role": "user", "content": "Once upon a ti"}], "max_tokens": 12, "seed": 1}
    [answer] = ask(model, ("/v1/chat/completions", body))
    assert answer.status == 200
    assert answer.json["choices"][0]["message"]["content"]
    assert 0 < answer.json["usage"]["completion_tokens"] <= 12


def test_a_step_is_that_of_the_last_piece(model: storycell.Model) -> None:
    prompt = "Once upon a time"
    [answer] = ask(model, ("/v1/step", {"prompt": prompt, "unit": 3}))
    assert answer.json["read"] == model.vocab.text_of(int(model.vocab.encode(prompt)[-1]))
    assert len(answer.json["read"]) > 1


def test_a_trace_is_of_characters_with_the_values_once_their_piece_was_read(model: storycell.Model) -> None:
    prompt = "Once upon a time Anna had 3 balls."
    [answer] = ask(model, ("/v1/trace", {"prompt": prompt, "name": "c", "units": [3, 7]}))
    assert answer.status == 200, answer.content
    ids = model.vocab.encode(prompt).astype(np.int64)
    c = model.network.states(np.array([[BOUNDARY, *ids]]))["c"][0, 0, 1:]
    expected = np.repeat(c, model.vocab.lengths[ids], axis=0)
    assert len(expected) == len(prompt)
    assert np.array(answer.json["values"]) == pytest.approx(expected[:, [3, 7]].T, abs=1e-3)


def test_a_steered_text_is_the_steered_models(model: storycell.Model, tmp_path: Path) -> None:
    direction = Direction("calm, not wild", 0, np.random.default_rng(2).normal(0, 1, 24))
    direction.save(tmp_path / "calm.json")
    prompt, steer = "Once upon a time Anna had 1", {"dose": 1.5}
    steered = model.steer(direction, 1.5)
    body = {"prompt": prompt, "max_tokens": 20, "seed": 5, "temperature": 1.0, "steer": steer}
    completion, following = ask(
        model,
        ("/v1/completions", body),
        ("/v1/next", {"prompt": prompt, "steer": steer}),
        steer=str(tmp_path / "calm.json"),
    )
    text = completion.choice()["text"]
    assert steered.generate(prompt, 300, temperature=1.0, seed=5).startswith(prompt + text)
    assert text != complete(model, **{**body, "steer": None})["text"]
    [plain] = ask(steered, ("/v1/next", {"prompt": prompt}))
    for one, other in zip(following.json["next"], plain.json["next"], strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


def test_metrics_count_characters(model: storycell.Model) -> None:
    prompt = "Once upon a time Anna"

    async def scene() -> None:
        async with in_this_process(model) as call:
            text = (await call("/v1/completions", {"prompt": prompt, "max_tokens": 5, "seed": 1})).choice()["text"]
            metrics = (await call("/metrics", None, method="GET")).content.decode()
            assert f"storycell_chars_read_total {len(prompt)}.0" in metrics
            [written] = [line for line in metrics.splitlines() if line.startswith("storycell_chars_written_total ")]
            assert float(written.split()[1]) <= len(text)
            assert float(written.split()[1]) > 5

    asyncio.run(scene())


@needs_chromium
def test_the_page_goes_on_with_pieces_and_colours_characters(model: storycell.Model, tmp_path: Path) -> None:
    prompt = "Once upon a ti"
    text = "() => document.querySelector('#text').value"
    with serving(endless(model.path, tmp_path)) as served, open_browser() as browser:
        page, troubles = browser.new_page(reduced_motion="reduce"), list[str]()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(served.url)
        page.wait_for_selector("#choices button")
        with page.expect_response(lambda answer: answer.url.endswith("/v1/next")):
            page.fill("#text", prompt)
        page.locator("#choices button b", has_text=re.compile("^me$")).first.click()
        assert page.evaluate(text) == "Once upon a time"
        assert not page.is_visible("#regex")
        for button in ("#one", "#generate"):
            before = page.evaluate(text)
            page.click(button)
            page.wait_for_function("n => document.querySelector('#text').value.length > n", arg=len(before))
            page.locator("#generate", has_text="Generate").wait_for()
            after = page.evaluate(text)
            assert after.startswith(before)
        page.wait_for_function("n => document.querySelectorAll('#shades span').length === n", arg=len(after))
        assert page.evaluate("document.querySelectorAll('#shades span[style]').length") > 5
        assert troubles == []
