"""Rhyme: what may be generated, held to enumeration with a small dictionary, and to the real one."""

import itertools
import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pronouncing
import pytest
from support.random_models import KINDS, model
from support.tiny_runs import FLAGS, TEXT, command

from storycell.data.vocab import BYTES, Vocabulary
from storycell.errors import MissingExtraError, SettingsError
from storycell.generation import rhyme, sampler
from storycell.generation.constraints import Constraint, Pattern, Rules
from storycell.generation.rhyme import Dictionary, Scheme, rhyming_with
from storycell.generation.sampler import Sampling
from storycell.types import BOUNDARY, RESERVED

LSTM = next(kind for kind in KINDS if kind.startswith("lstm-L2"))
SMALL = Vocabulary("".join(sorted("\n 'ab")))
WIDE = Vocabulary("".join(sorted({*map(chr, range(32, 127)), *"\n’é"})))
KNOWN: Dictionary = {
    word: frozenset(parts)
    for word, parts in {"a": "1", "b": "1", "ab": "2", "ba": "12", "a'b": "23", "bb": "3", "aab": "9"}.items()
}
WORD = r"[^\W_]+(?:['’][^\W_]+)*"


def every_id(vocab: Vocabulary) -> np.ndarray:
    return np.arange(len(vocab)) >= RESERVED


def rhyme_together(words: list[str], known: Dictionary) -> bool:
    """By the definition: different words, which have a sound in common."""
    words = [word.lower().replace("’", "'") for word in words]
    return (
        len(set(words)) == len(words)
        and all(word in known for word in words)
        and bool(frozenset.intersection(*(known[word] for word in words)))
    )


def is_rhymed(text: str, letters: str, share: int, known: Dictionary) -> bool:
    """Whether a text is as a scheme says, told from the whole of it."""
    last, used, ended = list[str](), 0, False
    lines = text.split("\n")
    for k, line in enumerate(lines):
        is_end = k == len(lines) - 1
        used += len(line) + (not is_end)
        if ended and (line or not is_end):
            return False
        if words := re.findall(WORD, line):
            if used + is_end > share:
                return False
            last.append(words[-1])
            used, ended = 0, len(last) == len(letters)
    groups = defaultdict(list)
    for letter, word in zip(letters, last, strict=False):
        groups[letter].append(word)
    return ended and all(len(group) == 1 or rhyme_together(group, known) for group in groups.values())


def reachable(rule: Constraint, vocab: Vocabulary, state: object, text: str = "") -> set[str]:
    """All that a constraint lets be generated; fails where there is no way on."""
    allowed = rule.allowed(state)
    assert allowed.any(), f"a dead end behind {text!r}"
    found = {text} if allowed[BOUNDARY] else set()
    assert rule.follow(state, [BOUNDARY])[0] == allowed[BOUNDARY]
    for k in range(RESERVED, len(vocab)):
        assert rule.follow(state, [k])[0] == allowed[k]
        if allowed[k]:
            found |= reachable(rule, vocab, rule.advance(state, k), text + vocab.decode([k]))
    return found


@pytest.mark.parametrize(
    ("letters", "most", "alphabet"),
    [("AA", 6, "\n 'ab"), ("AA", 8, "\n'ab"), ("AA", 10, "\nab"), ("AAB", 9, "\nab"), ("ABA", 9, "\n b"),
     ("ABAB", 8, "\nab")],
)  # fmt: skip
def test_what_can_be_generated_is_every_text_that_rhymes_and_nothing_else(
    letters: str, most: int, alphabet: str
) -> None:
    ids = np.array([False] * RESERVED + [c in alphabet for c in SMALL.characters])
    share = most // len(letters)
    texts = ("".join(t) for n in range(share * len(letters) + 1) for t in itertools.product(alphabet, repeat=n))
    wanted = {text for text in texts if is_rhymed(text, letters, share, KNOWN)}
    assert wanted or (letters, alphabet) == ("ABA", "\n b")
    if not wanted:
        with pytest.raises(SettingsError, match=f"no text of 3 lines of at most 2 characters rhymes as {letters}"):
            Scheme(letters, SMALL, ids, most, KNOWN)
        return
    scheme = Scheme(letters, SMALL, ids, most, KNOWN)
    assert reachable(scheme, SMALL, scheme.start()) == wanted


