"""Steering through the server: texts and expectations are those of the steered model, and the page has its slider."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.accessibility import serious_violations
from support.browser import CHROMIUM, FLAGS, needs_chromium
from support.live_server import Served, serving
from support.tiny_runs import command

import storycell
from storycell.inspect.steering import Direction

pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")
PROMPT = "Once upon a"


@pytest.fixture(scope="module")
def along(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("direction") / "calm.json"
    Direction("calm, not wild", 0, np.random.default_rng(2).normal(0, 1, 8)).save(path)
    return path


@pytest.fixture
def steered(endless: Path, along: Path) -> Iterator[Served]:
    with serving(endless, steer=str(along)) as served:
        yield served


@pytest.mark.parametrize("steer", [{"dose": 2.0}, {"dose": -1.5}, {"dose": 2.0, "random": True}])
def test_a_steered_text_is_the_steered_models(
    steered: Served, endless: Path, along: Path, steer: dict[str, Any]
) -> None:
    run, direction = storycell.load(endless), Direction.load(along)
    model = run.steer(direction.random(0) if steer.get("random") else direction, steer["dose"])
    asked = {"prompt": PROMPT, "max_tokens": 40, "temperature": 0, "steer": steer}
    told = steered.post("/v1/completions", asked | {"echo": True, "score": True})["choices"][0]
    assert told["text"] == model.generate(PROMPT, 40, greedy=True)
    assert told["text"] != run.generate(PROMPT, 40, greedy=True)
    assert told["nats"] == pytest.approx(model.score(told["text"]), abs=1e-3)
    held = {"hold": [{"name": "c", "layer": 0, "unit": 1, "value": 2.0}]}
    both = steered.post("/v1/completions", asked | held)["choices"][0]["text"]
    assert PROMPT + both == model.generate(PROMPT, 40, greedy=True, hold={("c", 0, 1): 2.0})
    likely = steered.post("/v1/next", {"prompt": PROMPT, "steer": steer, "top": 1})["next"][0]
    assert likely["text"] == model.generate(PROMPT, 1, greedy=True)[-1]


def test_unsteered_texts_are_as_without_a_direction(steered: Served, endless: Path) -> None:
    expected = storycell.load(endless).generate(PROMPT, 40, greedy=True)
    for steer in (None, {"dose": 0.0}):
        asked = {"prompt": PROMPT, "max_tokens": 40, "temperature": 0, "steer": steer, "echo": True}
        assert steered.post("/v1/completions", asked)["choices"][0]["text"] == expected
    assert steered.post("/v1/next", {"prompt": PROMPT, "top": 1})["next"][0]["text"] == expected[len(PROMPT)]


def test_what_cannot_be_steered_is_refused_in_a_sentence(
    steered: Served, served: Served, along: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], endless: Path
) -> None:
    asked = {"prompt": PROMPT, "max_tokens": 4, "steer": {"dose": 1.0}}
    for server, more, said in (
        (served, {}, "this server was started without a direction"),
        (steered, {"save_state": True}, "a steered text cannot save its state"),
        (steered, {"steer": {"dose": 1e9}}, "100"),
    ):
        status, _, body = server.request("POST", "/v1/completions", asked | more)
        assert status == 400
        assert said in body.decode()
    command(capsys, "serve", endless, "--steer", tmp_path / "nosuch.json").stated(2, "nosuch.json")
    Direction("odd", 3, np.ones(8)).save(tmp_path / "odd.json")
    command(capsys, "serve", endless, "--steer", tmp_path / "odd.json").stated(2, "layer 3")
    [card] = json.loads(steered.request("GET", "/v1/models")[2])["data"]
    assert card["steers"] == "calm, not wild"
    assert json.loads(served.request("GET", "/v1/models")[2])["data"][0]["steers"] is None


@needs_chromium
def test_the_page_writes_the_story_anew_at_another_dose(steered: Served, endless: Path, along: Path) -> None:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(reduced_motion="reduce", viewport={"width": 360, "height": 800}).new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(steered.url)
        page.wait_for_selector("#choices button")
        page.evaluate("document.getElementById('temperature').value = 0")
        page.click("#generate")
        while page.input_value("#text") == PROMPT or page.get_attribute("#generate", "aria-pressed") == "true":
            page.wait_for_timeout(30)
        before = page.input_value("#text")
        page.focus("#dose")
        page.keyboard.press("End")
        page.wait_for_selector("#otherwise:not([hidden])")
        page.wait_for_selector("#generate[aria-pressed=false]")
        assert page.inner_text("#otherwise-title") == "Unsteered it went on"
        assert PROMPT + str(page.text_content("#otherwise-text")) == before
        model = storycell.load(endless).steer(Direction.load(along), 8.0)
        assert page.input_value("#text") == model.generate(PROMPT, 600, greedy=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert serious_violations(page) == []
        page.focus("#dose")
        for _ in range(32):
            page.keyboard.press("ArrowLeft")
        assert page.input_value("#dose") == "0"
        page.wait_for_selector("#otherwise", state="hidden")
        page.wait_for_selector("#generate[aria-pressed=false]")
        page.wait_for_timeout(300)
        assert page.input_value("#text") == before
        assert said == []
        browser.close()
