"""Makes tunes in ABC by a small grammar: jigs and reels of two parts, each of a question and an answer.

python make_tunes.py 400 > tunes.abc
"""

import random
import sys

SCALES = {"G": "GABcdefgab", "D": "DEFGABcdef", "Edor": "EFGABcdefg", "Ador": "ABcdefgab"}
KINDS = {"jig": ("6/8", 6), "reel": ("4/4", 8)}
FIRST = [
    "Crooked",
    "Merry",
    "Lonesome",
    "Silver",
    "Wandering",
    "Foggy",
    "Dusty",
    "Roving",
    "Golden",
    "Stormy",
    "Rambling",
    "Broken",
]
SECOND = [
    "Lane",
    "Piper",
    "Kettle",
    "Harbour",
    "Maid",
    "Bridge",
    "Miller",
    "Fiddle",
    "Meadow",
    "Lantern",
    "Drover",
    "Gate",
]


def bar(random_: random.Random, scale: str, eighths: int, at: int) -> tuple[str, int]:
    """A bar of so many eighths that begins near a step of the scale, and where it ends."""
    notes, left = [], eighths
    while left:
        length = 2 if left >= 2 and random_.random() < 0.25 else 1
        notes.append(scale[at] + ("2" if length == 2 else ""))
        at = min(max(at + random_.choice((-2, -1, -1, 1, 1, 2)), 0), len(scale) - 1)
        left -= length
    half, beats = eighths // 2, 0
    said = ""
    for note in notes:  # a blank in the middle, for the beam
        said += " " if beats == half else ""
        said += note
        beats += 2 if note.endswith("2") else 1
    return said, at


def part(random_: random.Random, scale: str, eighths: int) -> str:
    """Eight bars: a question of two, its first bar with an answer, the question again, and an end on the tonic."""
    at = random_.choice((2, 4, 7))
    first, at = bar(random_, scale, eighths, at)
    question, after = bar(random_, scale, eighths, at)
    answer, _ = bar(random_, scale, eighths, at)
    turn, _ = bar(random_, scale, eighths, after)
    end = bar(random_, scale, eighths - 3, at)[0] + f" {scale[0]}3"
    return f"|:{first}|{question}|{first}|{answer}|\n{first}|{question}|{turn}|{end}:|\n"


def tune(number: int) -> str:
    """One tune; the same number gives the same one."""
    random_ = random.Random(number)
    kind, key = random_.choice(sorted(KINDS)), random_.choice(sorted(SCALES))
    meter, eighths = KINDS[kind]
    title = f"The {random_.choice(FIRST)} {random_.choice(SECOND)}"
    head = f"X:{number}\nT:{title}\nR:{kind}\nM:{meter}\nL:1/8\nK:{key}\n"
    return head + part(random_, SCALES[key], eighths) + part(random_, SCALES[key], eighths)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    sys.stdout.write("\n".join(tune(k) for k in range(1, count + 1)))