@pytest.mark.parametrize("word", ["a", "ab", "BB", "a’b"])
def test_a_text_whose_last_word_rhymes_with_one_is_accepted_and_no_other_is(word: str) -> None:
    automaton = rhyming_with(word, SMALL, every_id(SMALL), KNOWN)
    count = 0
    for n in range(7):
        for ids in itertools.product(range(RESERVED, len(SMALL)), repeat=n):
            state = 0
            for k in ids:
                state = int(automaton.table[state, automaton.column[k]])
            words = re.findall(WORD, SMALL.decode(ids))
            wanted = bool(words) and rhyme_together([word, words[-1]], KNOWN)
            assert automaton.accepts[state] == wanted, SMALL.decode(ids)
            count += wanted
    assert count > 100


def test_a_word_in_large_letters_or_with_another_apostrophe_is_the_same() -> None:
    known = {word: frozenset(sound) for word, sound in {"don't": "1", "won't": "1", "moon": "2", "june": "2"}.items()}
    for word, ends, others in (
        ("WON’T", ["I DON'T!", "don’t ’"], ["don", "don''t", "dont", "don't9", "won't"]),
        ("Moon", ["(June)", "of JUNE... ?"], ["Junes", "June é", "Juneé", "moon", "jun'e"]),
    ):
        rule = Pattern(rhyming_with(word, WIDE, every_id(WIDE), known), 0, 30)
        for text in [*ends, *others]:
            ids = [*WIDE.encode(text).tolist(), BOUNDARY]
            assert rule.follow(rule.start(), ids)[0] == len(ids) - (text in others), text


def last_words(text: str) -> list[str]:
    return [re.findall(WORD, line)[-1].lower().replace("’", "'") for line in text.split("\n") if re.search(WORD, line)]


def sounds(word: str) -> set[str]:
    found = map(pronouncing.rhyming_part, pronouncing.phones_for_word(word))
    return {re.sub(r"\d", "", part) for part in found}


@pytest.mark.parametrize("scheme", ["AA", "AABB", "abab", "ABCB", "AABBA", "ABAB CDCD EFEF GG"])
def test_generated_lines_rhyme_by_the_dictionary(scheme: str) -> None:
    lm, letters = model(LSTM, vocab=WIDE), scheme.replace(" ", "").upper()
    most = 24 * len(letters)
    rule = Rules(rhyme=scheme, max_chars=most).constraint(WIDE, 500, lambda: WIDE.encode(""))
    assert isinstance(rule, Scheme)
    found: list[list[int]] = [[] for _ in range(6)]
    for row in sampler.streams(lm, [], Sampling(0.7), list(range(6)), most, constraint=rule):
        for ids, k in zip(found, row, strict=True):
            ids += [] if k is None else [k]
    for text in map(WIDE.decode, found):
        assert len(text) <= most
        words = last_words(text)
        assert len(words) == len(letters), text
        for letter in set(letters):
            together = [word for word, one in zip(words, letters, strict=True) if one == letter]
            assert len(set(together)) == len(together), text
            assert len(together) == 1 or set.intersection(*map(sounds, together)), together


