"""The other six plots: a hurt animal, a treat shared, a scary noise, a gift, a day of cooking, a picture.

In: nothing.  Out: `ADVENTURES`, rules in the notation of `notation`; they build on the shared rules of `phrases`.

The surprising decision: helpers, finds and ingredients come in twos and threes ("a wet owl, a red bus, and a tiny
snail"): it is how small children tell stories, and it packs choice densely into text that still reads well.
"""

ADVENTURES = """
patient_plot =
    <when> {hero} {=went} to the <a_place>. <saw> <patient_seen> <patient_cry><p><patient_care> <patient_food>
        <patient_rest> <patient_well> [<patient_thanks>|<supper>]<moral> <patient_moral>

patient_seen =
    There {hero.he} {=spotted} {=creature.a} {pet=patient!species} with a hurt {=limb} {=by} {=look.a}
        {near=near@place}.
    {hero.He} heard {=eerie.a} {=noise}. {=creature.A} {pet=patient!species} was stuck {=by} {=look.a}
        {near=near@place}!
    There {c=creature.a}, {=creature!c} {pet=patient!species} sat {=by} {=look.a} {near=near@place} with a hurt
        {=limb}.

patient_cry =
    "hero: {=oh}! {a=creature.A}, {=sorry} {pet}! I [can|will|want to] help you," <kind_said>
    "hero: {=oh}! Do not be {=afraid}, {=creature} {pet}," <kind_said>
    {hero} {=felt} {=sorry}. "hero: I will be {n=praise} and {=praise!n} and help you," <kind_said>

patient_care =
    {hero} {=carefully} put the {pet} in {=look.a} {=trifle} with {=color} {=mender} and took it home.
    {hero} {=went} to get {hero.his} {=praise} <kin>. "kin: We need {x=mender} and {=mender!x}," <kin_said>
    {hero} {=carefully} made a bed of {=color} {=mender} {=by} {=look.a} {=near@place!near}.
    {hero} {=carefully} put {hero.his} {l=look} {=clothes} and some {=color} {=mender} around the {pet}.

patient_food =
    {=then}, {hero.he} {=gave} it {t=taste} {x=dish} and {=taste!t} {=dish!x}.
    {hero.He} {=gave} it {=taste.a} {=snack} and {=look.a} {=trifle} with water.
    It ate {=taste.a} {=snack} and {=taste} {=dish} and {=felt} {=glad}.

patient_rest =
    For [two|three|four|five|six|seven] days, {hero} {x=activity.past} and {=activity.past!x} to make it {g=glad} and
        {=glad!g}.
    At night, it slept {=by} {a=look.a} {x=trifle} and {=look.a!a} {=trifle!x}.
    Every {=time}, {hero} told it about {=look.a} {x=picture} and {=nature.a} {=picture!x}.

patient_well =
    {=at_last}, the {pet} {=felt} {g=glad} and {=glad!g}, and it {=activity.past} {=by} {=look.a} {=plant}.
    One {=weather} {=time}, the {pet} {x=activity.past} and {=activity.past!x} {=gladly}.
    "hero: {=yay}! You are {g=glad} and {=glad!g} again!" <good_said>

patient_thanks =
    {=then}, the {pet} [came back|was there again] with {=look.a} {=trifle} and {=creature.a} {=critter!pet!species}.
    After that, the {pet} and {hero} {x=activity.past} and {=activity.past!x} every {=time} {=by} {=look.a} {=plant}.
    The {pet} {=gave} {hero} {a=look.a} {=plant}, {=look.a!a} {=trifle}, and {=taste.a} {=snack}.

patient_moral =
    {v=virtue} and {=virtue!v} can help {=creature.a} {=critter} get well.
    even {n=nature.a}, {=nature!n} friend can do {=idea.a} thing.
    we should be {n=praise} and {=praise!n} to {=creature.a} {=critter}.
    {=creature.a} {=critter} that is {=sorry} needs {=virtue}.

treat_plot =
    <when> {hero}'s {=praise} <kin> {=gave} {hero.him} <treat>. <treat_off> <saw> <treat_meet>
        <treat_ask><p><treat_think> <treat_share> <treat_eat> <treat_back>[ <felt_good>| <treat_play>|]<moral>
        <treat_moral>

treat =
    {t=taste.a}, {=taste!t} {snack=snack}
    {t=taste.a} {snack=snack} with {=taste!t} {=dish} on top
    {t=taste.a} {snack=snack} in {=look.a} {=trifle}

treat_off =
    {hero} {=went} to the <a_place> to eat it.
    {hero.He} sat down {=by} {=look.a} {=furniture} <at_place> to eat it.
    "kin: It is {t=taste} and {=taste!t}. You can take it to the <a_place>," <kin_said>

treat_meet =
    There {hero} met {=nature.a} {other=helper@hero!species} with {a=look.a} {=clothes} and {=look.a!a} {=trifle}.
    {=nature.A} {other=helper@hero!species} sat {=by} {=look.a} {=near@place} and {=felt} {=sorry}.
    {=then}, {=nature.a} {other=helper@hero!species} {=went} by in {=color.a} {c=clothes} and {=look.a} {=clothes!c}.

treat_ask =
    "other: {=hello}! That {snack} looks {=taste}. I only have {=look.a} {=trifle}," <other_said>
    "other: {=hello}, {hero}. I lost my {=taste} {=dish} and now I am {=sorry}," {=moaned} the {other} {=sadly}.
    "other: {=oh}! {=creature.A} {=critter!other} ate my {=taste} {=dish}," {=moaned} the {other} {=sadly}.

treat_think =
    The {snack} was {t=taste} and {=taste!t}, but {hero} {=wanted} to be {n=praise} and {=praise!n}.
    At first, {hero} {=felt} {=rather} {=sorry}, for the {snack} was {t=taste} and {=taste!t}.
    {hero} thought of {hero.his} {=praise} {kin} and {=felt} {n=praise} and {=praise!n}.

treat_share =
    "hero: I have {a=idea.a}, {=idea!a} idea. [Let us share|Have half]!" <good_said>
    "hero: Please have some. It is {t=taste} and {=taste!t}," <kind_said>
    {hero} {=carefully} cut the {snack} in two with {a=look.a}, {=look!a} {=trifle}.

treat_eat =
    They {=ate} it {=gladly} {=by} {=look.a} {=plant}, and it was {t=taste} and {=taste!t}.
    They sat on {=trait.a} {=color} {=furniture} and {=ate} it, and {=creature.a} {=critter} ate the crumbs.
    It was {=taste}, and they {=gave} {a=creature.a} {x=critter} and {=creature.a!a} {=critter!x} [some|a bit] too.

treat_back =
    "other: You are {=very} {n=praise} and {=praise!n}. Here is {=look.a} {=trifle} for you," <other_said>
    {=then}, the {other} {=gave} {hero} {t=taste.a} {x=snack}, {u=taste.a!t} {=snack!x}, and {=taste!t!u} {=dish}.
    "other: Thank you, {hero}! Let us {x=activity} and {=activity!x}," <other_said>

treat_play =
    After that, they {x=activity.past}, {y=activity.past!x}, and {=activity.past!x!y} with {=look.a} {=toy}.
    After that, they played with {a=look.a} {x=toy} and {=look.a!a} {=toy!x} until dark.

treat_moral =
    {=taste.a} {=snack} is more {=taste} when we share it.
    {v=virtue} and {=virtue!v} make {=praise.a} [friend|heart].
    when we share {=taste.a} {=snack}, we are {g=glad} and {=glad!g}.
    half of {=taste.a} {=snack} with {=praise.a} friend is {=idea}.

noise_plot =
    One {=weather} [night|{=season} night], {hero} heard {e=eerie.a}, {=eerie!e} {noise=noise} from the {=room}
        {place=indoor}. <noise_more> <noise_fear> <noise_cry><p><kin_comes> <noise_search> <noise_found>
        <noise_relief> [<noise_end>|<felt_good>|<noise_end> <felt_good>]<moral> <noise_moral>

noise_more =
    {=then}, there was {e=eerie.a} {x=noise!noise} and {=eerie.a!e} {=noise!noise!x}.
    It was as {=eerie} as {a=look.a} {=picture} with {=look.a!a} {=trifle}.
    [It came again|It did not stop], and then {=eerie.a} {=noise!noise} came too.

noise_fear =
    {hero} {=felt} {s=afraid} and {=afraid!s} and held {hero.his} {=look} {=toy}.
    {hero} hid {=by} {=look.a} {=furniture} and {=felt} {=rather} {=afraid}.
    {hero} thought of {a=look.a} {x=picture} and {=look.a!a} {=picture!x} and {=felt} {=afraid}.

noise_cry =
    "hero: {=oh}! [Is it|What if it is] {a=look.a}, {=look!a} {=picture}?" <bad_said>
    "hero: {=oh}, what is that {e=eerie}, {=eerie!e} {noise}?" <bad_said>

kin_comes =
    {hero}'s {=praise} <kin> {=went} over with {a=look.a} {x=trifle} and {=look.a!a} {=trifle!x}. <noise_plan>
    {hero}'s <kin> {=went} over in {=look.a} {c=clothes} and {=color.a} {=clothes!c}. <noise_plan>

noise_plan =
    "kin: Let us be {n=praise} and {=praise!n} and look {=carefully} with {=look.a} {=trifle}," <kin_said>
    "kin: I think it is [only|just] {=creature.a} {=critter!species}. Let us see," <kin_said>
    "kin: Take my hand and {a=look.a}, {=look!a} {=trifle}. We will find it," <kin_said>

noise_search =
    They {=carefully} {=looked} {=by} the {a=look} {x=near@place} and {=by} the {=look!a} {y=near@place!x}.
    They {=went} past {a=look.a} {x=near@place}, {b=look.a!a} {y=near@place!x}, and {=look.a!a!b} {=toy}.
    <Under> the {a=look} {x=near@place} was {=look.a!a} {=trifle}, but [it was quiet|it made no noise].

Under =
    Under
    Behind
    Beside
    Near
    By

noise_found =
    {=then}, {=by} the {=look} {=near@place!x}, {=creature.a} {pet=critter!species} played with {=look.a} {=trifle}!
    {=then}, they saw {=creature.a} {pet=critter!species} that wanted {=taste} {=dish} and {=taste.a} {=snack}!
    {=then}, they saw it: {c=creature.a}, {=creature!c} {pet=critter!species} was stuck in {=look.a} {=trifle}!

noise_relief =
    "hero: {=yay}! You are not {=look.a} {=picture}. You are {=creature.a} {pet}!" <good_said>
    {hero} {=felt} {=glad} and {=gave} the {pet} {=taste.a} {=snack} and {=taste} {=dish}.
    "kin: You see? It is only {a=creature.a}, {=creature!a} {pet}," <kin_said>

noise_end =
    The {pet} {x=activity.past} and {=activity.past!x}, and {hero} slept {=by} {=look.a} {=toy}.
    After that, they drank {=taste} milk, and {hero} dreamed of {=creature.a} {x=critter!pet} and {=nature.a}
        {=picture}.

noise_moral =
    {=eerie.a} {=noise} is often [only|just] {=creature.a} {=critter}.
    to be {n=praise} and {=praise!n} is to look, even when we are {=afraid}.
    {=spooky.a} {=noise} in the dark can be {=creature.a} {=critter} in the light.
    with {v=virtue} and {=virtue!v}, we need not be {=afraid}.

gift_plot =
    <when> {hero} {=wanted} to make {a=idea.a}, {=idea!a} gift for {hero.his} {=praise} <kin>. <gift_plan> <gift_walk>
        <gift_finds> <felt_bad> <gift_cry><p><gift_help> <gift_make> <gift_give> <gift_thanks>
        [<felt_good>|<supper>]<moral> <gift_moral>

gift_plan =
    "hero: I will make {l=look.a}, {=look!l} {gift=picture}," <good_said>
    {hero.He} thought of {l=trait.a}, {=color} {gift=picture} made of {x=mender} and {=mender!x}.

gift_walk =
    {hero.He} {=went} to the <a_place> with {a=look.a}, {=look!a} {=trifle}.
    With {=mender}, {=look.a} {=trifle}, and {=taste.a} {=snack}, {hero.he} {=went} to the <a_place>.

gift_finds =
    {hero.He} found {a=look.a} {x=trifle}, {b=look.a!a} {y=trifle!x}, and {=look.a!a!b} {=trifle!x!y}, but it was [not
        enough|too {=look}].
    There {hero.he} found {=look.a} {x=trifle} {=by} {=look.a} {=near@place}, but {=creature.a} {=critter} {=took} it
        away.
    <Under> {=look.a} {=near@place}, {hero.he} found {=look.a} {x=trifle}, but it was too {=look}.

gift_cry =
    "hero: {=oh}, my gift is not [|yet ]{i=idea}," <bad_said>
    "hero: {=oh}! I need {a=look.a}, {=look!a} {=trifle!x}," <bad_said>

gift_help =
    {=nature.A} {other=helper@hero!species} with {=look.a} {=clothes} heard {hero.him}. <gift_offer>
    {=then}, {=nature.a} {other=helper@hero!species} {=went} by with {=creature.a} {=critter}. <gift_offer>

gift_offer =
    "other: {=hello}! I have {=look.a} {z=trifle!x} and {=color} {=mender}. You can have them," <other_said>
    "other: Here is {a=look.a}, {=look!a} {z=trifle!x}. It will be {=idea}," <other_said>
    "other: {=hello}! Let us make it {=look} with {=mender} and {=look.a} {=trifle}," <other_said>

gift_make =
    They worked {=carefully} {=by} the {=look} {=near@place}, and soon the {gift} was {l=look} and {=look!l}.
    {hero} put {c=color} {x=mender}, {=color!c} {=mender!x}, and {=look.a} {=trifle} on the {gift}.
    With {x=mender} and {=color} {=mender!x}, the {gift} was soon {l=look} and {=look!l}.

gift_give =
    At home, {hero} hid it {=by} {a=look.a} {x=furniture} and {=look.a!a} {=furniture!x}.
    {hero} {=went} home and {=gladly} gave it to {hero.his} {kin}, with {=taste.a} {=snack} and {=taste} {=dish}.
    {hero}'s {kin} was {=by} {=look.a} {=plant} with {=creature.a} {=critter} when {hero} came home.

gift_thanks =
    "kin: What {=idea.a} gift! It is {l=look} and {=look!l}, and you are {=praise}," <kin_said>
    "kin: Thank you, {hero}! I am {=rather} {g=glad} and {=glad!g}," <kin_said>
    {hero}'s {kin} {=felt} {g=glad} and {=glad!g} and put the {gift} on {=look.a} {=furniture}.

gift_moral =
    a gift made with {v=virtue} and {=virtue!v} is {=idea}.
    a gift made by hand is more {=idea} than {a=look.a}, {=look!a} {=trifle}.
    {v=virtue} and {=virtue!v} make {=look.a} {=trifle} {=idea}.
    to give {=look.a} {=trifle} makes us {g=glad} and {=glad!g}.

cooking_plot =
    <when> {hero} and {hero.his} {=praise} <kin> {=wanted} to make {t=taste.a}, {=taste!t} {meal=snack}. <cook_dress>
        <cook_mix> <cook_oops> <cook_cry><p><cook_calm> <cook_again> <cook_done> <cook_eat>
        [<felt_good>|<cook_guest>|<cook_guest> <felt_good>]<moral> <cook_moral>

cook_dress =
    {hero} put on {=look.a} {c=clothes} and {=color.a} {=clothes!c}.
    They {=took} {a=look.a} {x=trifle} and {=look.a!a} {=trifle!x} from {=look.a} {=furniture}.
    "kin: We need {t=taste} {x=dish}, {u=taste!t} {=dish!x}, and {=taste.a!t!u} {=snack!meal}," <kin_said>

cook_mix =
    {hero} mixed {t=taste} {x=dish}, {u=taste!t} {y=dish!x}, and {=taste!t!u} {=dish!x!y} in {=look.a} bowl.
    First they put in {=taste} {x=dish}, then {=taste} {y=dish!x}, and then {=taste.a} {=snack!meal}.
    {hero} {=carefully} cut {=taste.a} {=snack!meal} and put it into {=taste} {x=dish}.

cook_oops =
    But then {=creature.a} {=critter} {=went} by, and the {=dish} fell {=by} {=look.a} {=furniture}.
    But {hero} {=activity.past} too close, and {=look.a} bowl fell with {e=eerie.a}, {=eerie!e} {=noise}.
    But {hero} put in {=color} {=mender}, not {=taste} {=dish}, and it was {=spooky}.

cook_cry =
    "hero: {=oh}! [What {=ill.a} mess!|It is all my fault!|Now it is not {=taste}!]" <bad_said>
    "hero: {=oh}, I am {=rather} {s=sorry} and {=sorry!s}," <bad_said>

cook_calm =
    "kin: That is all right. I once put {a=look.a}, {=look!a} {=trifle} in {=taste} {=dish}," <kin_said>
    "kin: Do not be {=sorry}. With {v=virtue} and {=virtue!v}, we can make {=idea.a} one," <kin_said>
    "kin: You are {=very} {n=praise} and {=praise!n}. Let us try it {=carefully}," <kin_said>

cook_again =
    They cleaned up {=carefully} with {=look.a} {=trifle} and {x=activity.past} and {=activity.past!x} a bit.
    This time, {hero} {=carefully} mixed {t=taste} {x=dish} and {=taste!t} {=dish!x}.
    They {=carefully} put {t=taste} {x=dish}, {=taste!t} {=dish!x}, and {=look.a} {=snack!meal} on it.

cook_done =
    {=at_last}, the {meal} was {t=taste}, {u=taste!t}, and {=taste!t!u}, and it looked like {=look.a} {=picture}.
    "hero: {=yay}! It looks {=very} {i=idea} and smells {=taste}!" <good_said>
    {=at_last}, the {meal} was {t=taste} and {=taste!t} and as {=trait} as {=look.a} {=plant}.

cook_eat =
    They {=ate} it {=gladly} {=by} {=look.a} {=plant} with {=taste} {=dish}.
    They {=ate} it with {t=taste} {x=dish} and {=taste!t} {=dish!x} and felt {=glad}.
    They {=ate} it {=gladly} and {=gave} {a=creature.a} {x=critter} and {=creature.a!a} {=critter!x} some too.

cook_guest =
    {=then}, {=nature.a} {=helper@hero!species} in {=look.a} {=clothes} came to eat and {=gave} them {=look.a}
        {=trifle}.
    They {=gave} some to {=nature.a} {=helper@hero!species} who had {a=look.a} {x=toy} and {=look.a!a} {=toy!x}.

cook_moral =
    {v=virtue} and {=virtue!v} make {=taste.a} {=snack}.
    {s=sorry.a}, {=sorry!s} cook can try again with {=virtue}.
    {=idea.a} cook is {n=praise} and {=praise!n}.
    {=ill.a} mess can turn into {t=taste}, {=taste!t} {=dish} if we try again.

picture_plot =
    <when> {hero} sat <at_place> to [draw|paint] {a=look.a}, {=look!a} {pic=picture}. <pic_how> <pic_bad> <felt_bad>
        <pic_cry><p><pic_help> <pic_try> <pic_done> [<felt_good>|<pic_end>|<pic_end> <felt_good>]<moral> <pic_moral>

pic_how =
    {hero.He} had {c=color}, {d=color!c}, and {=color!c!d} [paint|crayons] and {=look.a} brush.
    {hero.He} made the top {c=color}, the sides {d=color!c}, and the [bottom|middle|rest] {=color!c!d}.
    Next to it, {hero.he} made {=creature.a} {x=critter} and {=look.a} {=vehicle}.

pic_bad =
    But the {pic} looked [more |]like {a=look.a} {=snack} with {=look.a!a} {=trifle}.
    But {=creature.a} {=critter} {=went} over it and made {=trait.a} {=color} spot.
    But it was too {l=look} and looked like {=look.a!l} {=furniture}.

pic_cry =
    "hero: {=oh}! I cannot [draw|paint] {a=look.a}, {=look!a} {pic}," <bad_said>
    "hero: {=oh}! My {pic} is {=rather} {l=look} and {=look!l}!" <bad_said>

pic_help =
    {=nature.A} {other=helper@hero!species} in {=look.a} {=clothes} stopped to look. <pic_say>
    {=then}, {=nature.a} {other=helper@hero!species} {=went} by with {=look.a} {=trifle}. <pic_say>

pic_say =
    "other: {=hello}! I like it! It is {=very} {i=idea}, and the {=color} is {l=trait}," <other_said>
    "other: Try again with {=virtue}. Once I could not [draw|paint] {a=look.a}, {=look!a} {=plant}," <other_said>
    "other: {=hello}! If you put {=look.a} {=trifle} on it, it will be {=idea}," <other_said>

pic_try =
    {hero} tried again {=carefully}, with {=color} {x=mender} and {=look.a} {=trifle}.
    {hero} {=carefully} gave it {=look.a} {c=clothes}, {=color.a} {=clothes!c}, and {=look.a} {=trifle}.
    {hero} {=carefully} put {=look.a} {=plant}, {=creature.a} {=critter}, and {=look.a} {=trifle} on it.

pic_done =
    {=at_last}, the {pic} was {l=look} and {=look!l}, and it [seemed|wanted] to {x=activity} and {=activity!x}.
    "hero: {=yay}! Now it is {=very} {i=idea}!" <good_said>
    "other: {=yay}! It is {l=look} and {=look!l}," <other_said>

pic_end =
    {hero}'s {=praise} <kin> put it over {=look.a} {=furniture} and {=gave} {hero.him} {=taste.a} {=snack}.
    {hero} {=gave} it to the {other} and got {a=look.a} {x=trifle} and {=taste.a} {=snack}.
    {=then}, {hero} made {a=look.a} {x=picture!pic}, {b=look.a!a} {y=picture!pic!x}, and {=look.a!a!b}
        {=picture!pic!x!y}.

pic_moral =
    {v=virtue} and {=virtue!v} make {=look.a} {=picture}.
    {=look.a} spot can turn into {=idea.a} {=plant}.
    {v=virtue} and {=virtue!v} help {s=sorry.a}, {=sorry!s} [painter|friend].
    {=praise.a} word can make {=sorry.a} friend {=glad}.
"""
