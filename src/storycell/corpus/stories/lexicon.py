"""The words of the stories, as plain data.

In: nothing.  Out: `word_lists()`, the lists by name, every word with all its forms.

The surprising decision: a list is a short head and a long tail, told apart by a semicolon. The head's words, short as
the frequent words of any language are, fill nearly all places, each as likely as the others, so that a learner meets
them thousands of times; the tail gives the stories their many words and costs little, because it is rare. A word's
sex, article and plural are forms of the word itself, so agreement needs no rules.
"""

from __future__ import annotations

from functools import cache

from storycell.corpus.stories.grammar import Word, WordList

PEOPLE = {
    "she": {
        "girl": """Amy, Ann, Eva, Ivy, Kim, Mia, Sue, Zoe, Anna, Emma, Kate, Lily, Lucy, Nora, Rose, Ruby; Ada, Alice,
            Bella, Bess, Clara, Coco, Daisy, Dora, Ella, Esme, Fay, Fern, Flora, Gina, Grace, Hana, Hazel, Helen,
            Holly, Iris, Jane, Jill, June, Kitty, Lola, Luna, Mary, May, Meg, Milly, Molly, Nell, Nina, Olga, Pam,
            Pearl, Penny, Polly, Poppy, Rita, Rosie, Sally, Sara, Sofia, Tess, Tilly, Wendy, Willa""",
        "kinswoman": "mom; aunt, big sister, godmother, grandma, granny, great aunt, mama, mother, nana, nanny",
    },
    "he": {
        "boy": """Ben, Dan, Gus, Leo, Max, Ned, Sam, Tim, Tom, Adam, Finn, Hugo, Jack, Luke, Noah, Otto; Abe, Alex,
            Andy, Bill, Bob, Boris, Bruno, Carl, Cody, Dean, Eli, Eric, Felix, Frank, Fred, Gabe, Gil, Hank, Henry,
            Ian, Ivan, Jim, Joe, Karl, Ken, Lars, Mark, Matt, Milo, Nick, Omar, Oscar, Paul, Pete, Ravi, Rob, Rory,
            Rusty, Sid, Ted, Teddy, Theo, Toby, Tony, Victor, Walt, Will, Ziggy""",
        "kinsman": "dad; big brother, cousin, father, godfather, granddad, grandpa, great uncle, papa, uncle",
    },
}

ANIMALS = """ant, ape, bat, bee, bug, cat, cow, cub, dog, eel, elk/elk, emu, fox, hen, jay, owl, pig, pup, ram, rat,
    yak, bear, bird, crab, crow, deer/deer, dove, duck, fawn, fish/fish, frog, goat, gull, hare, lamb, lion, mole,
    moth, mule, newt, pony, seal, swan, toad, wolf/wolves, worm, mouse/mice, snail; badger, beaver, beetle,
    bison/bison, bluebird, buffalo/buffalo, bunny, butterfly, calf/calves, camel, canary, caterpillar, chick, chipmunk,
    cricket, crocodile, cuckoo, dolphin, donkey, dragonfly, duckling, eagle, elephant, ferret, finch, firefly,
    flamingo, flea, foal, gecko, giraffe, gnat, goldfish/goldfish, goose/geese, gorilla, grasshopper, hamster, hawk,
    hedgehog, heron, hippo, hornet, horse, hummingbird, iguana, jaguar, kangaroo, kid, kitten, koala, ladybug, lark,
    lemur, leopard, lizard, llama, lynx, magpie, meerkat, monkey, moose/moose, ostrich, otter, ox/oxen, panda, panther,
    parrot, peacock, pelican, penguin, pigeon, piglet, puffin, puma, puppy, quail, rabbit, raccoon, raven,
    reindeer/reindeer, rhino, robin, rooster, seagull, shark, sheep/sheep, shrew, shrimp/shrimp, skunk, sloth, slug,
    sparrow, spider, squid/squid, squirrel, stag, starling, stork, swallow, tadpole, tapir, tiger, tortoise,
    trout/trout, turkey, turtle, vole, walrus, wasp, weasel, whale, woodpecker, wren, zebra"""

