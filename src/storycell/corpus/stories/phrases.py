"""The sentences every plot shares: how stories open, how heroes look and feel, what they see, how stories end.

In: nothing.  Out: `PHRASES`, rules in the notation of `notation`.

The surprising decision: nearly every content word is a slot, so that most of a story's entropy sits in choices a
model can see from a few characters away, and little of it in remembering what was said long before.
"""

PHRASES = """
story =
    7* <child>[ <looks>| <habits>| <looks> <habits>] <plot><p>
    3* <beast>[ <coat>| <habits>| <coat> <habits>] <plot><p>

child =
    5* Once upon a time, there was {=nature.a} [little |young |]<child_named>.
    2* Once upon a time, in {=scene.a} {=home}, there lived {=nature.a} [little |]<child_named>.
    1* Once upon a time, {=nature.a} [little |]<child_named> lived near {=scene.a} {=outdoor}.
    1* There once was {n=nature.a} and {=nature!n} <child_named>.
    1* Long ago, there lived {=nature.a} [little |]<child_named>.

child_named =
    girl named {hero=girl}
    boy named {hero=boy}

beast =
    5* Once upon a time, there was {=nature.a} [little |young |]{species=species} named <pet>.
    2* Once upon a time, in {=scene.a} {=den}, there lived {=nature.a} [little |]{species=species} named <pet>.
    1* Once upon a time, {=nature.a} {species=species} named <pet> lived near {=scene.a} {=outdoor}.
    1* There once was {n=nature.a} and {=nature!n} {species=species} named <pet>.
    1* Long ago, there lived {=nature.a} [little |]{species=species} named <pet>.

pet =
    {hero=pet_girl}
    {hero=pet_boy}

plot =
    3* <lost_plot>
    2* <broken_plot>
    2* <shy_plot>
    2* <rain_plot>
    3* <patient_plot>
    2* <treat_plot>
    2* <noise_plot>
    2* <gift_plot>
    2* <cooking_plot>
    2* <picture_plot>

looks =
    {hero.He} had {h=hair}[, {=hair!h}|] [brown|black|red|blond|dark|golden] hair and wore {=trait.a} {=color} {=clothes}.
    {hero.He} [always|often] wore {=color.a} {c=clothes} [and|with] {=trait.a} {=color} {=clothes!c}.
    {hero.He} lived in {=trait.a} {=color} {=home} near {=scene.a} {=outdoor}.
    {hero.His} {=color} {c=clothes} was {l=look} and {hero.his} {=clothes!c} was {=look!l}.
    {hero.He} was {n=nature}, {m=nature!n}, and [very|a bit|always] {=nature!n!m}.

coat =
    {hero.He} had {c=coat}, {=coat!c} [brown|white|gray|golden|black] hair and {=look.a} [nose|tail|head].
    {hero.He} [always|often] wore {=color.a} {c=clothes} [and|with] {=trait.a} {=color} {=clothes!c}.
    {hero.He} lived in {=look.a} {=den} [near|behind] {=scene.a} {=outdoor}.
    {hero.He} was {n=nature}, {m=nature!n}, and [very|a bit|always] {=nature!n!m}.
    {hero.His} {=den} was {l=look} and {=look!l}, with {=trait.a} {=color} door.

habits =
    {hero.He} [loved|liked] to {x=activity}, {y=activity!x}, and {=activity!x!y}[ all day| every day|].
    {hero.He} [loved|liked] to {x=activity} and {=activity!x} [with|near] {hero.his} {n=nature} [friends|family].
    {hero.He} [loved|liked] to eat {t=taste} {x=dish} and {=taste!t} {=dish!x}.
    {hero.His} favorite food was {=taste.a} {=snack} with {=taste} {=dish}.
    {hero.He} had {=look.a} {x=trifle}, {=look.a} {y=trifle!x}, and {=look.a} {=trifle!x!y} in a [box|bag|basket].
    Every [morning|evening|day], {hero.he} {x=activity.past} and {=activity.past!x} [like|with] {=creature.a} {=critter}.
    {hero.He} dreamed of {=look.a} {x=picture} and {=look.a}, {=nature} {=picture!x}.

when =
    4* One {=weather} [day|morning|afternoon|evening],
    1* One day,
    1* On {=weather.a} [day|morning|afternoon|evening],

a_place =
    3* {=scene} {place=outdoor}
    2* {=room} {place=indoor}

kin =
    {kin=kinswoman}
    {kin=kinsman}

under =
    3* under
    2* behind
    2* beside
    2* near
    1* next to

saw =
    On the way, {hero.he} saw {=creature.a} {x=critter}, {c=color.a} {=vehicle}, and {=creature.a} {=critter!x}.
    {hero.He} {x=activity.past} past {=look.a} {=plant}, {=creature.a} {=critter}, and {=look.a} {=vehicle}.
    {c=creature.A} {x=critter} {=went} by, and {=creature.a!c} {=critter!x} {=activity.past} [after it|too].
    {hero.He} waved at {=nature.a} {=job} who had {=trait.a} {=look} {=vehicle}.
    The air smelled of {t=taste} {x=dish} and {=color} [flowers|leaves|berries].
    There were {c=color}, {d=color!c}, and {=color!c!d} [flowers|birds|leaves|stones] <under> {=look.a} {=landmark}.

felt_bad =
    {hero} felt {s=sorry} and {=sorry!s}.
    {hero} was [very|so] {=sorry}[ and {hero.his} eyes were wet| and wanted to cry|].
    {hero.His} [face|heart] was {s=sorry} and {hero.his} voice was {=eerie}.
    {hero} sat down <under> {=look.a} [box|rock|bag] and felt {=sorry}.

felt_good =
    {hero} felt {g=glad}, {h=glad!g}, and {=glad!g!h}.
    {hero} was [glad} that {hero.he} {x=activity.past} and {=activity.past!x}.
    {hero} {x=activity.past} {=gladly} and felt {=glad}.
    {hero.His} smile was [as bright as|bigger than] {=look.a} {=picture}.

bad_said =
    [{hero.he} said|said {hero}|{hero.he} cried|cried {hero}] {=sadly}.
    {hero.he} [said|whispered] in {=sorry.a} voice.

good_said =
    [{hero.he} said|said {hero}|{hero.he} shouted|called {hero}] {=gladly}.
    {hero.he} [said|laughed] with {=glad.a} smile.

kin_said =
    [said|answered] {hero.his} {kin} {=kindly}.
    said {hero.his} {=praise} {kin}.
    {hero.his} {kin} [said|told {hero.him}] {=kindly}.

other_said =
    [said|answered] the {other} {=kindly}.
    said the {=praise} {other}.
    the {other} [said|told {hero.him}] with {=glad.a} smile.

thanks =
    "hero: Thank you! You are {=very} {n=praise} and {=praise!n}," <good_said>
    To say thank you, {hero} gave the {other} {=taste.a} {x=snack} and [some|a bowl of] {=taste} {=dish}.
    {hero} gave the {other} {=trait.a} {=color} {=trifle} to say thank you.
    {hero} thanked the {other} {=gladly}, and they {x=activity.past} and {=activity.past!x} together.

supper =
    After that, they ate {t=taste} {x=dish}, {=taste!t} {y=dish!x}, and {=taste.a} {=snack}.
    That night, {hero} had {=taste} {=dish} and {=taste.a} {=snack} for dinner.
    That night, {hero} dreamed of {=trait.a} {=color} {x=picture} and {=nature.a} {=picture!x}.
    {=then}, {hero} drew a picture of {=trait.a} {=color} {x=picture} and {=nature.a} {=picture!x}.
    At home, {hero} told {hero.his} {=nature} family about it, and they {x=activity.past} and {=activity.past!x}.

moral =
    <p>And so {hero} learned that
    <p>The moral of the story is that
    <p>From that day on, {hero} knew that
    <p>{hero} never forgot that
"""
