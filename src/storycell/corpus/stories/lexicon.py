"""The words of the stories, as plain data: each list runs from the most to the least frequent word.

In: nothing.  Out: `word_lists()`, the lists by name, every word with all its forms.

The surprising decision: a word's sex, its article and the place it is at are forms of the word itself, so agreement
needs no rules: a story that binds a hero can only write that hero's pronouns.
"""

from __future__ import annotations

from functools import cache
from itertools import zip_longest

from storycell.corpus.stories.grammar import Word, WordList

PEOPLE = {
    "she": {
        "girl": """Lily, Mia, Anna, Sara, Lucy, Emma, Zoe, Ruby, Nora, Ella, Rosie, Ivy, Grace, Molly, Clara, Daisy,
            Hana, June, Nina, Tess""",
        "pet_girl": "Coco, Fluffy, Dot, Honey, Pearl, Fern, Tilly, Poppy",
        "kinswoman": "mom, grandma, aunt, big sister, mother, nanny",
    },
    "he": {
        "boy": """Tom, Ben, Max, Sam, Jack, Leo, Tim, Finn, Noah, Oscar, Theo, Billy, Hugo, Eli, Omar, Peter, Luke,
            Ravi, Felix, Gus""",
        "pet_boy": "Pip, Rusty, Teddy, Bruno, Patch, Ziggy, Milo, Otto",
        "kinsman": "dad, grandpa, uncle, big brother, father, cousin",
    },
}

