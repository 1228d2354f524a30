"""The rules of the stories, in the notation of `notation`: shared phrases (`PHRASES`) and nine plots (`PLOTS`).

The plots: something lost, someone hurt, a meal shared, a noise, a gift, a party, a lesson, an errand, a friend. Each is
one fixed row of short sentences, and what tells the plots apart is said again and again, so that a model with a short
memory knows which story it is in; what differs is what fills the sentences.

A picture book's lists ("a red cup, two big bells and a key") hold most of a story's entropy. The same few patterns and
words fill them everywhere, so they are learned early, while the sentences around them are few and predictable.
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


def fill_template(template: str, **words: str) -> str:
    """A template's rules with its capitalised words replaced."""
    for word, text in words.items():
        template = template.replace(word, text)
    return template


PHRASES = (
    SHARED
    + fill_template(ITEMS, NOUN="thing", LOOK="made", HUE="hue")
    + fill_template(ITEMS, NOUN="animal", LOOK="born", HUE="hue")
    + fill_template(ITEMS, NOUN="food", LOOK="taste", HUE="tint")
    + fill_template(WORDS, NAME="deeds", LIST="verb")
    + fill_template(WORDS, NAME="did", LIST="verb.past")
    + fill_template(WORDS, NAME="nice", LIST="nature")
    + fill_template(WORDS, NAME="sorry", LIST="sad")
    + fill_template(WORDS, NAME="happy", LIST="glad")
)


PLOTS = """
plot =
    <lost_plot>
    <hurt_plot>
    <share_plot>
    <noise_plot>
    <gift_plot>
    <party_plot>
    <learn_plot>
    <shop_plot>
    <friend_plot>

lost_plot =
    <one_day> {hero.he} took {hero.his} {=look_thing} {toy=thing} to the {=place}. <saw> But then the {toy} was gone!
        "hero: {=oh}! Where is my {toy}?" cried {hero}. {hero.He} was <sorry>.<p><helper> "other: I will help you
        look!" They looked <somewhere>. They found <things>, but no {toy}. They looked <elsewhere>. They found
        <things>, but no {toy}. At last, they found the {toy} <somewhere>! "hero: {=yay}! Thank you!" <joy><p>The moral
        is: look again with a friend who is <nice>.

hurt_plot =
    <one_day> {hero.he} went to the {=place}. <saw> Then {hero.he} met <an_animal> <somewhere>. "other: Help! I hurt my
        [back|head|nose|side|tail]!" It was <sorry>.<p>{hero} put it in a box with <things>. {hero.He} gave it <foods>.
        Soon it was <happy>. "other: <thanks>" <joy><p>The moral is: be <nice> to a friend who is <sorry>.

share_plot =
    <one_day> {hero}'s <kin> gave {hero.him} <foods>. {hero.He} took it all to the {=place}. <saw> Then <an_animal>
        came by. "other: I only have <food_one>." It was <sorry>.<p>{hero} did not want to share. But then {hero.he}
        gave it <foods>. "other: <thanks>" They sat <somewhere>. <joy><p>The moral is: a friend who is <nice> will
        share <foods>.

noise_plot =
    One {=weather} night, there was a noise. It went {x=sound}, {y=sound!x}, {z=sound!x!y}, {w=sound!x!y!z} and
        {=sound!x!y!z!w}. "hero: {=oh}! Is it <animal_one>?" cried {hero}. {hero.He} was <sorry>.<p>Then {hero.his}
        <kin> came with <things>. They looked <somewhere>. They saw <animals>. They looked <elsewhere>. It was only
        <an_animal> with <things>! "hero: {=hello}! You can sleep here!" They gave it <foods>.<p>The moral is:
        {x=sound.a} or {=sound.a!x} in the night may be <animal_one>.

gift_plot =
    <one_day> {hero.he} wanted to make {=look_thing.a} {toy=craft}. {hero.He} had <things>. "hero: {=oh}! I need
        <thing_one>," cried {hero}. {hero.He} was <sorry>.<p><helper> "other: You can have <things>!" So they made the
        {toy}. It was {x=look_thing}, {y=look_thing!x} and {=look_thing!x!y}. {hero} gave it to {hero.his} <kin>. "kin:
        <thanks>" <joy><p>The moral is: a gift is better than <things>.

party_plot =
    <one_day> {hero.he} had a party with <foods>. But no one came. "hero: {=oh}! Where are my friends?" cried {hero}.
        {hero.He} was <sorry>.<p>Then {p=girl!hero} came with <things>. Then {q=boy!hero} came with <things>. Then
        <an_animal> came with <things>. "hero: {=yay}! You are all here!" <joy><p>The moral is: a friend who is <nice>
        will come.

learn_plot =
    <one_day> {hero.he} saw <animals> {act=feat}. {hero.He} could {x=verb!act}, {y=verb!act!x} and {=verb!act!x!y}, but
        {hero.he} could not {act}. {hero.He} fell with a {x=sound} and a {=sound!x}. "hero: {=oh}! I can not {act}!"
        cried {hero}. {hero.He} was <sorry>.<p><helper> "other: First you {x=verb!act} and then you {=verb!act!x}!"
        {hero} tried <somewhere>. {hero.He} tried <elsewhere>. At last, {hero.he} could {act}! "other: {=yay}! You are
        <nice>!" <joy><p>The moral is: be <nice> and try again.

shop_plot =
    <one_day> {hero.his} <kin> sent {hero} to the shop to get <foods>. <saw> But then <an_animal> ate the list! "hero:
        {=oh}! Was it <food_one>?" cried {hero}. {hero.He} was <sorry>.<p><helper> "other: You can have <foods>!"
        {hero} took it all home, with <things>. "kin: <thanks>" They ate <foods>.<p>The moral is: a friend who is
        <nice> is better than <foods>.

friend_plot =
    <one_day> {hero.he} went to the {=place}. <saw> Then {hero.he} met {m=nature.a}, {=nature!m} <pal>. "pal: {=hello}!
        I can <deeds>," said {pal}. "hero: I can <deeds>," said {hero}.<p>So they <did>. They ate <foods>. Then {hero}
        gave {pal.him} <things>, and {pal} gave {hero.him} <things>. "pal: <thanks>" They were <happy>.<p>The moral is:
        be <nice> to a new friend.

pal =
    girl named {pal=girl!hero}
    boy named {pal=boy!hero}
"""
