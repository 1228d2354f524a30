"""The words of the stories, as plain data: `word_lists()` gives the lists by name, every word with all its forms.

A list is a short head and a long tail, separated by a semicolon. The head's words, short as the frequent words of any
language are, fill nearly all places, each as likely as the others, so that a model meets them thousands of times; the
tail gives the stories their many words and adds little loss, because it is rare. A word's sex, article and plural are
forms of the word itself, so agreement needs no rules.
"""

from __future__ import annotations

from functools import cache

from storycell.data.stories.grammar import Word, WordList

PEOPLE = {
    "she": {
        "girl": """Amy, Ann, Eva, Fay, Ivy, Kim, Meg, Mia, Pam, Sue, Zoe, Anna, Emma, Kate, Lily, Lucy, Nora, Rose,
            Ruby, June, Ada, Clara, Ella, Grace, Jane; Alice, Bella, Bess, Coco, Daisy, Dora, Esme, Fern, Flora, Gina,
            Hana, Hazel, Helen, Holly, Iris, Jill, Kitty, Lola, Luna, Mary, May, Milly, Molly, Nell, Nina, Olga, Pearl,
            Penny, Polly, Poppy, Rita, Rosie, Sally, Sara, Sofia, Tess, Tilly, Wendy, Willa""",
        "kinswoman": "mom; aunt, big sister, godmother, grandma, granny, great aunt, mama, mother, nana, nanny",
    },
    "he": {
        "boy": """Ben, Bob, Dan, Gus, Jim, Joe, Leo, Max, Ned, Sam, Ted, Tim, Tom, Adam, Finn, Hugo, Jack, Luke, Noah,
            Otto, Eli, Ian, Carl, Fred, Paul; Abe, Alex, Andy, Bill, Boris, Bruno, Cody, Dean, Eric, Felix, Frank,
            Gabe, Gil, Hank, Henry, Ivan, Karl, Ken, Lars, Mark, Matt, Milo, Nick, Omar, Oscar, Pete, Ravi, Rob, Rory,
            Rusty, Sid, Teddy, Theo, Toby, Tony, Victor, Walt, Will, Ziggy""",
        "kinsman": "dad; big brother, cousin, father, godfather, granddad, grandpa, great uncle, papa, uncle",
    },
}

ANIMALS = """ant, ape, bat, bee, bug, cat, cow, cub, dog, eel, elk/elk, emu, fox, hen, jay, owl, pig, pup, ram, rat,
    yak, bear, bird, crab, deer/deer, duck, frog, goat, lamb, wolf/wolves, crow, dove, fawn, fish/fish, gull, hare,
    lion, mole, moth, mule, seal, swan, toad, calf/calves, colt, foal, gnat, goose/geese, hawk, horse, newt,
    sheep/sheep, snail, worm, mouse/mice; badger, beaver, beetle, bison/bison, bluebird, buffalo/buffalo, bunny,
    butterfly, camel, canary, caterpillar, chick, chipmunk, cricket, crocodile, cuckoo, dolphin, donkey, dragonfly,
    duckling, eagle, elephant, ferret, finch, firefly, flamingo, flea, gecko, giraffe, goldfish/goldfish, gorilla,
    grasshopper, hamster, hedgehog, heron, hippo, hornet, hummingbird, iguana, jaguar, kangaroo, kid, kitten, koala,
    ladybug, lark, lemur, leopard, lizard, llama, lynx, magpie, meerkat, monkey, moose/moose, ostrich, otter, ox/oxen,
    panda, panther, parrot, peacock, pelican, penguin, pigeon, piglet, pony, puffin, puma, puppy, quail, rabbit,
    raccoon, raven, reindeer/reindeer, rhino, robin, rooster, seagull, shark, shrew, shrimp/shrimp, skunk, sloth, slug,
    sparrow, spider, squid/squid, squirrel, stag, starling, stork, swallow, tadpole, tapir, tiger, tortoise,
    trout/trout, turkey, turtle, vole, walrus, wasp, weasel, whale, woodpecker, wren, zebra"""