THINGS = """bag, bib, bow, box, can, cap, cup, fan, gem, hat, jar, jug, key, lid, map, mop, mug, net, pan, peg, pen,
    pin, pot, rug, saw, tag, tie, tin, top, toy, tub, wig, ball, bead, bell, belt, bike, boat, bone, book, boot, bowl,
    card, coat, coin, comb, doll, drum, flag, fork, kite, lamp, leaf/leaves, mask, pail, ring, rope, shoe, sled, sock,
    star, vase; acorn, anchor, apron, arrow, axe, backpack, badge, ballcap, balloon, banjo, banner, barrel, basket,
    bonnet, bottle, bracelet, brick, broom, brush, bubble, bucket, buggy, bugle, button, camera, candle, cape, cart,
    castle, chain, chair, chalkboard, chest, clock, collar, cork, cradle, crate, crayon, crown, crystal, cube, cushion,
    dress, drill, envelope, feather, fiddle, flashlight, flower, flute, fossil, globe, glove, gown, guitar, hammer,
    handbag, harp, helmet, hood, hook, hoop, horn, jacket, jersey, jewel, jump rope, kazoo, kettle, knapsack, knot,
    ladder, ladle, lantern, letter, locket, lunchbox, magnet, marble, medal, mirror, mitten, nail, napkin, necklace,
    needle, notebook, paddle, paintbrush, parasol, pearl, pebble, pencil, piano, picture, pillow, pinecone, pinwheel,
    pipe, plank, plate, poncho, postcard, pouch, puppet, purse, puzzle, quill, quilt, raft, rake, rattle, ribbon, robe,
    robot, rocket, ruler, sack, sail, sandal, satchel, scarf/scarves, scooter, seed, shawl, shell, shield, shirt,
    shovel, skate, skateboard, skirt, slipper, spade, spinning top, sponge, spool, spoon, spring, stamp, stick,
    sticker, stone, stool, string, sundial, sweater, tambourine, teacup, teapot, teddy bear, telescope, tent, thimble,
    thread, tile, toolbox, toy bus, toy car, toy plane, toy ship, toy train, toy truck, tray, trumpet, tuba, twig,
    ukulele, umbrella, rod, oar, vest, violin, wagon, wallet, wand, watch, wheel, whisk, whistle, wreath, xylophone,
    yo-yo, zipper"""

FOODS = """bun, egg, fig, nut, pea, pie, yam, bean, beet, cake, date, kiwi, leek, lime, pear, plum, roll, tart, apple,
    bagel, berry, grape, lemon, mango, melon, olive, onion, peach, scone; almond, apricot, avocado, banana, biscuit,
    blueberry, bread roll, brownie, burger, candy cane, carrot, cashew, cheesecake, cherry, chestnut, chili, coconut,
    cookie, cracker, cranberry, croissant, cucumber, cupcake, donut, dumpling, eclair, fish cake, fruit bar, fudge bar,
    ginger cookie, gumdrop, hazelnut, hot dog, jam tart, jelly bean, lollipop, macaroon, marshmallow, meatball, mint,
    muffin, mushroom, nectarine, noodle, oat cake, omelet, orange, pancake, papaya, parsnip, pastry, peanut, pecan,
    pepper, pickle, pineapple, pizza, popcorn ball, popsicle, potato/potatoes, pretzel, prune, pudding, pumpkin,
    radish, raisin, raspberry, rice cake, sandwich, sausage, seed cake, shortcake, snow cone, spring roll, strawberry,
    strudel, sugar cube, sundae, taco, tangerine, toffee, tomato/tomatoes, truffle, turnip, wafer, waffle, walnut,
    watermelon"""

CRAFTS = """bag, box, cap, hat, pot, toy, bell, boat, book, card, coat, doll, drum, flag, kite, mask; banner, basket,
    bonnet, bracelet, candle, crown, dress, flute, necklace, puppet, puzzle, quilt, rocket, scarf, shirt, sweater"""