THINGS = {
    "species": """rabbit, bear, fox, mouse, duck, cat, puppy, pig, frog, squirrel, hedgehog, turtle, lamb, owl, otter,
        beaver, badger, mole, goat, pony, penguin, panda, monkey, tiger, lion, elephant, koala, deer, goose, hen, donkey,
        raccoon, hamster, kangaroo, zebra, camel, seal, wolf, crocodile, hippo, giraffe, ostrich, parrot, chipmunk""",
    "critter": """bird, butterfly, bee, kitten, ladybug, snail, ant, bunny, worm, robin, duckling, spider, beetle,
        caterpillar, chick, toad, lizard, cricket, sparrow, dragonfly, grasshopper, moth, swan, crow, pigeon, firefly,
        crab, bluebird, woodpecker, tadpole, mole, newt, hummingbird, magpie, wren, finch, gecko, starling, swallow,
        seagull, heron, peacock, dove, rooster, calf, foal, weasel, bat, shrew, skunk""",
    "patient": """bird, kitten, bunny, squirrel, duckling, puppy, hedgehog, turtle, fawn, lamb, owl, mouse, robin,
        chick, frog, sparrow, piglet, crow, bee, swan, foal, otter, goose, chipmunk, pigeon, toad, seagull, cub""",
    "toy": """ball, teddy bear, doll, kite, toy car, toy train, drum, robot, puzzle, boat, yo-yo, toy truck, whistle,
        balloon, toy plane, spinning top, puppet, wagon, toy horse, trumpet, rocket, toy castle, music box, flute, hoop,
        toy rabbit, bell, magnet, jump rope, toy duck, marble, toy dinosaur, kazoo, toy bus, flashlight, toy crown,
        rattle, toy piano, toy monkey, pinwheel, toy tractor, guitar, toy dragon, toy sword, toy elephant, mask,
        toy boat, tambourine, toy lion, paper hat, toy phone, toy fish, harmonica, toy ship, toy whale, globe,
        toy owl, toy knight, frisbee, toy helicopter, toy camera, toy pirate, skateboard, scooter, toy fox, toy frog,
        toy unicorn, toy mermaid, toy turtle, banjo, toy penguin, xylophone, toy tiger, toy fire engine, toy giant,
        telescope, toy snake, ukulele, toy zebra, toy submarine""",
    "trifle": """stone, button, shell, feather, leaf, ribbon, coin, stick, key, cup, spoon, sock, acorn, box, pebble,
        glove, bottle, shoe, basket, candle, bucket, pencil, book, rope, map, jar, scarf, twig, brush, bowl, bead, card,
        pinecone, crayon, plate, wheel, ring, umbrella, lantern, mitten, comb, stamp, letter, pillow, necklace, shovel,
        teapot, clock, nut, thimble, broom, bracelet, mirror, zipper, paperclip, kettle, ladder, hammer, purse, sponge,
        envelope, napkin, chestnut, flag, pot, hook, fork, chain, sack, notebook, postcard, magnet, seed, nest, helmet,
        ladle, pin, cork, medal, badge, boot, slipper, tin, mug, barrel, bone, sticker, pocket watch, patch, whisk""",
    "snack": """cookie, cake, apple, pie, sandwich, muffin, banana, cupcake, pear, pancake, peach, orange, carrot,
        donut, plum, bun, waffle, lollipop, strawberry, biscuit, pretzel, tart, mango, cherry, pizza, brownie, egg, roll,
        melon, cracker, gingerbread man, lemon, potato, ice cream, tomato, pickle, croissant, fig, apricot, sausage,
        coconut, bagel, cheese stick, dumpling, corn cob, pineapple, meatball, kiwi, turnip, scone, eclair, omelet,
        chocolate bar, candy cane, milkshake, burger, hot dog, noodle, radish, nectarine""",
    "dish": """soup, bread, milk, honey, jam, juice, cheese, tea, rice, butter, popcorn, cocoa, salad, water, pasta,
        yogurt, pudding, porridge, corn, candy, lemonade, cereal, jelly, chocolate, oatmeal, cream, stew, spaghetti,
        fudge, syrup, cider, toast, ham, custard, toffee, gravy, broth, fish, chicken, celery, spinach, pumpkin,
        broccoli, peanut butter, lettuce, trail mix, watermelon, caramel, cabbage, macaroni""",
    "clothes": """hat, coat, shirt, dress, scarf, sweater, jacket, cap, raincoat, belt, vest, bow, apron, cape, hoodie,
        bow tie, costume, helmet, backpack, ribbon, necklace, robe, crown, tie, poncho, bandana, cardigan, watch,
        bonnet, shawl, badge, bracelet, waistcoat, headband, flower crown, beret, cloak, collar, sash, tunic""",
    "furniture": """bed, table, couch, chair, box, shelf, door, rug, basket, lamp, desk, pillow, blanket, curtain, clock,
        fridge, stove, window, closet, piano, stairs, cupboard, bench, dresser, bathtub, bookcase, sink, bucket, stool,
        plant, mirror, toy chest, oven, cushion, fireplace, drawer, crib, laundry basket, wardrobe, trash can, sofa,
        armchair, ladder, radiator, suitcase, television, cabinet, mat, washing machine, broom""",
    "landmark": """tree, bush, rock, log, bench, flower bed, fence, bridge, gate, stump, hedge, stone wall, pond, swing,
        slide, wagon, path, oak, barn, well, hill, cart, shed, statue, sign, fountain, hollow log, stream, haystack,
        tent, berry bush, doghouse, mushroom, pine tree, picnic table, mailbox, puddle, anthill, apple tree, boulder,
        bucket, birdhouse, willow, tower, scarecrow, wheelbarrow, lamp post, cottage, seesaw, ditch, beehive, waterfall,
        maple tree, rose bush, tractor, windmill, cave, trough, greenhouse, campfire""",
    "plant": """flower, rose, tree, daisy, tulip, sunflower, mushroom, bush, lily, violet, daffodil, leaf, fern, poppy,
        clover, dandelion, vine, bluebell, buttercup, orchid, iris, thistle, lilac, cactus, marigold, berry, pansy,
        weed, snowdrop, peony, pumpkin, reed, primrose, toadstool, jasmine, hyacinth, sapling, lavender bush,
        petunia, crocus""",
    "picture": """dragon, castle, rocket, rainbow, princess, dinosaur, pirate ship, fairy, robot, monster, king, unicorn,
        whale, mermaid, giant, wizard, star, train, knight, spaceship, elephant, clown, pirate, snowman, shark, queen,
        dolphin, witch, treasure chest, lion, octopus, moon, volcano, airplane, circus, island, submarine, camel, crown,
        tiger, ghost, heart, alien, lighthouse, carousel, superhero, sailboat, jungle, troll, planet, tornado, wagon,
        phoenix, kraken, hot air balloon, prince, jellyfish, tower, parade, comet""",
    "vehicle": """car, bus, truck, train, bike, boat, plane, tractor, van, taxi, wagon, ship, fire truck, scooter,
        motorbike, helicopter, tram, ferry, digger, police car, balloon, jeep, canoe, carriage, sled, ambulance""",
    "job": """baker, farmer, teacher, doctor, mailman, nurse, neighbor, gardener, fireman, clown, painter, policeman,
        singer, shopkeeper, driver, cook, dancer, sailor, builder, pilot, fisherman, librarian, butcher, tailor,
        shepherd, carpenter, magician, dentist, barber, juggler, hunter, ranger, waiter, vet, plumber, florist, mayor,
        milkman, miller, drummer, cowboy, captain, blacksmith, king, potter""",
    "home": """house, cottage, cabin, village, town, castle, tent, hut, apartment, treehouse, mansion, tower, barn,
        houseboat, lighthouse, palace, bakery, inn, windmill""",
    "den": """den, nest, burrow, cave, hollow tree, hole, hut, barn, log, cottage, tunnel, stable, thicket, treehouse,
        tent, shed, cabin, shelter, grotto, mushroom house""",
    "limb": "leg, foot, tail, ear, nose, back, neck, side, head, tummy",
    "noise": """bang, thump, creak, crash, howl, scratch, knock, rumble, roar, squeak, growl, boom, tap, hiss, click,
        groan, whistle, clang, buzz, splash, rattle, crunch, moan, snap, screech, hoot, whisper, thud, pop, snort, clatter,
        grunt, rustle, shriek, drip, hum""",
    "mender": """glue, tape, string, paint, thread, wire, paper, cloth, yarn, ribbon, clay, wood, rope, nails, cardboard,
        wax, felt, cotton, leather, plaster, paste, twine, foil, buttons, screws, bandages""",
}

