"""`storycell inspect`: the command, its numbers, and the page in a real browser."""

import base64
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny_runs
from support.accessibility import serious_violations
from support.browser import open_browser
from support.tiny_runs import command

import storycell
from storycell.cli import inspect as inspect_command
from storycell.data import corpus
from storycell.data.tokens import Prepared, as_blocks, open_prepared
from storycell.data.vocab import BOUNDARY_BYTE
from storycell.evaluation.texts import encode_text
from storycell.inspect.features import features
from storycell.inspect.grammar import grammar_features
from storycell.inspect.inspection import Inspection, Subject, inspect
from storycell.inspect.trace import trace
from storycell.inspect.units import find_units
from storycell.nn.adapter import TorchModel
from storycell.report.inspection import InspectionReport
from storycell.runs import text as run_text

NASTY = "</script><script>alert(1)</script>"
LARGEST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inspection, Path, dict[str, Any]]:
    """A tiny run, inspected once: what was found, its page, and the numbers that the command prints."""
    folder = tmp_path_factory.mktemp("inspected")
    run = tiny_runs.make(folder, tmp_path_factory.getbasetemp() / "cache")
    model = storycell.load(run)
    text = tiny_runs.TEXT.replace("“", '"').replace("”", '"').replace("Good", f"Good{NASTY}")
    (folder / "read.txt").write_text(text, encoding="utf-8")
    found = inspect(Subject("run", model.network, model.vocab, encode_text(text, model.vocab)[:-1], 1))
    page = folder / "page.html"
    page.write_text(InspectionReport(found).html(f"a {NASTY} text"), encoding="utf-8")
    return found, page, {"run": run, "text": folder / "read.txt"}


