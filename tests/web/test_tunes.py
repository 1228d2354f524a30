"""Tunes: a run knows that its text is ABC, and its pages, in Chromium, show what is written as notes and play it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import live_server
from support.accessibility import serious_violations
from support.browser import open_browser

import storycell
from storycell.runs.text import has_tunes
from storycell.web import theme

sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

HEAD = "X:{}\nT:The Ball\nM:4/4\nL:1/8\nQ:1/4=120\nK:G\n"
ODD = ("X:1\n", "X:1\nK:G\n", "X:1\nT:a\nK:G\n|:[[GG|:|:dd:|:|::]]c'||\n", "X:1\nM:4/4\nK:G\nc/2/4[|]d((e|]\n")
TUNE = HEAD.format(7) + "G2 A2 F2 z2|[Bd]4 c'4|]\n"
# (MIDI key, when it begins and ends in seconds): an eighth at 120 quarters a minute takes a quarter of a second
HEARD = [(67, 0, 0.5), (69, 0.5, 1), (66, 1, 1.5), (71, 2, 3), (74, 2, 3), (84, 3, 4)]
SOUNDS = """() => {
  globalThis.heard = [];
  const begin = OscillatorNode.prototype.start, end = OscillatorNode.prototype.stop;
  OscillatorNode.prototype.start = function (at) {
    heard.push({ hertz: this.frequency.value, from: at });
    this.number = heard.length - 1;
    begin.call(this, at);
  };
  OscillatorNode.prototype.stop = function (at) { heard[this.number].to = at; end.call(this, at); };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator["sync.Browser"]:
    with open_browser("--autoplay-policy=no-user-gesture-required") as chromium:
        yield chromium


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained a little on tunes."""
    folder = tmp_path_factory.mktemp("tunes")
    tunes = [HEAD.format(k) + f"GABc {'dedB' * (k % 3)}|]\n" for k in range(1, 60)]
    (folder / "tunes.abc").write_text("\n".join([*tunes, TUNE, *ODD]))
    storycell.train(
        folder / "tunes.abc",
        out=folder / "run",
        quiet=True,
        steps=3,
        hidden=8,
        matches=0,
        streams=2,
        chunk=16,
        threads=1,
    )
    return folder / "run"


def test_a_run_knows_whether_its_text_is_tunes(run: Path, made: Path, tmp_path: Path) -> None:
    assert storycell.load(run).config.text.has_tunes
    assert json.loads((run / "config.json").read_text())["text"]["has_tunes"] is True
    assert not storycell.load(made).config.text.has_tunes
    vocab = storycell.load(run).vocab
    assert not has_tunes(vocab.encode("")[:0], vocab)


def test_abcjs_is_in_the_pages_of_tunes_only(run: Path, made: Path, tmp_path: Path) -> None:
    pages = {}
    for name, model in (("tunes", run), ("stories", made)):
        storycell.load(model).export(tmp_path / f"{name}.html")
        pages[name] = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    bundle = theme.read("web/abcjs.js")
    assert "Permission is hereby granted" in bundle
    assert bundle in pages["tunes"]
    assert "ABCJS" not in pages["stories"]
    assert len(pages["tunes"]) - len(pages["stories"]) < len(bundle) + 10_000
    assert not re.search(r"setAttribute\([\"']style|\beval\(|new Function|XMLHttpRequest|\bfetch\(", bundle)


class Shown:
    """A page with nothing to complain of, at its end."""

    def __init__(self, browser: "sync.Browser", address: str, **context: object) -> None:
        self.context = browser.new_context(**context)  # type: ignore[arg-type]
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.troubles, self.asked = list[str](), list[str]()
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.evaluate(SOUNDS)

    def notes(self) -> int:
        return int(self.page.locator("#notes .abcjs-note").count())

    def play(self) -> list[tuple[int, float, float]]:
        """What is heard: MIDI keys, and when each begins and ends, from the first one on."""
        self.page.evaluate("() => { heard.length = 0; }")
        self.page.get_by_role("button", name="Play").click()
        heard = self.page.evaluate("""() => heard.map((tone) => ({
          key: Math.round(69 + 12 * Math.log2(tone.hertz / 440)), from: tone.from, to: tone.to }))""")
        begin = min(tone["from"] for tone in heard)
        return sorted(((t["key"], t["from"] - begin, t["to"] - begin) for t in heard), key=lambda t: (t[1], t[0]))

    def close(self) -> None:
        self.context.close()
        assert self.troubles == []


def assert_is_the_tune(heard: list[tuple[int, float, float]]) -> None:
    assert [key for key, _, _ in heard] == [key for key, _, _ in HEARD]
    for (_, begin, end), (_, wanted, until) in zip(heard, HEARD, strict=True):
        assert begin == pytest.approx(wanted, abs=1e-3)
        assert until - 0.1 < end <= until + 1e-3  # a note may end a little before the next


def test_an_exported_page_shows_and_plays_a_tune_without_any_network(
    browser: "sync.Browser", run: Path, tmp_path: Path
) -> None:
    page = tmp_path / "tunes.html"
    storycell.load(run).export(page)
    shown = Shown(browser, page.as_uri(), offline=True)
    assert shown.page.locator("#tune").is_hidden()
    begin = "prompt => { $('prompt').value = prompt; begin(); }"  # reads the prompt, and generates nothing yet
    shown.page.evaluate(begin, TUNE)
    shown.page.locator("#notes svg").wait_for()
    assert shown.notes() == 5
    assert shown.page.get_by_role("img", name="The tune as notes: The Ball").is_visible()
    assert shown.page.locator("#notes").get_by_text("The Ball", exact=True).count() == 1
    assert serious_violations(shown.page) == []
    assert_is_the_tune(shown.play())
    shown.page.locator("#notes .sounding").first.wait_for()
    shown.page.get_by_role("button", name="Stop").click()
    assert shown.page.locator("#notes .sounding").count() == 0
    shown.page.evaluate(begin, "GABc")  # no tune
    assert shown.page.locator("#tune").is_hidden()
    for odd in ODD:
        shown.page.evaluate(begin, odd)
        assert shown.page.locator("#tune").is_visible()
    assert all(address.startswith(("file:", "data:")) for address in shown.asked)
    shown.close()


def test_the_served_page_shows_and_plays_a_tune(browser: "sync.Browser", run: Path, made: Path) -> None:
    pytest.importorskip("uvicorn", reason="the extra storycell[serve] is not installed")
    with live_server.serving(run) as served:
        shown = Shown(browser, served.url, reduced_motion="reduce")
        shown.page.fill("#text", TUNE)
        shown.page.locator("#notes svg").wait_for()
        assert shown.notes() == 5
        assert_is_the_tune(shown.play())
        assert all(address.startswith(served.url) for address in shown.asked)
        assert any(address.endswith("/tunes.js") for address in shown.asked)
        shown.close()


def test_the_served_page_of_other_texts_asks_for_no_abcjs(browser: "sync.Browser", served: live_server.Served) -> None:
    shown = Shown(browser, served.url)
    shown.page.locator("#choices button").first.wait_for()
    assert not any("tunes.js" in address for address in shown.asked)
    shown.close()
