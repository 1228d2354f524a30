"""The official OpenAI client against a real server: it works unchanged, and what it gets is what the model writes."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live_server import Served

import storycell
from storycell.data.vocab import SEPARATOR

openai = pytest.importorskip("openai", reason="the openai client is not installed")

PROMPT = "Once upon a time Ann"
SMALL = 1e-4  # float32 logits through two paths of the backend


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator["openai.OpenAI"]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def model(endless: Path) -> storycell.Model:
    return storycell.load(endless)


def test_a_seeded_completion_is_what_the_model_generates(client: "openai.OpenAI", model: storycell.Model) -> None:
    for keywords, extra in (
        ({"temperature": 0.8}, {}),
        ({"temperature": 0}, {}),
        ({"temperature": 1.2, "top_p": 0.7}, {}),
        ({"temperature": 1.0}, {"top_k": 5, "min_p": 0.05}),
    ):
        answer = client.completions.create(
            model="run", prompt=PROMPT, max_tokens=80, seed=3, extra_body=extra, **keywords
        )
        expected = model.generate(PROMPT, 80, seed=3, **keywords, **extra)
        assert PROMPT + answer.choices[0].text == expected
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == len(PROMPT)
        assert answer.usage.total_tokens == len(expected)
        ended = len(expected) < len(PROMPT) + 80
        assert answer.choices[0].finish_reason == ("stop" if ended else "length")


def test_streamed_pieces_make_the_same_text_and_end_in_a_finish_and_the_usage(client: "openai.OpenAI") -> None:
    asked = {"model": "run", "prompt": PROMPT, "max_tokens": 90, "seed": 5, "temperature": 0.9}
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.text for chunk in chunks for c in chunk.choices) == whole.choices[0].text
    finishes = [c.finish_reason for chunk in chunks for c in chunk.choices]
    assert finishes[-1] == whole.choices[0].finish_reason
    assert all(finish is None for finish in finishes[:-1])
    assert len(chunks) > 2
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_n_texts_of_each_prompt_are_those_of_the_following_seeds(client: "openai.OpenAI") -> None:
    prompts = ["Once", "Ben had 3"]
    several = client.completions.create(model="run", prompt=prompts, n=3, seed=11, max_tokens=40, temperature=0.8)
    assert [choice.index for choice in several.choices] == list(range(6))
    for choice in several.choices:
        prompt, k = prompts[choice.index // 3], choice.index % 3
        single = client.completions.create(model="run", prompt=prompt, seed=11 + k, max_tokens=40, temperature=0.8)
        assert choice.text == single.choices[0].text


def test_echo_begins_with_the_prompt(client: "openai.OpenAI") -> None:
    asked = {"model": "run", "prompt": PROMPT, "max_tokens": 20, "seed": 1}
    plain = client.completions.create(**asked).choices[0].text
    assert client.completions.create(**asked, echo=True).choices[0].text == PROMPT + plain
    chunks = list(client.completions.create(**asked, echo=True, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == PROMPT + plain


def test_logprobs_are_what_openai_gives(client: "openai.OpenAI", model: storycell.Model) -> None:
    asked = {"model": "run", "prompt": PROMPT, "max_tokens": 30, "seed": 2, "logprobs": 4, "echo": True}
    [choice] = client.completions.create(**asked, temperature=1).choices
    found = choice.logprobs
    assert found is not None
    assert found.tokens is not None
    assert found.token_logprobs is not None
    assert found.top_logprobs is not None
    assert found.text_offset == list(range(len(choice.text)))
    assert "".join(found.tokens) == choice.text
    assert (found.token_logprobs[0], found.top_logprobs[0]) == (None, None)
    # nothing filtered: the model's own, but for the unknown character, which is never drawn
    nats = list(model.score(choice.text))
    assert found.token_logprobs[1 : len(PROMPT)] == pytest.approx([-one for one in nats[1 : len(PROMPT)]], abs=SMALL)
    drawn = zip(found.token_logprobs[len(PROMPT) :], nats[len(PROMPT) :], strict=True)
    assert all(-one - SMALL <= logprob < -one + 0.1 for logprob, one in drawn)
    for token, logprob, top in list(zip(found.tokens, found.token_logprobs, found.top_logprobs, strict=True))[1:]:
        assert len(top) in (4, 5)
        assert sum(map(math.exp, top.values())) <= 1 + SMALL
        assert top[token] == logprob


def test_a_prompt_alone_can_be_scored(client: "openai.OpenAI", model: storycell.Model) -> None:
    answer = client.completions.create(model="run", prompt=PROMPT, max_tokens=0, logprobs=0, echo=True)
    [choice] = answer.choices
    assert choice.text == PROMPT
    assert choice.finish_reason == "length"
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs is not None
    assert choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.token_logprobs[1:] == pytest.approx([-one for one in model.score(PROMPT)[1:]], abs=SMALL)


def test_a_client_without_the_version_is_told_where_to_go(served: Served) -> None:
    with openai.OpenAI(base_url=served.url, api_key="none", max_retries=0) as lost:
        with pytest.raises(
            openai.NotFoundError, match=r"POST /v1/completions .*base_url of OpenAI's clients ends in /v1"
        ):
            lost.completions.create(model="run", prompt="Once")
        with pytest.raises(openai.NotFoundError, match=r"POST /v1/chat/completions .*base_url"):
            lost.chat.completions.create(model="run", messages=[{"role": "user", "content": "Hello"}])


def test_a_stop_text_ends_the_text_before_it_and_its_logprobs_too(client: "openai.OpenAI") -> None:
    asked = {"model": "run", "prompt": PROMPT, "max_tokens": 80, "temperature": 0, "logprobs": 1}
    whole = client.completions.create(**asked).choices[0].text
    stop = whole[12:15]
    for stops in (stop, ["never", stop]):
        [choice] = client.completions.create(**asked, stop=stops).choices
        assert choice.text == whole[: whole.index(stop)]
        assert choice.finish_reason == "stop"
        assert choice.logprobs is not None
        assert choice.logprobs.tokens == list(choice.text)
    chunks = list(client.completions.create(**asked, stop=stop, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole[: whole.index(stop)]


def test_the_model_is_listed_and_found(client: "openai.OpenAI") -> None:
    [card] = client.models.list().data
    assert card.id == "run"
    assert client.models.retrieve("run").created == card.created
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4'"):
        client.models.retrieve("gpt-4")
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="gpt-4", prompt="Once")


def test_errors_become_the_clients_exceptions_with_a_sentence(client: "openai.OpenAI") -> None:
    with pytest.raises(
        openai.BadRequestError, match=r'does not know .ж.*closest known.*"unknown": "replace"'
    ) as caught:
        client.completions.create(model="run", prompt="Cleж")
    assert caught.value.code == "unknown_character"
    assert caught.value.param == "prompt"
    replaced = client.completions.create(
        model="run", prompt="Cleж", max_tokens=1, echo=True, extra_body={"unknown": "skip"}
    )
    assert replaced.choices[0].text[:3] == "Cle"
    assert SEPARATOR not in replaced.choices[0].text


def test_a_held_unit_writes_what_the_model_generates_with_it_held(
    client: "openai.OpenAI", model: storycell.Model
) -> None:
    asked = {"model": "run", "prompt": PROMPT, "max_tokens": 40, "temperature": 0}
    free = client.completions.create(**asked).choices[0].text
    held = {"name": "c", "layer": 0, "unit": 3, "value": 5.0}
    texts = [client.completions.create(**asked, extra_body={"hold": hold}).choices[0].text for hold in ([], [held])]
    assert texts[0] == free
    assert texts[1] != free
    # the server holds from the first written character on; a prompt of nothing makes the two the same
    alone = client.completions.create(**(asked | {"prompt": ""}), extra_body={"hold": [held]}).choices[0].text
    assert alone == model.generate("", 40, 0, hold={("c", 0, 3): 5.0})