def test_the_command_writes_a_page_figures_and_numbers(
    seen: tuple[Inspection, Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, names = seen
    out, folder = tmp_path / "report.html", tmp_path / "figures"
    given = [names["run"], names["text"], "--against", names["run"]]
    told = command(capsys, "inspect", *given, "--out", out, "--figures", folder, "--json")
    assert told.code == 0, told.err
    summary = json.loads(told.out)
    assert summary["elapsed_s"] > 0
    shown = {"saturation", "gradients", "two-terms", "context", "matches", "places", "mistakes"}
    assert shown <= summary["figures"].keys()
    for name, numbers in summary["figures"].items():
        assert json.loads((folder / f"{name}.json").read_text()) == numbers
        assert (folder / f"{name}.svg").read_text().rstrip().endswith("</svg>")
    assert summary["figures"]["mistakes"].keys() == {"run", "run (the second)"}
    assert summary["figures"]["mistakes"]["run"] == summary["figures"]["mistakes"]["run (the second)"]
    assert summary["figures"]["gradients"]["curves"]["second"] == summary["figures"]["gradients"]["curves"]["trained"]
    assert out.read_text().startswith("<!doctype html>")
    assert out.stat().st_size < LARGEST_BYTES


def test_a_run_that_is_named_by_a_dot_has_its_folders_name(
    seen: tuple[Inspection, Path, dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    _, _, names = seen
    run = tmp_path / "mine"
    shutil.copytree(names["run"], run)
    monkeypatch.chdir(run)
    done = command(capsys, "inspect", ".", names["text"])
    assert (done.code, done.out) == (0, "inspect-mine.html\n"), done.err
    assert "Inside mine" in (run / "inspect-mine.html").read_text(encoding="utf-8")


def test_wrong_words_end_in_a_sentence(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = tmp_path / "short.txt"
    short.write_text("Once upon a time. " * 9)
    command(capsys, "inspect", made, short, "--json").stated(1, "162 characters", "at least 4,000")
    command(capsys, "inspect", made, "--out", tmp_path / "r.pdf").stated(2, "r.pdf", ".html")
    command(capsys, "inspect", made, "--out", tmp_path / "no" / "r.html").stated(2, "there is no folder")
    command(capsys, "inspect", made, "--chars", "0").stated(2, "chars = 0")
    command(capsys, "inspect", tmp_path / "nothing").stated(1, "nothing")


def test_the_grammars_truth_agrees_with_what_the_letters_show_and_the_demo_knows_it() -> None:
    """On the embedded stories: where quotations are, and a unit of the model in the package that was found."""
    model = storycell.load("demo")
    block = run_text.first_chars(corpus.open_corpus(["stories"]), 12_000)
    subject = inspect_command._subject(model, block)
    truth = grammar_features(block)
    path = trace(TorchModel(model.lm), subject.ids, model.vocab)
    told = features(path.text)["inside quotes"].values
    assert 11_000 < len(path) <= 12_000
    assert np.array_equal(truth["truly inside quotes"].values, told)
    assert 0 < truth["the last speaker has a name"].values.mean() < 1
    untrained = trace(TorchModel(model.lm).copy_untrained(1), subject.ids, model.vocab)
    found = find_units(path, untrained, truth, top=1)["truly inside quotes"][0]
    assert found.score > 0.95
    assert found.is_finding


def test_what_a_run_held_out_is_read_whatever_it_was_trained_on(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prepared folder, alone or as the text of a run, and a text that has changed since the training."""
    text.write_text(tiny_runs.TEXT * 30, encoding="utf-8")
    assert command(capsys, "prepare", text, "--out", tmp_path / "tokens").code == 0
    folder = open_prepared(tmp_path / "tokens")
    assert folder.valid is not None
    assert folder.valid.chars > 4000
    for words in (tmp_path / "tokens", text):
        assert command(capsys, "train", words, "--out", tmp_path / f"run-{words.stem}", *tiny_runs.FLAGS).code == 0
    given = [(tmp_path / "run-tokens",), (tmp_path / "run-text",), (tmp_path / "run-text", tmp_path / "tokens")]
    for words in given:
        told = command(capsys, "inspect", *words, "--json")
        assert told.code == 0, told.err
        assert "has changed" not in told.err
        assert json.loads(told.out)["chars"] == folder.valid.tokens - 1  # all of it, and nothing else
    text.write_text(tiny_runs.TEXT * 31, encoding="utf-8")
    assert "has changed since the training" in command(capsys, "inspect", tmp_path / "run-text", "--json").err


def test_of_the_embedded_stories_what_was_held_out_is_read() -> None:
    vocab = storycell.load("demo").vocab
    held_out, whole = run_text.open_words(["stories"], vocab), corpus.open_corpus(["stories"])
    assert isinstance(held_out, Prepared)
    assert run_text.is_embedded(held_out)
    stories = run_text.first_chars(held_out, 8_000).split(BOUNDARY_BYTE)
    trained_on = set(b"".join(as_blocks(held_out.train_ids[:4_000_000], vocab)).split(BOUNDARY_BYTE))
    assert len(stories) > 3
    assert not trained_on & set(stories)
    assert run_text.first_chars(whole, 2_000).split(BOUNDARY_BYTE)[0] in trained_on | set(stories)


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_other_cells_are_inspected_with_what_they_have(cell: str, tmp_path: Path, text: Path) -> None:
    run = storycell.train(text, cell=cell, **tiny_runs.NETWORK, steps=3, threads=1, out=tmp_path / cell)
    model = storycell.load(run.path)
    found = inspect(Subject(cell, model.network, model.vocab, encode_text(tiny_runs.TEXT, model.vocab)[:-1]))
    gates = {"rnn": {"h"}, "gru": {"r", "z"}}[cell]
    assert {s.gate for s in found.saturation} == gates
    assert set(found.flows["trained"].norms) == {("h", 0)}
    assert not found.flows["trained"].through_sum
    assert found.radii.keys() == ({"rnn"} if cell == "rnn" else set())
    page = InspectionReport(found).html("a text")
    assert "two-terms" not in page
    assert all(f'id="{part}"' in page for part in ("text", "latch", "saturation", "gradients", "memory", "mistakes"))


def test_numbers_on_the_page_are_those_of_the_python_call(seen: tuple[Inspection, Path, dict[str, Any]]) -> None:
    found, page, names = seen
    model = storycell.load(names["run"])
    path = model.trace(names["text"].read_text())
    layer, unit, _ = found.browsed.units[0]
    html = page.read_text()
    data = json.loads(html.split('id="browse">')[1].split("</script>")[0])
    for name in path.names:
        shown = np.frombuffer(base64.b64decode(data["units"][0]["values"][name]), dtype="<f4")
        assert np.allclose(shown, path.column(name, layer, unit)[: len(shown)], rtol=1e-6, atol=1e-7)
    assert np.allclose(data["bits"], path.nats[: len(data["bits"])] / math.log(2), atol=1e-4)
    flow = model.gradient_flow(names["text"].read_text(), lags=found.flows["trained"].norms["c", 0].shape[1] - 1)
    numbers = json.loads(html.split('id="numbers-gradients">')[1].split("</script>")[0])
    assert np.allclose(numbers["curves"]["trained"]["c 0"], flow.curve("c", 0), rtol=1e-4)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as chromium:
        yield chromium


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(seen: tuple[Inspection, Path, dict[str, Any]], browser: Any, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(seen[1].as_uri())
    assert serious_violations(page) == []
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_works_in_a_browser_without_network_or_message(
    seen: tuple[Inspection, Path, dict[str, Any]], browser: Any, width: int, scheme: str
) -> None:
    found, file, _ = seen
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, complaints, asked = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 150) == (scheme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.focus("#reader")
    page.keyboard.press("Home")
    assert "character 0," in page.inner_text("#moment")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert "character 5," in page.inner_text("#moment")  # the second word of "Once upon"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert "character 5," in page.inner_text("#moment")
    layer, unit, _ = found.browsed.units[1]
    page.select_option("#unit", "1")
    page.select_option("#value", "f")
    forget = found.trace.column("f", layer, unit)[5]
    assert f"{forget:.3f}" in page.inner_text("#moment")
    for index in (0, 1, 2):  # the three downloads of the first figure
        with page.expect_download() as waiting:
            page.locator("figure .save button").nth(index).click()
        assert Path(waiting.value.path()).stat().st_size > 100
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")  # nothing need be a finding
    page.locator("button[data-unit]").first.click()
    shown = page.locator("button[data-unit]").first.get_attribute("data-unit")
    assert page.evaluate("document.getElementById('unit').value") == shown
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if scheme == "light" else "light")
    assert complaints == []
    assert {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}
    context.close()
