"""The ten plots: what goes wrong, who helps, and what is learned.

In: nothing.  Out: `PLOTS`, rules in the notation of `notation`; they build on the shared rules of `phrases`.

The surprising decision: no sentence rule is used at two places of one plot, so no story can repeat a sentence frame by
accident and the grammar needs no memory of what it has said.
"""

PLOTS = """
own_toy =
    {hero.His} favorite toy was {l=trait.a}, {c=color} {toy=toy}.
    {hero.He} had {l=trait.a} {=color} {toy=toy} that was as {=look!l} as {=look.a} {=trifle}.
    {hero.His} {=praise} <kin> gave {hero.him} {l=look.a}, {=look!l} {toy=toy} with {=look.a} {=trifle} on it.
    Most of all, {hero.he} loved {hero.his} {l=look}, {=look!l} {toy=toy}.

lost_plot =
    <own_toy><p><when> {hero} took the {toy} to the <a_place>. [<saw> |]<gone> <felt_bad> <lost_cry><p><helper> <search> <found> <yay_found> [<thanks>|<supper>|<thanks> <supper>]<moral> <lost_moral>

gone =
    But when {hero.he} stopped to {=activity}, the {toy} was gone!
    {hero.He} {x=activity.past} and {=activity.past!x}, and then the {toy} was [gone|lost]!
    While {hero.he} looked at {=creature.a} {=critter}, the {toy} fell out of {hero.his} {=look} [bag|pocket|basket].
    But {=creature.a} {=critter} {=went} by, and [soon|then] the {toy} was nowhere to be seen.

lost_cry =
    "hero: {=oh}! [Where is my {toy}?|I lost my {toy}!|My {toy} is gone!]" <bad_said>
    "hero: {=oh}, I cannot find my {=look} {toy}," <bad_said>

helper =
    {=nature.A} {other=helper@hero!species} heard {hero.him} and came [to help|over]. <offer>
    {=then}, {=nature.a} {other=helper@hero!species} with {=color.a} {=clothes} {=went} by. <offer>
    {=nature.A} {other=helper@hero!species} saw that {hero} was {=sorry}. <offer>

offer =
    "other: Do not [worry|cry], {hero}. [I will help you look|We can find it together]," <other_said>
    "other: Let us look {=carefully}. I have {=idea.a} idea where it [is|can be]," <other_said>
    "other: What is wrong?" asked the {other}. "hero: My {toy} is lost," <bad_said>

search =
    They looked <under> the {=look} {x=near@place} and <under> the {=look} {y=near@place!x}. <only>
    They {=carefully} looked <under> the {=look} {x=near@place}. <only>
    They looked <under> the {=look} {x=near@place}, the {=look} {y=near@place!x}, and the {=look} {=near@place!x!y}. <only>

only =
    They saw {=look.a} {x=trifle} and {=look.a} {=trifle!x}, but no {toy}.
    There was only {=look.a} {x=trifle}, {=look.a} {y=trifle!x}, and {=look.a} {=trifle!x!y}.
    All they saw was {=creature.a} {=critter} with {=look.a} {=trifle}.

found =
    {=then}, {hero} [looked|peeked] <under> {=look.a} {=near@place!x}. There was the {toy}!
    {=at_last}, the {other} pointed at {=look.a} {=near@place!x}. The {toy} was <under> it!
    {=then}, {=creature.a} {=critter} came out with the {toy} from behind {=look.a} {=near@place!x}!

yay_found =
    "hero: {=yay}! [I found my {toy}!|My {toy} is back!|Here it is!]" <good_said>
    "hero: {=yay}! It is [still|only a bit] {=look}!" <good_said>
    <felt_good>

lost_moral =
    {=virtue} can help us find what we lose.
    we should take care of our {l=look} and {=look!l} things.
    a [friend|helper] who is {n=nature} and {=nature!n} makes a {=sorry} day {=glad}.
    it is good to ask for help when we feel {s=sorry} or {=sorry!s}.

broken_plot =
    <own_toy><p><when> {hero} played with the {toy} <at_place>. <breaks> <felt_bad> <broken_cry><p><mend_help> <mend> <mended> [<felt_good>|<thank_kin>|<thank_kin> <felt_good>] [<supper>|<play_on>]<moral> <broken_moral>

breaks =
    {hero.He} {x=activity.past} too [fast|close], and the {toy} fell and broke [near|next to] {=look.a} {=near@place}.
    The {toy} hit {=look.a} {=near@place} with a {=eerie} {=noise}, and [a part|a piece] came off.
    {=then}, {=creature.a} {=critter} bumped into {hero.him}, and the {toy} broke with {=eerie.a} {=noise}.

broken_cry =
    "hero: {=oh}! [My {toy} is broken!|I broke my {toy}!|Look at my {toy}!]" <bad_said>
    "hero: {=oh}, now my {=look} {toy} is [broken|in two pieces]," <bad_said>

mend_help =
    {hero} took the {toy} to {hero.his} {=praise} <kin>. <kin_offer>
    {hero.His} <kin> stopped [baking|making] {=taste} {=dish} and came to see. <kin_offer>
    {hero.His} {=praise} <kin> heard the {=noise} and came in {=color.a} {=clothes}. <kin_offer>

kin_offer =
    "kin: Do not [cry|worry]. We can fix it with {x=mender} and {=mender!x}," <kin_said>
    "kin: I am not {=sorry}, I am [here|glad] to help. Bring me {=mender} and {=look.a} {=trifle}," <kin_said>
    "kin: [What happened|How did it break]?" asked {hero.his} {kin}. "hero: I {=activity.past} too [fast|close]. [I am sorry|Can we fix it]," <bad_said>

mend =
    They worked {=carefully} with {x=mender}, {y=mender!x}, and {=color} {=mender!x!y}.
    First they used {=mender}, then {=look.a} {=trifle}, and then [some|a bit of] {=color} {=mender}.
    {hero} held the {toy} {=carefully}, and {hero.his} {kin} put {=color} {=mender} on it.

mended =
    {=then}, the {toy} was {l=look} and {=look!l} again.
    The {toy} now had {=trait.a} {=color} patch and was [even more|still] {=look}.
    When it was done, the {toy} looked {l=trait}, {=color}, and {=look!l}.

thank_kin =
    "hero: {=yay}! [Thank you|You did it]! It is so {l=look} and {=look!l}!" <good_said>
    {hero} gave {hero.his} {kin} [a big hug|a kiss] and {=taste.a} {=snack}.
    "hero: Thank you, {kin}. You are {n=praise} and {=praise!n}," <good_said>

play_on =
    They played with the {toy} and {x=activity.past} [all day|until dark].
    {=then}, {hero} {x=activity.past} with the {toy} <under> {=look.a} {=near@place}.

broken_moral =
    [a broken thing|a broken toy] can be {l=look} again with {=virtue}.
    {=virtue} and some {x=mender} can fix {=look.a} [toy|thing].
    we should tell the truth even when we are {s=sorry} or {=sorry!s}.
    we should play {=carefully} with {l=look} things.

shy_plot =
    <p><when> {hero} [went|walked] to the <a_place>. [<saw> |]<newcomer> <shy_look> <greet><p><answer> <invite> <play> [<share_toy>|<felt_good>]<moral> <shy_moral>

newcomer =
    There {hero.he} saw a [shy|quiet] new friend named {friend=pal@hero!hero}, who sat [alone |]<under> {=look.a} {near=near@place}.
    {friend=pal@hero!hero} was new there and stood <under> {=look.a} {near=near@place} with {=look.a} {=trifle}.
    A newcomer named {friend=pal@hero!hero} was there, with {=color.a} {c=clothes} and {=look.a} {=trifle}.

shy_look =
    {friend} looked {s=sorry} and {=sorry!s}.
    {friend} did not [talk|speak] and hid behind {=trait.a} {=color} {=clothes}.
    {friend} held {=look.a} {=toy} and looked [down|away] {=sadly}.

greet =
    "hero: {=hello}! [I am|My name is] {hero}. Do you like to {x=activity}?" {hero} asked {=kindly}.
    "hero: {=hello}! I like your {=look} {=clothes}. Can you {x=activity}?" {hero} asked {=kindly}.

answer =
    "friend: {=hello}, I am {friend}. I like to {x} and {=activity!x}," said {friend} {=sadly}.
    "friend: [Yes, a little|Not very well|Yes, I can], but I am {=sorry}," {friend} [said|whispered] {=sadly}.
    {friend} [nodded|smiled a bit]. "friend: Yes, but I feel {=sorry} here," {friend.he} said {=sadly}.

invite =
    "hero: [I was {=sorry} once too|That is all right]. Let us {y=activity!x} and {=activity!x!y} together," said {hero} {=kindly}.
    "hero: Come with me! I know {=scene.a} {=outdoor} where we can {y=activity!x}," said {hero} {=gladly}.
    {hero} gave {friend} {=taste.a} {=snack}. "hero: We can share and then {y=activity!x}," {hero} said {=kindly}.

play =
    They {x=activity.past}, {y=activity.past!x}, and {=activity.past!x!y} <under> {=look.a} {=near@place!near}.
    They made {=look.a} {=picture} out of {x=mender}, {=mender!x}, and {=look.a} {=trifle}.
    They played with {=look.a} {x=toy} and {=look.a} {=toy!x} [all day|until dark].

share_toy =
    {friend} let {hero} hold {=trait.a} {=color} {x=toy}, and {hero} gave {friend} {=look.a} {=trifle}.
    "friend: You are {n=praise} and {=praise!n}, {hero}," said {friend}, and now {friend.he} was {=glad}.
    {=then}, {friend} was not {=sorry} any more but {g=glad} and {=glad!g}.

shy_moral =
    {=nature.a} hello can make {=sorry.a} [heart|friend] {=glad}.
    a shy friend can be {n=nature} and {=nature!n}.
    {=virtue} and {=virtue} turn strangers into friends.
    it is {=idea} to be {n=nature} to someone new.

rain_plot =
    {hero.He} wanted to {x=activity} [at|near] the {=scene} {=landmark}.<p><rain_starts> <rain_sees> <felt_bad> <rain_cry><p><rain_idea> <rain_do> [<rain_more>|<felt_good>] <rain_end><moral> <rain_moral>

rain_starts =
    But one {=wet} [day|morning|afternoon], [rain fell|it rained] on the {l=look} {=abode@hero} and the {=look} {=plant}.
    But then {w=wet}, {=wet!w} rain began with {=eerie.a} {=noise}.
    But that {=weather} [day|morning] ended in {w=wet}, {=wet!w} rain.

rain_sees =
    Outside, {=creature.a} {c=critter} and {=creature.a} {=critter!c} hid <under> {=look.a} {=landmark}.
    {hero} looked at the {=wet} sky and saw {=creature.a} {=critter} [by|near] {=look.a} {=landmark}.
    The {=scene} [street|path|yard] was wet, and {=look.a} {=plant} and {=look.a} {=landmark} were [wet|dripping] too.

rain_cry =
    "hero: {=oh}, I cannot {x} in the {=wet} rain," <bad_said>
    "hero: {=oh}! This is {=sorry.a} [day|morning]. What can I do?" <bad_said>

rain_idea =
    {hero.His} {=praise} <kin> came with {=look.a} {r=trifle} and {=look.a} {=trifle!r}. <indoor_plan>
    {hero.His} <kin> smiled {=kindly} and found {=look.a} {=trifle}. <indoor_plan>

indoor_plan =
    "kin: I have {=idea.a} idea. We can make {=look.a} {m=picture}," <kin_said>
    "kin: We can {y=activity!x} inside and make {=trait.a}, {=color} {m=picture}," <kin_said>
    "kin: Let us turn this {=wet} day into {=idea.a} one and build {=look.a} {m=picture}," <kin_said>

rain_do =
    They took {x=mender}, {y=mender!x}, and {=look.a} {=trifle}, and soon the {m} was {l=look} and {=look!l}.
    They used {=color} {x=mender} and {=color} {=mender!x}, and {hero} put {=look.a} {=trifle} on top.
    They built the {m} <under> {=look.a} {=furniture}, with {=look.a} {=trifle} for [a door|an eye|a hat].

rain_more =
    They ate {t=taste} {x=dish} and {=taste.a} {=snack} inside it.
    {=then}, they {x=activity.past} like {=creature.a} {=critter} and {=activity.past!x} like {=nature.a} {=picture!m}.
    "hero: {=yay}! [This is|It looks] {i=idea}!" <good_said>

rain_end =
    When the sun came out, {=look.a} {=idea} rainbow stood over the {=scene} {=landmark}.
    At last the rain stopped, and they {x=activity.past} [in|through] {=look.a} puddle with {=creature.a} {=critter}.
    The rain stopped, but {hero} wanted to stay in and {=activity} more.

rain_moral =
    {=wet.a} day can be {=idea} with {=nature.a} [friend|family].
    {=idea.a} idea can chase the {w=wet}, {=wet!w} rain away.
    we can be {g=glad} and {=glad!g} in any weather.
    with {v=virtue} and {=virtue!v}, no day is too {=wet}.
"""