PLACES = {
    "outdoor": """park, beach, garden, forest, playground, hill, lake, yard, field, pond, meadow, farm, woods, river, zoo,
        village, market, orchard, mountain, stream, jungle, fair, valley, island, bridge, harbor, barnyard, campsite, town,
        swamp, seaside, backyard, brook, desert, circus, cliff, vineyard, creek, alley, waterfall, courtyard, shore,
        pasture, grove, train station, canyon, dock, glade, fountain, marsh, hillside, carnival""",
    "indoor": """kitchen, bedroom, living room, attic, playroom, hallway, library, basement, shop, classroom, barn, garage,
        bathroom, dining room, tent, toy store, nursery, cellar, bakery, museum, laundry room, pantry, sunroom""",
}

ACTIVITIES = """run/ran, dance/danced, sing/sang, play/played, read/read, paint/painted, draw/drew, jump/jumped,
    swim/swam, climb/climbed, skip/skipped, cook/cooked, hop/hopped, hum/hummed, dig/dug, sail/sailed, laugh/laughed,
    clap/clapped, slide/slid, swing/swung, build/built, hide/hid, giggle/giggled, march/marched, explore/explored,
    bounce/bounced, roll/rolled, whistle/whistled, splash/splashed, spin/spun, race/raced, crawl/crawled, bake/baked,
    count/counted, dream/dreamed, wiggle/wiggled, juggle/juggled, sew/sewed, skate/skated, twirl/twirled, knit/knitted,
    wander/wandered, tumble/tumbled, yodel/yodeled, gallop/galloped, stretch/stretched, tiptoe/tiptoed, nap/napped,
    chatter/chattered, float/floated, row/rowed, stomp/stomped, hike/hiked, shout/shouted, fish/fished, camp/camped"""