THINGS = """axe, bag, bib, bow, box, can, cap, cup, fan, gem, hat, jar, jug, key, lid, map, mop, mug, net, pan, peg,
    pen, pin, pot, rug, saw, tag, tie, tin, top, toy, tub, wig, bell, book, doll, drum, kite, ball, bead, belt, bike,
    boat, bone, boot, bowl, card, coat, coin, comb, flag, fork, lamp, mask, pail, ring, rope, shoe, sock, star, cape,
    cork, harp, hoop, hook, horn, knot, oar, quilt, rake, robe, sack, sail, spoon, stick, stone, vase, wand, wheel,
    leaf/leaves; acorn, anchor, apron, arrow, backpack, badge, ballcap, balloon, banjo, banner, barrel, basket, bonnet,
    bottle, bracelet, brick, broom, brush, bubble, bucket, buggy, bugle, button, camera, candle, cart, castle, chain,
    chair, chalkboard, chest, clock, collar, cradle, crate, crayon, crown, crystal, cube, cushion, dress, drill,
    envelope, feather, fiddle, flashlight, flower, flute, fossil, globe, glove, gown, guitar, hammer, handbag, helmet,
    hood, jacket, jersey, jewel, jump rope, kazoo, kettle, knapsack, ladder, ladle, lantern, letter, locket, lunchbox,
    magnet, marble, medal, mirror, mitten, nail, napkin, necklace, needle, notebook, paddle, paintbrush, parasol,
    pearl, pebble, pencil, piano, picture, pillow, pinecone, pinwheel, pipe, plank, plate, poncho, postcard, pouch,
    puppet, purse, puzzle, quill, raft, rattle, ribbon, robot, rocket, rod, ruler, sandal, satchel, scarf/scarves,
    scooter, seed, shawl, shell, shield, shirt, shovel, skate, skateboard, skirt, sled, slipper, spade, spinning top,
    sponge, spool, spring, stamp, sticker, stool, string, sundial, sweater, tambourine, teacup, teapot, teddy bear,
    telescope, tent, thimble, thread, tile, toolbox, toy bus, toy car, toy plane, toy ship, toy train, toy truck, tray,
    trumpet, tuba, twig, ukulele, umbrella, vest, violin, wagon, wallet, watch, whisk, whistle, wreath, xylophone,
    yo-yo, zipper"""

FOODS = """bun, egg, fig, nut, pea, pie, yam, bean, beet, cake, date, kiwi, leek, lime, mint, pear, plum, roll, taco,
    tart, apple, bagel, berry, grape, lemon, mango, melon, onion, peach, donut, pizza, cookie, scone, olive; almond,
    apricot, avocado, banana, biscuit, blueberry, bread roll, brownie, burger, candy cane, carrot, cashew, cheesecake,
    cherry, chestnut, chili, coconut, cracker, cranberry, croissant, cucumber, cupcake, dumpling, eclair, fish cake,
    fruit bar, fudge bar, ginger cookie, gumdrop, hazelnut, hot dog, jam tart, jelly bean, lollipop, macaroon,
    marshmallow, meatball, muffin, mushroom, nectarine, noodle, oat cake, omelet, orange, pancake, papaya, parsnip,
    pastry, peanut, pecan, pepper, pickle, pineapple, popcorn ball, popsicle, potato/potatoes, pretzel, prune, pudding,
    pumpkin, radish, raisin, raspberry, rice cake, sandwich, sausage, seed cake, shortcake, snow cone, spring roll,
    strawberry, strudel, sugar cube, sundae, tangerine, toffee, tomato/tomatoes, truffle, turnip, wafer, waffle,
    walnut, watermelon"""

