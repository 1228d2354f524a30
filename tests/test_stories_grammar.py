"""The story grammar: its texts, its exact probabilities and its hidden truth, each stated as a property."""

import math
import random
import re
from itertools import islice

import numpy as np
import pytest

from storycell.corpus import stories
from storycell.corpus.stories.grammar import Grammar, WordList
from storycell.corpus.stories.lexicon import PEOPLE, entries, make, word_lists
from storycell.corpus.stories.notation import build

GOLDEN = """\
Once upon a time, a cool, bold pony named Tilly lived near a warm city. She had a fat yo-yo, a full pin, and \
an indigo tambourine in a pocket. Her nest was clean and bright, with a funny mint door.
Tilly had a fine toy rabbit that was as sparkly as a rose crayon. One clear morning, she took it to the cozy \
bedroom. The air smelled of big bread, bubbly milk, and gray berries. But she stopped beside an odd toy chest \
to march and read, and it was gone! Tilly grew confused, shy, and a bit small. "Uh oh, I cannot find my ugly, \
emerald toy rabbit," wailed sorry Tilly quietly.
Just then, a wise owl with a tan toga dashed by. "Let us look slowly next to a tight cupboard," declared the \
owl helpfully. They softly peered near the lumpy barrel. All they saw was a dear giraffe with a cool pea. At \
the end of the day, the lovable owl uncovered it by a fine, rust couch! Tilly looked calm, fine, and pleased. \
Tilly thanked the owl gladly, and they hummed and leaped by a calm hammock.
The moral: a fun, jolly helper makes an awful day proud.
"""

TOY_LISTS = {"fruit": WordList([make(word) for word in ("apple", "fig", "plum")])}


@pytest.fixture(scope="module")
def sample() -> list[tuple[str, float]]:
    """Two thousand stories, each with the log-probability of its own derivation."""
    return [stories.story_at(7, index) for index in range(2000)]


def tiny(rules: str) -> Grammar:
    return build(rules, TOY_LISTS, start="start")


def texts_of(grammar: Grammar, draws: int = 4000) -> set[str]:
    """Every text of a grammar small enough that so many draws find them all."""
    rand = random.Random(0).random
    return {grammar.write(rand)[0] for _ in range(draws)}


def test_every_story_has_at_least_the_probability_of_its_derivation(sample: list[tuple[str, float]]) -> None:
    ambiguous = 0
    for story, derivation in sample[:400]:
        log_p = stories.log_probability(story)
        assert math.isfinite(log_p)
        assert log_p >= derivation - 1e-9
        ambiguous += log_p > derivation + 1e-9
    assert ambiguous < 40  # for the others, the probability is the product of the draws


def test_the_floor_lies_in_the_promised_range(sample: list[tuple[str, float]]) -> None:
    nats = np.array([-log_p for _, log_p in sample])
    sizes = np.array([len(story) for story, _ in sample])
    floor = nats.sum() / sizes.sum()
    stderr = np.std(nats - floor * sizes) / sizes.mean() / math.sqrt(len(sizes))
    print(f"floor {floor:.4f} +- {stderr:.4f} nats per character, {sizes.mean():.0f} characters a story")
    assert 0.35 + 3 * stderr < floor < 0.8


def test_a_tiny_grammar_has_the_probabilities_computed_by_hand() -> None:
    grammar = tiny("start =\n    3* a[b|bb]\n    1* ab[|b]c")
    assert math.exp(grammar.log_probability("ab")) == pytest.approx(3 / 8)
    assert math.exp(grammar.log_probability("abbc")) == pytest.approx(1 / 8)
    assert grammar.log_probability("abbb") == -math.inf
    assert grammar.log_probability("") == -math.inf


def test_an_ambiguous_text_sums_over_its_derivations() -> None:
    grammar = tiny("start =\n    1* [a|aa][a|aa]\n    1* aaa")
    assert math.exp(grammar.log_probability("aaa")) == pytest.approx(1 / 2 * (1 / 4 + 1 / 4) + 1 / 2)
    assert math.exp(grammar.log_probability("aa")) == pytest.approx(1 / 8)


@pytest.mark.parametrize(
    "rules",
    [
        "start =\n    {x=fruit.a} and {=fruit!x}\n    2* {x=fruit} <more>\n"
        "more =\n    {y=fruit!x}, {=fruit!x!y}\n    {x}",
        "start =\n    [a|aa|][a|aa|][a|]\n    {x=fruit}{x}\n    {=fruit}{=fruit}",
    ],
)
def test_the_probabilities_of_all_texts_sum_to_one(rules: str) -> None:
    grammar = tiny(rules)
    assert math.fsum(math.exp(grammar.log_probability(text)) for text in texts_of(grammar)) == pytest.approx(
        1, abs=1e-12
    )


