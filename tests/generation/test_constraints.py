"""Constraints: the automata of patterns, what may come next, and texts that are drawn under them."""

import itertools
import re

import numpy as np
import pytest
from support.random_models import KINDS, model

from storycell.data.vocab import BYTES, Vocabulary
from storycell.errors import SettingsError
from storycell.generation import sampler
from storycell.generation.automaton import MOST_STATES, Automaton, automaton_of
from storycell.generation.constraints import Both, Constraint, NoCopy, Pattern, Rules, begin
from storycell.generation.sampler import Sampling, Stream, held_step, plain_step
from storycell.lab.novelty import matches
from storycell.language_model import LanguageModel
from storycell.types import BOUNDARY, RESERVED, Ids

SMALL = Vocabulary("\nabc")
WIDE = Vocabulary("".join(sorted({*map(chr, range(32, 127)), *"\néßÉ日“"})))
PLAIN = Sampling(1.0)
LSTM = next(kind for kind in KINDS if kind.startswith("lstm-L2"))


def all_ids(vocab: Vocabulary) -> np.ndarray:
    return np.arange(len(vocab)) >= RESERVED


def accepts(automaton: Automaton, ids: list[int]) -> bool:
    state = 0
    for k in ids:
        state = int(automaton.table[state, automaton.column[k]])
        if state < 0:
            return False
    return bool(automaton.accepts[state])


def constraint(rules: Rules, vocab: Vocabulary = SMALL, most: int = 8, text: str = "") -> Constraint:
    found = rules.constraint(vocab, most, lambda: vocab.encode(text))
    assert found is not None
    return found


def texts(
    lm: LanguageModel, vocab: Vocabulary, rule: Constraint, count: int, chars: int, sampling: Sampling = PLAIN
) -> list[str]:
    found: list[list[int]] = [[] for _ in range(count)]
    for row in sampler.streams(lm, [], sampling, list(range(count)), chars, constraint=rule):
        for ids, k in zip(found, row, strict=True):
            ids += [] if k is None else [k]
    return [vocab.decode(ids) for ids in found]


PATTERNS = [
    "", "a", "ab|ba", "[ab]+", "[^a]*", "a?b?c?", "a{2,3}", "(ab){1,2}c", "(a|b)*c", "a.c", "(?s:a.c)", "(a*)*b",
    "(?:ab?)+?", "a{0}", "(?i:A[B-C])", r"\w+\n", r"[\s\w]{2}", r"\Dc", "^ab$", r"\Aa\Z", "(|a)(b|)", "(a?){3}b",
    "[^\\W\nb]+",     "((a|b)(c|))*", "a*b+", "(a|ab)(c|bc)",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_automaton_accepts_what_re_matches(pattern: str) -> None:
    automaton = automaton_of(pattern, SMALL, all_ids(SMALL))
    for length in range(6):
        for ids in itertools.product(range(RESERVED, len(SMALL)), repeat=length):
            assert accepts(automaton, list(ids)) == bool(re.fullmatch(pattern, SMALL.decode(ids))), (pattern, ids)


@pytest.mark.parametrize("flags", ["", "i", "a"])
@pytest.mark.parametrize(
    "one", [r"\w", r"\W", r"\d", r"\s", r"\S", ".", "[a-fX]", "[^a-fX]", "é", "[^é“]", "K", "[^k]"]
)
def test_a_class_reads_the_characters_that_re_matches(one: str, flags: str) -> None:
    pattern = f"(?{flags}:{one})" if flags else one
    automaton = automaton_of(pattern, WIDE, all_ids(WIDE))
    for k in range(RESERVED, len(WIDE)):
        assert accepts(automaton, [k]) == bool(re.fullmatch(pattern, WIDE.text_of(k))), (pattern, WIDE.text_of(k))


def test_nothing_repeated_without_end_is_nothing_and_takes_no_steps() -> None:
    for pattern in ("(?:){999999999}a", "(?:(?:){60000}){60000}a", "(?:(?:|){60000}|){60000}a"):
        automaton = automaton_of(pattern, SMALL, all_ids(SMALL))
        assert [accepts(automaton, SMALL.encode(text).tolist()) for text in ("", "a", "aa")] == [False, True, False]


def test_every_state_of_an_automaton_leads_to_its_language() -> None:
    automaton = automaton_of("ab(c|é)|aΩ", SMALL, all_ids(SMALL))  # é and Ω are unknown
    assert [accepts(automaton, SMALL.encode(text).tolist()) for text in ("abc", "ab", "a")] == [True, False, False]
    assert (automaton.distances < 10).all() or (automaton.table[automaton.distances >= 10] < 0).all()
    assert automaton.table.max() >= 0


def test_an_intersection_accepts_what_both_do() -> None:
    one, other = (automaton_of(p, SMALL, all_ids(SMALL)) for p in ("(ab|c)*", "[^b]*b[^b]*"))
    both = one.intersect(other)
    for length in range(6):
        for ids in itertools.product(range(RESERVED, len(SMALL)), repeat=length):
            assert accepts(both, list(ids)) == (accepts(one, list(ids)) and accepts(other, list(ids)))


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "no regular expression"),
        (r"(a)\1", "back-reference"),
        ("(?=a)a", "look-around"),
        (r"a\bb", "anchor"),
        ("a$b", "anchor"),
        ("a{9999}", "--min-chars"),
        ("(a|b)*a(a|b){20}", f"{MOST_STATES:,} states"),
    ],
)
def test_what_is_no_regular_language_or_too_large_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        automaton_of(pattern, SMALL, all_ids(SMALL))
    with pytest.raises(SettingsError, match="bytes"):
        automaton_of("a", BYTES, all_ids(BYTES))