CRAFTS = """bag, box, cap, hat, pot, toy, bell, boat, book, card, coat, doll, drum, flag, kite, mask; banner, basket,
    bonnet, bracelet, candle, crown, dress, flute, necklace, puppet, puzzle, quilt, rocket, scarf, shirt, sweater"""

SPOTS = """bed, fir, hut, log, bush, cart, cave, door, gate, hill, nest, oak, pond, rock, shed, sofa, step, tent, tree,
    wall, well, barn, desk, dock, arch, bench, couch, fence, stump, swing, table, tower; anthill, apple tree, armchair,
    bathtub, beehive, birch, birdcage, birdhouse, bookcase, boulder, bridge, bunk bed, cabin, cabinet, campfire, canoe,
    cedar, chimney, church, closet, coop, cottage, cradle, crib, cupboard, ditch, doghouse, dresser, elm, ferry,
    fireplace, fish tank, flower bed, footstool, fountain, fridge, greenhouse, hammock, haystack, hedge, hole, igloo,
    inn, jeep, kennel, kiosk, lamp post, lighthouse, loom, mailbox, manger, maple, mill, oven, palm tree, path, picnic
    table, pier, pillar, pine tree, porch, puddle, pump, ramp, rope swing, rose bush, sandbox, scarecrow, seesaw,
    sewing machine, shelf/shelves, signpost, silo, sink, slide, spruce, stable, statue, stove, stream, tractor,
    treehouse, trellis, trough, truck, trunk, tunnel, van, wardrobe, waterfall, wheelbarrow, willow, windmill, window,
    woodpile"""

PLACES = """bay, inn, zoo, cave, dock, farm, fair, hill, lake, park, pond, pool, port, road, shop, town, woods, beach,
    field, river, brook, creek, garden, forest; airport, attic, backyard, bakery, barnyard, basement, bus stop,
    campsite, canyon, carnival, castle, cellar, circus, city, cliff, courtyard, dairy, desert, fountain, garage, glade,
    grove, gym, harbor, hillside, ice rink, island, jungle, kitchen, lagoon, library, market, marsh, meadow, mountain,
    museum, nursery, ocean, orchard, palace, pasture, pier, playground, playroom, plaza, post office, prairie, ranch,
    reef, school, seashore, seaside, shore, square, stable, station, street, studio, swamp, theater, toy store, valley,
    village, vineyard, waterfall"""

VERBS = """bow/bowed, dig/dug, hop/hopped, hum/hummed, jog/jogged, nap/napped, row/rowed, run/ran, sew/sewed, bake,
    cook, draw/drew, hide/hid, hike, jump, play, race, read/read, rest, sing/sang, skip/skipped, spin/spun, swim/swam,
    wave, clap/clapped, climb, dance, leap, paint, roll, sail, skate, wade, camp, dive, fish, hunt, march, swing/swung,
    walk, wink; bounce, build/built, cartwheel, chant, chat/chatted, chatter, cheer, chuckle, count, crawl,
    creep/crept, cuddle, dash, daydream, dream, drum/drummed, explore, float, gallop, garden, giggle, glide, joke,
    juggle, knit/knitted, laugh, learn, listen, look, munch, nod/nodded, paddle, peek, pose, prance, pretend, scamper,
    sculpt, shout, shuffle, sketch, slide/slid, smile, snooze, somersault, splash, sprint, squirm, stomp, stretch,
    stroll, study/studied, sway/swayed, tiptoe, trot/trotted, tumble, twirl, waddle, wait, wander, whisper, whistle,
    wiggle, work, write/wrote, yawn, yodel, zoom"""

FEATS = """hop/hopped, jog/jogged, row/rowed, run/ran, jump, leap, roll, sail, skip/skipped, spin/spun, swim/swam,
    dive; climb, dance, gallop, glide, juggle, march, prance, race, skate, somersault, sprint, swing/swung,
    trot/trotted, twirl"""

