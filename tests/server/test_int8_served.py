"""A server that generates in int8 gives the text that the model gives alone in int8, whoever else is served."""

import asyncio

import pytest
from support.instruction_sets import needs_kernel
from support.live_server import in_this_process

import storycell

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")


@needs_kernel
def test_a_seeded_request_gets_what_the_model_writes_in_int8_alone() -> None:
    model = storycell.load("demo", precision="int8")
    asked = {"prompt": "Once upon a", "max_tokens": 60, "seed": 5, "temperature": 0.8}

    async def scene() -> list[str]:
        async with in_this_process(model) as ask:
            requests = [ask("/v1/completions", asked | {"seed": seed}) for seed in (5, 6, 7)]
            return [answer.json["choices"][0]["text"] for answer in await asyncio.gather(*requests)]

    served = asyncio.run(scene())
    alone = [model.generate("Once upon a", chars=60, temperature=0.8, seed=seed) for seed in (5, 6, 7)]
    assert ["Once upon a" + text for text in served] == alone
    exact = storycell.load("demo")
    assert alone != [exact.generate("Once upon a", chars=60, temperature=0.8, seed=seed) for seed in (5, 6, 7)]
