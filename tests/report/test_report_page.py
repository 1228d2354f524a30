"""The frame of every report: nothing in a text can break out of it, and it needs nothing from outside."""

import json
import re

from storycell.report.page import Figure, Section, embed_json, escaped, figure, page, table, themed

NASTY = "</script><script>alert(1)</script><!-- \u2028 & \" ' <b>"


def test_json_inside_a_script_survives_any_text() -> None:
    element = embed_json("data", {"text": NASTY, "numbers": [1.5, float("nan"), float("inf")]})
    inside = re.fullmatch(r'<script type="application/json" id="data">(.*)</script>', element, re.DOTALL)
    assert inside
    assert not set("<>&\u2028") & set(inside[1])
    assert json.loads(inside[1]) == {"text": NASTY, "numbers": [1.5, None, None]}


def test_text_is_escaped_wherever_it_goes() -> None:
    made = page(NASTY, [Section(NASTY, table([NASTY], [[NASTY, NASTY]], NASTY))], data={"d": NASTY})
    assert "alert(1)</script>" not in made.replace(escaped(NASTY), "")
    assert made.count("<script") == made.count("</script>") == 2


def test_a_page_asks_for_nothing_from_outside() -> None:
    made = page("t", [Section("One", "<p>x</p>"), Section("Two things", "", id="two")])
    assert not re.search(r'(?:src|href)="(?!#|data:)', made)
    assert "@import" not in made
    assert "default-src 'none'" in made
    assert '<a href="#one">' in made
    assert '<section id="two"' in made


def test_two_figures_keep_their_ids_apart_and_wear_the_pages_colours() -> None:
    svg = '<?xml version="1.0"?><svg><g id="a"><use href="#a" style="fill: #0072B2; clip-path: url(#a)"/></g></svg>'
    both = [figure(Figure(name, svg, "a picture", numbers={"k": [1, 2]})) for name in ("one", "two")]
    assert 'id="one-a"' in both[0]
    assert 'href="#two-a"' in both[1]
    assert "url(#two-a)" in both[1]
    assert "fill: var(--blue)" in themed(svg, "x")
    assert '{"k":[1,2]}' in both[0]
    assert 'data-save="json"' in both[0]
