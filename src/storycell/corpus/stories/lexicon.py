"""The words of the stories, as plain data.

In: nothing.  Out: `word_lists()`, the lists by name, every word with all its forms.

The surprising decision: as in real language, short words are the frequent ones. Each list is ranked by length (ties in
the order written), which packs more choice into each character and leaves long words to the tails. A word's sex and
article are forms of the word itself, so agreement needs no rules.
"""

from __future__ import annotations

from functools import cache
from itertools import zip_longest

from storycell.corpus.stories.grammar import Word, WordList

PEOPLE = {
    "she": {
        "girl": """Lily, Mia, Anna, Sara, Lucy, Emma, Zoe, Ruby, Nora, Ella, Rosie, Ivy, Grace, Molly, Clara,
        Daisy, Hana, June, Nina, Tess, Amy, Bella, Eva, Hazel, Kate""",
        "pet_girl": "Coco, Fluffy, Dot, Honey, Pearl, Fern, Tilly, Poppy",
        "kinswoman": "mom, grandma, aunt, big sister, mother, nanny, granny, mama, godmother, great aunt",
    },
    "he": {
        "boy": """Tom, Ben, Max, Sam, Jack, Leo, Tim, Finn, Noah, Oscar, Theo, Billy, Hugo, Eli, Omar, Peter, Luke,
        Ravi, Felix, Gus, Adam, Dan, Ian, Mark, Nick""",
        "pet_boy": "Pip, Rusty, Teddy, Bruno, Patch, Ziggy, Milo, Otto",
        "kinsman": "dad, grandpa, uncle, big brother, father, cousin, papa, granddad, godfather, great uncle",
    },
}

