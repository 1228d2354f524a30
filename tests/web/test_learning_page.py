"""The page that learns, in Chromium: a text in, a model out, without network, mouse, or messages in the console."""

import base64
import contextlib
import io
import json
import os
import re
import signal
import sys
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import playwright.sync_api as playwright
import pytest
from support import random_models
from support.accessibility import serious_violations
from support.browser import CHROMIUM, FLAGS, needs_chromium

import storycell
from storycell.cli import main
from storycell.config import ModelSettings
from storycell.context import TABLE
from storycell.data.stories.corpus import generate
from storycell.export.trainer import export_trainer
from storycell.runs.network import new_model
from storycell.runs.tensors import read_tensors
from storycell.training.start import resume

pytestmark = needs_chromium
STORIES = "\n<|endoftext|>\n".join(islice(generate(7), 40)) + "\n"


@pytest.fixture(scope="module")
def started() -> Iterator[playwright.Playwright]:
    with playwright.sync_playwright() as one:
        yield one


@pytest.fixture(scope="module")
def browser(started: playwright.Playwright) -> Iterator[playwright.Browser]:
    chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("learn") / "learn.html"
    model = storycell.load()
    made = export_trainer(model.network, model.vocab, path, name="demo")
    assert made.bytes == path.stat().st_size < 4_000_000
    return path


class Opened:
    """The page, and everything that went wrong in it."""

    def __init__(self, within: playwright.Browser | playwright.BrowserContext, path: Path, **context: Any) -> None:
        is_browser = isinstance(within, playwright.Browser)
        self.context = within.new_context(offline=True, accept_downloads=True, **context) if is_browser else within
        self.path, self.troubles, self.asked = path, [], []
        self.open()

    def open(self) -> None:
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url.partition(":")[0]))
        self.page.goto(self.path.as_uri())
        self.page.wait_for_selector("#train:enabled")

    def begin(self, text: str = STORIES, *, hidden: str = "32", steps: int = 60) -> None:
        self.page.fill("#text", text)
        self.page.select_option("#hidden", hidden)
        self.page.fill("#steps", str(steps))
        self.page.click("#train")
        self.page.wait_for_selector("#story span")

    def await_steps(self, count: int) -> None:
        reached = "n => Number(document.getElementById('steps-done').textContent.replace(/,| of.*/g, '')) >= n"
        self.page.wait_for_function(reached, arg=count)

    def steps(self) -> int:
        return int(self.page.inner_text("#steps-done").split(" of ")[0].replace(",", ""))

    def pause(self) -> None:
        self.page.click("#train")
        self.page.get_by_role("button", name="Train", exact=True).wait_for()

    def await_done(self) -> float:
        self.page.wait_for_function("() => /Done/.test(document.getElementById('status').textContent)")
        return float(re.findall(r"[\d.]+", self.page.inner_text("#status"))[0])

    def saved(self, folder: Path) -> Path:
        with self.page.expect_download() as waiting:
            self.page.click("#save")
        waiting.value.save_as(folder / "mine.zip")
        return folder / "mine.zip"

    def close(self) -> None:
        self.context.close()
        assert self.troubles == []
        assert set(self.asked) <= {"file", "data", "blob"}  # no network


@pytest.fixture
def opened(browser: playwright.Browser, file: Path) -> Iterator[Opened]:
    opened = Opened(browser, file)
    yield opened
    opened.close()


