"""Makes a chat of three people who do not exist, as WhatsApp exports it.

python make_chat.py 600 > _chat.txt
"""

import datetime
import random
import sys

PEOPLE = ["Ottilie Grabowski", "Zbyszek Nowak", "Ines"]
ASKED = {
    "{}, are you coming {} {}?": ["yes, of course", "I can't, sorry", "maybe later", "only if {} comes too"],
    "what shall we eat {1} {2}?": ["soup!", "pizza again", "ask {}", "whatever you like", "not pizza please"],
    "did anybody see my {3}?": ["it is on the {4}", "look under the {4}", "{} has it", "no :("],
    "who feeds the {5} {1} {2}?": ["I do", "{} does", "it was me last time!", "the {5} is fat enough"],
    "can you ring me?": ["my number is +44 7700 900{6}", "in five minutes", "no, write to {7}"],
}
WHENS, PARTS = ["on Monday", "on Friday", "tomorrow", "tonight", "next week"], ["at seven", "at eight", "after work"]
THINGS, PLACES = ["keys", "umbrella", "book", "red scarf"], ["table", "sofa", "shelf", "piano"]
PETS, ENDS = ["cat", "dog", "parrot"], ["", "", "", " :)", " haha", "!"]


def fill(draw: random.Random, words: str, to: str, subject: dict[str, str]) -> str:
    """A sentence to somebody; what it is about stays what it was."""
    first = to.split()[0]
    address = f"{first.lower()}@example.org"
    values = [first, subject["when"], subject["part"], subject["thing"], draw.choice(PLACES), subject["pet"]]
    values += [f"{draw.randrange(100, 1000)}", address]
    for k, value in enumerate(values):
        words = words.replace(f"{{{k}}}", value)
    for value in values[:3]:
        words = words.replace("{}", value, 1)
    return words + draw.choice(ENDS) * (not words.endswith(("?", "!", ")")))


def day(draw: random.Random, date: datetime.date) -> str:
    """The messages of a day: some questions, each with an answer or two."""
    lines, minute = list[str](), 9 * 60
    for _ in range(draw.randrange(2, 6)):
        asks, answers, third = draw.sample(PEOPLE, 3)
        subject = {"when": draw.choice(WHENS), "part": draw.choice(PARTS), "thing": draw.choice(THINGS),
                   "pet": draw.choice(PETS)}  # fmt: skip
        question = draw.choice(list(ASKED))
        talk = [(asks, fill(draw, question, answers, subject))]
        talk += [(answers, fill(draw, draw.choice(ASKED[question]), third, subject))]
        talk += [(third, draw.choice(["ok", "me too", "fine", f"thanks {answers.split()[0]}"]))] * (draw.random() < 0.4)
        for who, said in talk:
            minute += draw.randrange(1, 20)
            lines.append(f"[{date:%d.%m.%y}, {minute // 60 % 24:02d}:{minute % 60:02d}:00] {who}: {said}\n")
    return "".join(lines)


if __name__ == "__main__":
    draw, first = random.Random(5), datetime.date(2024, 1, 1)
    for k in range(int(sys.argv[1]) if len(sys.argv) > 1 else 600):
        sys.stdout.write(day(draw, first + datetime.timedelta(days=k)))
