"""Regular expressions in JavaScript allow, at every character, what Python's automata do."""

import itertools
import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storycell
from storycell.data.vocab import Vocabulary
from storycell.errors import SettingsError
from storycell.generation.automaton import automaton_of
from storycell.generation.constraints import Pattern
from storycell.types import BOUNDARY, RESERVED

SOURCE = Path(storycell.__file__).parent / "web" / "pattern.js"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node here")
SMALL = Vocabulary("\nabc")
WIDE = Vocabulary("".join(sorted({*map(chr, range(32, 127)), *"\n\tßÉ日“９²\x1f\xa0"})))
LEFT = 60
TEN = [  # those of test_constraints.py
    "[A-Z][a-z]{3,8}", "[^e]{20,60}", ".*dragon.*", r"\d{4}-\d\d-\d\d", "(ab|ba)+c?", r"[A-Z][^.!?]{10,40}[.!?]",
    r"\w+ \w+ \w+", "(?i:once) upon [^\n]{5,30}", "([a-z]{1,6}\n){3}", "“[^“]*“|日+",
]  # fmt: skip
SHORT = [
    "", "a", "ab|ba", "[ab]+", "[^a]*", "a?b?c?", "a{2,3}", "(ab){1,2}c", "(a|b)*c", "a.c", "(?s:a.c)", "(a*)*b",
    "(?:ab?)+?", "a{0}", "(?i:A[B-C])", r"\w+\n", r"[\s\w]{2}", r"\Dc", "^ab$", r"\Aa\Z", "(|a)(b|)", "(a?){3}b",
    "[^\\W\nb]+", "((a|b)(c|))*", "a*b+", "(a|ab)(c|bc)", "(?P<x>a)b", "a{,2}", "a{2,}b", r"\x61[\u0062-\u0063]",
    "(?i)A|(?s:.)b", "[]a-]b?", r"[\]b\w]", "(?:){99}a", "()b|", "a{2}|b{0,1}c", "x|a", r"\nb",
]  # fmt: skip
CLASSES = [
    r"\w", r"\W", r"\d", r"\D", r"\s", r"\S", ".", "[a-fX]", "[^a-fX]", "É", "[^É“]", r"[\d\s]", r"[^\w-]", "(?i:k)",
    "(?i:[^k-m])", "(?i:é)", "(?i:ß)", r"\\", r"\.", "[.]", r"[\t ]", "{", "a{", "[{}]",
]  # fmt: skip
PROGRAM = """
import { Pattern } from "./pattern.mjs";
import { readFileSync } from "node:fs";
const walk = (rule, ids, left) => {
  const seen = [];
  let state = rule.start;
  for (let k = 0; ; k++) {
    const allowed = [...Array(rule.size).keys()].filter((c) => rule.advance(state, c, left - k));
    seen.push([allowed, state.ends, rule.need(state)]);
    if (k === ids.length) return seen;
    state = rule.advance(state, ids[k], left - k);
    if (!state) return seen;
  }
};
const answers = JSON.parse(readFileSync(0, "utf8")).map(({ pattern, characters, texts, left }) => {
  try {
    const rule = Object.assign(new Pattern(pattern, Array.from(characters)), { size: Array.from(characters).length });
    return texts.map((ids) => walk(rule, ids, left));
  } catch (error) { return error.message; }
});
console.log(JSON.stringify(answers, (_, value) => (value === Infinity ? "never" : value)));
"""