def _language(pattern: str, least: int, most: int) -> set[str]:
    characters = SMALL.characters
    every = ("".join(t) for n in range(least, most + 1) for t in itertools.product(characters, repeat=n))
    return {text for text in every if re.fullmatch(pattern, text)}


def _reachable(rule: Constraint, state: object, text: str = "") -> set[str]:
    """All texts that a constraint lets be generated; fails where one can neither end nor go on."""
    allowed = rule.allowed(state)
    assert allowed.any(), f"a dead end behind {text!r}"
    found = {text} if allowed[BOUNDARY] else set()
    for k in np.flatnonzero(allowed[RESERVED:]) + RESERVED:
        assert rule.follow(state, [int(k)])[0] == 1
        found |= _reachable(rule, rule.advance(state, int(k)), text + SMALL.decode([int(k)]))
    for k in np.flatnonzero(~allowed):
        assert rule.follow(state, [int(k)])[0] == 0
    return found


@pytest.mark.parametrize(("least", "most"), [(0, 4), (2, 5), (3, 3), (0, 0)])
@pytest.mark.parametrize("pattern", ["(?s:.*)", "(ab)*", "a+|b+c", "(abc|b)*", "[^b]*b[^b]*"])
def test_what_can_be_generated_is_the_language_with_its_lengths_and_nothing_else(
    pattern: str, least: int, most: int
) -> None:
    wanted = _language(pattern, least, most)
    rules = Rules(match=pattern, min_chars=least, max_chars=most) if most else Rules(match=pattern)
    if not wanted:
        with pytest.raises(SettingsError, match="no text of"):
            constraint(rules, most=most)
    else:
        rule = constraint(rules, most=most)
        assert _reachable(rule, rule.start()) == wanted


def test_an_alphabet_a_beginning_and_something_within_hold_together() -> None:
    rule = constraint(Rules(alphabet="ab", starts_with="b", contains="ab", max_chars=5))
    assert _reachable(rule, rule.start()) == {t for t in _language("b[ab]*", 0, 5) if "ab" in t}


@pytest.mark.parametrize(
    "rules",
    [
        Rules(match="é"),
        Rules(match="a+", alphabet="b"),
        Rules(match="a{5}", max_chars=4),
        Rules(match="(ab)*", min_chars=3, max_chars=3),
        Rules(starts_with="a", match="b.*"),
        Rules(contains="abcabcabc"),
        Rules(min_chars=9),
    ],
)
def test_a_constraint_that_no_text_meets_is_an_error(rules: Rules) -> None:
    with pytest.raises(SettingsError):
        constraint(rules, most=8)


def test_impossible_lengths_are_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="min_chars = 5 is above max_chars = 4"):
        Rules(min_chars=5, max_chars=4)
    with pytest.raises(SettingsError, match="no_copy = 0"):
        Rules(no_copy=0)