THINGS = {
    "species": """rabbit, bear, fox, mouse, duck, cat, puppy, pig, frog, squirrel, hedgehog, turtle, lamb, owl,
        otter, beaver, badger, mole, goat, pony, penguin, panda, monkey, tiger, lion, elephant, koala, deer,
        goose, hen, donkey, raccoon, hamster, kangaroo, zebra, camel, seal, wolf, crocodile, hippo, giraffe,
        ostrich, parrot, chipmunk, bison, moose, llama, sloth, lemur, ferret, yak, walrus, meerkat, rhino,
        buffalo, leopard, gorilla, puma, jaguar, emu, tapir, lynx""",
    "critter": """bird, butterfly, bee, kitten, ladybug, snail, ant, bunny, worm, robin, duckling, spider, beetle,
        caterpillar, chick, toad, lizard, cricket, sparrow, dragonfly, grasshopper, moth, swan, crow, pigeon,
        firefly, crab, bluebird, woodpecker, tadpole, mole, newt, hummingbird, magpie, wren, finch, gecko,
        starling, swallow, seagull, heron, peacock, dove, rooster, calf, foal, weasel, bat, shrew, skunk,
        ladybird, eagle, hawk, stork, cub, fly, wasp, slug, quail, jay, lark, raven, canary, cuckoo, crane, eel,
        trout, kitty, pup, piglet, gnat, flea, shrimp, mule, ram, cow, horse, sheep, stag, hare, iguana, vole,
        pelican, gull, puffin""",
    "patient": """bird, kitten, bunny, squirrel, duckling, puppy, hedgehog, turtle, fawn, lamb, owl, mouse, robin,
        chick, frog, sparrow, piglet, crow, bee, swan, foal, otter, goose, chipmunk, pigeon, toad, seagull, cub,
        kid, calf, gull, wren, vole, hare, finch, jay, cat, pup, dove, mole, newt""",
    "toy": """ball, teddy bear, doll, kite, toy car, toy train, drum, robot, puzzle, boat, yo-yo, toy truck,
        whistle, balloon, toy plane, spinning top, puppet, wagon, toy horse, trumpet, rocket, toy castle, music
        box, flute, hoop, toy rabbit, bell, magnet, jump rope, toy duck, marble, toy dinosaur, kazoo, toy bus,
        flashlight, toy crown, rattle, toy piano, toy monkey, pinwheel, toy tractor, guitar, toy dragon, toy
        sword, toy elephant, mask, toy boat, tambourine, toy lion, paper hat, toy phone, toy fish, harmonica,
        toy ship, toy whale, globe, toy owl, toy knight, frisbee, toy helicopter, toy camera, toy pirate,
        skateboard, scooter, toy fox, toy frog, toy unicorn, toy mermaid, toy turtle, banjo, toy penguin,
        xylophone, toy tiger, toy fire engine, toy giant, telescope, toy snake, ukulele, toy zebra, toy
        submarine""",
    "trifle": """stone, button, shell, feather, leaf, ribbon, coin, stick, key, cup, spoon, sock, acorn, box,
        pebble, glove, bottle, shoe, basket, candle, bucket, pencil, book, rope, map, jar, scarf, twig, brush,
        bowl, bead, card, pinecone, crayon, plate, wheel, ring, umbrella, lantern, mitten, comb, stamp, letter,
        pillow, necklace, shovel, teapot, clock, nut, thimble, broom, bracelet, mirror, zipper, paperclip,
        kettle, ladder, hammer, purse, sponge, envelope, napkin, chestnut, flag, pot, hook, fork, chain, sack,
        notebook, postcard, magnet, seed, nest, helmet, ladle, pin, cork, medal, badge, boot, slipper, tin, mug,
        barrel, bone, sticker, pocket watch, patch, whisk, fan, hat, cap, vase, lid, tub, net, pan, rake, saw,
        axe, nail, rug, tray, crate, wand, shoelace, needle, dice, disk, horn, hose, jug, knob, knot, lamp,
        lock, log, pail, paddle, pea, peg, pipe, plank, pouch, quill, reel, rod, ruler, shield, sieve, sled,
        spade, spool, straw, strap, tile, tube, tassel, tag, vine, wrench, stool, basin, brick, bobbin, buckle,
        anchor, oar, hinge, hoe, drill, funnel, gem, diamond, pearl, crystal, fossil, bolt, spring, sail, bulb,
        cube, mop""",
    "snack": """cookie, cake, apple, pie, sandwich, muffin, banana, cupcake, pear, pancake, peach, orange, carrot,
        donut, plum, bun, waffle, lollipop, strawberry, biscuit, pretzel, tart, mango, cherry, pizza, brownie,
        egg, roll, melon, cracker, gingerbread man, lemon, potato, ice cream, tomato, pickle, croissant, fig,
        apricot, sausage, coconut, bagel, cheese stick, dumpling, corn cob, pineapple, meatball, kiwi, turnip,
        scone, eclair, omelet, chocolate bar, candy cane, milkshake, burger, hot dog, noodle, radish, nectarine,
        treat, mint, grape, olive, nut, date, taco, wrap, crepe, toffee apple, jam tart, cream puff, fruit bar,
        oat bar, cheesecake, fruit cake, meat pie, jelly bean, pea, bean, yam, beet, sweet, gumdrop,
        marshmallow, popsicle, sundae, wafer, loaf, bread stick, onion, fish cake, rice ball, raisin bun,
        pastry, drumstick, lime, papaya, pita""",
    "dish": """soup, bread, milk, honey, jam, juice, cheese, tea, rice, butter, popcorn, cocoa, salad, water,
        pasta, yogurt, pudding, porridge, corn, candy, lemonade, cereal, jelly, chocolate, oatmeal, cream, stew,
        spaghetti, fudge, syrup, cider, toast, ham, custard, toffee, gravy, broth, fish, chicken, celery,
        spinach, pumpkin, broccoli, peanut butter, lettuce, trail mix, watermelon, caramel, cabbage, macaroni,
        sugar, sauce, oats, barley, berries, grapes, nuts, beans, peas, fries, chips, cookies, plums, cherries,
        raisins, dates, noodles, peaches, pears, apples, bananas, carrots, onions, potatoes, mushrooms, eggs,
        pancakes, waffles, dumplings, tacos, bacon, mint, tofu, chili, hummus, lentils, icing, sherbet""",
    "clothes": """hat, coat, shirt, dress, scarf, sweater, jacket, cap, raincoat, belt, vest, bow, apron, cape,
        hoodie, bow tie, costume, helmet, backpack, ribbon, necklace, robe, crown, tie, poncho, bandana,
        cardigan, watch, bonnet, shawl, badge, bracelet, waistcoat, headband, flower crown, beret, cloak,
        collar, sash, tunic, sock, boot, shoe, glove, mitten, skirt, blouse, gown, kilt, wig, ring, suit,
        jersey, tiara, turban, cloth cap, sun hat, straw hat, top hat, veil, visor, parka, anorak, sweatshirt,
        collar pin, toga, hood, mask, bib""",
    "furniture": """bed, table, couch, chair, box, shelf, door, rug, basket, lamp, desk, pillow, blanket, curtain,
        clock, fridge, stove, window, closet, piano, cupboard, bench, dresser, bathtub, bookcase, sink, bucket,
        stool, plant, mirror, toy chest, oven, cushion, fireplace, drawer, crib, laundry basket, wardrobe, trash
        can, sofa, armchair, ladder, radiator, suitcase, television, cabinet, mat, washing machine, broom, bin,
        pot, cot, sofa bed, vase, heater, freezer, kettle, toolbox, hamper, footstool, trunk, globe, fan, crate,
        barrel, tub, easel, tray, rack, hook, shoe rack, fish tank, birdcage, doorway, hammock, bunk bed,
        toaster, wall, pillar, organ, harp, loom, doormat""",
    "landmark": """tree, bush, rock, log, bench, flower bed, fence, bridge, gate, stump, hedge, stone wall, pond,
        swing, slide, wagon, path, oak, barn, well, hill, cart, shed, statue, sign, fountain, hollow log,
        stream, haystack, tent, berry bush, doghouse, mushroom, pine tree, picnic table, mailbox, puddle,
        anthill, apple tree, boulder, bucket, birdhouse, willow, tower, scarecrow, wheelbarrow, lamp post,
        cottage, seesaw, ditch, beehive, waterfall, maple tree, rose bush, tractor, windmill, cave, trough,
        greenhouse, campfire, ramp, pole, pier, tank, trail, tap, arch, kiosk, booth, nest, hole, hut, ladder,
        fir, elm, birch, cedar, palm tree, pear tree, cherry tree, plum tree, fig tree, rope swing, sandbox,
        pump, silo, mill, bale, woodpile, signpost, raft, canoe, tire, kennel, coop, stable, crate, barrel,
        trellis""",
    "plant": """flower, rose, tree, daisy, tulip, sunflower, mushroom, bush, lily, violet, daffodil, leaf, fern,
        poppy, clover, dandelion, vine, bluebell, buttercup, orchid, iris, thistle, lilac, cactus, marigold,
        berry, pansy, weed, snowdrop, peony, pumpkin, reed, primrose, toadstool, jasmine, hyacinth, sapling,
        lavender bush, petunia, crocus, elm, ivy, oak, bean, melon, aster, lotus, pea, turnip, bramble, holly,
        nettle, cabbage, carrot, onion, wheat stalk, corn stalk, palm, pine, fir, birch, willow, herb, mint,
        shrub, twig, zinnia, begonia, geranium, dahlia, heather""",
    "picture": """dragon, castle, rocket, rainbow, princess, dinosaur, pirate ship, fairy, robot, monster, king,
        unicorn, whale, mermaid, giant, wizard, star, train, knight, spaceship, elephant, clown, pirate,
        snowman, shark, queen, dolphin, witch, treasure chest, lion, octopus, moon, volcano, airplane, circus,
        island, submarine, camel, crown, tiger, ghost, heart, alien, lighthouse, carousel, superhero, sailboat,
        jungle, troll, planet, tornado, wagon, phoenix, kraken, hot air balloon, prince, jellyfish, tower,
        parade, comet, cat, dog, tree, bear, fox, owl, ship, bus, car, horse, house, zoo, frog, goat, sun,
        cloud, fish, cow, clock, tent, sled, tank, truck, swan, boat, elf, ogre, imp, genie, cowboy, pony, barn,
        ape, yeti, gnome, giraffe, hippo, rhino, penguin, butterfly, parrot, peacock, zebra, seal, bridge,
        mountain, palace, farm, windmill, garden""",
    "vehicle": """car, bus, truck, train, bike, boat, plane, tractor, van, taxi, wagon, ship, fire truck, scooter,
        motorbike, helicopter, tram, ferry, digger, police car, balloon, jeep, canoe, carriage, sled, ambulance,
        cab, cart, jet, raft, tank, kayak, yacht, glider, blimp, go-kart, trolley, tricycle, unicycle, rowboat,
        buggy, camper, limo, forklift, crane, lorry, snowplow, moped""",
    "job": """baker, farmer, teacher, doctor, mailman, nurse, neighbor, gardener, fireman, clown, painter,
        policeman, singer, shopkeeper, driver, cook, dancer, sailor, builder, pilot, fisherman, librarian,
        butcher, tailor, shepherd, carpenter, magician, dentist, barber, juggler, hunter, ranger, waiter, vet,
        plumber, florist, mayor, milkman, miller, drummer, cowboy, captain, blacksmith, king, potter, artist,
        scout, judge, jockey, knight, nun, pirate, poet, porter, postman, princess, queen, sheriff, student,
        swimmer, skater, tutor, runner, maid, miner, mason, monk, lady, gentleman, stranger, boxer, chef, coach,
        guard, guide, janitor, jeweler, editor, actor, author, archer, beggar""",
    "home": """house, cottage, cabin, village, town, castle, tent, hut, apartment, treehouse, mansion, tower, barn,
        houseboat, lighthouse, palace, bakery, inn, windmill""",
    "den": """den, nest, burrow, cave, hollow tree, hole, hut, barn, log, cottage, tunnel, stable, thicket,
        treehouse, tent, shed, cabin, shelter, grotto, mushroom house""",
    "limb": "leg, foot, tail, ear, nose, back, neck, side, head, tummy, paw, knee, eye, toe, hip, chin, cheek",
    "noise": """bang, thump, creak, crash, howl, scratch, knock, rumble, roar, squeak, growl, boom, tap, hiss,
        click, groan, whistle, clang, buzz, splash, rattle, crunch, moan, snap, screech, hoot, whisper, thud,
        pop, snort, clatter, grunt, rustle, shriek, drip, hum, bark, beep, chirp, clap, ding, gasp, gong, honk,
        jingle, patter, peep, plop, purr, quack, roll, slam, slap, sneeze, sniff, swish, toot, twang, wail,
        whine, whir, yelp, zap, zoom, cough, gurgle, scrape, shuffle, sizzle, splat""",
    "mender": """glue, tape, string, paint, thread, wire, paper, cloth, yarn, ribbon, clay, wood, rope, nails,
        cardboard, wax, felt, cotton, leather, plaster, paste, twine, foil, buttons, screws, bandages, straw,
        tin, silk, lace, chalk, ink, mud, sand, sticks, moss, bark, hay, glitter, beads, shells, feathers,
        stones, wool, denim, velvet, rubber, bamboo, hooks, clips, pins, tiles, corks, stickers, bows, pebbles,
        leaves, acorns""",
}

