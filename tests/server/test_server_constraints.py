"""What a request says its texts must be like: a regular expression, and labels."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from support.lists import train_spells
from support.live_server import Served, in_this_process

import storycell

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")


def test_a_regex_holds_for_each_text_without_its_prompt(served: Served) -> None:
    asked = {"prompt": "Once upon", "regex": "[a-z]{3,5} (cat|Ann)[.!]", "n": 6, "max_tokens": 30, "seed": 3}
    texts = [choice["text"] for choice in served.post("/v1/completions", asked)["choices"]]
    assert all(re.fullmatch(asked["regex"], text) for text in texts), texts
    assert texts == [choice["text"] for choice in served.post("/v1/completions", asked)["choices"]]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"regex": "("}, "no regular expression"),
        ({"regex": "日"}, "no text"),
        ({"regex": "a{40}"}, "no text of 0 to 30 characters"),
        ({"regex": "(a|b)*a(a|b){20}"}, "states"),
        ({"regex": "a", "logprobs": 1}, "logprobs"),
        ({"labels": {"genre": "poem"}}, "no label 'genre'"),
    ],
)
def test_a_regex_or_label_that_cannot_be_is_refused(served: Served, more: dict[str, object], said: str) -> None:
    status, _, content = served.request("POST", "/v1/completions", {"prompt": "A", "max_tokens": 30, **more})
    assert status == 400
    assert said in json.loads(content)["error"]["message"]


def test_labels_choose_what_is_generated_and_the_usual_ones_are_taken_otherwise(tmp_path: Path) -> None:
    model = storycell.load(train_spells(tmp_path))

    async def main() -> None:
        async with in_this_process(model) as ask:

            async def first_letters(**more: object) -> set[str]:
                asked = {"prompt": "", "n": 12, "max_tokens": 30, "temperature": 0.5, "seed": 1, **more}
                answer = json.loads((await ask("/v1/completions", asked)).content)
                return {choice["text"][:1] for choice in answer["choices"]}

            assert await first_letters(labels={"school": "ice"}) == {"z"}
            assert await first_letters(labels={"school": "fire"}) == {"a"}
            assert await first_letters() == {"a"}
            likeliest = json.loads((await ask("/v1/next", {"prompt": "", "labels": {"school": "ice"}})).content)
            assert likeliest["next"][0]["text"] == "z"
            refused = await ask("/v1/completions", {"prompt": "", "labels": {"school": "mud"}})
            assert refused.status == 400
            assert "it knows fire, ice" in json.loads(refused.content)["error"]["message"]
            card = json.loads((await ask("/v1/models", None, "GET")).content)["data"][0]
            assert card["labels"] == {"school": ["fire", "ice"]}

    asyncio.run(main())
