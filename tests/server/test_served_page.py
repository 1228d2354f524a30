"""The page in a real Chromium: it writes, steps back, colours, holds, and survives its server."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.accessibility import serious_violations
from support.browser import open_browser
from support.live_server import Served

import storycell

sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")

SOON_S = 20.0  # for what takes a moment on a machine that is not busy
BEGINNING = "Once upon a"


@pytest.fixture(scope="module")
def browser() -> Iterator["sync.Browser"]:
    with open_browser("--disable-component-update") as chromium:
        yield chromium


@pytest.fixture
def page(browser: "sync.Browser", served: Served) -> Iterator["sync.Page"]:
    """The page, loaded; the test fails on any error in it, a refused script or style included."""
    context = browser.new_context(reduced_motion="reduce")
    opened = context.new_page()
    opened.set_default_timeout(60_000)  # a machine that is busy may take long to paint
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(served.url)
    opened.wait_for_selector("#choices button")
    yield opened
    context.close()
    assert complaints == []


def until(page: "sync.Page", expression: str, argument: object = None) -> None:
    """Wait for an expression to be true. (Playwright's own wait needs `eval`, which the page's policy forbids.)"""
    end = time.monotonic() + SOON_S
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, f"{expression} did not become true; the text is {text(page)!r}"
        page.wait_for_timeout(30)


def text(page: "sync.Page") -> str:
    return page.input_value("#text")


def written(page: "sync.Page") -> str:
    page.click("#generate")
    until(page, "document.querySelector('#generate').textContent === 'Generate'")
    until(page, f"document.querySelector('#text').value.length > {len(BEGINNING)}")
    return text(page)


def test_it_shows_what_may_follow_and_writes_what_is_chosen(page: "sync.Page", endless: Path) -> None:
    chip = page.locator("#choices button").first
    shown = chip.locator("b").text_content()
    chosen = {"␣": " ", "↵": "\n"}.get(shown or "", shown)
    greedy = storycell.load(endless).generate(BEGINNING, 1, greedy=True)
    assert BEGINNING + str(chosen) == greedy
    chip.click()
    assert text(page) == greedy
    page.click("#back")
    assert text(page) == BEGINNING
    page.click("#one")
    until(page, f"document.querySelector('#text').value.length === {len(BEGINNING) + 1}")


def test_it_writes_a_story_and_colours_every_character_by_its_surprise(page: "sync.Page", endless: Path) -> None:
    story = written(page)
    assert story.startswith(BEGINNING)
    until(page, "document.querySelectorAll('#shades span').length === document.querySelector('#text').value.length")
    coloured = page.eval_on_selector_all("#shades span", "spans => spans.map(s => s.style.backgroundColor !== '')")
    nats = storycell.load(endless).score(story)
    expected = [k for k in range(len(story)) if nats[k] > 0.2]
    assert all(coloured[k] for k in expected)
    assert page.locator("#shades").inner_text().strip("\u200b")[:10] == story[:10]
    page.evaluate("document.querySelector('#text').setSelectionRange(3, 3)")
    until(page, "document.querySelector('#detail').textContent.includes('surprise')")
    assert f"surprise {nats[2]:.2f} nats" in (page.text_content("#detail") or "")


def test_colours_stay_with_their_characters_where_those_before_have_none_yet(page: "sync.Page", endless: Path) -> None:
    page.route("**/v1/next", lambda _: None)  # is never answered
    page.fill("#text", beginning := BEGINNING + " Ann ha")
    page.click("#generate")
    until(page, f"generating === null && document.querySelector('#text').value.length > {len(beginning)}")
    nats, score = page.evaluate("story.nats"), storycell.load(endless).score(text(page)).tolist()
    assert nats[len(BEGINNING) : len(beginning)] == [None] * len(" Ann ha")
    for known in (slice(len(BEGINNING)), slice(len(beginning), None)):
        assert nats[known] == pytest.approx(score[known], abs=1e-3)


def test_what_follows_matches_a_pattern(page: "sync.Page") -> None:
    pattern = "[a-z]{3} (cat|Ann)[.!]"
    page.fill("#regex", pattern)
    assert re.fullmatch(BEGINNING + pattern, written(page))


def test_a_pattern_that_is_none_is_told(browser: "sync.Browser", served: Served) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(served.url)
    page.wait_for_selector("#choices button")
    page.fill("#regex", "(")
    page.click("#generate")
    until(page, "document.querySelector('#said').textContent.includes('no regular expression')")
    context.close()


def test_letters_and_their_colours_lie_on_each_other(page: "sync.Page") -> None:
    page.fill("#text", "Once upon a time Ann had 3 red balls.\n" * 8 + "Ben")
    page.wait_for_timeout(200)
    sizes = page.evaluate("['#text', '#shades'].map(s => document.querySelector(s).getBoundingClientRect().height)")
    assert sizes[0] == sizes[1]
    assert page.evaluate("(t => t.scrollHeight - t.clientHeight)(document.querySelector('#text'))") == 0


def test_it_colours_by_a_value_of_a_unit(page: "sync.Page", served: Served) -> None:
    page.select_option("#colour", "f")
    page.fill("#unit", "5")
    page.press("#unit", "Tab")
    asked = {"prompt": BEGINNING, "layer": 0, "name": "f", "units": [5]}
    values = served.post("/v1/trace", asked)["values"][0]
    page.evaluate("document.querySelector('#text').setSelectionRange(4, 4)")
    until(page, f"document.querySelector('#detail').textContent.includes('forget gate f of unit 5: {values[3]:.2f}')")
    assert page.locator("#lively button").count() > 3


def test_a_held_unit_changes_the_story_from_the_same_seed(page: "sync.Page") -> None:
    story = written(page)
    page.check("#hold")
    until(page, "document.querySelector('#generate').textContent === 'Generate'")
    page.evaluate("(r => { r.value = 4; r.dispatchEvent(new Event('change')); })(document.querySelector('#held-at'))")
    other = "document.querySelector('#text').value !== s"
    until(page, f"s => document.querySelector('#generate').textContent === 'Generate' && {other}", story)
    assert text(page).startswith(BEGINNING)
    assert BEGINNING + (page.text_content("#otherwise-text") or "") == story
    page.select_option("#colour", "f")  # what is coloured is what is held
    until(page, "story.request.hold[0].name === 'f' && generating === null")
    page.select_option("#colour", "loss")
    assert page.evaluate("story.request.hold[0].name") == "f"
    assert page.inner_text("#hold-name").startswith("forget gate f of unit ")
    page.uncheck("#hold")
    until(page, "s => document.querySelector('#text').value === s", story)


def test_a_key_that_is_held_asks_once_it_rests(page: "sync.Page") -> None:
    """On the slider of a held unit, and in the picture of a layer."""
    written(page)
    page.check("#hold")
    until(page, "document.querySelector('#generate').textContent === 'Generate'")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/v1/")[2]))
    page.evaluate(
        """(r => { for (let k = 1; k <= 20; k++) { r.value = k / 5; r.dispatchEvent(new Event("change")); } })(
        document.querySelector('#held-at'))"""
    )
    until(page, "story.request.hold[0].value === 4 && generating === null")
    assert asked.count("completions") == 1
    page.click("#step summary")
    page.wait_for_selector("#step table")
    page.wait_for_timeout(300)
    asked.clear()
    page.evaluate(
        """(grid => { for (let k = 0; k < 20; k++) grid.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight",
        bubbles: true, cancelable: true })); })(document.querySelector('.step-units'))"""
    )
    page.wait_for_timeout(600)
    assert asked.count("step") == 1


def test_the_keyboard_is_enough(page: "sync.Page") -> None:
    page.focus("#text")
    page.keyboard.press("Control+End")
    page.keyboard.press("Alt+.")
    until(page, f"document.querySelector('#text').value.length === {len(BEGINNING) + 1}")
    until(page, "!document.querySelector('#back').disabled")
    page.keyboard.press("Alt+,")
    until(page, f"document.querySelector('#text').value === {BEGINNING!r}")
    page.wait_for_timeout(300)
    page.keyboard.press("Alt+1")
    until(page, f"document.querySelector('#text').value.length === {len(BEGINNING) + 1}")
    page.keyboard.press("Control+Enter")
    until(page, f"document.querySelector('#text').value.length > {len(BEGINNING) + 2}")


def test_a_step_of_a_unit_is_shown_with_pythons_numbers(page: "sync.Page", endless: Path) -> None:
    run = storycell.load(endless)
    page.click("#step summary")
    until(page, "document.querySelector('.step-drawing svg') !== null")
    until(page, "document.querySelector('.step-said').textContent.includes('(character 11)')")
    page.locator("#step").get_by_label("Unit", exact=True).fill("5")
    page.keyboard.press("Tab")

    def told(text: str, place: str) -> None:
        value = f"{run.step(text, 0, 5).after['c']:.3f}".replace("-", "−")
        until(page, "said => document.querySelector('.step-said').textContent.includes(said)", f"unit 5 became {value}")
        assert f"At {place}" in page.inner_text(".step-said")

    told("Once upon a", "“a” (character 11)")
    table = page.inner_text(".step-table")
    for one in run.step("Once upon a", 0, 5).sums:
        assert f"{one.x:.3f}".replace("-", "−") in table
    page.get_by_role("button", name="Step back").click()
    told("Once upon ", "“space” (character 10)")
    assert page.evaluate("document.querySelector('#text').selectionStart") == 10
    page.get_by_label("Read instead").fill("h")
    told("Once uponh", "“h” (character 10)")
    page.get_by_label("Read instead").fill("")
    page.focus("#text")
    page.keyboard.press("Control+Home")
    told("", "the boundary before the text")
    page.focus(".step-units")
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('.step-said').textContent.includes('unit 6 became')")
    assert page.locator(".step-units span").count() == 8
    assert serious_violations(page) == []


def test_a_step_is_an_operation_of_the_api(served: Served, endless: Path) -> None:
    asked = {"prompt": "Once upon a", "layer": 0, "unit": 5, "name": "f"}
    told, step = served.post("/v1/step", asked), storycell.load(endless).step("Once upon a", 0, 5)
    assert (told["object"], told["prompt"], told["read"]) == ("step", "Once upon a", "a")
    assert told["sums"] == [pytest.approx(vars(one)) for one in step.sums]
    assert told["after"] == pytest.approx(dict(step.after))
    assert told["before"] == pytest.approx(dict(step.before))
    assert told["row"] == pytest.approx(step.layer["f"], abs=1e-6)
    assert told["h"] == pytest.approx(step.h, abs=1e-6)
    assert told["x"] == pytest.approx(step.x, abs=1e-6)
    assert served.post("/v1/step", {**asked, "prompt": ""})["read"] is None
    for wrong, field in (({"layer": 1}, "layer"), ({"unit": 8}, "unit"), ({"name": "q"}, "name")):
        status, _, body = served.request("POST", "/v1/step", asked | wrong)
        assert status == 400
        assert json.loads(body)["error"]["param"] == field


def test_markup_in_a_story_stays_text(page: "sync.Page") -> None:
    page.fill("#text", "<b>Ann</b><script>x</script>")
    until(page, "document.querySelector('#said').textContent.includes('does not know every character')")
    assert page.locator("#shades b, #shades script").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: "sync.Page", scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    written(page)
    page.select_option("#colour", "c")
    page.wait_for_selector("#lively [aria-pressed=true]")  # it has chosen a unit, and nothing moves any more
    until(page, "story.values.length > 0")
    assert serious_violations(page) == []


def test_a_word_without_end_stays_in_its_column(page: "sync.Page") -> None:
    page.fill("#text", "n" * 400)
    until(page, "document.querySelector('#shades').textContent.length >= 400")
    right = page.evaluate("['#text', '#shades'].map(k => document.querySelector(k).getBoundingClientRect().right)")
    assert max(right) <= page.evaluate("document.querySelector('aside').getBoundingClientRect().left")


def test_it_fits_a_phone(browser: "sync.Browser", served: Served) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    phone = context.new_page()
    phone.goto(served.url)
    phone.wait_for_selector("#choices button")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    heights = phone.eval_on_selector_all(".bar .row button", "all => all.map(b => b.getBoundingClientRect().height)")
    assert min(heights) >= 44
    context.close()


def test_it_asks_for_the_key_and_goes_on(browser: "sync.Browser", locked: Served) -> None:
    context = browser.new_context()
    guest = context.new_page()
    guest.goto(locked.url)
    guest.wait_for_selector("#key-form:not([hidden])")
    guest.fill("#key", "sesame")
    guest.click("#key-form button")
    guest.wait_for_selector("#choices button")
    assert guest.is_hidden("#key-form")
    context.close()


def test_it_says_when_the_server_is_gone_and_goes_on_when_it_is_back(browser: "sync.Browser", endless: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "storycell", "serve", str(endless), "--port", str(port), "--json"]

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        return process

    first = start()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}")
    page.wait_for_selector("#choices button")
    first.terminate()
    assert first.wait(60) == 0
    page.fill("#text", "Ann had 3")
    page.wait_for_selector("#gone:not([hidden])")
    assert text(page) == "Ann had 3"
    second = start()
    try:
        page.wait_for_selector("#gone", state="hidden")
        page.click("#one")
        until(page, "document.querySelector('#text').value.length === 10")
    finally:
        context.close()
        second.terminate()
        assert second.wait(60) == 0


def test_a_model_learns_at_learn(browser: "sync.Browser", served: Served) -> None:
    context = browser.new_context()
    page, complaints, asked = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    answer = page.goto(f"{served.url}/learn")
    assert answer is not None
    policy = answer.header_value("content-security-policy") or ""
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy
    page.wait_for_selector("#train:enabled")
    page.fill("#text", "one day a cat sat on a mat. " * 60)
    page.select_option("#hidden", "32")
    page.fill("#steps", "20")
    page.click("#train")
    until(page, "document.querySelector('#status').textContent.startsWith('Done')")
    assert [url for url in asked if not url.startswith(("blob:", "data:"))] == [f"{served.url}/learn"]
    context.close()
    assert complaints == []