PLACES = {
    "outdoor": """park, beach, garden, forest, playground, hill, lake, yard, field, pond, meadow, farm, river, zoo,
        village, market, orchard, mountain, stream, jungle, fair, valley, island, bridge, harbor, barnyard,
        campsite, town, swamp, seaside, backyard, brook, desert, circus, cliff, vineyard, creek, alley,
        waterfall, courtyard, shore, pasture, grove, train station, canyon, dock, glade, fountain, marsh,
        hillside, carnival, bay, lane, road, port, camp, cave, dune, park gate, plaza, plain, pier, street,
        square, stable, tree farm, trail, vale, wood, wharf, ranch, reef, ridge, school, skate park, castle,
        city, palace, ballpark, bus stop, churchyard, corn field, duck pond, fish pond, flower shop, ice rink,
        sandpit, water park""",
    "indoor": """kitchen, bedroom, living room, attic, playroom, hallway, library, basement, shop, classroom, barn,
        garage, bathroom, dining room, tent, toy store, nursery, cellar, bakery, museum, laundry room, pantry,
        sunroom, den, gym, hall, inn, loft, mill, office, studio, theater, cabin, cottage, house, hotel, school,
        stable, tower, train, bus, shed, cafe, store, palace, workshop, gallery, post office, pool house, wash
        house""",
}

