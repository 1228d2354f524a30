"""The story grammar: its texts, its exact probabilities and its hidden truth, each stated as a property."""

import math
import random
import re
from itertools import islice

import numpy as np
import pytest

from storycell.data.stories import corpus
from storycell.data.stories.grammar import FORMS, Grammar, WordList
from storycell.data.stories.lexicon import PEOPLE, SHARE_OF_TAIL, entries, make, word_lists
from storycell.data.stories.notation import build

GOLDEN = """\
Once upon a time, there was a sunny, polite boy named Leo. He had a blue rug, a clean silver bike and a red flag. He \
liked to swing, crawl and camp.
One gray day, he went to the beach. There he saw six wet deer, a noisy yellow frog and four gold crows. Then he met \
a bold, loyal girl named Clara. "Good day! I can skip and hunt," said Clara. "I can hike and hunt," said Leo.
So they waved and baked. They ate nine tasty figs, a crisp scone and a plain lemon. Then Leo gave her a dusty black \
wheel, a clean teal coin and a short pot, and Clara gave him a flat flag, a thin tan cork and ten pink spoons. \
"Thank you! You are quiet, busy and lively!" They were cozy, eager and lively.
The moral is: be tender, smart and jolly to a new friend.
"""

TOY_LISTS = {"fruit": WordList([make(word) for word in ("apple", "fig", "plum")], [3, 2, 1])}


@pytest.fixture(scope="module")
def sample() -> list[tuple[str, float]]:
    """Two thousand stories, each with the log-probability of its own derivation."""
    return [corpus.story_at(7, index) for index in range(2000)]


def tiny(rules: str) -> Grammar:
    return build(rules, TOY_LISTS, start="start")


def texts_of(grammar: Grammar, draws: int = 4000) -> set[str]:
    """Every text of a grammar small enough that so many draws find them all."""
    rand = random.Random(0).random
    return {grammar.generate(rand)[0] for _ in range(draws)}


def test_every_story_has_at_least_the_probability_of_its_derivation(sample: list[tuple[str, float]]) -> None:
    ambiguous = 0
    for story, derivation in sample[:400]:
        log_p = corpus.log_probability(story)
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
    texts = [grammar.generate(rand)[0] for _ in range(20_000)]
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
        log_p = corpus.log_probability(changed)
        assert corpus.parses(changed) == (log_p > -math.inf)
        refused += log_p == -math.inf
    assert refused > 120


def test_the_final_newline_belongs_to_the_story(sample: list[tuple[str, float]]) -> None:
    story = sample[0][0]
    assert corpus.parses(story)
    assert not corpus.parses(story[:-1])
    assert not corpus.parses(story + "\n")


def test_stories_have_their_promised_shape(sample: list[tuple[str, float]]) -> None:
    for story, _ in sample:
        assert story.isascii()
        assert story.endswith("\n")
        assert "\n\n" not in story
        assert "  " not in story
        assert not re.search(r"^ | $|\b(a) [aeio]|\ban [^aeiouh]", story, re.MULTILINE)
        assert story.startswith("Once upon a time, there was a")
        assert story.count("\n") == 4  # who, what went wrong, how it ended, the moral
        assert story.splitlines()[-1].startswith("The moral is: ")
        assert all(paragraph.count('"') % 2 == 0 for paragraph in story.split("\n"))
    sizes = [len(story) for story, _ in sample]
    assert 550 < np.percentile(sizes, 5) < np.percentile(sizes, 95) < 1100


def test_what_is_lost_is_what_is_found_again(sample: list[tuple[str, float]]) -> None:
    found = 0
    for story, _ in sample:
        if match := re.search(r"Where is my ([a-z -]+)\?", story):
            assert f"But then the {match[1]} was gone!" in story
            assert story.count(f"but no {match[1]}.") == 2
            assert f"At last, they found the {match[1]} " in story
            found += 1
    assert found > 150


def test_more_than_one_takes_the_plural(sample: list[tuple[str, float]]) -> None:
    nouns = [word for name in ("animal", "thing", "food") for word in word_lists()[name].words]
    many = {word.forms[FORMS.index("many")].split()[-1] for word in nouns}
    counted = 0
    for story, _ in sample[:500]:
        for item in re.findall(r"\b(?:two|three|six|ten) [a-z]+ ([a-z -]+?)(?:,|\.|!|\?| and| or)", story):
            assert many & set(item.split()), item
            counted += 1
    assert counted > 1000


def test_no_story_repeats_a_sentence(sample: list[tuple[str, float]]) -> None:
    for story, _ in sample:
        sentences = [s for s in re.split(r"(?<=[.!?])[\"\s]+", story) if len(s.split()) > 3]
        assert len(sentences) == len(set(sentences))


def test_the_vocabulary_is_large_and_covers_every_story(sample: list[tuple[str, float]]) -> None:
    seen = {word for story, _ in sample for word in re.findall(r"[a-z]+(?:[-'][a-z]+)*", story.lower())}
    seen = {word.removesuffix("'s") for word in seen}
    assert len(seen) >= 1500
    assert seen <= {word.removesuffix("'s") for word in corpus.words()}


def test_stories_are_distinct() -> None:
    assert len(set(islice(corpus.generate(11), 5000))) >= 4999


def test_the_same_seed_tells_the_same_stories() -> None:
    first = list(islice(corpus.generate(5), 20))
    assert first == list(islice(corpus.generate(5), 20))
    assert first == [corpus.story_at(5, index)[0] for index in range(20)]
    assert not set(first) & set(islice(corpus.generate(6), 20))


def test_the_first_story_never_changes() -> None:
    assert next(corpus.generate()) == GOLDEN


def test_pronouns_agree_with_the_names_they_stand_for(sample: list[tuple[str, float]]) -> None:
    sex = {
        name: he for he, group in PEOPLE.items() for text in group.values() for part in entries(text) for name in part
    }
    found = 0
    for story, _ in sample[:200]:
        truth = corpus.annotate(story)
        for match in re.finditer(r"\b(?:she|her|herself|he|him|his|himself)\b", story, re.IGNORECASE):
            who = truth.referent[match.start()]
            assert match[0].lower() in (
                ("she", "her", "herself") if sex[who] == "she" else ("he", "him", "his", "himself")
            )
            found += 1
    assert found > 400


def test_the_annotation_knows_quotations_and_speakers(sample: list[tuple[str, float]]) -> None:
    for story, _ in sample[:200]:
        truth, inside = corpus.annotate(story), False
        for at, character in enumerate(story):
            quote = character == '"'
            assert truth.inside_quotes[at] == (inside or quote)
            assert bool(truth.speaker[at]) == (inside or quote)
            inside ^= quote
        for match in re.finditer(r'[,!?]" (?:said|cried) ([A-Z]\w+)\.', story):
            assert truth.speaker[match.start()] == match[1]


def test_a_text_that_is_no_story_has_no_annotation() -> None:
    with pytest.raises(ValueError):
        corpus.annotate("Once upon a time, there was a fish.\n")


def test_word_lists_hold_each_word_once() -> None:
    for name, words in word_lists().items():
        bases = [word.forms[0] for word in words.words]
        assert len(bases) == len(set(bases)), name


def test_a_list_is_a_short_even_head_and_a_rare_tail() -> None:
    for name, words in word_lists().items():
        shares = list(words.p.values())
        head = [p for p in shares if p == shares[0]]
        assert len(head) <= 80, name
        assert sum(shares[len(head) :]) == pytest.approx(SHARE_OF_TAIL), name
        assert max(shares[len(head) :]) < shares[0], name
