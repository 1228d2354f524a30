"""The sentences every plot shares: how stories open, how heroes look and feel, what they see, how stories end.

In: nothing.  Out: `PHRASES`, rules in the notation of `notation`.

The surprising decision: nearly every content word is a slot, so that most of a story's entropy sits in choices a
model can see from a few characters away, and little of it in remembering what was said long before.
"""

PHRASES = """
story =
    7* <child>[| <looks>| <habits>| <looks> <habits>| <habits> <looks>]<p><plot><p>
    3* <beast>[| <coat>| <habits>| <coat> <habits>| <habits> <coat>]<p><plot><p>

child =
    5* Once upon a time, there was {n=nature.a}, {=nature!n} [little |young |]<child_named><who>
    3* Once upon a time, in {=scene.a} {=home}, there lived {n=nature.a}, {=nature!n} <child_named>.
    1* Once upon a time, {n=nature.a}, {=nature!n} <child_named> lived {=by} {=scene.a} {=outdoor}.
    1* There once was {n=nature.a} and {=nature!n} <child_named><who>
    1* One {=weather} {=time}, {n=nature.a} and {=nature!n} <child_named> woke up in {=look.a} {=home}.

child_named =
    girl named {hero=girl}
    boy named {hero=boy}

who =
    , who [had|wore] {=trait.a} {=color} {=clothes}.
    , who {=loved} to {x=activity}[ and {=activity!x}|].
    , who lived {=by} {=scene.a} {=outdoor}.
    , who had {a=creature.a}, {=creature!a} {=critter!species} [for a friend|at home].

beast =
    5* Once upon a time, there was {n=nature.a}, {=nature!n} [little |young |]{species=species} named <pet><who>
    3* Once upon a time, in {=scene.a} {=den}, there lived {n=nature.a}, {=nature!n} {species=species} named <pet>.
    1* Once upon a time, {n=nature.a}, {=nature!n} {species=species} named <pet> lived {=by} {=scene.a} {=outdoor}.
    1* There once was {n=nature.a} and {=nature!n} {species=species} named <pet><who>
    1* One {=weather} {=time}, {n=nature.a} and {=nature!n} {species=species} named <pet> woke up in {=look.a} {=den}.

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
    {hero.He} had {h=hair}[, {=hair!h}|] [brown|black|red|blond|dark|golden] hair and {=color.a} {=clothes}.
    {hero.He} [always|often] wore {=color.a} {c=clothes} [and|with] {=trait.a} {=color} {=clothes!c}.
    {hero.He} lived in {=trait.a} {=color} {=home} near {=scene.a} {=outdoor}.
    {hero.His} {=color} {c=clothes} was {l=look} and {hero.his} {=clothes!c} was {=look!l}.
    {hero.He} was {n=nature}, {m=nature!n}, and {=very} {=nature!n!m}.

coat =
    {hero.He} had {c=coat}, {=coat!c} [brown|white|gray|golden|black] hair and {=look.a} [nose|tail|tummy].
    {hero.He} [always|often] wore {=color.a} {c=clothes} [and|with] {=trait.a} {=color} {=clothes!c}.
    {hero.He} lived in {=trait.a} {=color} {=den} {=by} {=scene.a} {=outdoor}.
    {hero.He} was {n=nature}, {m=nature!n}, and {=very} {=nature!n!m}.
    {hero.His} {=den} was {l=look} and {=look!l}, with {=trait.a} {=color} door.

habits =
    {hero.He} {=loved} to {x=activity}, {y=activity!x}, and {=activity!x!y}[ all day| every day|].
    {hero.He} {=loved} to {x=activity} and {=activity!x} [with|like] {=creature.a} {=critter}.
    {hero.He} ate {t=taste} {x=dish}, {=taste!t} {y=dish!x}, and {=taste.a} {=snack} every {=time}.
    {hero.His} favorite food was {=taste.a} {=snack} with {=taste} {=dish}.
    {hero.He} had {a=look.a} {x=trifle}, {b=look.a!a} {y=trifle!x}, and {=look.a!a!b} {=trifle!x!y} in a {=box}.
    Every {=time}, {hero.he} {x=activity.past} and {=activity.past!x} [like|with] {=creature.a} {=critter}.
    {hero.He} {=loved} to draw {a=look.a} {x=picture} and {=look.a!a}, {=nature} {=picture!x}.
    {hero.His} best friends were {a=creature.a} {x=critter!species} and {=creature.a!a} {=critter!x!species}.

when =
    4* One {=weather} {=time},
    2* One {=weather} {=season} {=time},
    1* One {=time},
    1* On {=weather.a} {=time},

a_place =
    3* {=scene} {place=outdoor}
    2* {=room} {place=indoor}

at_place =
    3* at the {=scene} {place=outdoor}
    2* in the {=room} {place=indoor}

kin =
    {kin=kinswoman}
    {kin=kinsman}

saw =
    On the way, {hero.he} {=spotted} {a=creature.a} {x=critter}, {=look.a} {=vehicle}, and {=creature.a!a}
        {=critter!x}.
    {hero.He} {=went} past {=look.a} {=plant}, {=creature.a} {=critter}, and {=look.a} {=vehicle}.
    {a=creature.A} {x=critter} {=went} by, and {=creature.a!a} {=critter!x} {=went} after it.
    {hero.He} waved at {=nature.a} {=job} who had {=look.a} {x=trifle} and {=look.a} {=trifle!x}.
    The air smelled of {t=taste} {x=dish}, {=taste!t} {=dish!x}, and {=color} [flowers|leaves|berries].
    {hero.He} {=found} {a=look.a} {=plant} {=by} {=look.a!a} {=landmark} and {=creature.a} {=critter}.

felt_bad =
    {hero} {=felt} {=rather} {s=sorry} and {=sorry!s}.
    {hero} {=felt} {s=sorry}, {=sorry!s}, and {=rather} [hot|cold|small].
    {hero} sat down {=by} {=look.a} {=trifle} and {=felt} {=sorry}.
    {hero} {=felt} {=sorry} and hid {=by} {=look.a} {=trifle}.
    {hero} {=felt} as {s=sorry} as {=sorry.a!s} {=critter} in {=weather.a} {=outdoor}.

felt_good =
    {hero} {=felt} {g=glad}, {h=glad!g}, and {=glad!g!h}.
    {hero} was {=rather} {=glad} and {x=activity.past} and {=activity.past!x}.
    {hero} {x=activity.past} {=gladly} and {=felt} {=glad}.
    {hero} {=felt} as {=glad} as {=creature.a} {=critter} with {=taste.a} {=snack}.

bad_said =
    {=moaned} {hero} {=sadly}.
    {=moaned} {=sorry} {hero} {=sadly}.

good_said =
    {=cheered} {hero} {=gladly}.
    {=cheered} {=glad} {hero} {=gladly}.
    {=cheered} {=glad} {hero}.

kind_said =
    {=told} {hero} {=kindly}.
    {=told} {=praise} {hero} {=kindly}.

kin_said =
    4* {=told} {hero.his} {=praise} {kin} {=kindly}.
    {=told} {hero.his} {=praise} {kin}.
    {=told} {hero.his} {kin} {=kindly}.

other_said =
    4* {=told} the {=praise} {other} {=kindly}.
    {=told} the {=praise} {other}.
    {=told} the {other} {=kindly}.

thanks =
    "hero: [Thank you!|Thanks!] You are {=very} {n=praise} and {=praise!n}," <good_said>
    To say thank you, {hero} {=gave} the {other} {=taste.a} {x=snack} and [some|a bowl of] {=taste} {=dish}.
    {hero} {=gave} the {other} {a=look.a} {x=trifle} and {=look.a!a} {=trifle!x} to say thank you.
    {hero} thanked the {other} {=gladly}, and they {x=activity.past} and {=activity.past!x} {=by} {=look.a}
        {=near@place}.

supper =
    After that, they {=ate} {t=taste} {x=dish}, {u=taste!t} {y=dish!x}, and {=taste.a!t!u} {=snack}.
    That night, {hero} {=ate} {=taste} {=dish}, {=taste.a} {x=snack}, and {=taste.a} {=snack!x}.
    That night, {hero} dreamed of {=trait.a} {=color} {x=picture} and {=nature.a} {=picture!x}.
    Later, {hero} drew {=trait.a} {=color} {x=picture}, {=creature.a} {=critter}, and {=nature.a} {=picture!x}.
    At home, {hero} {=ate} {=taste} {=dish} and {x=activity.past} like {=creature.a} {=critter}.

moral =
    3* <p>And so {hero} learned that
    1* <p>The moral of the story is that
    3* <p>The moral is that
    4* <p>Remember:
    4* <p>The moral:
    3* <p>Now {hero} [knew|saw|knows|sees] that
    4* <p>{hero} [learned|saw|knew|found] that
"""
