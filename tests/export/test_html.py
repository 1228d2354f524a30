"""The page itself, in Chromium: it generates what the run generates, and people need no mouse and no network."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import playwright.sync_api as playwright
import pytest
from support.accessibility import serious_violations
from support.browser import needs_chromium, open_browser
from support.lists import train_spells
from support.random_models import CHARACTERS, PROMPT, ROUNDED, context_of, logits_after, model, text

import storycell
from storycell.data.stories import corpus
from storycell.data.vocab import BYTES, Vocabulary
from storycell.engine import EngineNetwork
from storycell.errors import SettingsError
from storycell.export.encoding import PRINTABLE, Weights, round_network
from storycell.export.export import export
from storycell.export.network import Network
from storycell.generation.sampler import Draw
from storycell.inspect.shown import steered
from storycell.inspect.steering import Direction
from storycell.inspect.step import UnitStep, unit_step
from storycell.nn.adapter import TorchModel
from storycell.nn.model import CharLM
from storycell.types import BOUNDARY
from storycell.web import names, theme

pytestmark = needs_chromium
EXACT = 1e-4  # as in test_export.py
FULL_NATS, FAINT = 4, 0.02  # of web/story.js: what has the full colour, and what has none
GENERATE = "([prompt, options]) => storycell.generate(net, vocabulary, prompt, options)"
LOGITS = """prompt => {
  const out = new Float64Array(net.V);
  let trace = first;
  for (const id of vocabulary.encode(prompt).ids) {
    const next = net.newTrace();
    net.step(id, trace, next);
    trace = next;
  }
  net.logits(trace, out);
  return [...out];
}"""

TRACES = """text => [net, plain].map((one) => {
  let before = one.newTrace();
  one.step(storycell.BOUNDARY, null, before);
  for (const id of vocabulary.encode(text).ids) {
    const after = one.newTrace();
    one.step(id, before, after);
    one.fill(id, before, after);
    before = after;
  }
  return [...before];
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with open_browser() as chromium:
        yield chromium


class Opened:
    """A page, and everything that went wrong in it."""

    def __init__(self, browser: playwright.Browser, path: Path, *, engine: bool = True, **context: object) -> None:
        self.context = browser.new_context(offline=True, **context)  # type: ignore[arg-type]
        self.page, self.troubles, self.asked = self.context.new_page(), [], []
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url.partition(":")[0]))
        if not engine:
            self.page.add_init_script("delete globalThis.WebAssembly")
        self.page.goto(path.as_uri())
        self.page.evaluate("() => engineIsThere")
        assert self.page.evaluate("() => net !== plain") is engine

    def generate(self, prompt: str, chars: int, temperature: float = 0.0, seed: int = 0) -> str:
        options = {"chars": chars, "temperature": temperature, "seed": str(seed)}
        return str(self.page.evaluate(GENERATE, [prompt, options]))

    def story(self) -> str:
        return str(self.page.evaluate("() => document.getElementById('story').textContent"))

    def await_end(self) -> None:
        self.page.get_by_role("button", name="Generate", exact=True).wait_for()

    def await_story(self, text: str) -> None:
        """Wait until the page shows this story, which it generates anew some time after a control has come to rest."""
        for _ in range(100):
            if self.story() == text:
                break
            self.page.wait_for_timeout(100)
        assert self.story() == text

    def close(self) -> None:
        self.context.close()
        assert self.troubles == []
        assert set(self.asked) <= {"file", "data"}  # no network


@pytest.fixture(scope="module")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "story.html"
    assert storycell.load().export(path).weights == "fp16"  # which the demo's weights are, so nothing is rounded
    return path


@pytest.fixture
def demo(browser: playwright.Browser, demo_file: Path) -> Iterator[Opened]:
    opened = Opened(browser, demo_file)
    opened.page.fill("#seed", "7")
    opened.page.select_option("#pace", "0")
    yield opened
    opened.close()


def test_greedy_text_is_the_runs_for_1000_characters(demo: Opened) -> None:
    for prompt in ("One day", "Sara", "Once upon a"):
        expected = storycell.load().generate(prompt, 1000, greedy=True)
        assert demo.generate(prompt, 1000) == expected


def test_int8_text_is_the_engines_for_1000_characters(demo: Opened) -> None:
    model = storycell.load(precision="int8")
    demo.page.select_option("#precision", "int8")
    for prompt in ("One day", "Once upon a"):
        assert demo.generate(prompt, 1000) == model.generate(prompt, 1000, greedy=True)
    assert demo.generate("Once upon a", 300, 0.8, 7) == model.generate("Once upon a", 300, temperature=0.8, seed=7)


