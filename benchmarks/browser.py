"""What the pages do in a real browser: how fast they train and generate, what they learn, whether they answer.

    python benchmarks/browser.py [--text shakespeare.txt] [--seconds 60] [--rounds 5] [--chromium PATH]

Headless Chromium opens `storycell export --trainer`, offline, and

1. trains on the names that come with the page, until a sample is plausible (`looks_like`), at most 20 s;
2. trains on the text for a minute (the embedded stories where there is none), keys being pressed meanwhile. Of that
   minute are the loss on what is held out (of its first 8,000 characters, as the page shows it; and in Python the saved
   model's on the last 10 %), the memory of the page's process (the peak of what is resident, Chromium's own included),
   and what its main thread does: timers of 10 ms that came late, tasks by their processor time, keys until their
   handler is done;
3. trains in turns with the engine of this package, with AVX2 and one thread: the same network, streams and float32;
4. generates with the package's model in turns with plain JavaScript.

Rates are of processor time, of the worker's thread and of the engine's process, so that other work on the machine does
not matter much; where a figure is of the clock, its name says so. Takes less than three minutes, on Linux; prints what
it does and one JSON line, with bars and whether they are met.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import playwright.sync_api as playwright

import storycell
from storycell.engine import EngineModel
from storycell.engine.library import isa
from storycell.lab.bench.results import keep

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
TEXT = Path(__file__).parents[2] / "shared" / "data" / "shakespeare" / "input.txt"
HIDDEN, B, T, V, EMBEDDING, MATCHES = 128, 16, 64, 80, 64, 16
NAMES_S, ENGINE_STEPS, PAGE_S = 20.0, 60, 2.5
LETTERS = re.compile(r"[A-Z][a-z]{2,11}")
PLAUSIBLE_NAMES, NEW_NAMES = 0.75, 3  # of a sample, and of all samples until then

WATCH = """() => {
  globalThis.watched = { lags_ms: [], long: [], keys_ms: [] };
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    watched.lags_ms.push(now - last - 10);
    last = now;
  }, 10);
  const observe = (type, keep) => new PerformanceObserver((list) => list.getEntries().forEach(keep))
    .observe({ type, durationThreshold: 16 });
  observe("longtask", ({ duration }) => watched.long.push(duration));
  observe("event", ({ processingEnd, startTime }) => watched.keys_ms.push(processingEnd - startTime));
}"""

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
  return [rate(net), rate(plain)];
}"""


class Page:
    """A page of its own browser, and the process that computes it."""

    def __init__(self, started: playwright.Playwright, chromium: str, file: Path) -> None:
        self.browser = started.chromium.launch(executable_path=chromium, args=FLAGS)
        self.page = self.browser.new_context(offline=True).new_page()
        self.page.goto(file.as_uri())
        processes = self.browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
        renderers = [process["id"] for process in processes if process["type"] == "renderer"]
        self.process = Path("/proc", str(max(renderers, key=_resident_mb)))

    def begin(self) -> None:
        """Train, with 1,000,000 steps to go."""
        self.page.wait_for_selector("#train:enabled")
        self.page.click("#train")
        self.page.wait_for_selector("#story span")

    def toggle(self, to: str) -> None:
        """Pause or go on: the button is called `to` afterwards."""
        self.page.click("#train")
        self.page.get_by_role("button", name=to, exact=True).wait_for()

    @property
    def is_training(self) -> bool:
        """Whether there are steps to go."""
        return self.page.inner_text("#train") == "Pause"

    def number(self, name: str) -> float:
        """A number that the page shows; NaN where there is none yet."""
        found = re.match(r"[\d.,]+", self.page.inner_text(f"#{name}"))
        return float(found[0].replace(",", "")) if found else float("nan")

    def worker_s(self) -> float:
        """Processor time of the worker's thread."""
        threads = (thread for thread in (self.process / "task").iterdir() if "Worker" in (thread / "comm").read_text())
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9

    def peak_mb(self) -> float:
        """The most that was resident of its process."""
        return _status_mb(self.process, "VmHWM")


def _status_mb(process: Path, key: str) -> float:
    found = re.search(rf"^{key}:\s+(\d+) kB$", (process / "status").read_text(), re.MULTILINE)
    return int(found[1]) / 1000 if found else 0.0


def _resident_mb(number: int) -> float:
    return _status_mb(Path("/proc", str(number)), "VmRSS")


def looks_like(name: str, names: list[str]) -> bool:
    """Whether it could be a name: a capital and small letters; three quarters of its trigrams are those of names."""
    known = {part for one in names for part in _trigrams(one)}
    parts = _trigrams(name)
    return bool(LETTERS.fullmatch(name)) and sum(part in known for part in parts) >= 0.75 * len(parts)


def _trigrams(name: str) -> list[str]:
    whole = f"^{name}$"
    return [whole[k : k + 3] for k in range(len(whole) - 2)]


