"""The nine plots: something lost, someone hurt, a meal shared, a noise, a gift, a party, a lesson, an errand, a friend.

In: nothing.  Out: `PLOTS`, rules in the notation of `notation`; they build on the shared rules of `phrases`.

The surprising decision: a plot is one fixed row of sentences. What differs from story to story is what fills them.
"""

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
    <one_day> {hero.he} took {hero.his} {=look_thing} {toy=thing} to the {=place}. <saw> <is_gone> <was_sad> "hero:
        {=oh}! Where is my {toy}?" cried {hero}.<p><helper> "other: {=hello}! I will help you look," said the {other}.
        They looked <everywhere>. They found <things>, but no {toy}. At last, they found the {toy} <somewhere>. "hero:
        {=yay}! Thank you!" said {hero}. <joy><p>The moral is: a friend who is <nice> will help you look.

is_gone =
    2* But then the {toy} was gone!
    1* But then the wind took the {toy}!

hurt_plot =
    <one_day> {hero.he} went to the {=place}. <saw> Then {hero.he} met <an_animal> <somewhere>. It was <sorry>. "other:
        Please help me. I hurt my [back|head|nose|side|tail]," said the {other}.<p>{hero} took it home and put it in a
        box with <things>. {hero.He} gave it <foods>. Soon it was <happy>. "other: <thanks>" said the {other}.
        <joy><p>The moral is: be <nice>, and help a friend who is <sorry>.

share_plot =
    <one_day> {hero}'s <kin> gave {hero.him} <foods>. {hero.He} took it all to the {=place}. <saw> Then <an_animal>
        came by. It was <sorry>. "other: I only have <food_one>," it said.<p>{hero} did not want to share. But then
        {hero.he} said, "hero: You can have <foods>." "other: <thanks>" said the {other}. They sat <somewhere> and ate.
        Then they <did>.<p>The moral is: a friend who is <nice> will share <foods>.

noise_plot =
    One {=weather} night, there was a noise. It went {x=sound}, {y=sound!x}, {z=sound!x!y}, {w=sound!x!y!z} and
        {=sound!x!y!z!w}. <was_sad> "hero: {=oh}! Is it <animal_one> or <animal_two>?" cried {hero}.<p>Then {hero.his}
        <kin> came with <things>. "kin: Let us look," said {hero.his} {kin}. They looked <everywhere>. It was only
        <an_animal> with <things>! "hero: {=hello}! You can sleep here," said {hero}. They gave it <foods>.<p>The moral
        is: {x=sound.a} or {=sound.a!x} in the night may be <animal_one>.

gift_plot =
    <one_day> {hero.he} wanted to make {=look_thing.a} {toy=craft} for {hero.his} <kin>. "hero: I need <things>,"
        {hero.he} said. {hero.He} looked <everywhere>, but {hero.he} only found <thing_one>. <was_sad><p><helper>
        "other: {=hello}! You can have <things>," it said. So they made the {toy}. It was {x=look_thing},
        {y=look_thing!x} and {=look_thing!x!y}. "kin: <thanks>" said {hero}'s {kin}. <joy><p>The moral is: a gift you
        make is better than <things>.

party_plot =
    <one_day> {hero.he} had a party with <foods>. But no one came. <was_sad> "hero: {=oh}! Where are my friends?" cried
        {hero}.<p>Then {p=girl!hero} came with <things>. Then {q=boy!hero} came with <things>. Then <an_animal> came
        with <foods>. "hero: {=yay}! You are all here!" said {hero}. They <did>, and they ate <foods>.<p>The moral is:
        a friend who is <nice> will come.

learn_plot =
    {hero.He} could {x=verb}, {y=verb!x} and {z=verb!x!y}, but {hero.he} could not {act=feat!x!y!z}. <one_day>
        {hero.he} tried <somewhere>, but {hero.he} fell with a {x=sound}, a {y=sound!x} and a {=sound!x!y}. <was_sad>
        "hero: {=oh}! I can not {act}!" cried {hero}.<p><helper> "other: {=hello}! First you {x=verb!act}, then you
        {y=verb!act!x} and then you {=verb!act!x!y}," it said. {hero} tried <everywhere>. At last, {hero.he} could
        {act}! "other: {=yay}! You are <nice>," said the {other}. <joy><p>The moral is: be <nice>, and try again.

shop_plot =
    <one_day> {hero}'s <kin> said, "kin: Please get <foods>." {hero.He} went to the shop. <saw> But then <an_animal>
        ate the list! <was_sad> "hero: {=oh}! Was it <food_one> or <food_two>?" cried {hero}.<p><helper> "other:
        {=hello}! You can have <foods>," it said. {hero} took it all home, with <things>. "kin: <thanks>" said
        {hero.his} {kin}. Then they ate <foods>.<p>The moral is: a friend who is <nice> is better than <foods>.

friend_plot =
    <one_day> {hero.he} went to the {=place}. <saw> Then {hero.he} met {m=nature.a}, {=nature!m} <pal>. "hero:
        {=hello}! Do you like to <deeds>?" {hero.he} said. "pal: I can <deeds>," said {pal}.<p>So they <did>. Then they
        sat <somewhere> and ate <foods>. {hero} gave {pal.him} <things>, and {pal} gave {hero.him} <things>. "pal:
        <thanks>" said {pal}. They were <happy>.<p>The moral is: be <nice> to a new friend.

pal =
    girl named {pal=girl!hero}
    boy named {pal=boy!hero}
"""