def test_without_webassembly_plain_javascript_generates_the_same(browser: playwright.Browser, demo_file: Path) -> None:
    opened = Opened(browser, demo_file, engine=False)
    assert not opened.page.is_visible("#precision")
    assert opened.generate("One day", 1000) == storycell.load().generate("One day", 1000, greedy=True)
    opened.page.fill("#seed", "7")
    opened.page.fill("#chars", "100")
    opened.page.click("#generate")
    opened.await_end()
    assert opened.story() == storycell.load().generate("Once upon a", 100, temperature=0.8, seed=7)
    opened.close()


def test_engine_and_plain_javascript_leave_the_same_trace(demo: Opened) -> None:
    engine, plain = (np.array(trace) for trace in demo.page.evaluate(TRACES, "Once upon a time"))
    memory = storycell.load().network.context.memory  # the characters that it remembers are its end
    assert np.count_nonzero(plain[:-memory]) > 0.99 * (plain.size - memory)
    assert engine == pytest.approx(plain, abs=1e-4)


def test_one_seed_tells_the_story_of_storycell_sample(demo: Opened) -> None:
    for seed in (0, 7, 2**32 + 5, 2**64 - 1):
        expected = storycell.load().generate("Once upon a", 300, temperature=0.8, seed=seed)
        assert demo.generate("Once upon a", 300, 0.8, seed) == expected


def test_the_generator_is_the_runs(demo: Opened) -> None:
    seeds = [0, 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 12345678901234567890, 2**64 - 1]
    drawn = "seeds => seeds.map(seed => { const d = new storycell.Draw(seed); return [d.next(), d.next(), d.next()]; })"
    expected = [[d.next() for _ in range(3)] for d in map(Draw, seeds)]
    assert demo.page.evaluate(drawn, list(map(str, seeds))) == expected
    taken = demo.page.evaluate(
        "texts => texts.map(storycell.isSeed)", ["0", "007", str(2**64 - 1), str(2**64), "-1", ""]
    )
    assert taken == [True, True, True, False, False, False]


@pytest.mark.parametrize(("kind", "weights"), ROUNDED.items())
def test_every_cell_computes_what_the_run_computes(
    browser: playwright.Browser, kind: str, weights: Weights, tmp_path: Path
) -> None:
    made = model(kind)
    export(made, CHARACTERS, tmp_path / "story.html", weights)
    run = round_network(Network.of(made), weights, PRINTABLE).as_model()
    for engine in (True, False):
        opened = Opened(browser, tmp_path / "story.html", engine=engine)
        logits = np.array(opened.page.evaluate(LOGITS, PROMPT))
        assert logits == pytest.approx(logits_after(run, PROMPT), abs=EXACT)
        assert opened.generate(PROMPT, 60, 0.8, 4) == text(run, PROMPT, 60, 0.8, 4)
        opened.close()


@pytest.mark.parametrize("kind", [kind for kind in ROUNDED if any(context_of(kind))])
def test_with_a_context_too_the_engine_leaves_the_trace_of_plain_javascript_and_generates_in_int8(
    browser: playwright.Browser, kind: str, tmp_path: Path
) -> None:
    made = model(kind)
    export(made, CHARACTERS, tmp_path / "story.html", "fp32")
    opened = Opened(browser, tmp_path / "story.html")
    engine, plain = (np.array(trace) for trace in opened.page.evaluate(TRACES, "a bad\n<|endoftext|>\ncab"))
    ids = CHARACTERS.prompt_ids("cab")[0]
    past = plain[-made.context.memory :].tolist()
    assert past == ids[::-1] + [0] * (made.context.memory - 3)  # what it remembers; before it lies a boundary
    assert engine == pytest.approx(plain, abs=1e-4)
    opened.page.select_option("#precision", "int8")
    (ngrams, matches), weights = context_of(kind), Network.of(made).as_model().weights()
    context = {"ngrams": ngrams, "matches": matches}
    fast = EngineNetwork(weights, made.cell, generates_in="int8", gate_norm=made.gate_norm, **context)
    assert opened.generate(PROMPT, 60, 0.8, 4) == text(fast, PROMPT, 60, 0.8, 4)
    opened.close()