def unpacked(path: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(path.parent)
    return path.parent / "mine"


def test_a_model_learns_and_opens_in_python_with_the_same_loss(opened: Opened, tmp_path: Path) -> None:
    assert opened.page.get_attribute("body", "data-engine") in ("simd128", "relaxed")
    opened.page.select_option("#matches", "0")
    opened.begin(steps=120)
    told = opened.await_done()
    assert opened.page.locator("#curve path").count() == 2
    losses = [float(opened.page.inner_text(f"#{name}-nats")) for name in ("train", "valid")]
    assert all(0.5 < loss < 3.0 for loss in losses)
    run = unpacked(opened.saved(tmp_path))
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert entries[-1]["step"] == 120
    assert min(entry["valid_nats"] for entry in entries) < 0.9 * max(entry["valid_nats"] for entry in entries)
    model = storycell.load(run)
    held_out = "".join(story + "<|endoftext|>\n" for story in held_out_stories(run, tmp_path))
    assert model.evaluate(held_out).loss_nats == pytest.approx(told, abs=1e-3)  # four digits are told
    done = resume(run, text=str(run / "text.txt"), steps=130)
    assert done.summary["step"] == 130


def held_out_stories(run: Path, folder: Path) -> list[str]:
    from storycell.data.corpus import open_corpus
    from storycell.data.prepare import prepare

    prepared = prepare(open_corpus([str(run / "text.txt")]), folder / "prepared")
    assert prepared.valid_ids is not None
    return prepared.vocab.decode(prepared.valid_ids.tolist()).split("<|endoftext|>\n")[1:]


def test_a_closed_page_goes_on_where_it_was(opened: Opened) -> None:
    opened.begin(steps=100_000)
    opened.await_steps(40)
    opened.pause()
    opened.page.wait_for_function("() => document.body.dataset.kept >= 1")
    steps = opened.steps()
    opened.page.close()
    opened.open()
    assert opened.steps() == steps
    assert opened.page.inner_text("#about").startswith("LSTM, 1 × 32")
    assert opened.page.input_value("#text") == STORIES
    opened.page.click("#train")
    opened.await_steps(steps + 20)
    opened.pause()
    opened.page.click("#new")
    opened.page.wait_for_selector("#setup:not([hidden])")
    opened.page.close()
    opened.open()
    assert opened.page.is_visible("#setup")


KEEP = """text => new Promise((resolve, reject) => {
  const bytes = Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0)), asked = indexedDB.open("storycell-learn", 1);
  asked.onerror = reject;
  asked.onsuccess = () => {
    const work = asked.result.transaction("runs", "readwrite");
    work.objectStore("runs").put({ bytes, running: false }, "current");
    work.oncomplete = () => { asked.result.close(); resolve(); };
  };
})"""


def test_a_training_that_an_older_page_kept_goes_on(opened: Opened, tmp_path: Path) -> None:
    older = Path(__file__).parents[1] / "golden" / "older-page.zip"
    opened.page.evaluate(KEEP, base64.b64encode(older.read_bytes()).decode())
    opened.page.close()
    opened.open()
    assert (opened.page.inner_text("#steps-done"), opened.page.inner_text("#train")) == ("40 of 60", "Train")
    opened.page.click("#train")
    told, expected = opened.await_done(), json.loads(older.with_suffix(".json").read_text())
    assert told == pytest.approx(expected["after"], abs=1e-3)
    run = unpacked(opened.saved(tmp_path))
    assert {TABLE, "output.bias"} <= storycell.load(run).network.weights().keys()
    assert resume(run, text=str(run / "text.txt"), steps=70).summary["step"] == 70


def crash(opened: Opened) -> None:
    with pytest.raises(playwright.Error, match="crash"):
        opened.page.goto("chrome://crash")
    opened.page.close()


def kill_all_with(words: str) -> None:
    """Kill the processes of a browser, which has these words in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if words in path.read_text(errors="replace"):
                os.kill(int(path.parent.name), signal.SIGKILL)


def await_kept(opened: Opened) -> int:
    opened.page.wait_for_function("() => document.body.dataset.kept >= 20")
    return int(opened.page.get_attribute("body", "data-kept") or 0)


def check_it_goes_on(opened: Opened, kept: int, folder: Path) -> None:
    """By itself, from what was kept last, and its loss with it."""
    began = int(re.findall(r"goes on from step (\d+)", opened.page.inner_text("#status").replace(",", ""))[0])
    assert began >= kept
    opened.await_steps(began + 200)
    opened.page.wait_for_function("step => document.body.dataset.kept > step", arg=began)
    opened.pause()
    run = unpacked(opened.saved(folder))
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    before, after = ([entry for entry in entries if (entry["step"] > began) is later] for later in (False, True))
    assert [entry["step"] for entry in entries] == sorted({entry["step"] for entry in entries})
    assert len(before) >= 1
    assert max(entry["train_nats"] for entry in after) < before[0]["train_nats"]
    assert max(entry["valid_nats"] for entry in after) < before[0]["valid_nats"]


def test_a_training_whose_tab_crashes_goes_on_from_what_was_kept(opened: Opened, tmp_path: Path) -> None:
    opened.begin(steps=100_000)
    kept = await_kept(opened)
    crash(opened)
    opened.open()
    check_it_goes_on(opened, kept, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the browser's processes in /proc")
def test_a_training_whose_browser_is_killed_goes_on_from_what_was_kept(
    started: playwright.Playwright, file: Path, tmp_path: Path
) -> None:
    profile, browser = tmp_path / "profile", {"executable_path": CHROMIUM, "args": FLAGS, "offline": True}
    first = Opened(started.chromium.launch_persistent_context(profile, **browser), file)
    first.begin(steps=100_000)
    kept = await_kept(first)
    with first.context.expect_event("close"):
        kill_all_with(f"--user-data-dir={profile}")
    again = Opened(started.chromium.launch_persistent_context(profile, **browser), file)
    check_it_goes_on(again, kept, tmp_path)
    again.close()


def test_another_window_leaves_a_training_that_goes_on_alone(opened: Opened) -> None:
    opened.begin(steps=100_000)
    kept = await_kept(opened)
    first = opened.page
    opened.open()
    assert opened.page.inner_text("#train") == "Train"
    assert opened.page.is_hidden("#steps-done") or opened.page.inner_text("#steps-done") == ""
    opened.page.close()
    opened.page = first
    first.wait_for_function("step => document.body.dataset.kept > step", arg=kept)
    latest = int(first.evaluate("() => document.body.dataset.kept"))
    first.close()
    opened.open()
    opened.page.wait_for_function("step => document.body.dataset.kept > step", arg=latest)  # it goes on from there
    assert int(opened.page.inner_text("#steps-done").split()[0].replace(",", "")) > latest


def test_a_finished_training_is_kept(opened: Opened, tmp_path: Path) -> None:
    def learnt(name: str) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        tensors, about = read_tensors(unpacked(opened.saved(tmp_path / name)) / "last.safetensors")
        return about["position"] | {key: tensor.tolist() for key, tensor in tensors.items()}

    opened.begin(steps=30)
    opened.await_done()
    before = learnt("before")
    opened.page.close()
    opened.open()
    assert (opened.page.inner_text("#steps-done"), opened.page.inner_text("#train")) == ("30 of 30", "Train on")
    assert learnt("after") == before


def test_step_by_step_and_a_changed_rate(opened: Opened, tmp_path: Path) -> None:
    opened.begin(steps=100_000)
    opened.pause()
    steps = opened.steps()
    opened.page.locator("#story").focus()
    for _ in range(3):
        opened.page.keyboard.press("s")
    opened.await_steps(steps + 3)
    assert opened.steps() == steps + 3
    opened.page.fill("#rate", "-3")
    assert opened.page.inner_text("#rate-value") == "0.0010"
    run = unpacked(opened.saved(tmp_path))
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["training"]["lr"] == pytest.approx(1e-3)
    assert storycell.load(run).config.settings.model.hidden == 32


def test_a_saved_run_is_loaded(opened: Opened, tmp_path: Path) -> None:
    opened.begin(steps=50)
    opened.await_done()
    packed = opened.saved(tmp_path)
    opened.page.click("#new")
    opened.page.wait_for_selector("#setup:not([hidden])")
    opened.page.set_input_files("#file", packed)
    opened.page.wait_for_selector("#story span")
    assert opened.page.inner_text("#steps-done") == "50 of 50"
    opened.page.get_by_role("button", name="Train on").click()
    opened.await_steps(100)


def test_the_text_is_coloured_by_a_unit_and_the_map_shows_all(opened: Opened) -> None:
    opened.begin(steps=100_000)
    opened.await_steps(10)
    opened.pause()
    opened.page.select_option("#colour", "c")
    assert opened.page.locator("#map span").count() == 32
    opened.page.locator("#map").click(position={"x": 5, "y": 5})
    assert opened.page.input_value("#unit") == "0"
    opened.page.keyboard.press("]")
    assert opened.page.input_value("#unit") == "1"
    assert "cell state c of unit 1" in opened.page.inner_text("#detail")
    tones = "() => [...document.querySelectorAll('#story span')].map(s => /--\\w+/.exec(s.style.backgroundColor)?.[0])"
    assert {"--high", "--low"} & set(opened.page.evaluate(tones))
    opened.page.select_option("#shows", "held out")
    opened.page.wait_for_function("t => t.includes(document.getElementById('story').textContent)", arg=STORIES)
    opened.page.locator("#story span").nth(3).click()
    assert f"“{opened.page.locator('#story span').nth(3).inner_text()}”" in opened.page.inner_text("#detail")


def test_the_demo_learns_on(opened: Opened, tmp_path: Path) -> None:
    opened.page.select_option("#donor", label="demo")
    assert opened.page.is_disabled("#hidden")
    opened.page.fill("#text", STORIES)
    opened.page.click("#train")
    opened.await_steps(2)
    opened.pause()
    assert opened.page.inner_text("#about").startswith("LSTM, 2 × 352")
    assert float(opened.page.inner_text("#train-nats")) < 2.5  # it knows stories
    assert json.loads((unpacked(opened.saved(tmp_path)) / "config.json").read_text())["init"] == "demo"


@pytest.mark.parametrize(("ngrams", "matches"), [(4, 0), (0, 16), (4, 16)])
def test_ngrams_and_matches_are_learnt_and_looked_up(
    browser: playwright.Browser, tmp_path: Path, ngrams: int, matches: int
) -> None:
    sizes = ModelSettings(cell="gru", layers=2, hidden=7, embedding=3, ngrams=ngrams, ngram_rows=29, matches=matches)
    drawn, random = new_model(len(random_models.CHARACTERS), sizes), np.random.default_rng(5)
    donor = drawn.with_weights({name: random.normal(0, 0.5, w.shape) for name, w in drawn.weights().items()})
    export_trainer(donor, random_models.CHARACTERS, tmp_path / "learn.html", name="grams")
    opened = Opened(browser, tmp_path / "learn.html")
    assert (opened.page.input_value("#ngrams"), opened.page.input_value("#matches")) == ("0", "16")
    opened.page.select_option("#ngrams", str(ngrams))
    opened.page.select_option("#matches", str(matches))
    opened.begin(steps=40)
    told = opened.await_done()
    run = storycell.load(unpacked(opened.saved(tmp_path)))
    assert (run.network.context.ngrams, run.network.context.matches) == (ngrams, matches)
    assert run.config.settings.model.ngram_rows == 32_768
    held_out = "".join(story + "<|endoftext|>\n" for story in held_out_stories(run.path, tmp_path))
    assert run.evaluate(held_out).loss_nats == pytest.approx(told, abs=5e-3)  # the table is stored in bytes
    opened.page.click("#new")
    opened.page.wait_for_selector("#setup:not([hidden])")
    opened.page.select_option("#donor", label="grams")
    assert opened.page.is_disabled("#ngrams")
    assert opened.page.is_disabled("#matches")
    opened.page.fill("#text", "a bad cab\n" * 40)
    opened.page.fill("#steps", "10")
    opened.page.fill("#rate", "-4")
    opened.page.click("#train")
    opened.await_done()
    (tmp_path / "second").mkdir()
    made = storycell.load(unpacked(opened.saved(tmp_path / "second")))
    assert made.network.context == donor.context
    table = donor.weights()[TABLE]
    moved = np.abs(made.network.weights()[TABLE] - table).max()
    assert 0.01 < moved < 0.1 < np.abs(table).max()  # it began with the donor's, and learnt
    opened.close()


def test_it_rests_while_nobody_sees_it(opened: Opened) -> None:
    opened.begin(steps=100_000)
    opened.await_steps(5)
    hide = """is => { Object.defineProperty(document, "hidden", { value: is, configurable: true });
      document.dispatchEvent(new Event("visibilitychange")); }"""
    opened.page.evaluate(hide, True)
    opened.page.get_by_role("button", name="Train", exact=True).wait_for()
    steps = opened.steps()
    opened.page.evaluate(hide, False)
    opened.await_steps(steps + 5)


def test_what_cannot_be_learnt_is_said(opened: Opened, tmp_path: Path) -> None:
    opened.page.click("#train")
    assert "Give it a text first" in opened.page.inner_text("#trouble")
    opened.page.fill("#text", "short")
    opened.page.click("#train")
    opened.page.wait_for_function("() => /give more text/.test(document.getElementById('trouble').textContent)")
    (tmp_path / "latin.txt").write_bytes("Straße".encode("latin-1"))
    opened.page.set_input_files("#file", tmp_path / "latin.txt")
    opened.page.wait_for_function("() => /not UTF-8/.test(document.getElementById('trouble').textContent)")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("other.txt", "nothing")
    (tmp_path / "other.zip").write_bytes(packed.getvalue())
    opened.page.set_input_files("#file", tmp_path / "other.zip")
    opened.page.wait_for_function("() => /no run to go on with/.test(document.getElementById('trouble').textContent)")


PASTE = """text => {
  const clipboardData = new DataTransfer();
  clipboardData.setData("text/plain", text);
  document.getElementById("text").dispatchEvent(new ClipboardEvent("paste", { clipboardData, cancelable: true }));
}"""


def test_of_a_long_text_the_beginning_is_shown_and_all_is_learnt(opened: Opened, tmp_path: Path) -> None:
    long, page = "To be, or not to be, that is the question.\n" * 3000, opened.page
    page.fill("#text", "Hamlet:\n")
    page.press("#text", "Control+End")
    page.evaluate(PASTE, long)
    whole = f"Hamlet:\n{long}"
    assert page.inner_text("#size") == f"{len(whole):,} characters, of which the first 50,000 are shown"
    assert page.input_value("#text") == whole[:50_000]
    page.press("#text", "Control+Home")
    page.keyboard.type("Prince ")
    assert page.inner_text("#size").startswith(f"{len(whole) + 7:,} characters, of which the first 50,007")
    page.select_option("#hidden", "32")
    page.fill("#steps", "10")
    page.click("#train")
    opened.await_done()
    assert (unpacked(opened.saved(tmp_path)) / "text.txt").read_text() == f"Prince {whole}"
    page.click("#new")
    page.wait_for_selector("#setup:not([hidden])")
    page.press("#text", "Control+A")
    page.keyboard.insert_text("Nay.")
    assert (page.inner_text("#size"), page.input_value("#text")) == ("4 characters", "Nay.")


def test_stories_and_names_come_with_the_page(opened: Opened) -> None:
    opened.page.click("#names")
    assert "Matilda\n" in opened.page.input_value("#text")
    opened.page.click("#stories")
    opened.page.wait_for_function("() => parseInt(document.getElementById('size').textContent.replace(/,/g, '')) > 1e5")
    first, second = opened.page.input_value("#text").split("<|endoftext|>\n")[:2]
    assert [first, second] == list(islice(generate(1), 2))


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 360)])
def test_axe_finds_nothing_serious_and_it_fits_a_phone(
    browser: playwright.Browser, file: Path, scheme: str, width: int
) -> None:
    viewport = {"width": width, "height": 740}
    opened = Opened(browser, file, color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    for learns in (False, True):
        if learns:
            opened.begin(steps=100_000)
            opened.await_steps(5)
            opened.pause()
            opened.page.select_option("#colour", "h")
        assert opened.page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert serious_violations(opened.page) == []
    opened.close()


def test_without_vectors_it_says_so(browser: playwright.Browser, file: Path) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.add_init_script("globalThis.DecompressionStream = undefined")
    page.goto(file.as_uri())
    page.wait_for_function("() => /does not take the engine/.test(document.getElementById('trouble').textContent)")
    context.close()


def test_export_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.html"
    assert main(["export", "--trainer", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(path), "bytes": path.stat().st_size}
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', path.read_text())[0]
    assert "'unsafe-inline'" not in policy
    assert "connect-src" not in policy  # default-src 'none'
    for words in (["page.txt"], ["page.html", "--weights", "int8"]):
        assert main(["export", "--trainer", *words]) != 0
    assert not (tmp_path / "page.txt").exists()
