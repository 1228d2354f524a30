"""A chat is a plain text with which the model goes on; the official client drives it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.live_server import Served, in_this_process
from support.tiny_runs import command

import storycell

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")
openai = pytest.importorskip("openai", reason="the openai client is not installed")

STORY = [{"role": "system", "content": "Once upon a time"}, {"role": "user", "content": "Ann had"}]
STORY_TEXT = "Once upon a time\nAnn had"
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator["openai.OpenAI"]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_an_answer_is_what_the_model_generates_after_the_messages(client: "openai.OpenAI", endless: Path) -> None:
    model = storycell.load(endless)
    answer = client.chat.completions.create(model="run", messages=STORY, max_tokens=60, seed=3, temperature=0.9)
    expected = model.generate(STORY_TEXT, 60, seed=3, temperature=0.9)
    [choice] = answer.choices
    assert (choice.message.role, STORY_TEXT + str(choice.message.content)) == ("assistant", expected)
    assert choice.finish_reason == ("stop" if len(expected) < len(STORY_TEXT) + 60 else "length")
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (len(STORY_TEXT), len(expected))


def test_a_second_answer_goes_on_where_the_first_one_ended(client: "openai.OpenAI", endless: Path) -> None:
    asked = {"model": "run", "max_completion_tokens": 30, "temperature": 0}
    first = client.chat.completions.create(messages=STORY, **asked).choices[0].message
    second = client.chat.completions.create(messages=[*STORY, first], **asked).choices[0].message
    whole = storycell.load(endless).generate(STORY_TEXT, 60, greedy=True)
    assert STORY_TEXT + str(first.content) + str(second.content) == whole


def test_streamed_pieces_make_the_same_answers_and_end_in_a_finish_and_the_usage(client: "openai.OpenAI") -> None:
    asked: dict[str, Any] = {
        "model": "run", "messages": STORY, "max_tokens": 70, "seed": 5, "temperature": 0.9, "top_p": 0.9, "n": 2,
    }  # fmt: skip
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content != whole.choices[1].message.content
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    for k in range(2):
        said = [choice for chunk in chunks for choice in chunk.choices if choice.index == k]
        assert "".join(one.delta.content or "" for one in said) == whole.choices[k].message.content
        assert [one.delta.role for one in said] == ["assistant", *[None] * (len(said) - 1)]
        assert [one.finish_reason for one in said] == [*[None] * (len(said) - 1), whole.choices[k].finish_reason]
        assert len(said) > 2
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_a_stop_text_ends_an_answer_before_it(client: "openai.OpenAI") -> None:
    asked: dict[str, Any] = {"model": "run", "messages": STORY, "max_tokens": 60, "temperature": 0}
    whole = str(client.chat.completions.create(**asked).choices[0].message.content)
    [choice] = client.chat.completions.create(**asked, stop=whole[9:12]).choices
    assert (choice.message.content, choice.finish_reason) == (whole[: whole.index(whole[9:12])], "stop")


def test_characters_that_the_model_does_not_know_are_left_out_unless_that_is_forbidden(client: "openai.OpenAI") -> None:
    asked: dict[str, Any] = {"model": "run", "max_tokens": 20, "temperature": 0}
    plain, strange = ([{"role": "user", "content": text}] for text in ("Ann had 3", "Ann\U0001f600 had 3ж"))
    answers = [client.chat.completions.create(messages=messages, **asked) for messages in (plain, strange)]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="does not know") as caught:
        client.chat.completions.create(messages=strange, **asked, extra_body={"unknown": "error"})
    assert (caught.value.code, caught.value.param) == ("unknown_character", "messages")


FINE: dict[str, Any] = {"messages": [{"role": "user", "content": "Once"}], "max_tokens": 2}


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({}, 400, "'messages' is missing"),
        (FINE | {"messages": []}, 400, "messages: list should have at least 1 item"),
        (FINE | {"messages": ["Once"]}, 400, "messages[0]"),
        (FINE | {"messages": [{"role": "tool", "content": "3"}]}, 400, "messages[0].role"),
        (FINE | {"messages": [{"role": "user", "content": 3}]}, 400, "messages[0].content"),
        (FINE | {"messages": [{"role": "user", "content": "a" * 100_001}]}, 413, "at most 100,000"),
        (FINE | {"max_completion_tokens": 3}, 400, "give one of them"),
        (FINE | {"max_tokens": 10**9}, 400, "at most 100,000"),
        (FINE | {"model": "gpt-4"}, 404, "there is no model 'gpt-4'"),
        (FINE | {"logprobs": True}, 400, "logprobs"),
        (FINE | {"tools": [{"type": "function"}]}, 400, "tools"),
        (FINE | {"prompt": "Once"}, 400, "there is no parameter 'prompt'"),
        (FINE | {"stream_options": {"include_usage": True}}, 400, "stream_options goes with"),
        (FINE | {"regex": "("}, 400, "no regular expression"),
    ],
)
def test_a_bad_chat_is_refused_with_a_sentence(served: Served, body: Any, status: int, part: str) -> None:
    found, message = served.refusal(PATH, body)
    assert (found, part in message) == (status, True), message


def test_what_means_nothing_to_a_character_model_is_taken(served: Served) -> None:
    neutral = {
        "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "store": False, "metadata": {"a": "b"},
        "logprobs": False, "presence_penalty": 0, "frequency_penalty": 0.0, "user": "me", "parallel_tool_calls": True,
    }  # fmt: skip
    more = {"messages": [{"role": "user", "content": "Once", "refusal": None, "annotations": []}], "temperature": 0}
    answers = [served.post(PATH, FINE | more | added)["choices"] for added in ({}, neutral)]
    assert answers[0] == answers[1]


def test_the_parts_of_a_message_each_begin_a_line(served: Served) -> None:
    parts = [{"type": "text", "text": "Once"}, {"type": "text", "text": "Ann"}]
    asked = {"max_tokens": 20, "temperature": 0}
    answers = [
        served.post(PATH, asked | {"messages": [{"role": "user", "content": content}]})["choices"]
        for content in (parts, "Once\nAnn")
    ]
    assert answers[0] == answers[1]


def test_a_model_of_transcripts_answers_with_one_line_of_its_speaker(tmp_path: Path) -> None:
    talk = "Ann: hello\nBen: good day\nAnn: bye\nBen: see you\n"
    (tmp_path / "talk.txt").write_text("<|endoftext|>\n".join([talk] * 80))
    network: dict[str, Any] = {"hidden": 24, "embedding": 8, "streams": 8, "evaluations": 1, "threads": 1}
    storycell.train(tmp_path / "talk.txt", recipe="items", out=tmp_path / "run", chars=150_000, lr=2e-2, **network)
    model = storycell.load(tmp_path / "run")

    async def main() -> None:
        async with in_this_process(model, speakers=("Ann", "Ben")) as ask:

            async def answer(*lines: str) -> tuple[str, str]:
                said = (line.partition(": ") for line in lines)
                messages = [{"role": role, "content": words} for role, _, words in said]
                reply = await ask(PATH, {"messages": messages, "temperature": 0})
                choice = json.loads(reply.content)["choices"][0]
                return choice["message"]["content"], choice["finish_reason"]

            assert await answer("user: hello") == ("good day", "stop")
            assert await answer("user: hello", "assistant: good day", "user: bye") == ("see you\n", "stop")

    asyncio.run(main())


@pytest.mark.parametrize("speakers", ["", "Ann", "Ann:", "Ann: ", "Ann:Ben:Eve", "A\nB:C"])
def test_speakers_are_two_names_of_one_line(capsys: pytest.CaptureFixture[str], speakers: str) -> None:
    command(capsys, "serve", "--speakers", speakers).stated(2, "give two names of one line, as in Ann:Ben")