ADJECTIVES = {
    "made": """big, dry, fat, new, odd, old, wet, bent, cold, cute, fine, flat, huge, icy, long, lost, neat, nice,
        pale, soft, tall, thin, tiny, torn, warm, wide, clean, dirty, fancy, light, magic, plain, round, shiny, short,
        small, bumpy, dusty, fuzzy, heavy, lovely, pretty, rusty, thick, funny; ancient, bright, chunky, colorful,
        cozy, crooked, curly, dark, enormous, famous, floppy, fluffy, frilly, giant, gigantic, glass, glossy, handy,
        hollow, large, leather, little, lumpy, metal, modern, muddy, mysterious, narrow, painted, paper, patchy,
        peculiar, perfect, plastic, puffy, quaint, ragged, rare, rough, royal, sandy, secret, silky, simple, sleek,
        slippery, smooth, sparkly, special, spiky, splendid, square, sticky, stout, strange, striped, strong, stubby,
        sturdy, tidy, tough, twisted, ugly, useful, velvet, weird, wobbly, wonderful, wooden, woolen, worn""",
    "born": """big, fat, odd, old, sad, shy, wet, bold, calm, cold, cute, fast, glad, huge, kind, lazy, lost, loud,
        nice, poor, slim, slow, soft, tall, tame, thin, tiny, warm, wild, wise, brave, busy, funny, happy, jolly,
        merry, quick, silly, young, angry, furry, gentle, hungry, noisy, proud, quiet, small; baby, bashful, beautiful,
        bony, bouncy, chatty, cheeky, cheerful, chilly, chubby, clever, clumsy, curious, dear, dizzy, dry, dusty,
        eager, fierce, fluffy, friendly, fuzzy, giant, graceful, grumpy, hairy, handsome, honest, large, little,
        lively, lonely, lovely, lucky, mighty, muddy, nervous, nimble, nosy, patient, playful, plump, polite, pretty,
        prickly, rare, restless, scruffy, shaggy, skinny, sleepy, slippery, smelly, snowy, speckled, splendid, spotted,
        strange, striped, strong, stubborn, timid, tired, wiggly, wrinkly""",
    "scenic": """big, dry, low, new, odd, old, wet, bare, cold, dark, dull, fine, high, huge, nice, pale, tall, tiny,
        warm, wide, wild, muddy, quiet, sandy, shady, small, sunny, windy; ancient, beautiful, bright, broken, chilly,
        colorful, crooked, curly, damp, distant, dusty, empty, famous, foggy, frosty, funny, giant, gloomy, golden,
        grand, grassy, hidden, hollow, icy, large, leafy, little, lonely, long, lovely, magic, misty, mossy,
        mysterious, narrow, noisy, peaceful, plain, pretty, quaint, rocky, rough, round, royal, secret, shabby, silent,
        sleepy, snowy, steep, stony, strange, thick, tidy, ugly, wonderful, wooden""",
    "taste": """big, dry, hot, cold, cool, fine, good, huge, nice, rich, ripe, soft, sour, tiny, warm, fresh, round,
        sweet, tasty, yummy, crisp, juicy, plain, salty, small, spicy, chewy, creamy, lovely, sticky; baked, bitter,
        bland, boiled, buttery, chilly, crispy, crunchy, delicious, dried, fancy, flaky, fluffy, fried, frosted,
        frozen, fruity, gigantic, glazed, gooey, grilled, healthy, homemade, large, lemony, long, lumpy, mild, minty,
        moist, mushy, nutty, peppery, perfect, roasted, savory, sliced, smoky, smooth, stuffed, sugary, tangy, tender,
        thick, thin, toasted, velvety, wonderful, zesty""",
    "hue": """red, tan, blue, gold, gray, pink, teal, black, brown, green, white, purple, silver, yellow; amber, azure,
        beige, bronze, cherry, copper, coral, cream, crimson, emerald, golden, indigo, ivory, jade, khaki, lavender,
        lemon, lilac, maroon, mauve, navy, olive, orange, ruby, rust, salmon, sapphire, scarlet, tawny, turquoise,
        violet""",
    "tint": """red, tan, gold, pink, brown, green, white, golden, purple, yellow; amber, bronze, cherry, copper, cream,
        orange, rosy, scarlet, violet""",
    "nature": """bold, calm, cool, fair, fun, good, keen, kind, mild, neat, nice, warm, wise, brave, busy, funny,
        happy, jolly, merry, quick, quiet, smart, sweet, tidy, clever, gentle, lively, loyal, polite, proud, silly,
        sunny, honest, noble, strong, tender, curious; adventurous, bashful, bouncy, bright, bubbly, carefree, careful,
        caring, charming, cheerful, crafty, daring, dreamy, eager, energetic, fearless, friendly, generous, gifted,
        giggly, graceful, grateful, handy, helpful, humble, joyful, lovable, loving, modest, nimble, nosy, obedient,
        patient, peppy, perky, playful, pleasant, plucky, popular, sensible, serious, sincere, skillful, thoughtful,
        thrifty, tough, trusty, truthful, witty, zany""",
    "glad": """calm, fine, free, glad, good, safe, warm, brave, great, happy, jolly, lucky, merry, proud, sunny,
        strong, cozy, eager, lively, pleased; amazed, blissful, bouncy, bubbly, carefree, cheerful, chirpy, content,
        delighted, elated, excited, fearless, gleeful, grateful, hopeful, joyful, jubilant, overjoyed, peaceful, perky,
        playful, radiant, relaxed, relieved, surprised, thankful, thrilled, upbeat, wonderful""",
    "sad": """blue, cold, glum, hurt, ill, mad, sad, shy, sore, weak, cross, sorry, tired, upset, lonely, hungry,
        angry, grumpy, scared, unhappy; afraid, annoyed, anxious, ashamed, awful, bored, clumsy, confused,
        disappointed, dismal, dizzy, embarrassed, empty, foolish, forgotten, frightened, frustrated, gloomy, guilty,
        heartbroken, helpless, homesick, hopeless, jumpy, lonesome, lost, miserable, moody, mournful, muddled, nervous,
        pale, puzzled, restless, shaky, sleepy, stiff, tearful, tense, terrible, thirsty, timid, troubled, uneasy,
        unlucky, weary, worried""",
    "weather": """cold, cool, dry, fine, gray, hot, nice, warm, wet, foggy, rainy, snowy, sunny, windy; autumn, balmy,
        bitter, breezy, bright, chilly, clear, cloudy, crisp, damp, dark, drizzly, dull, fresh, frosty, glorious,
        golden, gusty, hazy, humid, icy, lazy, lovely, mild, misty, muggy, pleasant, quiet, rosy, spring, steamy,
        stormy, summer, winter""",
}

