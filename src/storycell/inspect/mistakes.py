"""What a model still gets wrong, by kind, after Karpathy, Johnson & Fei-Fei 2015 (arXiv:1506.02078), section 4.4.

A mistake is a character that had a probability below one half. Each counts once, under the first kind that fits: one
that an n-gram table would have got right, rare words, names, first letters, quotes and punctuation, the rest. The
n-gram tables and how often a word was seen are counted on the first half of the text, the mistakes on the second.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storycell.evaluation.statistics import clustered_mean
from storycell.inspect.features import names_of, words

RARE = 5  # a word seen less often in the first half
_ORDERS = (3, 6)  # n-grams up to these many characters, context and character together
_SURE = 0.5

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MistakeKind:
    """Mistakes of one kind, for 1,000 characters of the second half of the text."""

    kind: str
    per_thousand: float
    stderr: float  # over blocks of 1,000 characters
    bits_share: float  # share of these mistakes in all bits of the second half
    mistakes: int
    chars: int


def mistakes(text: str, nats: npt.NDArray[np.float64]) -> list[MistakeKind]:
    """The kinds, in the order in which they are asked, and all together."""
    half = len(text) // 2
    nats = nats[half:]
    wrong = np.exp(-nats) < _SURE
    block = np.arange(len(nats)) // 1000
    found = [_count("all", wrong, nats, block)]
    for kind, fits in _kinds(text, half).items():
        found.append(_count(kind, wrong & fits, nats, block))
        wrong = wrong & ~fits
    return found


def _count(kind: str, these: Bools, nats: npt.NDArray[np.float64], block: npt.NDArray[np.int64]) -> MistakeKind:
    mean, stderr = clustered_mean(these.astype(np.float64), block)
    return MistakeKind(
        kind, 1000 * mean, 1000 * stderr, float(nats[these].sum() / nats.sum()), int(these.sum()), len(these)
    )


def _kinds(text: str, half: int) -> dict[str, Bools]:
    second = text[half:]
    before = text[half - 1 : -1]
    rare, named = _word_marks(text, half)
    first = np.array([c.isalpha() and not b.isalpha() for c, b in zip(second, before, strict=True)])
    new_line = np.array([b in "\n\0" for b in before])
    other = np.array([not c.isalpha() for c in second])
    short, long = _ORDERS
    return {
        f"a table of {short} characters knows better": _is_known(text, half, short),
        f"a table of {long} characters knows better": _is_known(text, half, long),
        "rare words": rare,
        "names": named,
        "first letter after a new line": first & new_line,
        "first letter of any other word": first,
        "spaces, quotes and punctuation": other,
        "letters within common words": ~other,
    }


def _is_known(text: str, half: int, most: int) -> Bools:
    """Whether some table of up to `most` characters, counted on the first half, gives a character one half or more."""
    known = np.zeros(len(text) - half, dtype=np.bool_)
    for n in range(1, most):
        table: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for t in range(n, half):
            table[text[t - n : t]][text[t]] += 1
        sure = {context for context, counts in table.items() if counts.total() > 1}
        for t in range(half, len(text)):
            context = text[t - n : t]
            if context in sure and 2 * table[context][text[t]] >= table[context].total():
                known[t - half] = True
    return known


def _word_marks(text: str, half: int) -> tuple[Bools, Bools]:
    """Characters of rare words, and of names."""
    rare, named = np.zeros(len(text), dtype=np.bool_), np.zeros(len(text), dtype=np.bool_)
    seen = Counter(word.lower() for _, end, word in words(text) if end <= half)
    names = {name for name, _ in names_of(text)}
    for start, end, word in words(text):
        rare[start:end] = seen[word.lower()] < RARE
        named[start:end] = word in names
    return rare[half:], named[half:]