ADJECTIVES = {
    "color": """red, blue, green, yellow, pink, purple, white, orange, brown, black, gold, silver, gray, tan, violet,
        turquoise, golden, ruby, cream, teal, scarlet, crimson, lilac, emerald, bronze, indigo, peach, navy, maroon""",
    "trait": """big, small, tiny, little, large, huge, long, tall, short, shiny, new, old, pretty, soft, special, bright, funny, nice, wooden, round, lovely, smooth, strange,
        colorful, beautiful, clean, striped, fancy, dusty, sparkly, heavy, plain, fuzzy, magic, spotted, broken, dirty,
        light, square, strong, simple, painted, muddy, cute, glowing, crooked, rusty, cheap, noisy, velvet, thin,
        glittery, wet, perfect, odd, flat, bumpy, rough, ugly, hollow, curly, dented, plastic, gigantic, silky,
        wide, giant, enormous, skinny, floppy, lumpy, secret, famous, borrowed,
        ancient, modern, woolen, sticky, polished, metal, handmade, delicate""",
    "nature": """happy, kind, brave, good, curious, friendly, clever, sweet, shy, funny, nice, gentle, silly, smart,
        cheerful, quiet, playful, busy, polite, lively, honest, careful, helpful, jolly, loving, proud, noisy, bold,
        lucky, lonely, patient, sleepy, merry, messy, calm, strong, caring, energetic, wise, stubborn, grumpy, thoughtful,
        generous, restless, lazy, bouncy, dreamy, modest, neat, clumsy, eager, fearless, tidy, naughty, impatient,
        hungry, obedient, adventurous, chatty, fair""",
    "praise": """kind, good, brave, nice, clever, sweet, gentle, smart, friendly, funny, helpful, careful, wise, polite,
        cheerful, honest, patient, caring, loving, strong, generous, thoughtful, calm, playful, fair, jolly, bold, lovely,
        fearless, merry, bright, wonderful, warm, fun, great, lively, modest, true, special, quick, neat, grateful""",
    "spooky": """scary, spooky, strange, creepy, eerie, loud, weird, dark, terrible, ghostly, mysterious, awful, odd,
        horrible, frightful, gloomy, wild, fierce""",
    "glad": """happy, glad, proud, excited, cheerful, joyful, thankful, pleased, delighted, relieved, merry, grateful,
        lucky, thrilled, calm, amazed, jolly, content, hopeful, peaceful, overjoyed, surprised, brave, gleeful, playful, bouncy,
        giddy, carefree, sunny""",
    "sorry": """sad, worried, upset, lonely, unhappy, nervous, scared, sorry, gloomy, tired, hurt, angry, helpless,
        puzzled, confused, miserable, anxious, afraid, disappointed, grumpy, lost, embarrassed, ashamed, troubled, alone,
        cross, blue, heartbroken, bitter, shy, small, shaky, weary, glum""",
    "afraid": """scared, afraid, frightened, nervous, worried, shaky, alarmed, startled, uneasy, terrified, anxious,
        puzzled""",
    "creature": """small, tiny, little, fluffy, happy, brown, white, baby, furry, busy, gray, fat, pretty, hungry, shy,
        funny, sleepy, black, fast, slow, noisy, young, yellow, gentle, spotted, quick, old, chubby, friendly, silly,
        skinny, wet, golden, speckled, striped, playful, lost, round, muddy, grumpy, lazy, soft, beautiful, nosy, plump,
        cheeky, timid, wild, tame, graceful""",
    "scene": """big, sunny, quiet, green, pretty, old, busy, little, lovely, beautiful, peaceful, wide, windy, nearby,
        small, shady, calm, cool, bright, empty, muddy, warm, misty, grassy, noisy, crowded, magical, dusty, rocky,
        cozy, secret, breezy, famous, hidden, foggy, leafy, faraway, golden, sandy, silent""",
    "room": """cozy, warm, small, big, quiet, messy, bright, dark, little, sunny, tidy, dusty, clean, old, cold, empty,
        large, noisy, gloomy, colorful, crowded, chilly, tiny, fancy, stuffy, snug""",
    "taste": """sweet, yummy, big, warm, tasty, fresh, delicious, soft, hot, crunchy, juicy, small, creamy, sour,
        chewy, salty, sticky, cold, ripe, crispy, plain, spicy, golden, sugary, healthy, fluffy, buttery, minty, tangy,
        frozen, fruity, nutty, mushy, smoky, homemade, wonderful""",
    "weather": """sunny, warm, cold, windy, bright, rainy, hot, cloudy, cool, quiet, snowy, foggy, lovely, beautiful,
        breezy, gray, chilly, fine, misty, crisp, frosty, busy, lazy, golden, stormy, humid, mild, clear, dull""",
    "wet": """gray, dark, cold, heavy, wet, gloomy, stormy, windy, dull, chilly, long, soft, noisy, endless, dreary,
        steady, drizzly, foggy, muddy""",
    "eerie": """loud, strange, scary, soft, weird, funny, spooky, deep, odd, low, sharp, creepy, long, faint, sudden,
        eerie, terrible, high, hollow, mysterious, slow, awful, muffled, tiny, horrible""",
    "idea": """good, great, wonderful, fun, clever, kind, lovely, nice, smart, super, perfect, fine, brilliant, amazing,
        fantastic, splendid, terrific, marvelous, awesome, neat, magnificent, superb""",
    "hair": "curly, long, short, messy, straight, soft, wavy, shiny, thick, neat, fluffy, smooth, spiky, tangled, silky",
    "coat": "soft, fluffy, shiny, thick, messy, fuzzy, smooth, clean, silky, curly, short, shaggy, long, woolly, warm",
}

