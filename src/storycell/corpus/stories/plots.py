"""Four of the ten plots: a toy lost, a toy broken, a shy new friend, a rainy day.

In: nothing.  Out: `PLOTS`, rules in the notation of `notation`; they build on the shared rules of `phrases`.

The surprising decision: no sentence rule is used at two places of one plot, so no story can repeat a sentence frame by
accident and the grammar needs no memory of what it has said.
"""

PLOTS = """
own_toy =
    {hero}'s favorite toy was {l=trait.a}, {=color} {toy=toy}.
    {hero} had {l=look.a} {toy=toy} that was as {=look!l} as {=look.a} {=trifle!toy}.
    {hero}'s {=praise} <kin> [once |]{=gave} {hero.him} {l=look.a}, {=look!l} {toy=toy} with {=look.a} {=trifle!toy}
        on it.
    Most of all, {hero} loved {hero.his} {l=look}, {=look!l} {toy=toy}.

lost_plot =
    <own_toy> <when> {hero.he} {=took} it to the <a_place>. <saw> <gone> <felt_bad> <lost_cry><p><helper> <search>
        <found> [<yay_found>|<felt_good>] [<thanks>|<supper>|<thanks> <supper>]<moral> <lost_moral>

gone =
    But {hero.he} stopped {=by} {=look.a} {y=near@place} to {x=activity} and {=activity!x}, and it [was gone|got
        lost]!
    {hero.He} {x=activity.past} and {=activity.past!x} {=by} {=look.a} {y=near@place}, and then the {toy} was
        [gone|lost]!
    While {hero.he} {=went} after {=creature.a} {=critter}, the {toy} fell out of {hero.his} {=look} {=box}.
    But {a=creature.a} {x=critter} and {=creature.a!a} {=critter!x} {=went} by, and then it was [gone|lost].

lost_cry =
    "hero: {=oh}! [Where is my {toy}?|I lost my {toy}!|My {toy} is gone!]" <bad_said>
    "hero: {=oh}, I cannot find my {l=look}, {=look!l} {toy}," <bad_said>

helper =
    {=nature.A} {other=helper@hero!species} heard {hero.him} and {=went} over. <offer>
    {=then}, {=nature.a} {other=helper@hero!species} with {=look.a} {=clothes} {=went} by. <offer>
    {=then}, {=nature.a} {other=helper@hero!species} saw that {hero} was {=sorry}. <offer>

offer =
    "other: {=hello}! Do not be {s=sorry} or {=sorry!s}. I [can|will|want to] help," <other_said>
    "other: Let us look {=carefully} {=by} {=look.a} {y=near@place}," <other_said>
    "other: {=hello}! [What is wrong?|Why are you {=sorry}?]" asked the {=praise} {other}. "hero: My {l=look},
        {=look!l} {toy} is lost," <bad_said>

search =
    They {=looked} {=by} the {a=look} {x=near@place} and {=by} the {=look!a} {y=near@place!x}. <only>
    They {=carefully} {=looked} {=by} the {=look} {x=near@place}. <only>
    They {=looked} {=by} the {a=look} {x=near@place}, the {b=look!a} {y=near@place!x}, and the {=look!a!b}
        {=near@place!x!y}. <only>

only =
    They {=found} {a=look.a} {z=trifle!toy} and {=look.a!a} {=trifle!toy!z}, but no {toy}.
    There was only {a=look.a} {z=trifle!toy}, {b=look.a!a} {w=trifle!toy!z}, and {=look.a!a!b} {=trifle!toy!z!w}.
    All they saw was {=creature.a} {=critter!species!other} with {=look.a} {=trifle!toy}.

found =
    {=at_last}, {=by} {a=look.a}, {=look!a} {=near@place!x}, {hero} {=found} the {toy}!
    {=at_last}, the {=praise} {other} {=found} it {=by} {a=look.a}, {=look!a} {=near@place!x}!
    {=at_last}, {=creature.a} {=critter!species!other} {=took} the {toy} out from behind {=look.a} {=near@place!x}!

yay_found =
    "hero: {=yay}! [I found my {toy}!|My {toy} is back!|Here it is!]" <good_said>
    "hero: {=yay}! It is still {l=look} and {=look!l}!" <good_said>

lost_moral =
    {v=virtue} and {=virtue!v} can help us find {=look.a} {=trifle}.
    we should take care of {l=look.a}, {=look!l} {=trifle}.
    {n=praise.a}, {=praise!n} [friend|helper] makes {=ill.a} day {=glad}.
    {=praise.a} friend can help us find {a=look.a}, {=look!a} {=trifle}.

broken_plot =
    <own_toy> <when> {hero.he} played with it <at_place>. <breaks> <felt_bad> <broken_cry><p><mend_help> <mend>
        <mended> [<felt_good>|<thank_kin>|<thank_kin> <felt_good>] [<supper>|<play_on>]<moral> <broken_moral>

breaks =
    {hero.He} {x=activity.past} and {=activity.past!x}, and then it broke {=by} {a=look.a}, {=look!a} {=near@place}.
    The {toy} hit {=look.a} {=near@place} with {=eerie.a} {=noise}, and [a part|a piece] came off.
    {=then}, {=creature.a} {=critter} {=went} into {hero.him}, and the {toy} broke with {=eerie.a} {=noise}.

broken_cry =
    "hero: {=oh}! [My {toy} is broken!|I broke my {toy}!|Look at my {toy}!]" <bad_said>
    "hero: {=oh}, now my {=look} {toy} is [broken|in two|{=look}]," <bad_said>

mend_help =
    {hero} {=took} it to {hero.his} {=praise} <kin>, who sat {=by} {=look.a} {=near@place}. <kin_offer>
    {hero}'s <kin> was [baking|making] {=taste} {=dish} but {=went} over to see. <kin_offer>
    {hero}'s {=praise} <kin> heard the {=noise} and {=went} over in {=look.a} {=clothes}. <kin_offer>

kin_offer =
    "kin: We can fix it with {=color} {x=mender}, {y=mender!x}, and {=look.a} {=trifle!toy}," <kin_said>
    "kin: I have {=idea.a} idea. Bring me {=mender} and {=look.a} {=trifle!toy}," <kin_said>
    "kin: Do not be {s=sorry} or {=sorry!s}. [We|You and I] can fix it with {=color} {=mender}," <kin_said>

mend =
    They worked {=carefully} with {x=mender}, {y=mender!x}, and {=color} {=mender!x!y}.
    First they used {x=mender}, then {=look.a} {=trifle!toy}, and then {=color} {=mender!x}.
    {hero.His} {kin} {=carefully} put {c=color} {x=mender} and {=color!c} {=mender!x} on it.

mended =
    {=at_last}, the {toy} was {l=look} and {=look!l} again.
    {=at_last}, the {toy} had {=trait.a} {=color} patch and was [even more|still] {=trait}.
    {=at_last}, the {toy} looked {l=trait}, {=color}, and {=trait!l}.

thank_kin =
    "hero: {=yay}! [Thank you|You did it]! It is {=very} {l=look} and {=look!l}!" <good_said>
    {hero} {=gave} {hero.his} {kin} {=look.a} {=trifle!toy} and {=taste.a} {=snack}.
    "hero: Thank you, {kin}. You are {=very} {n=praise} and {=praise!n}," <good_said>

play_on =
    They {=took} it to {=scene.a} {=outdoor} and {x=activity.past} and {=activity.past!x}.
    {=then}, {hero} {x=activity.past} and {=activity.past!x} with it {=by} {=look.a} {=near@place}.

broken_moral =
    {v=virtue} and {=virtue!v} can mend {a=look.a}, {=look!a} {=trifle}.
    {=virtue} and {x=color} {=mender} can fix {=look.a} {=trifle}.
    {=praise.a} [helper|friend] can fix {a=look.a}, {=look!a} {=trifle}.
    we should {x=activity} {=carefully} with {=look.a} {=trifle}.

shy_plot =
    <when> {hero} {=went} to the <a_place>. <saw> <newcomer> <shy_look> <greet><p><answer> <invite> <play>
        [<share_toy>|<felt_good>|<share_toy> <felt_good>]<moral> <shy_moral>

newcomer =
    There {hero.he} {=spotted} a [shy|quiet|new] friend named {friend=pal@hero!hero}, who sat [alone |]{=by} {=look.a}
        {near=near@place}.
    {friend=pal@hero!hero} was new there and stood {=by} {=look.a} {near=near@place} with {=look.a} {=trifle}.
    A newcomer named {friend=pal@hero!hero} was there, with {=look.a} {c=clothes} and {=look.a} {=trifle}.

shy_look =
    {friend} looked {=rather} {s=sorry} and {=sorry!s}.
    {friend} did not [talk|speak] and hid behind {=trait.a} {=color} {=clothes}.
    {friend} held {=look.a} {=trifle} and looked [down|away] {=sadly}.

greet =
    "hero: {=hello}! Do you like to {x=activity} or {=activity!x}?" asked {=praise} {hero} {=kindly}.
    "hero: {=hello}! I like your {=trait} {=color} {=clothes}. Can you {x=activity}?" asked {hero} {=kindly}.

answer =
    "friend: {=hello}! I like to {x}, {y=activity!x}, and {=activity!x!y}," {=told} {=sorry} {friend} {=sadly}.
    "friend: [Yes|No], but I am {=rather} {s=sorry} and {=sorry!s}," {friend} {=moaned} {=sadly}.
    {friend} held {=look.a} {=trifle}. "friend: Yes, but I feel {=sorry} here," {friend.he} {=moaned} {=sadly}.

invite =
    "hero: I was {s=sorry} and {=sorry!s} once too. Let us {y=activity!x} and {=activity!x!y} together," <good_said>
    "hero: Come! I know {=scene.a} {=outdoor} where we can {y=activity!x} and {=activity!x!y}," <good_said>
    {hero} {=gave} {friend} {=taste.a} {=snack}. "hero: Let us {y=activity!x} and {=activity!x!y}," <kind_said>

play =
    They {x=activity.past}, {y=activity.past!x}, and {=activity.past!x!y} {=by} {=look.a} {=near@place!near}.
    They made {=look.a} {=picture} out of {x=mender}, {=mender!x}, and {=look.a} {=trifle}.
    They played with {a=look.a} {x=toy} and {=look.a!a} {=toy!x} [all day|until dark|for hours].

share_toy =
    {friend} {=gave} {hero} {a=look.a} {x=trifle}, and {hero} {=gave} {friend} {=look.a!a} {=trifle!x}.
    "friend: You are {=very} {n=praise} and {=praise!n}, {hero}," {=cheered} {friend} {=gladly}.
    {=at_last}, {friend} was not {=sorry} any more but {g=glad} and {=glad!g}.

shy_moral =
    {=praise.a} hello can make {=sorry.a} [heart|friend] {=glad}.
    {=sorry.a} friend can be {n=praise} and {=praise!n}.
    {v=virtue} and {=virtue!v} turn {=sorry.a} stranger into {=praise.a} friend.
    it is {=idea} to be {n=praise} to {=sorry.a} newcomer.

rain_plot =
    {hero} {=loved} to {x=activity} and {=activity!x} {=by} {=scene.a} {=outdoor}. <rain_starts> <rain_sees>
        <felt_bad> <rain_cry><p><rain_idea> <rain_do> [<rain_more>|<felt_good>|<rain_more> <felt_good>]
        <rain_end><moral> <rain_moral>

rain_starts =
    But one {=wet} {=time}, [rain fell|it rained] on {=look.a} {=plant} and {hero.his} {=look} {=abode@hero}.
    But then {w=wet}, {=wet!w} rain began with {=eerie.a} {=noise}.
    But that {=weather} {=time} ended in {w=wet}, {=wet!w} rain.

rain_sees =
    Outside, {a=creature.a} {c=critter} and {=creature.a!a} {=critter!c} hid {=by} {=look.a} {=landmark}.
    In the {=wet} [rain|yard|mud], {hero.he} {=spotted} {=creature.a} {=critter} {=by} {=look.a} {=landmark}.
    Outside, {a=look.a} {=plant} and {b=look.a!a} {=landmark} got {=rather} [wet|cold].

rain_cry =
    "hero: {=oh}, I cannot {x=activity} in the {=wet} rain," <bad_said>
    "hero: {=oh}! What {a=ill.a}, {=ill!a} {=time}!" <bad_said>

rain_idea =
    {hero}'s {=praise} <kin> {=went} in with {a=look.a} {r=trifle} and {=look.a!a} {=trifle!r}. <indoor_plan>
    {hero}'s <kin> [smiled|nodded|laughed] {=kindly} and found {=look.a} {=trifle}. <indoor_plan>

indoor_plan =
    "kin: I have {=idea.a} idea. We can make {=look.a} {m=picture}," <kin_said>
    "kin: We can {y=activity} inside and make {=trait.a}, {=color} {m=picture}," <kin_said>
    "kin: Let us make this {=wet} day {=idea} and build {=look.a} {m=picture}," <kin_said>

rain_do =
    They {=took} {x=mender}, {=mender!x}, and {=look.a} {=trifle}, and soon the {m} was {l=look} and {=look!l}.
    They used {c=color} {x=mender} and {=color!c} {=mender!x}, and {hero} put {=look.a} {=trifle} on top.
    They built it {=by} {=look.a} {=furniture}, with {=look.a} {=trifle} for [a door|an eye|a hat|a head].

rain_more =
    They {=ate} {t=taste} {x=dish} and {=taste.a!t} {=snack} inside it.
    They {x=activity.past} like {=creature.a} {=critter} and {=activity.past!x} like {=nature.a} {=picture!m}.
    "hero: {=yay}! [This is|It looks] {=very} {i=idea}!" <good_said>

rain_end =
    {=at_last}, {=trait.a} rainbow stood over {=look.a} {=landmark}, and they {=activity.past}.
    {=at_last}, the rain stopped, and they {=activity.past} [in|by|near|around|through] [a big|a deep|a muddy|an icy|a
        cold|a wide] puddle
        with {=creature.a} {=critter}.
    {=at_last}, the {=wet} rain stopped, but they stayed in and {x=activity.past} and {=activity.past!x}.

rain_moral =
    {=wet.a} day can be {=idea} with {=praise.a} [friend|family].
    {=idea.a} idea can chase {w=wet}, {=wet!w} rain away.
    we can be {g=glad} and {=glad!g} on {=wet.a} day.
    with {v=virtue} and {=virtue!v}, no day is too {=wet}.
"""
