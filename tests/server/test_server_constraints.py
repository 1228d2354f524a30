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


CHOICES = ["a cat.", "a red ball.", "Ben!"]
PATTERN = r"a cat\.|a red ball\.|Ben!"
GRAMMAR = 'root ::= "a " thing "." | "Ben!"\nthing ::= "cat" | "red" " ball"  # names'


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize(
    "more",
    [
        {"regex": PATTERN},
        {"guided_regex": PATTERN},
        {"guided_choice": CHOICES},
        {"grammar": GRAMMAR},
        {"guided_grammar": GRAMMAR},
        {"structured_outputs": {"regex": PATTERN}},
        {"structured_outputs": {"choice": CHOICES}},
        {"structured_outputs": {"grammar": GRAMMAR}},
    ],
)
def test_a_constraint_holds_by_every_name_that_servers_have_for_it(
    served: Served, path: str, more: dict[str, object]
) -> None:
    prompt = {"prompt": "Once"} if path == "/v1/completions" else {"messages": [{"role": "user", "content": "Once"}]}
    asked = {**prompt, "n": 12, "max_tokens": 30, "temperature": 1.5, "seed": 3}
    found = [served.post(path, asked | one)["choices"] for one in (more, {"regex": PATTERN})]
    assert found[0] == found[1]
    texts = [choice["text"] if "text" in choice else choice["message"]["content"] for choice in found[0]]
    assert set(texts) <= set(CHOICES)
    assert len(set(texts)) > 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"regex": "("}, "no regular expression"),
        ({"regex": "日"}, "no text"),
        ({"regex": "a{40}"}, "no text of 0 to 30 characters"),
        ({"regex": "(a|b)*a(a|b){20}"}, "states"),
        ({"regex": "a", "logprobs": 1}, "logprobs"),
        ({"guided_choice": ["a"], "logprobs": 1}, "text without a guided_choice"),
        ({"regex": "a", "structured_outputs": {"choice": ["a"]}}, "regex and structured_outputs.choice both say"),
        ({"structured_outputs": {"regex": "a", "grammar": "b"}}, "both say"),
        ({"structured_outputs": {"json": {}}}, "structured_outputs.json is not supported; what a text must be like"),
        ({"guided_json": {}}, "guided_json is not supported; what a text must be like is said by regex"),
        ({"json_schema": {}}, "json_schema is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format.type: input should be 'text'"),
        ({"guided_choice": []}, "at least 1 item"),
        ({"guided_choice": ["日", "本"]}, "no text"),
        ({"guided_choice": ["日" * 500] * 4}, "no text"),
        ({"grammar": 'root ::= "a" root'}, "lead back to themselves (root -> root)"),
        ({"grammar": 'top ::= "a"'}, "no rule 'root'"),
        ({"labels": {"genre": "poem"}}, "no label 'genre'"),
    ],
)
def test_a_regex_or_label_that_cannot_be_is_refused(served: Served, more: dict[str, object], said: str) -> None:
    status, _, content = served.request("POST", "/v1/completions", {"prompt": "A", "max_tokens": 30, **more})
    assert status == 400
    error = json.loads(content)["error"]
    assert said in error["message"]
    assert len(error["message"]) < 700


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
