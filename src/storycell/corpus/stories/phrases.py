"""What all stories share: how they open, the lists they are fond of, how friends come by, how a day ends well.

In: nothing.  Out: `PHRASES`, rules in the notation of `notation`.

The surprising decision: a picture book's lists ("a red cup, two big bells and a key") hold most of a story's chance.
The same few patterns and words fill them everywhere, so they are learnt early, while the sentences around them are
few and say little that could not be foreseen.
"""

ITEMS = """
NOUNs =
    <NOUN_one>, <NOUN_two> and <NOUN_three>

NOUN_one =
    5* {=look_NOUN.a} {x=NOUN}
    3* {=LOOK.a} {=HUE} {x=NOUN}
    4* {=number} {=look_NOUN} {x=NOUN.many}

NOUN_two =
    5* {=look_NOUN.a} {y=NOUN!x}
    3* {=LOOK.a} {=HUE} {y=NOUN!x}
    4* {=number} {=look_NOUN} {y=NOUN.many!x}

NOUN_three =
    5* {=look_NOUN.a} {=NOUN!x!y}
    3* {=LOOK.a} {=HUE} {=NOUN!x!y}
    4* {=number} {=look_NOUN} {=NOUN.many!x!y}
"""

WORDS = """
NAME =
    1* {x=LIST} and {=LIST!x}
    3* {x=LIST}, {y=LIST!x} and {=LIST!x!y}
"""

SHARED = """
story =
    <opening> <about><p><plot><p>

opening =
    Once upon a time, there was {n=nature.a}, {=nature!n} <who>.

who =
    3* girl named {hero=girl}
    3* boy named {hero=boy}
    1* {=animal} named {hero=girl}
    1* {=animal} named {hero=boy}

about =
    1* {hero.He} had <things>.
    1* {hero.He} liked to <deeds>.
    3* {hero.He} had <things>. {hero.He} liked to <deeds>.

kin =
    {kin=kinswoman}
    {kin=kinsman}

somewhere =
    {=by} {=look_spot.a} {s=spot}

elsewhere =
    {=by} {=look_spot.a} {=spot!s}

an_animal =
    3* {=look_animal.a} {other=animal}
    2* {=born.a} {=hue} {other=animal}

saw =
    {hero.He} saw <animals>.
    There {hero.he} saw <animals>.

was_sad =
    {hero.He} was <sorry>.

helper =
    Then <an_animal> came by with <thing_one>.

one_day =
    One {=weather} day,

thanks =
    Thank you! You are <nice>!

joy =
    2* They <did>.
    2* They ate <foods>.
    3* They <did>, and they ate <foods>.
"""


def filled(template: str, **words: str) -> str:
    """A template's rules with its capitalised words replaced."""
    for word, text in words.items():
        template = template.replace(word, text)
    return template


PHRASES = (
    SHARED
    + filled(ITEMS, NOUN="thing", LOOK="made", HUE="hue")
    + filled(ITEMS, NOUN="animal", LOOK="born", HUE="hue")
    + filled(ITEMS, NOUN="food", LOOK="taste", HUE="tint")
    + filled(WORDS, NAME="deeds", LIST="verb")
    + filled(WORDS, NAME="did", LIST="verb.past")
    + filled(WORDS, NAME="nice", LIST="nature")
    + filled(WORDS, NAME="sorry", LIST="sad")
    + filled(WORDS, NAME="happy", LIST="glad")
)