def test_texts_occur_as_often_as_their_probability_says() -> None:
    grammar, rand = tiny("start =\n    {x=fruit} {y=fruit!x} {=fruit!x!y}"), random.Random(1).random
    texts = [grammar.write(rand)[0] for _ in range(20_000)]
    for text in set(texts):
        p = math.exp(grammar.log_probability(text))
        assert texts.count(text) == pytest.approx(20_000 * p, abs=5 * math.sqrt(20_000 * p))


@pytest.mark.parametrize(
    "rules", ["start =\n    [a|b", "start =\n    a|b", "start =\n    a<start>", "start =\n    {a b}"]
)
def test_rules_that_cannot_be_read_are_refused(rules: str) -> None:
    with pytest.raises(ValueError):
        tiny(rules)


def test_a_changed_character_makes_another_story_or_none(sample: list[tuple[str, float]]) -> None:
    rng, refused = random.Random(3), 0
    for story, _ in sample[:150]:
        at = rng.randrange(len(story))
        changed = story[:at] + rng.choice("abcdefghijklmnop ,.") + story[at + 1 :]
        log_p = stories.log_probability(changed)
        assert stories.parses(changed) == (log_p > -math.inf)
        refused += log_p == -math.inf
    assert refused > 120


def test_the_final_newline_belongs_to_the_story(sample: list[tuple[str, float]]) -> None:
    story = sample[0][0]
    assert stories.parses(story)
    assert not stories.parses(story[:-1])
    assert not stories.parses(story + "\n")


def test_stories_have_their_promised_shape(sample: list[tuple[str, float]]) -> None:
    for story, _ in sample:
        assert story.isascii()
        assert story.endswith("\n")
        assert "\n\n" not in story
        assert "  " not in story
        assert not re.search(r"^ | $|\b(a) [aeio]|\ban [^aeiouh]", story, re.MULTILINE)
        assert 2 <= story.count("\n") <= 4
        assert all(paragraph.count('"') % 2 == 0 for paragraph in story.split("\n"))
    sizes = [len(story) for story, _ in sample]
    assert 450 < np.percentile(sizes, 5) < np.percentile(sizes, 95) < 1150
    assert np.mean([story.startswith("Once upon a time, ") for story, _ in sample]) > 0.7


def test_no_story_repeats_a_sentence(sample: list[tuple[str, float]]) -> None:
    for story, _ in sample:
        sentences = [s for s in re.split(r"(?<=[.!?])[\"\s]+", story) if len(s.split()) > 3]
        assert len(sentences) == len(set(sentences))


def test_the_vocabulary_is_large_and_covers_every_story(sample: list[tuple[str, float]]) -> None:
    seen = {word for story, _ in sample for word in re.findall(r"[a-z]+(?:[-'][a-z]+)*", story.lower())}
    seen = {word.removesuffix("'s") for word in seen}
    assert len(seen) >= 1500
    assert seen <= {word.removesuffix("'s") for word in stories.words()}


def test_stories_are_distinct() -> None:
    assert len(set(islice(stories.generate(11), 5000))) >= 4999


def test_the_same_seed_tells_the_same_stories() -> None:
    first = list(islice(stories.generate(5), 20))
    assert first == list(islice(stories.generate(5), 20))
    assert first == [stories.story_at(5, index)[0] for index in range(20)]
    assert not set(first) & set(islice(stories.generate(6), 20))


def test_the_first_story_never_changes() -> None:
    assert next(stories.generate()) == GOLDEN


def test_pronouns_agree_with_the_names_they_stand_for(sample: list[tuple[str, float]]) -> None:
    sex = {name: he for he, group in PEOPLE.items() for text in group.values() for name in entries(text)}
    found = 0
    for story, _ in sample[:200]:
        truth = stories.annotate(story)
        for match in re.finditer(r"\b(?:she|her|herself|he|him|his|himself)\b", story, re.IGNORECASE):
            who = truth.referent[match.start()]
            assert match[0].lower() in (
                ("she", "her", "herself") if sex[who] == "she" else ("he", "him", "his", "himself")
            )
            found += 1
    assert found > 400


def test_the_annotation_knows_quotations_and_speakers(sample: list[tuple[str, float]]) -> None:
    for story, _ in sample[:200]:
        truth, inside = stories.annotate(story), False
        for at, character in enumerate(story):
            quote = character == '"'
            assert truth.inside_quotes[at] == (inside or quote)
            assert bool(truth.speaker[at]) == (inside or quote)
            inside ^= quote
        for match in re.finditer(r'," \w+ (?:[a-z]+ )*([A-Z]\w+)', story):
            assert truth.speaker[match.start()] == match[1]


def test_a_text_that_is_no_story_has_no_annotation() -> None:
    with pytest.raises(ValueError):
        stories.annotate("Once upon a time, there was a fish.\n")


def test_word_lists_hold_each_word_once() -> None:
    for name, words in word_lists().items():
        bases = [word.forms[0] for word in words.words]
        assert len(bases) == len(set(bases)), name