SPOTS = """bed, hut, log, bush, cart, door, gate, hill, nest, oak, pond, rock, shed, sofa, step, tent, tree, wall,
    well, barn, bench, couch, fence, table; anthill, apple tree, arch, armchair, bathtub, beehive, birch, birdcage,
    birdhouse, bookcase, boulder, bridge, bunk bed, cabin, cabinet, campfire, canoe, cave, cedar, chimney, church,
    closet, coop, cottage, cradle, crib, cupboard, desk, ditch, dock, doghouse, dresser, elm, ferry, fir, fireplace,
    fish tank, flower bed, footstool, fountain, fridge, greenhouse, hammock, haystack, hedge, hole, igloo, inn, jeep,
    kennel, kiosk, lamp post, lighthouse, loom, mailbox, manger, maple, mill, oven, palm tree, path, picnic table,
    pier, pillar, pine tree, porch, puddle, pump, ramp, rope swing, rose bush, sandbox, scarecrow, seesaw, sewing
    machine, shelf/shelves, signpost, silo, sink, slide, spruce, stable, statue, stove, stream, stump, swing, tower,
    tractor, treehouse, trellis, trough, truck, trunk, tunnel, van, wardrobe, waterfall, wheelbarrow, willow, windmill,
    window, woodpile"""

PLACES = """bay, inn, zoo, cave, dock, farm, fair, hill, lake, park, pond, pool, port, road, shop, town, woods, beach,
    field, river; airport, attic, backyard, bakery, barnyard, basement, brook, bus stop, campsite, canyon, carnival,
    castle, cellar, circus, city, cliff, courtyard, creek, dairy, desert, forest, fountain, garage, garden, glade,
    grove, gym, harbor, hillside, ice rink, island, jungle, kitchen, lagoon, library, market, marsh, meadow, mountain,
    museum, nursery, ocean, orchard, palace, pasture, pier, playground, playroom, plaza, post office, prairie, ranch,
    reef, school, seashore, seaside, shore, square, stable, station, street, studio, swamp, theater, toy store, valley,
    village, vineyard, waterfall"""

VERBS = """bow/bowed, dig/dug, hop/hopped, hum/hummed, jog/jogged, nap/napped, row/rowed, run/ran, sew/sewed, bake,
    camp, cook, draw/drew, hide/hid, hike, jump, leap, nod/nodded, paint, play, race, read/read, rest, roll, sail,
    sing/sang, skip/skipped, spin/spun, swim/swam, wade, wave, clap/clapped, climb, dance, skate, swing/swung; bounce,
    build/built, cartwheel, chant, chat/chatted, chatter, cheer, chuckle, count, crawl, creep/crept, cuddle, dash,
    daydream, dive, dream, drum/drummed, explore, fish, float, gallop, garden, giggle, glide, hunt, joke, juggle,
    knit/knitted, laugh, learn, listen, look, march, munch, paddle, peek, pose, prance, pretend, scamper, sculpt,
    shout, shuffle, sketch, slide/slid, smile, snooze, somersault, splash, sprint, squirm, stomp, stretch, stroll,
    study/studied, sway/swayed, tiptoe, trot/trotted, tumble, twirl, waddle, wait, walk, wander, whisper, whistle,
    wiggle, wink, work, write/wrote, yawn, yodel, zoom"""

FEATS = """hop/hopped, jog/jogged, row/rowed, run/ran, jump, leap, race, roll, sail, skip/skipped, spin/spun,
    swim/swam, climb, dance, skate, swing/swung; gallop, glide, juggle, march, prance, somersault, sprint,
    trot/trotted, twirl"""

