"""Makes a table of spells: what each does, its school and its level.

python make_spells.py 8000 > spells.csv
"""

import csv
import random
import sys

SCHOOLS = {
    "fire": (["Ember", "Flame", "Ash", "Cinder", "Scorching", "Burning"], ["burns", "scorches", "sets alight"]),
    "ice": (["Frost", "Glacial", "Winter's", "Rime", "Frozen", "Hail"], ["freezes", "slows", "chills"]),
    "growth": (["Thorn", "Root", "Moss", "Verdant", "Bramble", "Seed"], ["entangles", "heals", "hides"]),
    "mind": (["Dream", "Whispering", "Silent", "Memory", "Mirror", "Hollow"], ["confuses", "charms", "puts to sleep"]),
}
SHAPES = ["Bolt", "Circle", "Veil", "Lance", "Ward", "Storm", "Hand", "Chain", "Word", "Breath"]
WHOM = ["one enemy", "all in a room", "the caster", "a friend", "whoever touches it", "two enemies", "a beast"]
COSTS = ["a pinch of salt", "a drop of blood", "a feather", "a copper coin", "a candle", "nothing"]


def spell(draw: random.Random) -> tuple[str, str]:
    """(what it is, its school)."""
    school = draw.choice(sorted(SCHOOLS))
    level = draw.randrange(1, 6)
    names, verbs = SCHOOLS[school]
    turns = f" for {level * draw.randrange(1, 4)} turns" if draw.random() < 0.7 else ""
    said = f"{draw.choice(names)} {draw.choice(SHAPES)}: {draw.choice(verbs)} {draw.choice(WHOM)}{turns}"
    return f"{said}. It costs {draw.choice(COSTS)} and {level * 3} mana.", school


if __name__ == "__main__":
    draw = random.Random(3)
    rows = [spell(draw) for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)]
    csv.writer(sys.stdout, lineterminator="\n").writerows([("spell", "school"), *rows])
