"""The frame of every report: nothing in a text can break out of it, and it needs nothing from outside."""

import html
import json
import re
from typing import Any

import pytest
from jinja2 import UndefinedError

from storycell.report.page import Cell, Figure, embed_json, environment, render
from storycell.web import theme

NASTY = "</script><script>alert(1)</script><!-- \u2028 & \" ' <b>"
MACROS = '{% from "report/macros.html" import details, figure, table %}'
PAGE = """{% extends "report/page.html" %}
{% set sections = {"one": heading, "two_things": "Two things"} %}
{% set data = {"d": heading} %}
{% block one %}{% from "report/macros.html" import table %}{{ table(*cells) }}{% endblock %}
{% block two_things %}<p>{{ heading }}</p>{% endblock %}
"""


def rendered(source: str, **values: Any) -> str:
    return environment().from_string(MACROS + source).render(values)


def page(text: str) -> str:
    cells = [[text], [[text, text, Cell(text, {"data-from": text})]], text]
    return environment().from_string(PAGE).render(title=text, heading=text, cells=cells)


def test_json_inside_a_script_survives_any_text() -> None:
    element = embed_json("data", {"text": NASTY, "numbers": [1.5, float("nan"), float("inf")]})
    inside = re.fullmatch(r'<script type="application/json" id="data">(.*)</script>', element, re.DOTALL)
    assert inside
    assert not set("<>&\u2028") & set(inside[1])
    assert json.loads(inside[1]) == {"text": NASTY, "numbers": [1.5, None, None]}


def test_text_is_escaped_wherever_it_goes() -> None:
    made = page(NASTY)
    assert "alert(1)</script>" not in made
    assert made.count("<script") == made.count("</script>") == 2
    places = re.findall(
        r"<(title|h1|h2[^>]*|a href=\"#one\"|caption><span|td|td data-from=\"[^\"]*\"|p)>([^<]*)</", made
    )
    assert [html.unescape(text) for _, text in places].count(NASTY) == 8
    assert html.unescape(re.search(r'data-from="([^"]*)"', made)[1]) == NASTY
    assert html.unescape(re.search(r'aria-label="([^"C][^"]*)"', made)[1]) == NASTY  # of the table, not "Contents"
    shown = rendered(
        "{{ figure(drawn) }}{% call details(drawn.alt) %}x{% endcall %}", drawn=Figure("a", "<svg></svg>", NASTY, NASTY)
    )
    assert "<script" not in shown
    assert shown.count(html.escape(NASTY).split("&quot;")[0]) == 3  # what it says aloud, the caption, the summary


def test_a_page_asks_for_nothing_from_outside() -> None:
    made = page("t")
    assert not re.search(r'(?:src|href)="(?!#|data:)', made)
    assert "@import" not in made
    assert "default-src 'none'" in made
    assert made.startswith("<!doctype html>")
    assert '<a href="#one">' in made
    assert '<section id="two-things"' in made
    assert theme.LIGHT["blue"] in made


def test_two_figures_keep_their_ids_apart_and_wear_the_pages_colours() -> None:
    blue = theme.BLUE.upper()
    svg = f'<?xml version="1.0"?><svg><g id="a"><use href="#a" style="fill: {blue}; clip-path: url(#a)"/></g></svg>'
    both = [
        rendered("{{ figure(drawn) }}", drawn=Figure(name, svg, "a picture", numbers={"k": [1, 2]}))
        for name in ("one", "two")
    ]
    assert 'id="one-a"' in both[0]
    assert 'href="#two-a"' in both[1]
    assert "url(#two-a)" in both[1]
    assert "fill: var(--blue)" in both[0]
    assert '{"k":[1,2]}' in both[0]
    assert 'data-save="json"' in both[0]


def test_a_cell_is_its_text_its_attributes_or_what_a_caller_makes_of_it() -> None:
    rows = [["first", "<a>", Cell("1.5", {"class": "x", "data-k": '"'})]]
    plain = rendered('{{ table(["h", "i", "j"], rows, "c") }}', rows=rows)
    assert '<th scope="row">first</th>' in plain
    assert "<td>&lt;a&gt;</td>" in plain
    assert re.search('<td class="x" data-k="&#34;">1.5</td>', plain)
    called = rendered('{% call(cell) table(["h"], [["first", 2]]) %}<b>{{ cell * 2 }}</b>{% endcall %}')
    assert "<td><b>4</b></td>" in called
    assert 'aria-label="table"' in called


def test_a_name_that_a_template_does_not_know_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="nobody"):
        rendered("{{ nobody }}")
    with pytest.raises(UndefinedError):
        render("report/page.html")