SOUNDS = """bam, pop, tap, zap, beep, bonk, boom, buzz, clap, ding, fizz, hiss, honk, peep, ping, plop, snap, thud,
    toot, bang, whir, clang, click, crash, knock, splash, squeak; baa, bark, boo, bump, burr, chime, chirp, chug,
    clack, clatter, clink, clip-clop, clonk, cluck, creak, croak, crunch, ding-dong, drip, gong, growl, gurgle, hoot,
    howl, jingle, meow, moo, neigh, patter, plunk, purr, quack, rattle, ring, roar, rumble, rustle, scrape, screech,
    sizzle, slam, snort, splat, squawk, squelch, squish, swish, swoosh, thump, tick-tock, tinkle, twang, tweet, whack,
    wham, whoosh, woof, yelp, zing"""

NUMBERS = "two, three, four, five, six, seven, eight, nine, ten; eleven, twelve, fifteen, twenty, forty"

SAYINGS = {
    "by": "by, near, under, behind; around, below, beside, inside, over, past",
    "oh": """Oh no, Oh dear; Alas, Dear me, Eek, Gosh, Good grief, Goodness, Heavens, My goodness, Oh my, Oops, Ouch,
        Uh oh""",
    "yay": "Hooray, Yay; Aha, Bravo, Goody, Hurray, Oh boy, Super, Whee, Wonderful, Woohoo, Wow, Yippee",
    "hello": """Hello, Good day; Ahoy, Excuse me, Good evening, Good morning, Greetings, Hey, Hi there, Howdy,
        Welcome""",
}

