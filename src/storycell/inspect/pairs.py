"""Pairs of prompts that differ in one fact, made from the embedded stories, whose rules say how both go on.

Each is a story of the grammar read up to where the fact shows, and the same with the fact turned round: a girl made a
boy with all that follows from it, an opening quote left out, another thing lost. Both end in the same characters
(`then`): a state is exchanged before those, and what the model expects after them says which fact it believes.
`enclosed` and `renamed` make pairs of any text.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from random import Random

import numpy as np

from storycell.data.stories.corpus import story_at
from storycell.data.stories.lexicon import word_lists
from storycell.inspect.features import inside

_SEED = 17  # of the stories, none of which are in the embedded corpus
_THEN = 4  # characters that both prompts read after the exchange
_SHORTEST = 12  # characters of a quotation
_CONTEXT = 300  # characters read of a text before the place that is asked about

_HERO = re.compile(
    r"Once upon a time, there was an? [\w-]+, [\w-]+ (?P<kind>girl|boy) named (?P<name>\w+)\."
    r"[^\n]*\nOne [\w ]+ day, (?=(?:she|he) )"
)
_SAID = re.compile(r'"(?P<said>[^"\n]+)"')
_LOST = re.compile(
    r"took (?:her|his) [\w -]+ to the [^\n]*?But then the (?P<toy>[\w -]+?) was gone!\n?[^\n]*?Where is my "
)
_OTHER_SEX = {"girl": "boy", "boy": "girl", "She": "He", "He": "She", "she": "he", "he": "she"}


@dataclass(frozen=True)
class Pair:
    """Two prompts of one fact: `source + then` is followed by `yes`, `base + then` by `no`, each one character."""

    source: str
    base: str
    then: str
    yes: str
    no: str


def pairs(fact: str, number: int) -> list[Pair]:
    """The first pairs of a fact: one of `FACTS`."""
    return list(islice(_all_pairs(FACTS[fact]), number))


def _all_pairs(make: Callable[[str, Random], Pair | None]) -> Iterator[Pair]:
    for index in count():
        found = make(story_at(_SEED, index)[0], Random(index))
        if found is not None:
            yield found


def _hero(story: str, chance: Random) -> Pair | None:
    """Who a story is about: she, where the source has a girl."""
    match = _HERO.match(story)
    if match is None:
        return None
    other_kind = _OTHER_SEX[match["kind"]]
    names = [word.forms[0] for word in word_lists()[other_kind].words]
    words = _OTHER_SEX | {match["name"]: chance.choice(names)}
    other = re.sub(rf"\b(?:{'|'.join(words)})\b", lambda word: words[word[0]], match[0])
    girl, boy = (match[0], other) if match["kind"] == "girl" else (other, match[0])
    return _pair(girl, boy, "s", "h")


def _quotation(story: str, _: Random) -> Pair | None:
    """Whether a quotation is open at the end of a sentence: the source has its opening quote, the base has not."""
    for match in _SAID.finditer(story):
        if len(match["said"]) >= _SHORTEST and match["said"][-1] in ".!?":
            before, said = story[: match.start()], match["said"]
            return _pair(f'{before}"{said}', f"{before}{said}", '"', " ")
    return None


def _lost(story: str, chance: Random) -> Pair | None:
    """Which thing was lost, where it is asked for."""
    match = _LOST.search(story)
    if match is None:
        return None
    prompt, toy = story[: match.end()], match["toy"]
    word = re.compile(rf"\b{re.escape(toy)}\b")
    others = [w.forms[0] for w in word_lists()["thing"].words if w.forms[0][0] != toy[0]]
    other = chance.choice(others)
    if len(word.findall(prompt)) != 2 or re.search(rf"\b{re.escape(other)}\b", prompt):
        return None  # it was also one of the hero's things
    return _pair(prompt, word.sub(other, prompt), toy[0], other[0])


def _pair(source: str, base: str, yes: str, no: str) -> Pair:
    assert source[-_THEN:] == base[-_THEN:]
    return Pair(source[:-_THEN], base[:-_THEN], source[-_THEN:], yes, no)


def enclosed(text: str, marks: Mapping[str, str], number: int) -> list[Pair]:
    """Passages of a text (stories end in NUL) between marks, opening -> closing: the base lacks the opening one."""
    insides = inside(text, dict(marks)) > 0
    edges = np.flatnonzero(np.diff(insides, prepend=False, append=False))
    found = []
    for start, end in zip(edges[0::2], edges[1::2], strict=True):  # the opening mark; the closing one
        before, said = _told(text[:start]), text[start + 1 : end]
        closed = end + 1 < len(text) and text[end] == marks.get(text[start])
        if closed and len(said) >= _SHORTEST and text[end + 1] not in ("\0", text[end]) and "\0" not in said:
            found.append(_pair(f"{before}{text[start]}{said}", f"{before}{said}", text[end], text[end + 1]))
            if len(found) == number:
                break
    return found


def renamed(text: str, name: str, others: Iterable[str], number: int) -> list[Pair]:
    """Places of a text (stories end in NUL) where a name is said again: in the base somebody else was named before."""
    word, found = re.compile(rf"\b{re.escape(name)}\b"), list[Pair]()
    others = [other for other in others if other[0] != name[0]]
    for match in word.finditer(text):
        prompt = _told(text[: match.start()])
        other = next((other for other in others if other not in prompt), None)
        base = word.sub(other, prompt) if other else prompt
        if base != prompt and base[-_THEN:] == prompt[-_THEN:]:
            found.append(_pair(prompt, base, name[0], (other or name)[0]))
            if len(found) == number:
                break
    return found


def _told(text: str) -> str:
    """The last of a story up to some place."""
    return text[text.rfind("\0") + 1 :][-_CONTEXT:]


QUOTED = "a quotation is open"
FACTS: dict[str, Callable[[str, Random], Pair | None]] = {
    QUOTED: _quotation,
    "she or he": _hero,
    "what was lost": _lost,
}