def test_bytes_and_boundaries(browser: playwright.Browser, tmp_path: Path) -> None:
    made = model("gru-L1-H5-D2-bias", BYTES)
    export(made, BYTES, tmp_path / "story.html", "fp32")
    opened = Opened(browser, tmp_path / "story.html")
    prompt = "é\n<|endoftext|>\nb"
    opened.page.fill("#prompt", prompt)
    opened.page.fill("#chars", "30")
    opened.page.click("#generate")
    opened.await_end()
    assert opened.story().startswith(prompt)
    logits = np.array(opened.page.evaluate(LOGITS, prompt))
    assert logits == pytest.approx(logits_after(made, prompt, BYTES), abs=EXACT)
    opened.close()


@pytest.mark.parametrize("prompt", ["", "ab <é> & “", "</textarea>"])
def test_a_page_begins_with_the_prompt_of_its_model(browser: playwright.Browser, prompt: str, tmp_path: Path) -> None:
    vocab = Vocabulary("".join(sorted(set(f"abc{prompt}"))))
    export(model("rnn-L1-H5-D2-bias", vocab), vocab, tmp_path / "story.html", "fp32", prompt=prompt)
    opened = Opened(browser, tmp_path / "story.html")
    assert opened.page.input_value("#prompt") == opened.story() == prompt
    opened.page.fill("#chars", "5")
    opened.page.click("#generate")
    opened.await_end()
    assert opened.story().startswith(prompt)
    assert not opened.page.is_visible("#trouble")
    opened.close()


@pytest.fixture(scope="module")
def spells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows labels, and its page with the weights as they are."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("spells")
        patch.setenv("STORYCELL_CACHE", str(folder / "cache"))
        run = train_spells(folder)
    storycell.load(run).export(run / "story.html", "fp32")
    return run


def generated(opened: Opened, seed: int) -> str:
    opened.page.fill("#seed", str(seed))
    opened.page.click("#generate")
    opened.await_end()
    return opened.story()


def test_a_label_is_chosen_and_what_stands_for_it_is_not_shown(browser: playwright.Browser, spells: Path) -> None:
    run, opened = storycell.load(spells), Opened(browser, spells / "story.html")
    opened.page.select_option("#pace", "0")
    opened.page.fill("#prompt", "")
    opened.page.fill("#chars", "12")
    assert opened.page.locator("#labels option").all_inner_texts() == ["fire", "ice"]
    for school, letter in (("ice", "z"), ("fire", "a")):
        opened.page.select_option("#labels select", school)
        assert opened.page.locator("#choices b").first.inner_text() == letter
        for seed in range(3):
            expected = run.generate("", 12, seed=seed, temperature=0.8, labels={"school": school})
            assert generated(opened, seed) == expected
        assert opened.story()[:1] == letter
    opened.page.select_option("#colour", "f")  # the gates are those behind the header
    traced = run.trace(f"fire\x1f{opened.story()}")["f", 0][4:6, 3]
    assert opened.page.evaluate("() => [valueAt(0, 3), valueAt(1, 3)]") == pytest.approx(traced.tolist(), abs=1e-4)
    assert serious_violations(opened.page) == []
    opened.close()


@pytest.mark.parametrize("pattern", ["z[bc]{2,9}", "(?i:A[B-C]+)", "[^b]{3}", "zb|ac", ".*bcb"])
def test_a_pattern_holds_and_one_seed_gives_what_python_gives(
    browser: playwright.Browser, spells: Path, pattern: str
) -> None:
    run, opened = storycell.load(spells), Opened(browser, spells / "story.html")
    opened.page.select_option("#pace", "0")
    opened.page.fill("#prompt", "")
    opened.page.fill("#chars", "12")
    opened.page.fill("#regex", pattern)
    opened.page.select_option("#labels select", "ice")
    for seed in range(4):
        found = generated(opened, seed)
        assert re.fullmatch(pattern, found)
        assert found == run.generate("", 12, seed=seed, temperature=0.8, labels={"school": "ice"}, match=pattern)
    opened.close()