ACTIVITIES = """run/ran, dance/danced, sing/sang, play/played, read/read, paint/painted, draw/drew, jump/jumped,
    swim/swam, climb/climbed, skip/skipped, cook/cooked, hop/hopped, hum/hummed, dig/dug, sail/sailed,
    laugh/laughed, clap/clapped, slide/slid, swing/swung, build/built, hide/hid, giggle/giggled, march/marched,
    explore/explored, bounce/bounced, roll/rolled, whistle/whistled, splash/splashed, spin/spun, race/raced,
    crawl/crawled, bake/baked, count/counted, dream/dreamed, wiggle/wiggled, juggle/juggled, sew/sewed,
    skate/skated, twirl/twirled, knit/knitted, wander/wandered, tumble/tumbled, yodel/yodeled, gallop/galloped,
    stretch/stretched, tiptoe/tiptoed, nap/napped, chatter/chattered, float/floated, row/rowed, stomp/stomped,
    hike/hiked, shout/shouted, fish/fished, camp/camped, ride/rode, wave/waved, glide/glided, nod/nodded,
    yawn/yawned, rest/rested, snooze/snoozed, stroll/strolled, trot/trotted, leap/leaped, dive/dived,
    drum/drummed, chant/chanted, cheer/cheered, joke/joked, bow/bowed, wink/winked, rock/rocked, sway/swayed,
    prance/pranced, jog/jogged, sprint/sprinted, shuffle/shuffled, waddle/waddled, bob/bobbed, paddle/paddled,
    fly/flew, garden/gardened, sculpt/sculpted, write/wrote, whisper/whispered, sketch/sketched,
    chuckle/chuckled, smile/smiled, squirm/squirmed, scamper/scampered, pretend/pretended, learn/learned,
    work/worked, study/studied, relax/relaxed, pose/posed, dash/dashed, creep/crept, chase/chased, kneel/knelt,
    cuddle/cuddled"""

