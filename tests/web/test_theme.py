"""One theme: its colours can be read, all pages use them and no others, and its files become one text for a page."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import storycell
from storycell.web import theme

SOURCE = Path(storycell.__file__).parent
OTHERS = ("abcjs.js",)  # a library, bundled as it is
PAGES = sorted(
    path
    for kind in ("css", "js", "html")
    for path in SOURCE.rglob(f"*.{kind}")
    if "report" not in path.parts and path.name not in OTHERS
)
SCRIPTS = ("export/page.js", "server/page/page.js", "web/learn/learn.js", "web/generate.js", "web/story.js")
NODE = shutil.which("node")
READABLE = 4.5  # WCAG 2.2, success criterion 1.4.3: text on its background
TEXT = ("ink", "muted", "accent", "alarm", "blue", "orange", "green", "pink", "yellow")
SURFACES = ("paper", "raised")
TINTS = ("high", "low", "loss")
A_COLOUR = re.compile(
    r"#(?:[0-9a-fA-F]{3,4}){1,2}\b(?=[^{]*[;)\"'])|\b(?:rgba?|hsla?|hwb|lab|lch|oklab|oklch|light-dark)\(|"
    r":[^;{}()]*\b(?:white|black|gr[ae]y|red|green|blue|orange|yellow|pink|purple|teal)\b(?=[^-)]*;)"
)


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, as WCAG defines it."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """From 1 (equal) to 21 (black on white)."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_what_wcag_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the example that just fails


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_all_text_can_be_read_on_all_it_stands_on(colours: Mapping[str, str]) -> None:
    pairs = [(text, surface) for text in TEXT for surface in SURFACES]
    pairs += [("ink", tint) for tint in TINTS] + [("on-accent", "accent")]
    poor = {pair: found for pair in pairs if (found := contrast(*(colours[name] for name in pair))) < READABLE}
    assert poor == {}
    assert {*TEXT, *SURFACES, *TINTS, "on-accent", "line"} == set(colours)  # no colour is left out


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_pages_use_the_colours_of_the_theme_and_no_others(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name != "theme.css":
        assert [found[0] for found in A_COLOUR.finditer(text)] == []
    own = set(re.findall(r"(--[\w-]+)\s*:", text)) | set(re.findall(r'setProperty\("(--[\w-]+)"', text))
    known = set(re.findall(r"(--[\w-]+)\s*:", theme.css())) | {"--share"}  # which `generate.js` sets
    assert set(re.findall(r"var\((--[\w-]+)[),]", text)) <= known | own


def test_figures_are_drawn_in_the_colours_of_the_theme_and_no_others() -> None:
    sources = [path for path in SOURCE.rglob("*.py") if path != SOURCE / "web" / "theme.py"]
    assert len(sources) > 100
    for path in sources:
        assert re.findall(r"[\"']#[0-9a-fA-F]{6}[\"']", path.read_text(encoding="utf-8")) == [], path


def test_a_colour_of_a_pages_own_is_noticed() -> None:
    for text in ("p { color: #fff; }", "b { color: rgb(1 2 3); }", "a { background: white; }", 'x.style = "#aabbcc"'):
        assert A_COLOUR.search(text), text
    for text in ("p { color: var(--green); }", '<a href="#main">', "#face { margin: 0; }"):
        assert not A_COLOUR.search(text), text


def test_the_icon_has_the_colours_of_the_theme() -> None:
    found = set(re.findall("#[0-9a-f]{6}", theme.read("server/page/icon.svg")))
    assert found
    assert found <= set(theme.LIGHT.values())


def test_figures_follow_the_page_into_the_dark() -> None:
    svg = f'<svg><path fill="{theme.BLUE.upper()}"/><text fill="#000000"/><path stroke="{theme.LINE}"/></svg>'
    themed = theme.with_variables(svg)
    assert themed == '<svg><path fill="var(--blue)"/><text fill="var(--ink)"/><path stroke="var(--line)"/></svg>'
    assert len(set(theme.SERIES)) == len(theme.SERIES)


@pytest.mark.parametrize("path", SCRIPTS)
def test_a_script_has_each_module_once_and_nothing_to_import(path: str, tmp_path: Path) -> None:
    text = theme.script(path)
    assert not re.search(r"^\s*(import|export)\b", text, re.MULTILINE)
    assert text.count("const VALUES = ") == 1
    assert text.count("class Story ") == 1
    assert text.index("const VALUES = ") < text.index("class Story ")
    assert "</script" not in text.lower()
    if NODE is not None:
        (tmp_path / "page.js").write_text(text, encoding="utf-8")
        checked = subprocess.run([NODE, "--check", "page.js"], cwd=tmp_path, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