def learn_names(page: Page) -> dict[str, Any]:
    """How long until the names of a sample are plausible."""
    page.page.click("#names")
    names = page.page.input_value("#text").split()
    page.page.fill("#steps", "2000")
    began = time.monotonic()
    page.begin()
    seen: dict[str, Any] = {"names_s": None}
    new: list[str] = []  # in any sample so far: a list as short as this one is soon known by heart
    while time.monotonic() - began < NAMES_S:
        page.page.wait_for_timeout(250)
        found = page.page.evaluate("() => document.getElementById('story').textContent").split("\n")[:-1]
        share = sum(looks_like(name, names) for name in found) / max(1, len(found))
        new += [name for name in found if looks_like(name, names) and name not in names and name not in new]
        if share >= PLAUSIBLE_NAMES and len(new) >= NEW_NAMES:
            seen = {"names_s": round(time.monotonic() - began, 1), "names_worker_s": round(page.worker_s(), 1)}
            seen |= {"names_steps": page.number("steps-done"), "new_names": new[:8], "plausible_names": round(share, 2)}
            break
    return seen


def take_stories(page: Page) -> None:
    """Choose the stories that come with the page."""
    page.page.click("#stories")
    page.page.wait_for_function("() => document.getElementById('size').textContent")


def learn_text(page: Page, text: Path | None, seconds: float) -> dict[str, Any]:
    """A minute of training, and how the page does meanwhile."""
    if text is None:
        take_stories(page)
    else:
        page.page.set_input_files("#file", text)
        page.page.wait_for_function("() => document.getElementById('size').textContent")
    text_chars = page.number("size")
    page.page.fill("#steps", "5000")
    page.begin()
    page.page.evaluate(WATCH)
    page.page.select_option("#colour", "c")
    page.page.locator("#story").focus()
    page.browser.start_tracing(page=page.page, categories=["toplevel"])
    began, first_s, steps = time.monotonic(), page.worker_s(), page.number("steps-done")
    nats: list[tuple[float, float, float]] = []
    while time.monotonic() - began < seconds and page.is_training:
        page.page.wait_for_timeout(400)
        page.page.keyboard.press("]")
        nats.append((time.monotonic() - began, page.worker_s() - first_s, page.number("valid-nats")))
    clock_s, worker_s = time.monotonic() - began, page.worker_s() - first_s
    chars = (page.number("steps-done") - steps) * B * T
    trace = json.loads(page.browser.stop_tracing())["traceEvents"]
    watched = page.page.evaluate("() => watched")
    if page.is_training:
        page.toggle("Train")
    main = {event["tid"] for event in trace if event.get("args", {}).get("name") == "CrRendererMain"}
    tasks = [event["tdur"] / 1000 for event in trace if event.get("tid") in main and "tdur" in event]
    below = next(((round(clock, 1), round(worker, 1)) for clock, worker, loss in nats if loss < 2.0), (None, None))
    lags = np.array(watched["lags_ms"])
    return {
        **{"text_chars": round(text_chars)},
        **{"seconds_by_the_clock": round(clock_s, 1), "worker_s": round(worker_s, 1)},
        **{
            "train_chars_per_s_by_the_clock": round(chars / clock_s),
            "train_chars_per_s_of_all": round(chars / worker_s),
        },
        **({"whole_held_out_nats": round(saved_loss(page, text), 4)} if text else {}),
        **{"held_out_nats": nats[-1][2], "below_2_nats_s": below[0], "below_2_nats_worker_s": below[1]},
        **{"memory_mb": round(page.peak_mb())},
        **{
            "late_timer_ms": round(float(lags.max()), 1),
            "late_timer_999_ms": round(float(np.quantile(lags, 0.999)), 1),
        },
        **{
            "timers": len(lags),
            "long_tasks": len(watched["long"]),
            "longest_task_by_the_clock_ms": max(watched["long"], default=0),
        },
        **{"longest_task_ms": round(max(tasks), 1), "tasks": len(tasks), "keys": len(nats)},
        **{"longest_key_ms": round(max(watched["keys_ms"], default=0), 1)},
    }