POSSESSIVES = {"she": ("her", "her", "herself"), "he": ("him", "his", "himself"), "it": ("it", "its", "itself")}
UNUSUAL_ARTICLE = {"useful": "a", "ukulele": "a", "honest": "an"}
SHARE_OF_TAIL = 0.02  # of the places a list fills, those its tail's words fill together


def article(word: str) -> str:
    """The word behind its indefinite article."""
    vowel = "an" if word[0].lower() in "aeiou" else "a"
    return f"{UNUSUAL_ARTICLE.get(word.split()[0], vowel)} {word}"


def plural(word: str) -> str:
    """The regular plural of a noun."""
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    return word[:-1] + "ies" if word.endswith("y") and word[-2] not in "aeo" else word + "s"


@cache
def make(entry: str, he: str = "it") -> Word:
    """A word with its forms, in the order of `grammar.FORMS`; `entry` may carry an unusual past or plural: run/ran.

    The same entry in two lists is one word, so that a list can avoid what was drawn from another.
    """
    base, _, other = entry.partition("/")
    him, his, himself = POSSESSIVES[he]
    pronouns = (he, him, his, himself, he.capitalize(), his.capitalize())
    past = other or base + ("d" if base.endswith("e") else "ed")
    with_article = article(base)
    capitals = (with_article[0].upper() + with_article[1:], base[0].upper() + base[1:])
    return Word((base, with_article, *capitals, *pronouns, past, other or plural(base)))


def entries(text: str) -> list[list[str]]:
    """The comma-separated entries of a list, its head's and its tail's, their white space normalised."""
    return [[" ".join(entry.split()) for entry in part.split(",")] for part in text.split(";")]


def join_lists(*texts: str) -> str:
    """Several lists as one: head to head and tail to tail, each word once and none of a head in the tail."""
    heads, tails = ([entry for text in texts for entry in entries(text)[k]] for k in (0, 1))
    return ", ".join(dict.fromkeys(heads)) + ";" + ", ".join(e for e in dict.fromkeys(tails) if e not in heads)


def weigh_words(text: str, he: str = "it") -> WordList:
    """The word list of a text: the head's words equally likely, and so the tail's, which get their small share."""
    head, tail = entries(text)
    weights = [(1 - SHARE_OF_TAIL) / len(head)] * len(head) + [SHARE_OF_TAIL / len(tail)] * len(tail)
    return WordList([make(entry, he) for entry in head + tail], weights)


def word_lists() -> dict[str, WordList]:
    """Every list of the lexicon by name."""
    texts = ADJECTIVES | SAYINGS | {
        "animal": ANIMALS,
        "thing": THINGS,
        "food": FOODS,
        "craft": CRAFTS,
        "look_thing": join_lists(ADJECTIVES["made"], ADJECTIVES["hue"]),
        "look_animal": join_lists(ADJECTIVES["born"], ADJECTIVES["hue"]),
        "look_spot": join_lists(ADJECTIVES["scenic"], ADJECTIVES["hue"]),
        "look_food": join_lists(ADJECTIVES["taste"], ADJECTIVES["tint"]),
        "spot": SPOTS,
        "place": PLACES,
        "verb": VERBS,
        "feat": FEATS,
        "sound": SOUNDS,
        "number": NUMBERS,
    }  # fmt: skip
    people = {name: weigh_words(text, he) for he, group in PEOPLE.items() for name, text in group.items()}
    return people | {name: weigh_words(text) for name, text in texts.items()}
