"""Makes names of villages by a small grammar, each once, in the order of the alphabet.

python make_names.py 30000 > names.txt
"""

import random
import sys

ONSETS = ["b", "br", "c", "cr", "d", "f", "g", "gr", "h", "k", "l", "m", "n", "p", "r", "s", "st", "t", "th", "w"]
VOWELS, CODAS = ["a", "e", "i", "o", "u", "ea", "oo"], ["", "", "l", "n", "r", "rn", "ck", "ss", "m"]
ENDS = ["bridge", "by", "combe", "dale", "field", "ford", "ham", "holt", "ley", "mere", "stow", "ton", "wick", "worth"]


def syllable(draw: random.Random) -> str:
    """One syllable."""
    return draw.choice(ONSETS) + draw.choice(VOWELS) + draw.choice(CODAS)


def make(count: int) -> list[str]:
    """So many names; of a larger list the first ones are the same."""
    draw, found = random.Random(7), dict[str, None]()
    while len(found) < count:
        name = syllable(draw) + (syllable(draw) if draw.random() < 0.5 else "") + draw.choice(ENDS)
        before = draw.choice(["Upper ", "Lower ", "Great ", "Little "]) if draw.random() < 0.1 else ""
        found[before + name.capitalize()] = None
    return sorted(found)


if __name__ == "__main__":
    sys.stdout.write("".join(f"{name}\n" for name in make(int(sys.argv[1]) if len(sys.argv) > 1 else 30_000)))