ADJECTIVES = {
    "color": """red, blue, green, yellow, pink, purple, white, orange, brown, black, gold, silver, gray, tan,
        violet, turquoise, golden, ruby, cream, teal, scarlet, crimson, lilac, emerald, bronze, indigo, peach,
        navy, maroon, lemon, mint, rose, plum, olive, amber, azure, beige, coral, copper, khaki, mauve, rust,
        salmon, sapphire, jade, ivory, lime, apricot, cherry""",
    "trait": """big, small, tiny, little, large, huge, long, tall, short, shiny, new, old, pretty, soft, special,
        bright, funny, nice, wooden, round, lovely, smooth, strange, colorful, beautiful, clean, striped, fancy,
        dusty, sparkly, heavy, plain, fuzzy, magic, spotted, broken, dirty, light, square, strong, simple,
        painted, muddy, cute, glowing, crooked, rusty, cheap, noisy, velvet, thin, glittery, wet, perfect, odd,
        flat, bumpy, rough, ugly, hollow, curly, dented, plastic, gigantic, silky, wide, giant, enormous,
        skinny, floppy, lumpy, secret, famous, borrowed, ancient, modern, woolen, sticky, polished, metal,
        handmade, delicate, bent, blank, bold, busy, calm, carved, chilly, chunky, clear, cool, cozy, damp,
        dark, deep, dry, dull, faded, fat, fine, fresh, frilly, full, furry, grand, hairy, hard, jolly, knitted,
        loose, loud, lucky, merry, messy, misty, narrow, neat, oval, paper, pale, patched, pointy, puffy,
        quaint, quiet, rare, ragged, rich, royal, sandy, scratched, shabby, sharp, silent, silly, sleek, slim,
        slippery, snowy, solid, spiky, spiral, splendid, stiff, stout, sturdy, sunny, tame, tidy, tight, tough,
        twisted, warm, weak, weird, wild, windy, wonky, worn, zigzag""",
    "nature": """happy, kind, brave, good, curious, friendly, clever, sweet, shy, funny, nice, gentle, silly,
        smart, cheerful, quiet, playful, busy, polite, lively, honest, careful, helpful, jolly, loving, proud,
        noisy, bold, lucky, lonely, patient, sleepy, merry, messy, calm, strong, caring, energetic, wise,
        stubborn, grumpy, thoughtful, generous, restless, lazy, bouncy, dreamy, modest, neat, clumsy, eager,
        fearless, tidy, naughty, impatient, hungry, obedient, adventurous, chatty, fair, able, bashful, blunt,
        bubbly, carefree, charming, chubby, cool, crafty, daring, dear, dizzy, fancy, fast, fidgety, fussy,
        gifted, giggly, graceful, handy, humble, jumpy, keen, loud, lovable, loyal, mild, moody, nervous,
        nimble, nosy, peppy, perky, picky, plucky, popular, quick, rosy, sassy, serious, slow, sneaky, spry,
        sunny, tall, tender, timid, tough, warm, wild, witty, zany""",
    "praise": """kind, good, brave, nice, clever, sweet, gentle, smart, friendly, funny, helpful, careful, wise,
        polite, cheerful, honest, patient, caring, loving, strong, generous, thoughtful, calm, playful, fair,
        jolly, bold, lovely, fearless, merry, bright, wonderful, warm, fun, great, lively, modest, true,
        special, quick, neat, grateful, able, dear, daring, eager, excellent, gracious, handy, humble, keen,
        lovable, loyal, mild, noble, pleasant, sincere, sunny, tender, witty, splendid, tidy, skillful""",
    "spooky": """scary, spooky, strange, creepy, eerie, loud, weird, dark, terrible, ghostly, mysterious, awful,
        odd, horrible, frightful, gloomy, wild, fierce, grim, shadowy, frosty, hidden, rough, deep, hollow,
        nasty""",
    "glad": """happy, glad, proud, excited, cheerful, joyful, thankful, pleased, delighted, relieved, merry,
        grateful, lucky, thrilled, calm, amazed, jolly, content, hopeful, peaceful, overjoyed, surprised, brave,
        gleeful, playful, bouncy, giddy, carefree, sunny, cozy, eager, fine, good, great, jubilant, lively,
        perky, radiant, upbeat, wonderful, blissful, chirpy, elated, fearless, strong, kind""",
    "sorry": """sad, worried, upset, lonely, unhappy, nervous, scared, sorry, gloomy, tired, hurt, angry, helpless,
        puzzled, confused, miserable, anxious, afraid, disappointed, grumpy, embarrassed, ashamed, troubled,
        cross, blue, heartbroken, bitter, shy, shaky, weary, glum, bored, dizzy, foolish, grim, guilty, jumpy,
        moody, pale, tearful, tense, timid, uneasy, unlucky, weak, frustrated, dismal, lonesome, mournful""",
    "afraid": """scared, afraid, frightened, nervous, worried, shaky, alarmed, startled, uneasy, terrified,
        anxious, puzzled, jumpy, shy, small, tense, timid, weak, cold, dizzy, edgy, stiff, fearful, trembly,
        upset, unsure, horrified""",
    "creature": """small, tiny, little, fluffy, happy, brown, white, baby, furry, busy, gray, fat, pretty, hungry,
        shy, funny, sleepy, black, fast, slow, noisy, young, yellow, gentle, spotted, quick, old, chubby,
        friendly, silly, skinny, wet, golden, speckled, striped, playful, lost, round, muddy, grumpy, lazy,
        soft, beautiful, nosy, plump, cheeky, timid, wild, tame, graceful, bald, bony, bright, chatty, colorful,
        crafty, damp, dirty, dusty, fearless, fuzzy, glossy, green, hairy, jumpy, lanky, long, orange, pale,
        patchy, pink, prickly, red, ragged, rare, scruffy, shaggy, shiny, slim, snowy, stout, strange, stray,
        tall, tired, wiggly, wrinkly""",
    "scene": """big, sunny, quiet, green, pretty, old, busy, little, lovely, beautiful, peaceful, wide, windy,
        nearby, small, shady, calm, cool, bright, empty, muddy, warm, misty, grassy, noisy, crowded, magical,
        dusty, rocky, cozy, secret, breezy, famous, hidden, foggy, leafy, faraway, golden, sandy, silent, blue,
        bare, chilly, clean, colorful, cold, curvy, damp, deep, distant, dry, dim, fine, flat, fresh, frosty,
        grand, great, high, hot, icy, long, lonely, low, narrow, new, open, rainy, rough, royal, shiny, snowy,
        stony, strange, tidy, wild, wet, wooded""",
    "room": """cozy, warm, small, big, quiet, messy, bright, dark, little, sunny, tidy, dusty, clean, old, cold,
        empty, large, noisy, gloomy, colorful, crowded, chilly, tiny, fancy, stuffy, snug, blue, green, white,
        yellow, airy, bare, busy, cool, dim, drafty, dull, grand, high, hot, light, long, low, lovely, narrow,
        neat, new, nice, odd, open, plain, pretty, red, shady, shiny, silent, square, strange, wide, wooden""",
    "taste": """sweet, yummy, big, warm, tasty, fresh, delicious, soft, hot, crunchy, juicy, small, creamy, sour,
        chewy, salty, sticky, cold, ripe, crispy, plain, spicy, golden, sugary, healthy, fluffy, buttery, minty,
        tangy, frozen, fruity, nutty, mushy, smoky, homemade, wonderful, bitter, bland, bubbly, cool, dry, fine,
        glazed, good, great, green, grilled, lemony, light, lovely, mild, moist, nice, pink, rich, roasted,
        rolled, runny, sliced, smooth, steamy, thick, thin, toasted, tender, whipped, white, yellow, fried,
        baked, mashed, melted, syrupy, zesty, flaky, gooey, gritty, heavenly, iced, mellow, peppery, puffy,
        savory, smelly, velvety""",
    "weather": """sunny, warm, cold, windy, bright, rainy, hot, cloudy, cool, quiet, snowy, foggy, lovely,
        beautiful, breezy, gray, chilly, fine, misty, crisp, frosty, busy, lazy, golden, stormy, humid, mild,
        clear, dull, bitter, blue, calm, damp, dark, dim, dry, drizzly, fair, fresh, glorious, gusty, icy, long,
        muddy, muggy, perfect, pale, plain, pleasant, rosy, shiny, silent, still, special, strange, sweet, wet,
        wild""",
    "wet": """gray, dark, cold, heavy, wet, gloomy, stormy, windy, dull, chilly, long, soft, noisy, endless,
        dreary, steady, drizzly, foggy, muddy, black, bleak, bitter, damp, dim, fierce, icy, misty, nasty,
        pouring, rough, sad, sleety, soggy, sudden, ugly, wild, lasting, grim, murky""",
    "eerie": """loud, strange, scary, soft, weird, funny, spooky, deep, odd, low, sharp, creepy, long, faint,
        sudden, eerie, terrible, high, hollow, mysterious, slow, awful, muffled, tiny, horrible, big, bold,
        bumpy, chilling, cold, dark, dull, fierce, grim, gruff, harsh, husky, mean, nasty, new, quick, quiet,
        rough, sad, shaky, shrill, squeaky, ugly, wild, wobbly, booming, echoing, rusty""",
    "idea": """good, great, wonderful, fun, clever, kind, lovely, nice, smart, super, perfect, fine, brilliant,
        amazing, fantastic, splendid, terrific, marvelous, awesome, neat, magnificent, superb, cool, dandy,
        glorious, jolly, special, useful, wise, bright, grand, helpful, magical, pleasant, sweet, delightful,
        excellent""",
    "hair": """curly, long, short, messy, straight, soft, wavy, shiny, thick, neat, fluffy, smooth, spiky, tangled,
        silky, fine, frizzy, glossy, loose, puffy, ragged, scruffy, shaggy, sleek, springy, tidy, wild,
        windblown""",
    "coat": """soft, fluffy, shiny, thick, messy, fuzzy, smooth, clean, silky, curly, short, shaggy, long, woolly,
        warm, curled, fine, frizzy, furry, glossy, neat, patchy, plush, ragged, scruffy, sleek, spotted,
        striped, thin, tidy, wavy, wild""",
}