ADJECTIVES = {
    "made": """big, dry, fat, new, odd, old, wet, bent, cold, cute, fine, flat, long, lost, neat, nice, pale, soft,
        tall, thin, tiny, torn, warm, wide, clean, dirty, fancy, funny, heavy, light, magic, plain, round, shiny,
        short, small; ancient, bright, bumpy, chunky, colorful, cozy, crooked, curly, dark, dusty, enormous, famous,
        floppy, fluffy, frilly, fuzzy, giant, gigantic, glass, glossy, handy, hollow, huge, icy, large, leather,
        little, lovely, lumpy, metal, modern, muddy, mysterious, narrow, painted, paper, patchy, peculiar, perfect,
        plastic, pretty, puffy, quaint, ragged, rare, rough, royal, rusty, sandy, secret, silky, simple, sleek,
        slippery, smooth, sparkly, special, spiky, splendid, square, sticky, stout, strange, striped, strong, stubby,
        sturdy, thick, tidy, tough, twisted, ugly, useful, velvet, weird, wobbly, wonderful, wooden, woolen, worn""",
    "born": """big, dry, fat, odd, old, sad, shy, wet, bold, calm, cold, cute, fast, glad, kind, lazy, lost, loud,
        nice, poor, slim, slow, soft, tall, tame, thin, tiny, warm, wild, wise, brave, busy, funny, happy, hungry,
        jolly, merry, noisy, proud, quick, quiet, silly, small, young; baby, bashful, beautiful, bony, bouncy, chatty,
        cheeky, cheerful, chilly, chubby, clever, clumsy, curious, dear, dizzy, dusty, eager, fierce, fluffy, friendly,
        furry, fuzzy, gentle, giant, graceful, grumpy, hairy, handsome, honest, huge, large, little, lively, lonely,
        lovely, lucky, mighty, muddy, nervous, nimble, nosy, patient, playful, plump, polite, pretty, prickly, rare,
        restless, scruffy, shaggy, skinny, sleepy, slippery, smelly, snowy, speckled, splendid, spotted, strange,
        striped, strong, stubborn, timid, tired, wiggly, wrinkly""",
    "scenic": """big, dry, low, new, odd, old, wet, cold, dark, dull, fine, huge, nice, pale, tall, tiny, warm, wide,
        dusty, funny, muddy, round, shady, small, sunny, lovely; ancient, bare, beautiful, bright, broken, chilly,
        colorful, crooked, curly, damp, distant, empty, famous, foggy, frosty, giant, gloomy, golden, grand, grassy,
        hidden, high, hollow, icy, large, leafy, little, lonely, long, magic, misty, mossy, mysterious, narrow, noisy,
        peaceful, plain, pretty, quaint, quiet, rocky, rough, royal, sandy, secret, shabby, silent, sleepy, snowy,
        steep, stony, strange, thick, tidy, ugly, wild, windy, wooden, wonderful""",
    "taste": """big, hot, cold, cool, fine, good, huge, nice, rich, ripe, soft, sour, tiny, warm, fresh, juicy, plain,
        round, small, sweet, tasty, yummy, crisp, salty; baked, bitter, bland, boiled, buttery, chewy, chilly, creamy,
        crispy, crunchy, delicious, dried, fancy, flaky, fluffy, fried, frosted, frozen, fruity, gigantic, glazed,
        gooey, grilled, healthy, homemade, large, lemony, long, lovely, lumpy, mild, minty, moist, mushy, nutty,
        peppery, perfect, roasted, savory, sliced, smoky, smooth, spicy, sticky, stuffed, sugary, tangy, tender, thick,
        thin, toasted, velvety, wonderful, zesty""",
    "hue": """red, tan, blue, gold, gray, pink, black, brown, green, white; amber, azure, beige, bronze, cherry,
        copper, coral, cream, crimson, emerald, golden, indigo, ivory, jade, khaki, lavender, lemon, lilac, maroon,
        mauve, navy, olive, orange, purple, ruby, rust, salmon, sapphire, scarlet, silver, tawny, teal, turquoise,
        violet, yellow""",
    "tint": """red, tan, gold, pink, brown, green, white; amber, bronze, cherry, copper, cream, golden, orange, purple,
        rosy, scarlet, violet, yellow""",
    "nature": """bold, calm, cool, fair, fun, good, keen, kind, mild, neat, nice, warm, wise, brave, busy, funny,
        happy, jolly, loyal, merry, proud, quick, quiet, silly, smart, sunny, sweet, tidy, clever, gentle; adventurous,
        bashful, bouncy, bright, bubbly, carefree, careful, caring, charming, cheerful, crafty, curious, daring,
        dreamy, eager, energetic, fearless, friendly, generous, gifted, giggly, graceful, grateful, handy, helpful,
        honest, humble, joyful, lively, lovable, loving, modest, nimble, noble, nosy, obedient, patient, peppy, perky,
        playful, pleasant, plucky, polite, popular, sensible, serious, sincere, skillful, strong, tender, thoughtful,
        thrifty, tough, trusty, truthful, witty, zany""",
    "glad": """calm, fine, free, glad, good, safe, warm, brave, cozy, great, happy, jolly, lucky, merry, proud, sunny,
        strong, pleased; amazed, blissful, bouncy, bubbly, carefree, cheerful, chirpy, content, delighted, eager,
        elated, excited, fearless, gleeful, grateful, hopeful, joyful, jubilant, lively, overjoyed, peaceful, perky,
        playful, radiant, relaxed, relieved, surprised, thankful, thrilled, upbeat, wonderful""",
    "sad": """blue, cold, glum, hurt, ill, mad, sad, shy, weak, cross, sorry, tired, upset, gloomy, hungry, lonely,
        scared; afraid, angry, annoyed, anxious, ashamed, awful, bored, clumsy, confused, disappointed, dismal, dizzy,
        embarrassed, empty, foolish, forgotten, frightened, frustrated, grumpy, guilty, heartbroken, helpless,
        homesick, hopeless, jumpy, lonesome, lost, miserable, moody, mournful, muddled, nervous, pale, puzzled,
        restless, shaky, sleepy, stiff, tearful, tense, terrible, thirsty, timid, troubled, uneasy, unhappy, unlucky,
        weary, worried""",
    "weather": """cold, cool, dry, fine, gray, hot, nice, warm, wet, foggy, rainy, snowy, sunny, windy; autumn, balmy,
        bitter, breezy, bright, chilly, clear, cloudy, crisp, damp, dark, drizzly, dull, fresh, frosty, glorious,
        golden, gusty, hazy, humid, icy, lazy, lovely, mild, misty, muggy, pleasant, quiet, rosy, spring, steamy,
        stormy, summer, winter""",
}