def saved_loss(page: Page, text: Path) -> float:
    """The loss of the saved model on the last tenth of a text that is one story."""
    with tempfile.TemporaryDirectory() as folder:
        with page.page.expect_download() as waiting:
            page.page.click("#save")
        waiting.value.save_as(Path(folder, "mine.zip"))
        shutil.unpack_archive(Path(folder, "mine.zip"), folder)
        whole = text.read_text(encoding="utf-8")
        return storycell.load(Path(folder, "mine")).evaluate(whole[-(len(whole) // 10) :]).loss_nats


def train_in_turns(page: Page, rounds: int) -> dict[str, Any]:
    """Rates of the page and of the engine with AVX2."""
    take_stories(page)
    page.page.fill("#steps", "1000000")
    page.begin()
    page.toggle("Train")
    environment = {**os.environ, "STORYCELL_ISA": "avx2"}
    words = [sys.executable, __file__, "--engine"]
    rates: dict[str, list[float]] = {"page": [], "engine": []}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        kernel = engine.stdout.readline().strip()
        for _ in range(rounds):
            began, steps = page.worker_s(), page.number("steps-done")
            page.toggle("Pause")
            page.page.wait_for_timeout(1000 * PAGE_S)
            page.toggle("Train")
            rates["page"].append((page.number("steps-done") - steps) * B * T / (page.worker_s() - began))
            engine.stdin.write("go\n")
            engine.stdin.flush()
            rates["engine"].append(float(engine.stdout.readline()))
        engine.stdin.close()
    ratios = [page / engine for page, engine in zip(rates["page"], rates["engine"], strict=True)]
    return {
        **{
            "train_chars_per_s": round(statistics.median(rates["page"])),
            "module": page.page.get_attribute("body", "data-engine"),
        },
        **{"engine_chars_per_s": round(statistics.median(rates["engine"])), "engine_kernel": kernel},
        **{
            "ratio_to_engine": round(statistics.median(ratios), 3),
            "ratios_to_engine": [round(one, 3) for one in sorted(ratios)],
        },
    }


def run_engine() -> None:
    """The same training in this process: a rate of processor time for each line that comes in."""
    print(isa(), flush=True)
    network = {"embedding_size": EMBEDDING, "matches": MATCHES, "gate_norm": True}
    model = EngineModel(V, HIDDEN, 1, "lstm", **network, precision="fp32", threads=1)
    model.initialise(1)
    ids = np.random.default_rng(1).integers(0, V, (B, T + 1))
    for _ in sys.stdin:
        began = time.process_time()
        for _ in range(ENGINE_STEPS):
            model.gradient(ids[:, :-1], ids[:, 1:], carries=True)
            model.apply(1e-4, optimizer="normuon", clip=1.0, decay=0.05)
        print(ENGINE_STEPS * B * T / (time.process_time() - began), flush=True)


def generate_in_turns(page: Page, rounds: int) -> dict[str, Any]:
    """How many times plain JavaScript's rate the engine's is, two layers of 256."""
    page.page.evaluate("() => engineIsThere")
    out: dict[str, Any] = {}
    for precision in ("fp32", "int8"):
        page.page.select_option("#precision", precision)
        page.page.evaluate(STEPS_PER_S, 300)
        measured = [page.page.evaluate(STEPS_PER_S, 800) for _ in range(rounds)]
        ratio = statistics.median(engine / plain for engine, plain in measured)
        out |= {f"generate_{precision}_ratio": round(ratio, 2)}
        out |= {f"generate_{precision}_chars_per_s_by_the_clock": round(statistics.median(one for one, _ in measured))}
    return out


def verdicts(figures: dict[str, Any]) -> dict[str, bool | None]:
    """The bars, and whether they are met; None where nothing says so."""
    names, below = figures["names_s"], figures["below_2_nats_s"]
    return {
        "training: at least 15,000 characters/s": figures["train_chars_per_s"] >= 15_000,
        "training: at least 0.15 of the engine's, AVX2, one thread": figures["ratio_to_engine"] >= 0.15,
        "plausible names within 20 s": names is not None and names <= NAMES_S,
        "below 2.0 nats within a minute": None if figures["text"] is None else below is not None and below <= 60,
        "memory below 400 MB": figures["memory_mb"] < 400,
        "no task of the page's main thread takes 50 ms": figures["longest_task_ms"] < 50,
        "keys are answered within 50 ms, on a machine that does nothing else": figures["longest_key_ms"] < 50,
        "generation: at least 3 times plain JavaScript": figures["generate_fp32_ratio"] >= 3,
        "generation in int8: at least 6 times": figures["generate_int8_ratio"] >= 6,
    }


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=TEXT if TEXT.is_file() else None, help="a megabyte of Shakespeare")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training on the text")
    parser.add_argument("--rounds", type=int, default=5, help="turns of what is compared")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        return run_engine()
    figures: dict[str, Any] = {"task": "browser", "text": None if args.text is None else args.text.name}
    with tempfile.TemporaryDirectory() as folder, playwright.sync_playwright() as started:
        learn, story = Path(folder, "learn.html"), Path(folder, "story.html")
        model = storycell.load()
        model.export_trainer(learn)
        model.export(story)
        parts = (
            (learn, learn_names, ()),
            (learn, learn_text, (args.text, args.seconds)),
            (learn, train_in_turns, (args.rounds,)),
            (story, generate_in_turns, (args.rounds,)),
        )
        for file, part, words in parts:
            page = Page(started, args.chromium, file)
            found = part(page, *words)
            figures |= found | {"browser": f"Chromium {page.browser.version}"}
            page.browser.close()
            print(f"{part.__name__}: {found}", flush=True)
    bars = verdicts(figures)
    for bar, is_met in bars.items():
        print(f"{'not measured' if is_met is None else 'met' if is_met else 'MISSED'}: {bar}")
    keep(figures | {"bars": bars})


if __name__ == "__main__":
    main()