MANNERS = {
    "gladly": """happily, loudly, proudly, cheerfully, gladly, excitedly, brightly, merrily, joyfully, warmly,
        quickly, sweetly, eagerly, gleefully, wildly, boldly, playfully, jokingly, grandly, breathlessly,
        briskly, chirpily, delightedly, dreamily, freely, giddily, heartily, hopefully, jauntily, keenly,
        kindly, lightly, noisily, nicely, perkily, rapidly, sunnily, thankfully, triumphantly, zestfully""",
    "kindly": """softly, gently, kindly, calmly, quietly, warmly, slowly, sweetly, wisely, politely, tenderly,
        patiently, lovingly, thoughtfully, simply, carefully, firmly, cheerfully, honestly, amiably, brightly,
        clearly, coolly, dearly, earnestly, easily, fairly, fondly, freely, generously, gladly, gracefully,
        helpfully, nicely, nobly, openly, plainly, pleasantly, smoothly, soothingly, thankfully, steadily""",
    "sadly": """sadly, quietly, softly, slowly, shyly, nervously, weakly, unhappily, gloomily, glumly, bitterly,
        helplessly, tearfully, miserably, hopelessly, anxiously, blankly, bleakly, crossly, darkly, dully,
        faintly, fearfully, feebly, grimly, heavily, hoarsely, limply, meekly, mournfully, shakily, sorrowfully,
        sulkily, tiredly, timidly, wearily, worriedly""",
    "carefully": """carefully, slowly, quietly, quickly, bravely, gently, patiently, nervously, boldly, calmly,
        softly, silently, eagerly, steadily, cautiously, busily, thoroughly, gingerly, neatly, suddenly""",
    "went": """went, walked, ran, skipped, hurried, raced, marched, strolled, wandered, hopped, danced, rushed,
        tiptoed, trotted, dashed, rode, galloped, hiked, zoomed, rolled, crept, bounced, climbed, jogged,
        scampered""",
    "cheered": """said, shouted, called, cried, cheered, laughed, yelled, sang, giggled, squealed, exclaimed,
        beamed, whooped, chuckled""",
    "moaned": """said, cried, whispered, sobbed, sighed, moaned, sniffed, wailed, mumbled, groaned, whimpered,
        gasped, muttered""",
    "told": """said, answered, replied, explained, laughed, whispered, chuckled, declared, offered, agreed, began,
        added""",
    "wanted": "wanted, planned, tried, hoped, wished, decided, set out, agreed, got ready, started, began",
    "very": "very, so, really, quite, truly, ever so, oh so",
    "rather": "very, so, quite, rather, a bit, a little, really, too, awfully, terribly",
    "felt": "felt, was, became, grew, looked, seemed, got, sounded",
    "loved": "loved, liked, wanted, learned, tried, hoped, wished, planned",
    "spotted": "saw, found, spotted, noticed, met, passed, watched, greeted",
    "found": "found, saw, spotted, noticed, discovered, uncovered",
    "looked": "looked, searched, peeked, hunted, peered, checked",
    "then": """Just then, Then, Soon, Suddenly, Right then, A moment later, After a while, At that moment, Before
        long, Luckily, In a minute, Not long after, Later, All at once""",
    "at_last": """At last, Finally, In the end, Then, Soon, After a long time, After an hour, At sunset, Before
        dark, After lunch, Little by little, By noon, At the end of the day, That evening, After a nap, Just in
        time""",
    "ill": "sad, bad, gloomy, awful, terrible, unlucky, horrible, dull, hard, silly, rotten, long, miserable",
    "took": "took, carried, brought, pulled, rolled, dragged, lugged",
    "ate": "ate, had, shared, tasted, enjoyed, munched, nibbled, gobbled, finished",
    "gave": "gave, brought, handed, offered, passed",
    "box": "box, bag, basket, pocket, sack, drawer, chest, tin, jar, bucket",
    "time": "day, morning, afternoon, evening, Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday",
    "season": "spring, summer, autumn, winter",
    "by": "by, near, beside, next to, under, behind, close to, in front of, not far from",
    "virtue": """kindness, sharing, friendship, love, honesty, patience, courage, help, trust, hope, courtesy,
        teamwork, laughter, hard work, thankfulness, gentleness, forgiveness, generosity, curiosity, good
        manners, joy, care, faith, mercy, grace, caring, loyalty, humor, peace, calm, time, truth, giving,
        listening, respect, wisdom, cheer, effort, politeness, practice, daring, tenderness, a smile, a hug, a
        song""",
    "oh": """Oh no, Oh dear, Oh my, Uh oh, Oh, Goodness, Oops, Dear me, Alas, Gosh, My goodness, Good grief, Oh
        bother, Yikes, Eek, Ouch, Phew, Ugh, Uh, Ah, Aw, Eh, Heavens, Oh me, Oh help, Help, Gee, Boo, Rats, Drat""",
    "yay": """Hooray, Yay, Wow, Look, Yes, Hurray, Yippee, Oh boy, Goody, Woohoo, Wonderful, Yahoo, Bravo, Great,
        Ha, Oh yes, Whee, Hey, Oh wow, Super, Ahoy, Sweet, Cool, Oh joy, At last, Aha, Whoopee, Look here, My
        my, Nice, Good""",
    "hello": """Hello, Hi, Good morning, Hey, Good day, Hello there, Hi there, Greetings, Welcome, Howdy, Well
        hello, Good evening, Hiya, Hey there, Good afternoon, Hello friend, Hi friend, Ahoy, Pardon me, Excuse
        me""",
}

POSSESSIVES = {"she": ("her", "her", "herself"), "he": ("him", "his", "himself"), "it": ("it", "its", "itself")}
UNUSUAL_ARTICLE = {"unicorn": "a", "ukulele": "a", "useful": "a", "unicycle": "a", "honest": "an", "eerie": "an"}


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
    return Word((base, with_article, with_article.capitalize(), base[0].upper() + base[1:], *pronouns, past, kind))


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
    return {
        name: WordList(sorted(words, key=lambda word: len(word.forms[0])))
        for name, words in (lists | combined(lists)).items()
    }


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