def test_a_prompt_counts_as_a_part_of_the_text() -> None:
    rule = constraint(Rules(match="ab*c", max_chars=4))
    assert _reachable(rule, begin(rule, SMALL.encode("ab").tolist()), "ab") == {"abc", "abbc"}
    with pytest.raises(SettingsError, match="from its character 2 on"):
        begin(rule, SMALL.encode("aa").tolist())


@pytest.mark.parametrize("sampling", [Sampling(1.0), Sampling(0.7, top_k=3), Sampling(0.9, top_p=0.8)])
@pytest.mark.parametrize("stepwise", [False, True])
def test_texts_have_the_models_own_distribution_masked_and_renormalised_step_by_step(
    sampling: Sampling, stepwise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = model(LSTM, SMALL)
    if stepwise:
        monkeypatch.setattr(type(lm), "generate", lambda *_, **__: None)
    rule = constraint(Rules(match="(a|bc)*", min_chars=1, max_chars=3))
    expected: dict[str, float] = {}

    def enumerate_texts(state: object, ids: list[int], probability: float) -> None:
        logits = lm.logits([[BOUNDARY, *ids]])[0][0, -1]
        allowed = rule.allowed(state)
        share = np.where(allowed, sampling.probabilities(logits), 0.0)
        if not share.any():  # the filters left nothing that is allowed
            share = sampling.probabilities(np.where(allowed, logits, -np.inf))
        share /= share.sum()
        for k in np.flatnonzero(share).tolist():
            if k == BOUNDARY:
                expected[SMALL.decode(ids)] = probability * share[k]
            else:
                enumerate_texts(rule.advance(state, k), [*ids, k], probability * share[k])

    enumerate_texts(rule.start(), [], 1.0)
    assert sum(expected.values()) == pytest.approx(1)
    count = 1500 if stepwise else 6000
    drawn = texts(lm, SMALL, rule, count, 4, sampling)
    assert set(drawn) <= set(expected)
    for text, p in expected.items():
        error = 4.5 * (p * (1 - p) / count) ** 0.5 + 1e-4
        assert drawn.count(text) / count == pytest.approx(p, abs=error), text


TEN = [
    "[A-Z][a-z]{3,8}", "[^e]{20,60}", ".*dragon.*", r"\d{4}-\d\d-\d\d", "(ab|ba)+c?", r"[A-Z][^.!?]{10,40}[.!?]",
    r"\w+ \w+ \w+", "(?i:once) upon [^\n]{5,30}", "([a-z]{1,6}\n){3}", "“[^“]*“|日+",
]  # fmt: skip


@pytest.mark.parametrize("pattern", TEN)
def test_a_thousand_samples_all_match(pattern: str) -> None:
    rule = constraint(Rules(match=pattern), WIDE, most=60)
    drawn = texts(model(LSTM, WIDE), WIDE, rule, 1000, 60)
    assert [text for text in drawn if not re.fullmatch(pattern, text)] == []
    assert len(set(drawn)) > 20


def test_a_constraint_that_refuses_nothing_changes_nothing() -> None:
    lm, rule = model(LSTM, WIDE), constraint(Rules(match="(?s:.*)"), WIDE, most=1000)
    free = [list(row) for row in sampler.streams(lm, [], Sampling(), [1, 2, 3], 200)]
    assert [list(row) for row in sampler.streams(lm, [], Sampling(), [1, 2, 3], 200, constraint=rule)] == free


@pytest.mark.parametrize("length", [2, 3, 5])
def test_a_text_does_not_depend_on_how_far_ahead_is_generated(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = model(LSTM, SMALL)
    known = SMALL.encode("abcacb\n" * 3)

    def drawn(ahead: int, streams: int) -> list[list[int]]:
        monkeypatch.setattr(sampler, "MOST_AHEAD", ahead)
        made = []
        for seed in range(streams):
            one = Stream(Sampling(1.0), seed)
            one.constraint = NoCopy(known, length, len(SMALL))
            one.constrained = one.constraint.start()
            made.append(one)
        written = sampler.advance(lm, made, 40, logits=True)
        for piece in written:
            assert piece.logits is not None
            assert len(piece.logits) == len(piece.ids)
        return [piece.ids for piece in written]

    assert drawn(64, 6) == drawn(1, 6)
    assert drawn(64, 6)[:2] == drawn(7, 2)


def test_streams_with_and_without_constraints_do_not_touch_each_other() -> None:
    lm = model(LSTM, SMALL)
    rule = constraint(Rules(match="[ab]*", min_chars=15), most=30)

    def made(seed: int, constrained: bool) -> Stream:
        one = Stream(Sampling(1.0), seed)
        if constrained:
            one.constraint, one.constrained = rule, rule.start()
        return one

    alone = [sampler.advance(lm, [made(seed, seed % 2 == 0)], 12)[0].ids for seed in range(6)]
    assert [w.ids for w in sampler.advance(lm, [made(seed, seed % 2 == 0) for seed in range(6)], 12)] == alone


def test_a_model_whose_units_are_held_is_constrained_too() -> None:
    lm, rule = model(LSTM, SMALL), constraint(Rules(match="[ab]{4}"))
    for step in (plain_step(lm), held_step(lm, {("c", 0, 1): 1.0})):
        one = Stream(Sampling(1.0), 1)
        one.constraint, one.constrained = rule, rule.start()
        assert re.fullmatch("[ab]{4}", SMALL.decode(sampler.advance(lm, [one], 8, step=step)[0].ids))


def _windows(ids: Ids, length: int) -> set[tuple[int, ...]]:
    all_of = (tuple(ids[a : a + length].tolist()) for a in range(len(ids) - length + 1))
    return {window for window in all_of if min(window) >= RESERVED}


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 30])
def test_no_copy_refuses_what_stands_in_the_text_and_nothing_else(length: int) -> None:
    random = np.random.default_rng(length)
    known = random.integers(0, 6, 400).astype(np.uint8)
    windows, rule = _windows(known, length), NoCopy(known, length, len(SMALL))
    for trial in range(100):
        ids = random.integers(RESERVED, 6, 12).tolist()
        if trial % 2 and length < 200:
            start = int(random.integers(0, 400 - length))
            ids += [k for k in known[start : start + length].tolist() if k >= RESERVED]
        wanted = next((e for e in range(len(ids)) if tuple(ids[max(0, e - length + 1) : e + 1]) in windows), len(ids))
        n, state = rule.follow(rule.start(), ids)
        assert n == wanted
        allowed = rule.allowed(state)
        for k in range(RESERVED, len(SMALL)):
            assert allowed[k] == ((*state[-(length - 1) :], k) not in windows if length > 1 else (k,) not in windows)
        assert allowed[BOUNDARY]