SOUNDS = """pop, tap, bonk, boom, buzz, clap, ding, fizz, hiss, honk, plop, snap, thud, toot, bang, clang, click,
    clonk, crash, crunch, knock, splash, squeak, whoosh; baa, bark, beep, boo, bump, burr, chime, chirp, chug, clack,
    clatter, clink, clip-clop, cluck, creak, croak, ding-dong, drip, gong, growl, gurgle, hoot, howl, jingle, meow,
    moo, neigh, patter, peep, ping, plunk, purr, quack, rattle, ring, roar, rumble, rustle, scrape, screech, sizzle,
    slam, snort, splat, squawk, squelch, squish, swish, swoosh, thump, tick-tock, tinkle, twang, tweet, whack, wham,
    whir, woof, yelp, zap, zing"""

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
SHARE_OF_TAIL = 0.04  # of the places a list fills, those its tail's words fill together


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


def joined(*texts: str) -> str:
    """Several lists as one: head to head and tail to tail, each word once and none of a head in the tail."""
    heads, tails = ([entry for text in texts for entry in entries(text)[k]] for k in (0, 1))
    return ", ".join(dict.fromkeys(heads)) + ";" + ", ".join(e for e in dict.fromkeys(tails) if e not in heads)


def weighted(text: str, he: str = "it") -> WordList:
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
        "look_thing": joined(ADJECTIVES["made"], ADJECTIVES["hue"]),
        "look_animal": joined(ADJECTIVES["born"], ADJECTIVES["hue"]),
        "look_spot": joined(ADJECTIVES["scenic"], ADJECTIVES["hue"]),
        "look_food": joined(ADJECTIVES["taste"], ADJECTIVES["tint"]),
        "spot": SPOTS,
        "place": PLACES,
        "verb": VERBS,
        "feat": FEATS,
        "sound": SOUNDS,
        "number": NUMBERS,
    }  # fmt: skip
    people = {name: weighted(text, he) for he, group in PEOPLE.items() for name, text in group.items()}
    return people | {name: weighted(text) for name, text in texts.items()}