def answers(asked: list[dict[str, Any]], folder: Path) -> list[Any]:
    shutil.copy(SOURCE, folder / "pattern.mjs")
    (folder / "program.mjs").write_text(PROGRAM)
    words = [str(NODE), "program.mjs"]
    done = subprocess.run(words, cwd=folder, input=json.dumps(asked).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    found: list[Any] = json.loads(done.stdout)
    return found


def asked_of(pattern: str, vocab: Vocabulary, texts: list[list[int]], left: int) -> dict[str, Any]:
    return {"pattern": pattern, "characters": vocab.characters, "texts": texts, "left": left}


def steps(rule: Pattern, ids: list[int]) -> list[Any]:
    """What PROGRAM says: the characters that are allowed, whether the text may end, what it needs, at each step."""
    seen, state = [], rule.start()
    for k in [*ids, None]:
        allowed = rule.allowed(state)
        need = int(rule.automaton.distances[state[0]])
        seen.append([(np.flatnonzero(allowed[RESERVED:])).tolist(), bool(allowed[BOUNDARY]), need])
        if k is None or not allowed[k + RESERVED]:
            return seen
        state = rule.advance(state, k + RESERVED)
    return seen


@pytest.mark.parametrize("pattern", TEN)
def test_at_every_character_what_pythons_automaton_allows(pattern: str, tmp_path: Path) -> None:
    automaton = automaton_of(pattern, WIDE, np.arange(len(WIDE)) >= RESERVED)
    rule, draw, texts = Pattern(automaton, 0, LEFT), random.Random(1), list[list[int]]()
    for _ in range(8):
        ids, state = list[int](), rule.start()
        while len(ids) < LEFT:
            allowed = [k for k in np.flatnonzero(rule.allowed(state)).tolist() if k != BOUNDARY]
            if not allowed or (rule.allowed(state)[BOUNDARY] and draw.random() < 0.2):
                break
            ids.append(draw.choice(allowed) - RESERVED)
            state = rule.advance(state, ids[-1] + RESERVED)
        assert re.fullmatch(pattern, WIDE.decode([k + RESERVED for k in ids]))
        texts.append(ids)
    [found] = answers([asked_of(pattern, WIDE, texts, LEFT)], tmp_path)
    assert found == [steps(rule, ids) for ids in texts]


def test_short_texts_match_where_re_says_so(tmp_path: Path) -> None:
    texts = [list(text) for n in range(5) for text in itertools.product(range(4), repeat=n)]
    found = answers([asked_of(pattern, SMALL, texts, 5) for pattern in SHORT], tmp_path)
    for pattern, of_texts in zip(SHORT, found, strict=True):
        matched = [len(seen) == len(ids) + 1 and seen[-1][1] for ids, seen in zip(texts, of_texts, strict=True)]
        decoded = ["".join(SMALL.characters[k] for k in ids) for ids in texts]
        assert matched == [re.fullmatch(pattern, text) is not None for text in decoded], pattern


def test_a_class_reads_the_characters_that_re_matches(tmp_path: Path) -> None:
    found = answers([asked_of(pattern, WIDE, [[]], 5) for pattern in CLASSES], tmp_path)
    for pattern, [[[allowed, _, _]]] in zip(CLASSES, found, strict=True):
        first = [k for k, c in enumerate(WIDE.characters) if any(re.fullmatch(pattern, c + more) for more in ("", "{"))]
        assert allowed == first, pattern


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "not closed"), ("a)", ") too many"), ("[a", "not closed"), ("*a", "behind nothing"), ("[z-a]", "a range"),
        ("a{3,2}", "turned round"), (r"(a)\1", r"\\1"), ("a(?=b)", "a kind that is not supported"), (r"a\b", r"\\b"),
        ("a^b", "an anchor inside"), ("a*+", "possessive"), ("a**", "a repetition of a repetition"),
        ("a\\", "at its end"),
        ("(?>a)", "a kind that is not supported"), (".{4001}", "more than 4000"), (r"\q", r"\\q"),
    ],
)  # fmt: skip
def test_what_is_no_pattern_or_not_supported_is_refused_here_as_there(pattern: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        automaton_of(pattern, SMALL, np.arange(len(SMALL)) >= RESERVED)
    [found] = answers([asked_of(pattern, SMALL, [[]], 5)], tmp_path)
    assert re.search(said.replace("(", r"\(").replace(")", r"\)"), found), found


def test_a_pattern_that_no_text_matches_needs_what_never_comes(tmp_path: Path) -> None:
    found = answers([asked_of(pattern, SMALL, [[]], 5) for pattern in ("x", "ax", "a{6}")], tmp_path)
    assert found == [[[[[], False, "never"]]], [[[[], False, "never"]]], [[[[], False, 6]]]]