MANNERS = {
    "gladly": """happily, loudly, proudly, cheerfully, gladly, excitedly, brightly, merrily, joyfully, warmly, quickly,
        sweetly, eagerly, gleefully, wildly, boldly, playfully, jokingly, grandly, breathlessly""",
    "kindly": """softly, gently, kindly, calmly, quietly, warmly, slowly, sweetly, wisely, politely, tenderly, patiently,
        lovingly, thoughtfully, simply, carefully, firmly, cheerfully, honestly""",
    "sadly": """sadly, quietly, softly, slowly, shyly, nervously, weakly, unhappily, gloomily, glumly, bitterly,
        helplessly, tearfully, miserably, hopelessly""",
    "carefully": """carefully, slowly, quietly, quickly, bravely, gently, patiently, nervously, boldly, calmly, softly,
        silently, eagerly, steadily, cautiously, busily, thoroughly, gingerly, neatly, suddenly""",    "went": """went, walked, ran, skipped, hurried, raced, marched, strolled, wandered, hopped, danced, rushed, tiptoed,
        trotted, dashed, rode, galloped, hiked, zoomed, rolled, crept, bounced, climbed, jogged, scampered""",
    "cheered": """said, shouted, called, cried, cheered, laughed, yelled, sang, giggled, squealed, exclaimed, beamed,
        whooped, chuckled""",
    "moaned": """said, cried, whispered, sobbed, sighed, moaned, sniffed, wailed, mumbled, groaned, whimpered, gasped,
        muttered""",
    "told": "said, answered, replied, explained, laughed, whispered, chuckled, declared, offered, agreed, began, added",
    "very": "very, so, really, quite, a bit, rather, a little, too, truly, awfully, terribly, always, often",
    "felt": "felt, was, became, grew, looked, seemed, got, sounded",
    "loved": "loved, liked, wanted, learned, tried, hoped, wished, planned, loved most",
    "spotted": "found, saw, spotted, noticed, met, discovered, heard, passed, watched, greeted",
    "looked": "looked, searched, peeked, hunted, peered, checked, dug, felt",
    "then": """Just then, Then, Soon, Suddenly, Right then, A moment later, After a while, At that moment, Before long,
        Luckily, In a minute, Not long after, Later, All at once""",
    "at_last": """At last, Finally, In the end, Then, Soon, After a long time, After an hour, At sunset, Before dark,
        After lunch, Little by little, By noon, At the end of the day, That evening, After a nap""",
    "by": """by, near, beside, next to, under, behind, close to, in front of, not far from, around, against""",
    "virtue": """kindness, sharing, friendship, love, honesty, patience, courage, help, trust, hope, courtesy, teamwork,
        laughter, hard work, thankfulness, gentleness, forgiveness, generosity, curiosity, good manners""",
    "oh": "Oh no, Oh dear, Oh my, Uh oh, Oh, Goodness, Oops, Dear me, Alas, Gosh, My goodness, Good grief, Oh bother",
    "yay": "Hooray, Yay, Wow, Look, Yes, Hurray, Yippee, Oh boy, Goody, Woohoo, Wonderful, Yahoo, Bravo, Great",
    "hello": "Hello, Hi, Good morning, Hey, Good day, Hello there, Hi there, Greetings, Welcome, Howdy",
}