def test_generated_texts_rhyme_with_a_word_whatever_else_is_asked_for() -> None:
    lm = model(LSTM, vocab=WIDE)
    for rules, most in (
        (Rules(rhyme_with="moon"), 40),
        (Rules(rhyme_with="Moon", contains="cat", starts_with="The ", min_chars=20, max_chars=60), 60),
        (Rules(rhyme_with="orange", max_chars=30), 30),
        (Rules(rhyme_with="cat", alphabet="bah t.", max_chars=9), 9),
    ):
        if rules.rhyme_with == "orange":
            with pytest.raises(SettingsError, match="no word of the pronouncing dictionary rhymes with it"):
                rules.constraint(WIDE, most, lambda: WIDE.encode(""))
            continue
        rule = rules.constraint(WIDE, most, lambda: WIDE.encode(""))
        found: list[list[int]] = [[] for _ in range(8)]
        for row in sampler.streams(lm, [], Sampling(0.7), list(range(8)), most, constraint=rule):
            for ids, k in zip(found, row, strict=True):
                ids += [] if k is None else [k]
        for text in map(WIDE.decode, found):
            word = last_words(text.replace("\n", " "))[-1]
            assert rules.rhyme_with
            assert word != rules.rhyme_with.lower()
            assert sounds(word) & sounds(rules.rhyme_with.lower()), text
            assert (rules.contains or "") in text
            assert text.startswith(rules.starts_with or "")
            assert (rules.min_chars or 0) <= len(text) <= most
            assert set(text) <= set(rules.alphabet or text)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"rhyme": "A"}, "a letter for each of 2 to 32 lines"),
        ({"rhyme": "ABC"}, "the same for lines that rhyme"),
        ({"rhyme": "AA1"}, "a letter for each"),
        ({"rhyme": "AABB", "max_chars": 8}, "no text of 4 lines of at most 1 characters rhymes as AABB"),
        ({"rhyme": "AABB", "alphabet": "xz \n"}, "rhymes as AABB in the characters that may be used"),
        ({"rhyme": "AABB", "alphabet": "abcdefgh "}, "rhymes as AABB in the characters that may be used"),
        ({"rhyme": "AA", "match": ".*"}, "leave match out"),
        ({"rhyme": "AA", "rhyme_with": "cat"}, "leave rhyme_with out"),
        ({"rhyme_with": "qwxyz"}, "the pronouncing dictionary has no such word"),
        ({"rhyme_with": "cat", "alphabet": "xyz"}, "no word that rhymes with 'cat' is made of the characters"),
        ({"rhyme_with": "cat", "max_chars": 1}, "no text of 0 to 1 characters"),
        ({"rhyme_with": "cat", "match": "dog"}, "is all that was asked for"),
    ],
)
def test_what_no_text_can_be_is_an_error(rules: dict[str, str | int], said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        Rules(**rules).constraint(WIDE, 100, lambda: WIDE.encode(""))  # type: ignore[arg-type]


def test_a_model_of_bytes_and_a_missing_dictionary_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    for rules in (Rules(rhyme="AA"), Rules(rhyme_with="cat")):
        with pytest.raises(SettingsError, match="generates bytes"):
            rules.constraint(BYTES, 100, lambda: BYTES.encode(""))
    rhyme.dictionary.cache_clear()
    monkeypatch.setitem(sys.modules, "pronouncing", None)
    with pytest.raises(MissingExtraError, match=r"rhyme needs pronouncing.*pip install 'storycell\[rhyme\]'"):
        Rules(rhyme_with="cat").constraint(WIDE, 100, lambda: WIDE.encode(""))


def test_sample_rhymes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    assert command(capsys, "train", tmp_path / "a.txt", "--out", tmp_path / "run", *FLAGS).code == 0
    sample = ("sample", tmp_path / "run", "--seed=1")
    one = command(capsys, *sample, "--rhyme", "ABAB", "--chars", 120)
    first, second, third, fourth = map(sounds, last_words(one.out))
    assert first & third
    assert second & fourth
    several = command(
        capsys, *sample, "--rhyme-with", "small", "--count=3", "--unique", "--max-chars=30", "--format=txt"
    )
    assert len(several.out.splitlines()) >= 3
    command(capsys, *sample, "--rhyme-with", "orange").stated(2, "rhyme_with = 'orange'", "no word")
