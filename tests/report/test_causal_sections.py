"""The sections on causes, of a trained model and the embedded stories, in a real browser."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.accessibility import serious_violations
from support.browser import open_browser
from support.tiny_runs import GRAMMAR

import storycell
from storycell.data.stories import corpus
from storycell.engine.cells import weight_shapes
from storycell.engine.inference import EngineNetwork
from storycell.engine.random import draw_weights
from storycell.evaluation.texts import encode_text
from storycell.inspect import authors
from storycell.inspect.inspection import Inspection, Subject, inspect
from storycell.report.inspection import InspectionReport

SECTIONS = ("authors", "carriers", "ablation", "cards", "steering", "probes", "truth")
FEWER_BYTES = 1_000_000


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inspection, InspectionReport, Path]:
    model = storycell.load(GRAMMAR)
    text = "<|endoftext|>\n".join(islice(corpus.generate(6), 14))
    found = inspect(Subject("grammar", model.network, model.vocab, encode_text(text, model.vocab)[:-1], 1))
    report = InspectionReport(found)
    page = tmp_path_factory.mktemp("causes") / "page.html"
    page.write_text(report.html("stories"), encoding="utf-8")
    return found, report, page


def test_every_section_is_there_with_its_numbers_and_small(seen: tuple[Inspection, InspectionReport, Path]) -> None:
    _, report, page = seen
    html = page.read_text(encoding="utf-8")
    assert all(f'<section id="{name}"' in html for name in SECTIONS)
    assert {"memory-lengths", "carriers-0", "ablation", "steering"} <= report.figures.keys()
    assert all(drawn.numbers for drawn in report.figures.values())
    assert sum(len(json.dumps(report.sections[name].data)) for name in SECTIONS) < FEWER_BYTES


def test_a_text_and_a_model_without_them_leave_sections_out() -> None:
    """Of a recurrent network whose state is no sum, on a text that no grammar wrote."""
    text = "the king had a dog and the dog had a king. " * 120
    model = storycell.load(GRAMMAR)
    V = len(model.vocab)
    rnn = EngineNetwork(draw_weights(weight_shapes(V, 12, 1, "rnn", 0, True), "rnn", 12, 1, -1.0), "rnn")
    found = inspect(Subject("rnn", rnn, model.vocab, encode_text(text, model.vocab)[:-1], 1))
    sections = InspectionReport(found).sections
    assert "authors" not in sections
    assert "truth" not in sections
    assert "ablation" in sections


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as chromium:
        yield chromium


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (360, "dark")])
def test_memories_and_truths_are_walked_through_by_keyboard(
    seen: tuple[Inspection, InspectionReport, Path], browser: Any, width: int, scheme: str
) -> None:
    found, _, file = seen
    assert found.authors is not None
    assert found.truth is not None
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    passage = found.authors.passage
    layer, unit, _ = passage.units[0]
    for steps in range(2):  # the first character asked about, and the one after it
        row = passage.at + steps
        state = found.trace.column("c", layer, unit)[row]
        assert f"c = {state:.3f}" in page.inner_text("#authors-panel")
        told = authors.authors(found.trace, layer, unit, row)
        largest = np.abs(told.shares).max()
        first = page.locator("#authors-panel .bar").first.locator("span").last.inner_text()
        assert abs(abs(float(first)) - largest) < 2e-3
        page.focus("#authors-reader")
        page.keyboard.press("ArrowRight")
    page.focus("#truth-reader")
    page.keyboard.press("Home")
    assert "O" in page.inner_text("#truth-panel h3")
    assert "100 %" in page.inner_text("#truth-panel")  # the truth of the first character
    assert serious_violations(page) == []
    assert complaints == []
    context.close()