def test_a_pattern_is_for_what_follows_the_prompt_and_one_that_cannot_be_is_said(
    browser: playwright.Browser, spells: Path
) -> None:
    opened = Opened(browser, spells / "story.html")
    opened.page.select_option("#pace", "0")
    opened.page.fill("#prompt", "ab")
    opened.page.fill("#chars", "5")
    opened.page.fill("#regex", "c(b|c)a{3}")
    assert re.fullmatch("abc[bc]aaa", generated(opened, 1))
    opened.page.fill("#prompt", "abc")  # begins anew, so that "cb" follows
    opened.page.locator("#story").focus()
    for pattern, said in (
        ("(", "a ( that is not closed"),
        ("x", "No text of at most 5"),
        ("a{6}", "No text of at most 5"),
    ):
        opened.page.fill("#regex", pattern)
        opened.page.click("#generate")
        assert said in opened.page.inner_text("#trouble")
    opened.page.fill("#regex", "a{4,}")
    assert re.fullmatch("abca{4,5}", generated(opened, 2))
    assert not opened.page.is_visible("#trouble")
    opened.page.fill("#regex", "b+")
    opened.page.locator("#story span").nth(5).click()
    opened.page.click("#generate")
    assert "does not match the pattern" in opened.page.inner_text("#trouble")
    opened.close()


# What people do


def test_arrows_move_the_mark_by_characters_words_and_lines(demo: Opened) -> None:
    demo.page.fill("#chars", "300")
    demo.page.click("#generate")
    demo.await_end()
    text, keys = demo.story(), demo.page.keyboard
    demo.page.locator("#story").focus()

    def mark_after(key: str) -> int:
        keys.press(key)
        return int(demo.page.evaluate("() => story.mark"))

    assert mark_after("Home") == 0
    assert mark_after("ArrowLeft") == 0
    assert mark_after("ArrowRight") == 1
    assert mark_after("Shift+ArrowRight") == text.index("upon")
    assert mark_after("Shift+ArrowRight") == text.index("a time")
    assert mark_after("Shift+ArrowLeft") == text.index("upon")
    below = mark_after("ArrowDown")
    boxes = demo.page.evaluate("ks => ks.map(k => view.spans[k].getBoundingClientRect().toJSON())", [5, below])
    assert boxes[1]["top"] > boxes[0]["top"] + 10
    assert boxes[1]["left"] <= boxes[0]["right"]
    assert boxes[1]["right"] >= boxes[0]["left"]
    assert abs(mark_after("ArrowUp") - 5) <= 1  # letters differ in width
    assert mark_after("End") == len(text)
    assert demo.story() == text
    assert f"“{text[-1]}”" in demo.page.inner_text("#detail") or text[-1] in " \n"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: playwright.Browser, demo_file: Path, scheme: str) -> None:
    opened = Opened(browser, demo_file, color_scheme=scheme)
    opened.page.select_option("#colour", "c")
    opened.page.locator("#story span").nth(4).click()
    assert serious_violations(opened.page) == []
    opened.close()


STEP = """([layer, unit, symbol, character]) => {
  const told = steps.view.ask({ at: story.mark - 1, layer, unit, symbol, character });
  return { ...told, h: [...told.h], row: [...told.row] };
}"""
CLOSE = 1e-5  # float32 in one order and another


def assert_same_step(told: dict[str, object], expected: UnitStep, symbol: str) -> None:
    """What the page's script computes of a step, beside Python."""
    for one, other in zip(told["sums"], expected.sums, strict=True):  # type: ignore[call-overload]
        assert one["name"] == other.name
        assert [one[key] for key in ("bias", "x", "h", "value")] == pytest.approx(
            [other.bias, other.x, other.h, other.value], rel=CLOSE, abs=CLOSE
        )
    assert told["after"] == pytest.approx(dict(expected.after), rel=CLOSE, abs=CLOSE)
    assert told["before"] == pytest.approx(dict(expected.before), rel=CLOSE, abs=CLOSE)
    assert told["row"] == pytest.approx(expected.layer[symbol], rel=CLOSE, abs=CLOSE)
    assert told["h"] == pytest.approx(expected.h, abs=CLOSE)


@pytest.mark.parametrize("engine", [True, False], ids=["engine", "plain"])
def test_the_numbers_of_a_step_are_pythons(browser: playwright.Browser, demo_file: Path, engine: bool) -> None:
    opened, run = Opened(browser, demo_file, engine=engine), storycell.load()
    text = 'Tom said, "I am he'
    opened.page.fill("#prompt", text)
    opened.page.evaluate("() => { begin(); }")
    for layer, unit, symbol in ((0, 3, "c"), (1, 64, "c"), (1, 255, "i"), (0, 100, "f")):
        for character in ("", "x"):
            told = opened.page.evaluate(STEP, [layer, unit, symbol, character])
            read = text[:-1] + character if character else text
            assert_same_step(told, run.step(read, layer, unit), symbol)
            assert told["after"] == pytest.approx(
                {name: run.trace(read)[name, layer][-1, unit] for name in "ifgoch"}, rel=CLOSE, abs=CLOSE
            )
    opened.page.evaluate("() => moveTo(0)")  # the boundary before the text
    assert_same_step(opened.page.evaluate(STEP, [1, 64, "c", ""]), run.step("", 1, 64), "c")
    opened.close()


