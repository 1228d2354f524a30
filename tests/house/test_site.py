"""The site of the documentation: it builds with every link leading somewhere, and works from disk without a network."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.accessibility import serious_violations
from support.browser import open_browser
from support.tools import load_tool

ROOT = Path(__file__).parents[2]


docs = load_tool("docs")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("zensical", reason="Zensical is not installed")
    built: Path = docs.build(tmp_path_factory.mktemp("docs"))
    return built


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as chromium:
        yield chromium


def test_every_page_of_the_repository_is_in_the_site_and_the_reference_is_filled(site: Path) -> None:
    pages = [path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 20
    for page in pages:
        name = page.with_suffix(".html") if page.name != "README.md" else page.with_name("index.html")
        assert (site / name).exists(), name
    assert (site / "src/storycell/nn/cells/lstm.py.html").exists()  # what they link to
    assert "make docs" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    reference = (site / "reference.html").read_text(encoding="utf-8")
    for name in ("storycell.train", "storycell.Model.generate", "storycell.inspect.trace.Trace", "storycell.errors"):
        assert f'id="{name}"' in reference
    assert "The prompt and what follows it" in reference


def test_a_link_that_leads_nowhere_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zensical", reason="Zensical is not installed")
    for name in ("docs", "tools"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("course", "__pycache__"))
    copy = tmp_path / "copy"
    (copy / "docs" / "install.md").write_text("# Install\n\n[gone](no-such-page.md)\n", encoding="utf-8")
    monkeypatch.setattr(docs, "ROOT", copy)
    with pytest.raises(SystemExit) as stopped:
        docs.build(tmp_path)
    assert stopped.value.code == 1


def test_links_are_those_of_the_repository_and_code_is_left_alone(tmp_path: Path) -> None:
    stage = docs.Stage(tmp_path)
    page = ROOT / "docs" / "recipes.md"
    text = (
        "[a](numbers.md#x) [b](../src/storycell/recipes) [c](https://d.e/f.md) `f[x](y)`\n```\n[a](numbers.md)\n```\n"
    )
    linked = stage.linked(text, page)
    assert linked == text.replace("(../src/storycell/recipes)", "(../src/storycell/recipes/index.md)")
    assert stage.shown == {ROOT / "src" / "storycell" / "recipes"}
    assert (
        stage.linked("[r](../README.md#fast) [l](course/README.md)", page)
        == "[r](../index.md#fast) [l](course/index.md)"
    )


@pytest.mark.parametrize(
    ("markup", "is_loaded"),
    [
        ('<script src="https://a.b/c.js">', True),
        ("<img alt=x src=//a.b/c.png>", True),
        ('<link rel="stylesheet" href="https://a.b/c.css">', True),
        ("@import url(https://a.b/c.css)", True),
        ('<a href="https://a.b/c">', False),
        ('<script src="assets/c.js">', False),
        ('<link rel="canonical" href="https://a.b/">', False),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_seen(markup: str, is_loaded: bool, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f"<html>{markup}</html>", encoding="utf-8")
    assert (docs.foreign(tmp_path) != []) == is_loaded


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (360, "dark")])
def test_pages_work_from_disk_without_network_or_message(site: Path, browser: Any, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, complaints, asked = context.new_page(), [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for name in ("index.html", "docs/course/3-lstm.html", "docs/numbers.html", "reference.html"):
        page.goto((site / name).as_uri())
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper[4:-1].split(",")[:3])) < 150) == (scheme == "dark"), paper
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert complaints == []
    context.close()


def test_a_page_of_the_course_learns_its_own_text(site: Path, browser: Any) -> None:
    context = browser.new_context(offline=True)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((site / "docs" / "course" / "4-training.html").as_uri())
    page.locator("iframe.learn").scroll_into_view_if_needed()
    learns = page.frame_locator("iframe.learn")
    learns.locator("#train:enabled").wait_for()
    text = learns.locator("#text").input_value()
    assert "Training" in text.splitlines()[0]
    assert "<!-- learn" not in text
    assert "](../" not in text  # the words of a link, without where it leads
    learns.locator("#train").click()
    learns.locator("#story span").first.wait_for()
    learns.get_by_text("characters to learn").wait_for()
    assert complaints == []
    context.close()


def test_search_finds_a_page_from_disk(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 800})
    page.goto((site / "docs" / "install.html").as_uri())
    page.get_by_role("button", name="Search").first.click()
    page.keyboard.type("quote latch wired")
    page.locator("a:visible", has_text="found").first.wait_for()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_a_page_of_the_course(site: Path, browser: Any, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto((site / "docs" / "course" / "2-rnn.html").as_uri())
    assert serious_violations(page) == []
    context.close()