POSSESSIVES = {"she": ("her", "her", "herself"), "he": ("him", "his", "himself"), "it": ("it", "its", "itself")}
UNUSUAL_ARTICLE = {"unicorn": "a", "ukulele": "a", "honest": "an", "eerie": "an"}


def article(word: str) -> str:
    """The word behind its indefinite article."""
    vowel = "an" if word[0].lower() in "aeiou" else "a"
    return f"{UNUSUAL_ARTICLE.get(word.split()[0], vowel)} {word}"


@cache
def make(entry: str, he: str = "it", kind: str = "") -> Word:
    """A word with its forms, in the order of `grammar.FORMS`; `entry` may carry a past tense: run/ran.

    The same entry in two lists is one word, so that a list can avoid what was drawn from another.
    """
    base, _, past = entry.partition("/")
    him, his, himself = POSSESSIVES[he]
    pronouns = (he, him, his, himself, he.capitalize(), his.capitalize())
    with_article = article(base)
    return Word(
        (base, with_article, with_article.capitalize(), base[0].upper() + base[1:], *pronouns, past, kind)
    )


def entries(text: str) -> list[str]:
    """The comma-separated entries of a list, their white space normalised."""
    return [" ".join(entry.split()) for entry in text.split(",")]


def mixed(*lists: list[Word]) -> list[Word]:
    """Several lists dealt into one by turns, each word once."""
    return list(dict.fromkeys(word for row in zip_longest(*lists) for word in row if word is not None))


def word_lists() -> dict[str, WordList]:
    """Every list of the lexicon by name."""
    lists = {
        name: [make(e, he, "beast" if name.startswith("pet_") else "child") for e in entries(text)]
        for he, group in PEOPLE.items()
        for name, text in group.items()
    }
    for group in (THINGS, ADJECTIVES, MANNERS, {"activity": ACTIVITIES}):
        lists |= {name: [make(e) for e in entries(text)] for name, text in group.items()}
    lists |= {name: [make(e, "it", name) for e in entries(text)] for name, text in PLACES.items()}
    return {name: WordList(words) for name, words in (lists | combined(lists)).items()}


def combined(lists: dict[str, list[Word]]) -> dict[str, list[Word]]:
    """The lists made of others: mixtures, and those chosen by the kind of a bound word (`near@place`)."""
    return {
        "look": mixed(lists["trait"], lists["color"]),
        "trifle": mixed(lists["trifle"], lists["toy"]),
        "critter": mixed(lists["critter"], lists["species"]),
        "creature": mixed(lists["creature"], lists["nature"]),
        "near_indoor": lists["furniture"],
        "near_outdoor": lists["landmark"],
        "helper_child": lists["job"],
        "helper_beast": lists["species"],
        "pal_child": mixed(lists["girl"], lists["boy"]),
        "pal_beast": mixed(lists["pet_girl"], lists["pet_boy"]),
        "abode_child": lists["home"],
        "abode_beast": lists["den"],
    }