@pytest.mark.parametrize(
    "kind",
    [
        *("lstm-L2-H7-D3-ngrams", "gru-L2-H7-D3-ngrams", "lstm-L2-H7-D3-ngrams-matches", "gru-L2-H7-D3-matches"),
        *("gru-L2-H7-D0-no bias", "rnn-L3-H16-D40-bias"),
    ],
)
def test_the_numbers_of_a_step_are_pythons_for_every_cell(
    browser: playwright.Browser, kind: str, tmp_path: Path
) -> None:
    network, cell, path = model(kind), kind[: kind.index("-")], tmp_path / "page.html"
    export(network, CHARACTERS, path, "fp32")
    opened = Opened(browser, path)
    opened.page.fill("#prompt", PROMPT)
    opened.page.evaluate("() => { begin(); }")
    ids = [BOUNDARY, *CHARACTERS.prompt_ids(PROMPT)[0]]
    for layer, unit in ((0, 3), (1, 6)):
        assert_same_step(opened.page.evaluate(STEP, [layer, unit, "h", ""]), unit_step(network, ids, layer, unit), "h")
    opened.page.click("#step summary")
    opened.page.wait_for_selector(".step-table tbody tr")
    told = {"lstm": "g", "gru": "a GRU", "rnn": "a vanilla RNN"}[cell]
    assert told in str(opened.page.text_content(".step-drawing"))
    assert opened.page.locator(".step-table tbody tr").count() == {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    opened.close()


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (360, "dark")])
def test_a_step_is_seen_walked_and_heard(browser: playwright.Browser, demo_file: Path, width: int, scheme: str) -> None:
    opened = Opened(
        browser, demo_file, viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    page, run = opened.page, storycell.load()
    page.focus("#step summary")
    page.keyboard.press("Enter")
    said = page.locator("#step [role=status]")
    page.wait_for_selector(".step-drawing svg")
    assert "At “a” (character 11): cell state c of layer 1" in said.inner_text()
    page.locator("#step").get_by_label("Unit", exact=True).fill("64")
    page.keyboard.press("Tab")
    step = run.step("Once upon a", 1, 64)
    assert f"unit 64 became {step.after['c']:.3f}".replace("-", "−") in said.inner_text()
    drawn = page.locator(".step-drawing svg")
    assert f"forget gate {step.after['f']:.3f}" in str(drawn.get_attribute("aria-label"))
    assert f"{step.after['i']:.3f}" in drawn.inner_html()
    assert page.locator(".step-table tbody tr").count() == 4
    page.get_by_role("button", name="Step back").focus()
    page.keyboard.press("Enter")
    assert "At “space” (character 10)" in said.inner_text()
    page.keyboard.press("ArrowRight")  # as everywhere on the page
    assert "At “a” (character 11)" in said.inner_text()
    assert page.get_by_role("button", name="Step forward").is_disabled()
    page.get_by_label("Read instead").fill('"')
    other = run.step('Once upon "', 1, 64)
    assert f"unit 64 became {other.after['c']:.3f}".replace("-", "−") in said.inner_text()
    page.get_by_label("Read instead").fill("☃")
    assert "The model does not know “☃”" in said.inner_text()
    page.get_by_label("Read instead").fill("")
    page.focus(".step-units")
    page.keyboard.press("ArrowRight")
    assert "unit 65 became" in said.inner_text()
    assert "At “a” (character 11)" in said.inner_text()  # the text stayed
    page.locator(".step-units span").nth(7).click()
    assert "unit 7 became" in said.inner_text()
    assert page.locator(".step-units span").count() == run.network.hidden_size
    assert serious_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    opened.close()


SHOWN = """([layer, addition, prompt]) => {
  plain.show(layer, addition);
  const out = new Float64Array(plain.V);
  let trace = null;
  for (const id of [0, ...vocabulary.encode(prompt).ids]) {
    const next = plain.newTrace();
    plain.step(id, trace, next);
    trace = next;
  }
  plain.logits(trace, out);
  return [...out];
}"""


@pytest.mark.parametrize(
    "kind",
    [
        *("lstm-L2-H7-D3-ngrams", "lstm-L2-H7-D3-ngrams-matches", "rnn-L2-H7-D3-matches"),
        *("gru-L2-H7-D0-no bias", "rnn-L3-H16-D40-bias", "lstm-L1-H5-D2-bias", "lstm-L3-H16-D40-gate norm"),
    ],
)
def test_a_steered_page_computes_what_the_steered_run_does(
    browser: playwright.Browser, kind: str, tmp_path: Path
) -> None:
    network, path = model(kind), tmp_path / "page.html"
    export(network, CHARACTERS, path, "fp32")
    opened = Opened(browser, path)
    for layer in range(network.num_layers):
        addition = np.random.default_rng(layer).normal(0, 0.5, network.hidden_size)
        expected = logits_after(steered(network, layer, addition), PROMPT)
        told = opened.page.evaluate(SHOWN, [layer, addition.tolist(), PROMPT])
        assert np.allclose(told, expected, rtol=EXACT, atol=EXACT)
        assert not np.allclose(told, logits_after(network, PROMPT), atol=0.01)
    told = opened.page.evaluate(SHOWN, [0, None, PROMPT])  # as it was
    assert np.allclose(told, logits_after(network, PROMPT), rtol=EXACT, atol=EXACT)
    opened.close()


@pytest.fixture(scope="module")
def towards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A direction of the demo, and a page with a slider for it."""
    folder, run = tmp_path_factory.mktemp("steered"), storycell.load()
    stories = "<|endoftext|>\n".join(islice(corpus.generate(6), 30))
    run.direction(stories, "she, not he").save(folder / "she.json")
    run.export(folder / "page.html", steer=folder / "she.json")
    return folder / "she.json", folder / "page.html"


def test_a_slider_steers_by_a_direction_and_by_a_random_one(
    browser: playwright.Browser, towards: tuple[Path, Path], demo_file: Path
) -> None:
    file, path = towards
    assert path.stat().st_size < demo_file.stat().st_size + 10_000
    opened, run, along = Opened(browser, path), storycell.load(), Direction.load(file)
    page = opened.page
    page.select_option("#pace", "0")
    page.fill("#seed", "7")
    page.fill("#chars", "150")
    page.evaluate("t => { const s = document.getElementById('temperature'); s.value = t; }", 0)
    page.click("#generate")
    opened.await_end()
    prompt = page.input_value("#prompt")
    unsteered = run.generate(prompt, 150, greedy=True)
    assert opened.story() == unsteered
    page.focus("#dose")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#dose ~ output") == "2.00"
    steered_text = run.steer(along, 2).generate(prompt, 150, greedy=True)
    assert steered_text != unsteered
    opened.await_story(steered_text)
    page.select_option("#direction", label="a random direction, as long")
    random_text = run.steer(along.random(0), 2).generate(prompt, 150, greedy=True)
    assert random_text != steered_text
    opened.await_story(random_text)
    assert page.evaluate("() => net === plain")
    assert serious_violations(page) == []
    page.focus("#dose")
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => net !== plain")  # the engine again
    opened.await_story(unsteered)
    opened.close()


def test_a_page_without_a_direction_has_no_slider_and_what_does_not_fit_is_refused(
    demo: Opened, towards: tuple[Path, Path], tmp_path: Path
) -> None:
    assert demo.page.locator("#steering").is_hidden()
    run = storycell.load()
    with pytest.raises(SettingsError, match=r"only a page \(\.html\)"):
        run.export(tmp_path / "story.c", steer=towards[0])
    wrong = Direction("odd", 5, np.ones(3))
    with pytest.raises(SettingsError, match="“odd” is one of 3 units in layer 5, and the model has 2 layers of 352"):
        run.export(tmp_path / "page.html", steer=wrong)
    with pytest.raises(SettingsError, match=r"nosuch\.json"):
        run.export(tmp_path / "page.html", steer=tmp_path / "nosuch.json")
    assert list(tmp_path.iterdir()) == []
    nasty = Direction("</script><script>alert(1)</script>", 1, np.ones(352))
    run.export(tmp_path / "page.html", steer=nasty)
    assert "<script>alert(1)" not in (tmp_path / "page.html").read_text()


def test_dark_or_light_is_the_readers_choice(demo: Opened) -> None:
    paper = "() => getComputedStyle(document.body).backgroundColor"
    before = demo.page.evaluate(paper)
    demo.page.click("#theme")
    after = demo.page.evaluate(paper)
    demo.page.click("#theme")
    assert demo.page.evaluate(paper) == before != after
    seen = {"#" + "".join(f"{int(part):02x}" for part in found[4:-1].split(", ")) for found in (before, after)}
    assert seen == {theme.LIGHT["paper"], theme.DARK["paper"]}


def test_generate_goes_on_from_the_beginning_and_the_seed(demo: Opened) -> None:
    demo.page.fill("#chars", "150")
    demo.page.click("#generate")
    demo.await_end()
    assert demo.story() == storycell.load().generate("Once upon a", 150, temperature=0.8, seed=7)
    demo.page.click("#generate")  # goes on
    demo.await_end()
    assert demo.story() == storycell.load().generate("Once upon a", 300, temperature=0.8, seed=7)
    demo.page.fill("#prompt", "One day")  # begins anew
    demo.page.click("#generate")
    demo.await_end()
    assert demo.story() == storycell.load().generate("One day", 150, temperature=0.8, seed=7)


def test_a_step_back_and_another_choice(demo: Opened) -> None:
    keys = demo.page.keyboard
    demo.page.locator("#story").focus()
    assert demo.story() == "Once upon a"
    keys.press("Backspace")
    keys.press("Backspace")
    assert demo.story() == "Once upon"
    first = demo.page.locator("#choices button").first
    assert first.locator("b").inner_text() == "␣"
    first.click()
    keys.press("Escape")
    assert demo.story() == "Once upon "
    second = demo.page.locator("#choices button").nth(1).locator("b").inner_text()
    demo.page.locator("#story").focus()
    keys.press("2")
    assert demo.story() == f"Once upon {second}"
    demo.page.locator("#story span").nth(4).click()  # the mark goes before it, and the rest is replaced by a choice
    assert demo.page.locator("#story .after").count() == len("Once upon ") + 1 - 4
    assert demo.page.locator("#choices .actual b").inner_text() == "␣"
    keys.press("1")
    assert len(demo.story()) == 5


def test_stop_stops(demo: Opened) -> None:
    demo.page.fill("#chars", "100000")
    demo.page.select_option("#pace", "40")
    demo.page.locator("#story").focus()
    demo.page.keyboard.press("Space")
    demo.page.locator("#story span").nth(20).wait_for()
    demo.page.keyboard.press("Space")
    demo.await_end()
    assert demo.story() == demo.story()
    assert len(demo.story()) < 1000
    assert storycell.load().generate("Once upon a", 1000, temperature=0.8, seed=7).startswith(demo.story())


def test_every_character_is_coloured_by_surprise_or_by_a_unit(demo: Opened) -> None:
    demo.page.fill("#chars", "60")
    demo.page.click("#generate")
    demo.await_end()
    share = r"span => Number(/ ([\d.]+)%/.exec(span.style.backgroundColor)?.[1] ?? 0) / 100"
    shares = f"() => [...document.querySelectorAll('#story span')].map({share})"
    tones = "() => [...document.querySelectorAll('#story span')].map(s => /--\\w+/.exec(s.style.backgroundColor)?.[0])"
    nats = storycell.load().score(demo.story())
    expected = np.minimum(nats / FULL_NATS, 1)
    found = np.array(demo.page.evaluate(shares))[: len(nats)]
    assert found == pytest.approx(np.where(expected < FAINT, 0, expected), abs=0.01)
    assert set(demo.page.evaluate(tones)) == {None, "--loss"}
    options = demo.page.locator("#colour option").all_inner_texts()
    assert options[1:-1] == [f"{names.name_of(symbol)} {symbol}" for symbol in names.in_order("ifgoch")]
    demo.page.select_option("#colour", label="forget gate f")
    demo.page.select_option("#layer", "1")
    demo.page.fill("#unit", "3")
    demo.page.dispatch_event("#unit", "change")
    values = np.array(demo.page.evaluate("() => story.traces.map(trace => trace[net.placeOf(1, 'f', 3)])"))
    assert np.array(demo.page.evaluate(shares)) == pytest.approx(np.where(values < FAINT, 0, values), abs=0.01)
    demo.page.select_option("#colour", "c")
    values = np.array(demo.page.evaluate("() => story.traces.map(trace => trace[net.placeOf(1, 'c', 3)])"))
    full = np.quantile(np.abs(values), 0.98, method="higher")  # the cell state has no bound
    expected = np.minimum(np.abs(values) / full, 1)
    assert np.array(demo.page.evaluate(shares)) == pytest.approx(np.where(expected < FAINT, 0, expected), abs=0.01)
    signs = ["--low" if value < 0 else "--high" for value in values]
    seen = demo.page.evaluate(tones)
    assert all(tone in (None, sign) for tone, sign in zip(seen, signs, strict=True))
    assert set(seen) >= {"--low", "--high"}
    demo.page.locator("#map").click(position={"x": 5, "y": 5})
    assert demo.page.input_value("#unit") == "0"
    assert "cell state c of unit 0" in demo.page.inner_text("#detail")


def test_what_the_model_does_not_know_is_said(demo: Opened) -> None:
    demo.page.fill("#prompt", "Once ÿ upon 漢")
    demo.page.click("#generate")
    assert "does not know “ÿ” “漢”" in demo.page.inner_text("#trouble")
    assert demo.story() == "Once upon a"
    demo.page.fill("#prompt", "Once")
    demo.page.fill("#seed", "x")
    demo.page.click("#generate")
    assert "from 0 to 18446744073709551615" in demo.page.inner_text("#trouble")


def test_a_name_cannot_become_a_script_and_the_page_fits_a_phone(browser: playwright.Browser, tmp_path: Path) -> None:
    name = "</script><script>document.title='taken'</script><!-- &amp; @WEIGHTS@"
    export(model("lstm-L1-H5-D2-bias"), CHARACTERS, tmp_path / "story.html", name=name)
    phone = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "color_scheme": "dark"}
    opened = Opened(browser, tmp_path / "story.html", **phone)
    assert opened.page.title() == f"{name} · storycell"
    assert opened.page.inner_text("#name") == name
    opened.page.fill("#prompt", "a bad")
    opened.page.fill("#chars", "20")
    opened.page.select_option("#colour", index=4)
    opened.page.tap("#generate")
    opened.await_end()
    assert opened.page.evaluate("() => document.documentElement.scrollWidth") <= 360
    script = "document.title = 'taken'"
    added = "text => { const s = document.createElement('script'); s.textContent = text; document.body.append(s); }"
    opened.page.evaluate(added, script)
    assert opened.page.title() == f"{name} · storycell"
    assert "Content Security Policy" in opened.troubles.pop()
    opened.close()


STEPS_PER_S = """(count) => {
  const rate = (one) => {
    let trace = one.newTrace(), next = one.newTrace();
    one.step(0, null, trace);
    const draw = new storycell.Draw("1"), began = performance.now();
    for (let k = 0; k < count; k++) {
      one.step(2 + k % 80, trace, next);
      one.logits(next, logits);
      storycell.choose(logits, 0.8, draw);
      [trace, next] = [next, trace];
    }
    return count / (performance.now() - began) * 1000;
  };
  rate(net);
  return [rate(net), rate(plain)];
}"""


@pytest.mark.soak
def test_the_engine_is_3_times_as_fast_as_plain_javascript_and_6_times_in_int8(demo: Opened) -> None:
    for precision, least in (("fp32", 3), ("int8", 6)):
        demo.page.select_option("#precision", precision)
        rounds = [demo.page.evaluate(STEPS_PER_S, 1500) for _ in range(9)]
        ratio = np.median([engine / plain for engine, plain in rounds])
        print(precision, np.median(rounds, axis=0), ratio)
        assert ratio >= least, precision


@pytest.mark.soak
def test_a_layer_of_256_generates_5000_characters_a_second(browser: playwright.Browser, tmp_path: Path) -> None:
    vocab = storycell.load().vocab
    export(TorchModel(CharLM(len(vocab), 256, 1, "lstm", embedding_size=64)), vocab, tmp_path / "story.html")
    opened = Opened(browser, tmp_path / "story.html")
    timed = """() => {
      let trace = first, next = net.newTrace(), spare = net.newTrace();
      const draw = new storycell.Draw("1"), began = performance.now();
      for (let k = 0; k < 2000; k++) { net.step(2 + k % 80, trace, next); net.logits(next, logits);
        storycell.choose(logits, 0.8, draw); trace = next; [next, spare] = [spare, next]; }
      return 2000 / (performance.now() - began) * 1000; }"""
    assert max(opened.page.evaluate(timed) for _ in range(5)) > 5000
    opened.close()
