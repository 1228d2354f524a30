"""The section of the film, and `inspect --film`, of a run whose checkpoints have a planted latch; in a real browser."""

import json
import string
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny_runs
from support.accessibility import serious_violations
from support.browser import open_browser
from support.tiny_runs import command

import storycell
from storycell.data.stories import corpus
from storycell.evaluation.texts import encode_text
from storycell.inspect.film import Film, Frame, Reel, film
from storycell.inspect.inspection import Inspection, Subject, inspect
from storycell.inspect.latch import wire_by_hand
from storycell.report.inspection import InspectionReport
from storycell.runs.folder import RunFolder

STEPS = [0, 1, 2, 4, 8, 16]
PLANTED = 3
MOST_BYTES = 400_000  # that the film adds to a report


def shapes_of(model: storycell.Model) -> dict[str, tuple[int, ...]]:
    return {name: weight.shape for name, weight in model.network.weights().items()}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inspection, InspectionReport, Path]:
    text = "<|endoftext|>\n".join(islice(corpus.generate(6), 20))
    model, vocab = wire_by_hand(text + string.ascii_letters + "-'")
    models = [model.copy_untrained(3)] * PLANTED + [model] * (len(STEPS) - PLANTED)
    frames = [Frame(step, lambda one=one: one) for step, one in zip(STEPS, models, strict=True)]
    metrics = [{"step": step, "train_nats": 3.0 - step / 16, "valid_nats": None} for step in STEPS[1:]]
    subject = Subject("wired", model, vocab, encode_text(text, vocab)[:-1], 1)
    found = inspect(subject, reel=Reel(frames, metrics))
    report = InspectionReport(found)
    page = tmp_path_factory.mktemp("film") / "page.html"
    page.write_text(report.html("stories"), encoding="utf-8")
    return found, report, page


def test_the_section_says_what_was_born_and_when(seen: tuple[Inspection, InspectionReport, Path]) -> None:
    found, report, page = seen
    html = " ".join(page.read_text(encoding="utf-8").split())
    assert "“Inside quotes” was born at step 4: from there on unit 0 of layer 0 tells it, and from step 4 on" in html
    assert {"film-loss", "film-births", "film-strips"} <= report.figures.keys()
    numbers = report.figures["film-births"].numbers["inside quotes"]
    assert (numbers["known_at"], numbers["used_at"]) == (4, 4)
    assert numbers["steps"] == STEPS
    assert found.film is not None
    assert report.figures["film-loss"].numbers["nats"] is found.film.nats
    added = [json.dumps(report.sections["film"].data, default=list), *(f.svg for f in report.sections["film"].figures)]
    assert sum(map(len, added)) < MOST_BYTES


def test_the_film_of_an_inspection_is_the_film_by_itself(seen: tuple[Inspection, InspectionReport, Path]) -> None:
    found = seen[0]
    assert found.film is not None
    model = found.subject.model
    frames = [Frame(step, lambda: model) for step in STEPS]
    alone: Film = film(Reel(frames), found.subject.vocab, found.subject.ids, 1)
    assert np.array_equal(alone.births[0].values[-1], found.film.births[0].values[-1])
    assert np.array_equal(alone.births[0].effects[PLANTED:], found.film.births[0].effects[PLANTED:])


def test_without_a_reel_there_is_no_section(seen: tuple[Inspection, InspectionReport, Path]) -> None:
    found = seen[0]
    assert "film" in seen[1].sections
    assert "film" not in InspectionReport(Inspection(**vars(found) | {"film": None})).sections


def test_where_nothing_can_be_followed_the_loss_is_shown(seen: tuple[Inspection, InspectionReport, Path]) -> None:
    found = seen[0]
    assert found.film is not None
    bare = Film(**vars(found.film) | {"births": []})
    report = InspectionReport(Inspection(**vars(found) | {"film": bare}))
    assert [name for name in report.figures if name.startswith("film")] == ["film-loss"]
    assert "too few quotations, brackets or names" in " ".join(report.html("stories").split())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as chromium:
        yield chromium


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (360, "dark")])
def test_the_text_is_coloured_through_time_by_keyboard_and_by_itself(
    seen: tuple[Inspection, InspectionReport, Path], browser: Any, width: int, scheme: str
) -> None:
    found, _, path = seen
    assert found.film is not None
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    coloured = "[...document.querySelectorAll('#film-reader span')].filter((s) => s.style.backgroundColor).length"
    spans = "document.querySelectorAll('#film-reader span').length"
    assert page.evaluate(spans) == len(found.film.text)
    assert page.evaluate(coloured) == len(found.film.text)  # inside is +1, outside is -1
    slider = page.locator("#film-step")
    assert slider.get_attribute("aria-valuetext") == "step 16"
    slider.focus()
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "step 0"
    told = page.locator("#film-said").inner_text()
    assert told.startswith(f"step 0: loss {found.film.nats[0] / np.log(2):.2f} bits")
    assert f"AUC is {found.film.births[0].scores[0]:.2f}" in told
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "step 1"
    page.locator("#film-unit").select_option("surprise")
    assert "AUC" not in page.locator("#film-said").inner_text()
    page.locator("#film-unit").select_option("0")
    page.locator("#film-play").click()
    page.wait_for_selector("#film-step[aria-valuetext='step 16']")
    page.wait_for_selector("#film-play[aria-pressed='false']")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious_violations(page) == []
    assert said == []
    page.close()


def test_the_command_makes_the_film_of_a_run_and_says_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_runs.make(tmp_path, tmp_path / "cache")
    command(capsys, "inspect", run, "--film", "--json").stated(1, "has no checkpoints", "--checkpoints log")
    text = tmp_path / "text.txt"
    made = command(capsys, "train", text, "--out", tmp_path / "kept", *tiny_runs.FLAGS, "--checkpoints", "log")
    assert made.code == 0, made.err
    (tmp_path / "read.txt").write_text(tiny_runs.TEXT.replace("“", '"').replace("”", '"'), encoding="utf-8")
    told = command(capsys, "inspect", tmp_path / "kept", tmp_path / "read.txt", "--film", "--json")
    assert told.code == 0, told.err
    figures = json.loads(told.out)["figures"]
    assert figures["film-loss"]["steps"] == [0, 1, 2, 3]
    assert RunFolder(tmp_path / "kept").checkpoints() == [0, 1, 2, 3]
    checkpoint = tmp_path / "kept" / "checkpoints" / "step-2.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-5])
    damaged = command(capsys, "inspect", tmp_path / "kept", tmp_path / "read.txt", "--film", "--json")
    damaged.stated(1, "step-2.safetensors is truncated or damaged")
