"""The other five plots: a hurt animal, a treat shared, a scary noise, a gift, a day of cooking, a picture.

In: nothing.  Out: `ADVENTURES`, rules in the notation of `notation`; they build on the shared rules of `phrases`.

The surprising decision: helpers, finds and ingredients come in threes ("a wet owl, a red bus, and a tiny snail"): it is
how small children tell stories, and it packs choice densely into text that still reads well.
"""

ADVENTURES = """
patient_plot =
    <p><when> {hero} {x=activity.past} [to|near] the <a_place>. [<saw> |]<patient_seen> <patient_cry><p><patient_care> <patient_food> <patient_rest> <patient_well> [<patient_thanks>|<supper>]<moral> <patient_moral>

patient_seen =
    There {hero.he} found {=creature.a} {pet=patient} with a hurt {limb=limb} <under> {=look.a} {near=near@place}.
    {hero.He} heard {=eerie.a} {=noise}. {=creature.A} {pet=patient} was stuck <under> {=look.a} {near=near@place}!
    {c=creature.A}, {=creature!c} {pet=patient} sat [alone |]<under> {=look.a} {near=near@place} with a hurt {=limb}.

patient_cry =
    "hero: {=oh}, [poor|little] {pet}! You look {=sorry}. I will help you," {hero} said {=kindly}.
    "hero: {=oh}! Do not be {=afraid}, little {pet}," {hero} said {=kindly}.
    {hero} felt {s=sorry} for the {pet}. "hero: I will be {=nature} and help you," <good_whisper>

good_whisper =
    {hero.he} [said|whispered] {=kindly}.

patient_care =
    {hero} {=carefully} put the {pet} in {=look.a} {=trifle} with {=color} {=mender} and took it home.
    {hero} ran to get {hero.his} {=praise} <kin>. "kin: We need {x=mender} and {=mender!x}," <kin_said>
    {hero} {=carefully} made a bed of {=mender} and {=color} leaves <under> {=look.a} {=near@place!near}.
    {hero} took off {hero.his} {l=look} {=clothes} and {=carefully} [put it|laid it] around the {pet}.

patient_food =
    {=then}, {hero.he} gave it {=taste} {x=dish} and {=taste} {=dish!x}.
    {hero.He} gave it {t=taste.a} {=snack} and {=look.a} {=trifle} with water.
    It ate {=taste.a} {=snack} and looked {=glad}.

patient_rest =
    For [two|three|four|five] days, {hero} {x=activity.past} and {=activity.past!x} for the {pet} to make it {=glad}.
    At night, it slept next to {=look.a} {=toy} and {=trait.a} {=color} {=trifle}.
    Each day, {hero} told it about {=look.a} {x=picture} and {=nature.a} {=picture!x}.

patient_well =
    {=then}, the {pet} was {g=glad} and {=glad!g}, and it {=activity.past} [again|around the {=plant}].
    One {=weather} morning, the {pet} {x=activity.past} and {=activity.past!x} {=gladly}.
    "hero: {=yay}! You are well again!" <good_said>

patient_thanks =
    The next day, the {pet} came back with {=look.a} {=trifle} and {=creature.a} {=critter!pet}.
    After that, the {pet} and {hero} {x=activity.past} and {=activity.past!x} [every day|together] <under> the {=plant}.
    The {pet} brought {hero} {=look.a} {=plant} and {=taste.a} {=snack}.

patient_moral =
    {v=virtue} and {=virtue!v} can help {=creature.a} [friend|animal] get well.
    even {=nature.a} [child|friend] can do {=idea.a} thing.
    we should be {n=nature} and {=nature!n} to every {=creature} animal.
    {=creature.a} friend who is {=sorry} needs {=virtue}.

treat_plot =
    <p><when> {hero.his} {=praise} <kin> gave {hero} <treat>. <treat_off> [<saw> |]<treat_meet> <treat_ask><p><treat_think> <treat_share> <treat_eat> <treat_back>[ <felt_good>| <treat_play>|]<moral> <treat_moral>

treat =
    {t=taste.a}, {=taste!t} {snack=snack}
    {t=taste.a} {snack=snack} with {=color} {=dish} on top
    {t=taste.a} {snack=snack} in {=look.a} {=trifle}

treat_off =
    {hero} {x=activity.past} to the <a_place> to eat it.
    {hero.He} sat down <under> {=look.a} {=landmark} <at_place> to eat it.
    "kin: It is {=taste} and {=idea}. You can take it to the <a_place>," <kin_said>

treat_meet =
    There {hero.he} met {=nature.a} {other=helper@hero!species} with {=trait.a} {=color} {=clothes} and {=look.a} {=trifle}.
    {=nature.A} {other=helper@hero!species} sat <under> {=look.a} {=near@place} and looked {=sorry}.
    {=then}, {=nature.a} {other=helper@hero!species} {=went} by in {=color.a} {c=clothes} and {=look.a} {=clothes!c}.

treat_ask =
    "other: {=hello}! That {snack} looks {=taste}. I only have {=look.a} {=trifle}," <other_said>
    "other: {=hello}, {hero}. I lost my {=taste} {=dish} and now I am {=sorry}," said the {other} {=sadly}.
    "other: I am so {=sorry}. {c=creature.A} {=critter} ate my {=taste} {=dish}," said the {other} {=sadly}.

treat_think =
    {hero} looked at the {snack}. It was {t=taste} and {=taste!t}, but {hero.he} wanted to be {=nature}.
    At first, {hero} felt {=sorry}, for the {snack} was [taste}.
    {hero} thought of {hero.his} {=praise} {kin} and felt {=nature}.

treat_share =
    "hero: I have {=idea.a} idea. [We can share it|You can have half]!" <good_said>
    "hero: Please have some. It is {t=taste} and {=taste!t}," {hero} said {=kindly}.
    {hero} {=carefully} cut the {snack} in two with {=look.a} {=trifle}.

treat_eat =
    They ate it {=gladly} <under> {=look.a} {=plant}, and it was {t=taste} and {=taste!t}.
    They sat on {=trait.a} {=look} {=furniture} and ate, and {=creature.a} {=critter} ate the crumbs.
    It was {=taste}, and they gave a [bit|crumb] to {=creature.a} {x=critter} and {=creature.a} {=critter!x}.

treat_back =
    "other: You are {n=praise} and {=praise!n}. Here is {=look.a} {=trifle} for you," <other_said>
    The next day, the {other} came with {=taste.a} {x=snack}, {=taste.a} {=snack!x}, and {=taste} {=dish} to share.
    "other: Thank you, {hero}! Let us {x=activity} and {=activity!x}," <other_said>

treat_play =
    {=then}, they {x=activity.past}, {y=activity.past!x}, and {=activity.past!x!y} with {=look.a} {=toy}.
    {=then}, they played with {=look.a} {x=toy} and {=look.a} {=toy!x} until dark.

treat_moral =
    {=taste.a} {=snack} is more {=taste} when we share it.
    {v=virtue} and {=virtue!v} make {=nature.a} [friend|heart].
    when we share, we are {g=glad} and {=glad!g}.
    half of {=taste.a} {=snack} with a friend is better than {=look.a} one alone.

noise_plot =
    <p>One {=weather} night, {hero} heard {e=eerie.a}, {=eerie!e} {noise=noise} [from|near] the {=room} {place=indoor}. <noise_more> <noise_fear> <noise_cry><p><kin_comes> <noise_search> <noise_found> <noise_relief> [<noise_end>|<felt_good>]<moral> <noise_moral>

noise_more =
    {=then}, there was {e=eerie.a} {x=noise!noise} and {=eerie.a!e} {=noise!noise!x}.
    It was as {=eerie} as {=look.a} {=picture} with {=look.a} {=trifle}.
    [It came again|It did not stop], and then {=eerie.a} {=noise!noise} came too.

noise_fear =
    {hero} was {s=afraid} and {=afraid!s} and held {hero.his} {=look} {=toy}.
    {hero} hid <under> {hero.his} {=look} {=furniture} and felt {=afraid}.
    {hero} thought of {=look.a} {x=picture} and {=look.a} {=picture!x} and felt {=afraid}.

noise_cry =
    "hero: {=oh}! [Is it|What if it is] {=look.a} {=picture}?" <bad_said>
    "hero: {=oh}, what is that {=eerie} {noise}?" <bad_said>

kin_comes =
    {hero.His} {=praise} <kin> came with {=look.a} {x=trifle} and {=look.a} {=trifle!x}. <noise_plan>
    {hero.His} <kin> came in {=look.a} {c=clothes} and {=color.a} {=clothes!c}. <noise_plan>

noise_plan =
    "kin: Do not be {=afraid}. Let us be {=nature} and look {=carefully}," <kin_said>
    "kin: I think it is [only|just] {=creature.a} {=critter}. Let us see," <kin_said>
    "kin: Take {=look.a} {=trifle} and my hand. We will find it," <kin_said>

noise_search =
    They {=carefully} looked <under> the {=look} {x=near@place} and <under> the {=look} {y=near@place!x}.
    They went {=carefully} past {=look.a} {x=near@place}, {=look.a} {y=near@place!x}, and {=look.a} {=toy}.
    <under_cap> the {=look} {x=near@place} was {=look.a} {=trifle}, but [it was quiet|it made no noise].

under_cap =
    Under
    Behind
    Beside

noise_found =
    And there, <under> the {=look} {=near@place!x}, {=creature.a} {pet=critter} played with {=look.a} {=trifle}!
    It was [only|just] {=creature.a} {pet=critter} that wanted [some|to eat the] {=taste} {=dish}!
    {=then}, they saw it: {c=creature.a}, {=creature!c} {pet=critter} was stuck in {=look.a} {=trifle}!

noise_relief =
    "hero: {=yay}! You are not {=look.a} {=picture}. You are {=creature.a} {pet}!" <good_said>
    {hero} laughed {=gladly} and gave the {pet} {=taste.a} {=snack} and {=taste} {=dish}.
    "kin: You see? It is more {s=afraid} than you," <kin_said>

noise_end =
    The {pet} {x=activity.past} and {=activity.past!x} away, and {hero} slept next to {=look.a} {=toy}.
    {=then}, they drank [warm|hot] milk, and {hero} dreamed of {=creature.a} {x=critter!pet} and {=nature.a} {=picture}.

noise_moral =
    {=eerie.a} {=noise} is often [only|just] {=creature.a} {=critter}.
    to be {n=nature} and {=nature!n} is to look, even when we are {=afraid}.
    things that are {e=eerie} in the dark can be {l=look} and {=look!l} in the light.
    with {v=virtue} and {=virtue!v}, we need not be {=afraid}.

gift_plot =
    <p><when> {hero} wanted to make {=idea.a} gift for {hero.his} {=praise} <kin>. <gift_plan> <gift_walk> <gift_finds> <felt_bad> <gift_cry><p><gift_help> <gift_make> <gift_give> <gift_thanks> [<felt_good>|<supper>]<moral> <gift_moral>

gift_plan =
    "hero: I will make {l=look.a}, {=look!l} {gift=picture}," <good_said>
    {hero.He} thought of {l=trait.a}, {=color} {gift=picture} made of {x=mender} and {=mender!x}.

gift_walk =
    {hero.He} {x=activity.past} to the <a_place> with {=trait.a} {=color} {=trifle}.
    In {=look.a} bag, {hero.he} had {=mender} and {=taste.a} {=snack}, and {hero.he} went to the <a_place>.

gift_finds =
    {hero.He} found {=look.a} {x=trifle}, {=look.a} {y=trifle!x}, and {=look.a} {=trifle!x!y}, but [that|it] was not enough.
    There {hero.he} found {=look.a} {x=trifle} <under> {=look.a} {=near@place}, but {=creature.a} {=critter} took it away.
    <under_cap> {=look.a} {=near@place}, {hero.he} found {=look.a} {x=trifle}, but it was [too|so] {=look}.

gift_cry =
    "hero: {=oh}, my gift is [not|not yet] {i=idea}," <bad_said>
    "hero: {=oh}! I need {=trait.a}, {=color} {=trifle!x}," <bad_said>

gift_help =
    {=nature.A} {other=helper@hero!species} with {=color.a} {=clothes} heard {hero.him}. <gift_offer>
    {=then}, {=nature.a} {other=helper@hero!species} {=went} by with {=creature.a} {=critter}. <gift_offer>

gift_offer =
    "other: I have {=look.a} {z=trifle} and {=color} {=mender}. You can have them," <other_said>
    "other: Here is {=trait.a}, {=color} {z=trifle!x}. It will be {=idea}," <other_said>
    "other: {=hello}! Let us make it {=look} with {=mender} and {=look.a} {=trifle}," <other_said>

gift_make =
    They worked {=carefully} <under> the {=look} {=near@place}, and soon the {gift} was {l=look} and {=look!l}.
    {hero} put {=color} {x=mender}, {=mender!x}, and {=look.a} {=trifle} on the {gift}.
    With {x=mender} and {=color} {=mender!x}, the {gift} was soon {l=look} and {=look!l}.

gift_give =
    At home, {hero} hid the {gift} <under> {=look.a} {=furniture} and called {hero.his} {kin}.
    {hero} {x=activity.past} home and {=gladly} gave it to {hero.his} {kin}, with {=taste.a} {=snack}.
    {hero.His} {kin} was <under> {=look.a} {=plant} with {=creature.a} {=critter} when {hero} came home.

gift_thanks =
    "kin: What {=idea.a} gift! It is {l=look} and {=look!l}, and you are {=praise}," <kin_said>
    "kin: Thank you, {hero}! I am {g=glad} and {=glad!g}," <kin_said>
    {hero.His} {kin} was {g=glad} and {=glad!g} and put the {gift} on {=look.a} {=furniture}.

gift_moral =
    a gift made with {v=virtue} and {=virtue!v} is {=idea}.
    {=look.a} gift made by hand is more {=idea} than {=look.a} one.
    {=virtue} makes {=look.a} {=trifle} {=idea}.
    to give makes us as {g=glad} as to get makes us {=glad!g}.

cooking_plot =
    <p><when> {hero} and {hero.his} {=praise} <kin> wanted to make {t=taste.a}, {=taste!t} {meal=snack}. <cook_dress> <cook_mix> <cook_oops> <cook_cry><p><cook_calm> <cook_again> <cook_done> <cook_eat> [<felt_good>|<cook_guest>]<moral> <cook_moral>

cook_dress =
    {hero} put on {=color.a} {c=clothes} and {=look.a} {=clothes!c}.
    They took {=look.a} {x=trifle}, {=look.a} {y=trifle!x}, and {=look.a} spoon from the {=furniture}.
    "kin: We need {t=taste} {x=dish}, {=taste!t} {y=dish!x}, and {=taste.a} {=snack!meal}," <kin_said>

cook_mix =
    {hero} mixed {=taste} {x=dish}, {y=dish!x}, and {=taste} {=dish!x!y} in {=trait.a} {=color} bowl.
    First they put in {x=dish}, then {=taste} {y=dish!x}, and then {=taste.a} {=snack!meal}.
    {hero} {=carefully} cut {=taste.a} {=snack!meal} and put it into {=taste} {x=dish}.

cook_oops =
    But then {=creature.a} {=critter} {=went} by, and the {=dish} fell <under> the {=look} {=furniture}.
    But {hero} {=activity.past} too close, and the {=look} bowl fell with {=eerie.a} {=noise}.
    But {hero} put in {=color} {=mender} and not {=taste} {=dish}, and it was {=eerie}.

cook_cry =
    "hero: {=oh}! [What a mess!|It is all my fault!|Now it will not be {=taste}!]" <bad_said>
    "hero: {=oh}, I am {s=sorry} and {=sorry!s}," <bad_said>

cook_calm =
    "kin: That is all right. I once put {=look.a} {=trifle} in the {=dish}," <kin_said>
    "kin: Do not be {=sorry}. With {=virtue} we can make {=idea.a} new one," <kin_said>
    {hero.His} {kin} hugged {hero.him}. "kin: You are {n=praise} and {=praise!n}. Let us try again," <kin_said>

cook_again =
    They cleaned up {=carefully} with {=look.a} {=trifle} and {x=activity.past} to make it fun.
    This time, {hero} {=carefully} mixed {t=taste} {x=dish} and {=taste!t} {=dish!x}.
    They {=carefully} put {=color} {x=dish}, {=taste} {=dish!x}, and {=look.a} {=snack!meal} on it.

cook_done =
    {=then}, the {meal} was {t=taste}, {u=taste!t}, and {=taste!t!u}, and it looked like {=look.a} {=picture}.
    "hero: {=yay}! It looks {i=idea} and smells {=taste}!" <good_said>
    When it was done, the {meal} was {t=taste} and {=taste!t} and as {=color} as {=look.a} {=plant}.

cook_eat =
    They ate it {=gladly} <under> {=look.a} {=plant} with {=taste} {=dish}.
    They ate it with {t=taste} {x=dish} and {=taste!t} {=dish!x} and were {=glad}.
    {hero} ate [two|three|four] bits and gave one to {=creature.a} {=critter}.

cook_guest =
    {=nature.A} {=helper@hero!species} in {=color.a} {=clothes} came to eat too and brought {=look.a} {=trifle}.
    They took some to {=nature.a} {=helper@hero!species} who had {=look.a} {x=toy} and {=look.a} {=toy!x}.

cook_moral =
    {v=virtue} and {=virtue!v} make a {=taste} {=snack}.
    we can be {s=sorry} and still try again with {=virtue}.
    {=idea.a} cook is {n=nature} and {=nature!n}.
    a mess can turn into {=taste} {=dish} if we try again.

picture_plot =
    <p><when> {hero} sat <at_place> to [draw|paint] {=look.a} {pic=picture}. <pic_how> <pic_bad> <felt_bad> <pic_cry><p><pic_help> <pic_try> <pic_done> [<felt_good>|<pic_end>|<pic_end> <felt_good>]<moral> <pic_moral>

pic_how =
    {hero.He} had {c=color}, {d=color!c}, and {=color!c!d} [paint|crayons] and {=look.a} brush.
    {hero.He} made its head {c=color}, its back {d=color!c}, and its [feet|eyes|sides] {=color!c!d}.
    Next to it, {hero.he} made {=creature.a} {x=critter} and {=look.a} {=vehicle}.

pic_bad =
    But the {pic} looked [more |]like {=look.a} {x=snack} with {=look.a} {=trifle}.
    But {=creature.a} {=critter} {=activity.past} over it and made {=trait.a} {=color} spot.
    But it was too {l=look} and looked like {=look.a} {=furniture}.

pic_cry =
    "hero: {=oh}! I cannot [draw|paint] {=look.a} {pic}," <bad_said>
    "hero: {=oh}! My {pic} is {l=look} and {=look!l}!" <bad_said>

pic_help =
    {=nature.A} {other=helper@hero!species} in {=color.a} {=clothes} stopped to look. <pic_say>
    {=then}, {=nature.a} {other=helper@hero!species} {=went} by with {=look.a} {=trifle}. <pic_say>

pic_say =
    "other: I like it! It is {i=idea}, and the {=color} is {l=look}," <other_said>
    "other: Try again with {=virtue}. Once I could not [draw|paint] {=look.a} {=plant}," <other_said>
    "other: {=hello}! If you put {=look.a} {=trifle} on it, it will be {=idea}," <other_said>

pic_try =
    {hero} tried again {=carefully}, with {=color} {x=mender} and {=look.a} {=trifle}.
    {hero} {=carefully} gave it {=look.a} {c=clothes}, {=color.a} {=clothes!c}, and {=look.a} {=trifle}.
    {hero} turned the spot into {=trait.a} {=look} {=plant} and {=carefully} added {=creature.a} {=critter}.

pic_done =
    Now the {pic} was {l=look} and {=look!l}, and it [seemed|wanted] to {=activity}.
    "hero: {=yay}! Now it is {i=idea}!" <good_said>
    "other: {=yay}! It is {l=look} and {=look!l}," <other_said>

pic_end =
    {hero.His} {=praise} <kin> put the {pic} over {=look.a} {=furniture} and gave {hero.him} {=taste.a} {=snack}.
    {hero} gave the picture to the {other} and got {=look.a} {x=trifle} and {=taste.a} {=snack}.
    The next day, {hero} made {=look.a} {x=picture!pic}, {=look.a} {y=picture!pic!x}, and {=look.a} {=picture!pic!x!y}.

pic_moral =
    {v=virtue} and {=virtue!v} make {=look.a} picture.
    {=look.a} spot can turn into {=idea.a} {=plant}.
    we should try again, even when we are {s=sorry} or {=sorry!s}.
    {=nature.a} word can make {=sorry.a} friend {=glad}.
"""
