"""Grammars of llama.cpp, where they are regular, match what they say."""

import itertools
import re

import pytest

from storycell.errors import SettingsError
from storycell.generation.gbnf import MOST_CHARS, pattern_of


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        ('root ::= "ab"', "ab"),
        ('root ::= "a" | "b" "c"', "a|bc"),
        ('root ::= ("a" | "b")* "c"', "[ab]*c"),
        ('root ::= "a"+ "b"? "c"{2} "a"{1,2} "b"{1,}', "a+b?c{2}a{1,2}b+"),
        ('root ::= "ab"? "c"', "(ab)?c"),
        ('root ::= "ab"{ 2 , 3 }', "(ab){2,3}"),
        ('root ::= "a"*+', "a*"),
        ("root ::= [a-b] [^a] .", "[ab][^a](.|\\n)"),
        ('root ::= [\\]^-] [-\\\\a] "\\""', r"[]^-][-\\a]\""),
        ('root ::= "\\n" "\\x61" [\\u0062-\\U00000063]', r"\na[bc]"),
        ('# first\nroot ::= one # a\n  | two\none-1 ::= "a"\ntwo ::= one-1 "b" "c"\none ::= one-1', "a|abc"),
        ('root ::= "" | "a"', "a?"),
        ("root ::= a b\na ::=\nb ::= [b]", "b"),
    ],
)
def test_a_grammar_matches_what_its_expression_matches(grammar: str, pattern: str) -> None:
    made = re.compile(pattern_of(grammar))
    texts = ["".join(text) for n in range(7) for text in itertools.product("abc", repeat=n)]
    texts += ["".join(text) for n in range(4) for text in itertools.product('a]^-\\"\n', repeat=n)]
    texts += ["aabcc" + "ab"[: n % 3] + "b" * n for n in range(4)] + ["abbcaab", "aabccaabb", "bca\n", "\nab"]
    expected = [text for text in texts if re.fullmatch(pattern, text)]
    assert [text for text in texts if made.fullmatch(text)] == expected
    assert expected


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        ("", "no rule 'root'"),
        ("[a-z]+", "must begin with a rule"),
        ('top ::= "a"', "no rule 'root'"),
        ("root ::= a", "no rule 'a'"),
        ('root ::= "a" root | "b"', r"\(root -> root\)"),
        ('root ::= a\na ::= b\nb ::= "x" a', r"\(a -> b -> a\)"),
        ('root ::= ("a"', "does not close a group"),
        ('root ::= "a")', "did not open"),
        ("root ::= * ", r"has a \* behind nothing"),
        ('root ::= "a" | +', "behind nothing"),
        ("root ::= []", "empty set"),
        ("root ::= [z-a]", "z-a, which is turned round"),
        ('root ::= "a', "from its character 9 on"),
        ('root ::= "a" <think>', "from its character 13 on"),
        ('root ::= "\\Uffffffff"', "which there is not"),
        ('root ::= "a"\nroot ::= "b"', "two rules 'root'"),
        ("root ::= " + "(" * 5_000, "nested too deep"),
    ],
)
def test_what_is_no_grammar_or_not_regular_is_refused(grammar: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        pattern_of(grammar)


def test_names_that_double_each_other_are_refused_before_they_fill_the_memory() -> None:
    rules = [f"r{k} ::= r{k + 1} r{k + 1}" for k in range(60)]
    with pytest.raises(SettingsError, match=f"longer than {MOST_CHARS:,}"):
        pattern_of("\n".join(["root ::= r0", *rules, 'r60 ::= "a"']))