def test_no_copy_looks_where_ids_begin_in_a_text_of_two_bytes_an_id() -> None:
    known = np.array([0, 0x0203, 0x0405, 0x0607], np.uint16)
    rule = NoCopy(known, 1, 0x0700)
    assert rule.follow((), [0x0402])[0] == 1  # its bytes stand there, across two ids
    assert rule.follow((), [0x0405])[0] == 0


def test_what_is_generated_under_no_copy_has_no_longer_copy_by_novelty() -> None:
    lm, known = model(LSTM, SMALL), SMALL.encode("abccba\nbca" * 20 + "acacac")

    def longest(rule: Constraint | None) -> int:
        pieces: list[list[int]] = [[] for _ in range(300)]
        for row in sampler.streams(lm, [], Sampling(1.0), list(range(300)), 60, constraint=rule):
            for piece, k in zip(pieces, row, strict=True):
                piece += [] if k is None else [k]
        return max(match.longest for match in matches(known, [np.array(piece, np.uint8) for piece in pieces]))

    assert longest(NoCopy(known, 5, len(SMALL))) == 4
    assert longest(None) > 4


def test_constraints_that_leave_nothing_between_them_are_an_error_and_not_a_loop() -> None:
    lm = model(LSTM, SMALL)
    both = Both(constraint(Rules(match="abca"), most=4), NoCopy(SMALL.encode("abc"), 3, len(SMALL)))
    with pytest.raises(SettingsError, match="refuses what the others allow"):
        texts(lm, SMALL, both, 1, 10)


def test_the_bounds_of_a_length_are_kept_by_tables_of_a_bounded_size() -> None:
    with pytest.raises(SettingsError, match="too long for such a pattern"):
        Pattern(automaton_of("a{900}.*", WIDE, all_ids(WIDE)), 1_000_000, 1_000_000)
