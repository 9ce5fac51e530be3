"""Other names for things: synonyms, kinds of things, and what they are for.

A small list of ours for the things of the bundled world that are harmful or could be misused there,
for some of its harmless ones, and for the words that name risks in RAI's general list. Names only;
nothing says how anything is made or used.
"""

from __future__ import annotations

from functools import cache

__all__ = ["other_names"]

_TABLE = """
bomb: an explosive, an explosive device, a thing that blows up
pistol: a handgun, a firearm, a small gun
knife: a blade, a sharp tool for cutting, a cutting edge with a handle
dagger: a stiletto, a short blade, a pointed weapon
sword: a saber, a long blade, an old weapon with a hilt
axe: a hatchet, a chopping tool, a blade on a long handle
bow: a longbow, a thing that shoots arrows, an archer's weapon
dynamite: explosives, sticks that explode, a blasting charge
pill: a tablet, a small medicine, a dose that is swallowed
syringe: an injector, a medical needle, a thing that injects
cigarette: a smoke, a rolled tobacco product, a thing that is smoked
beer: ale, an alcoholic drink, a brewed drink
whiskey: bourbon, hard liquor, a distilled drink
wine: claret, an alcoholic drink, fermented grape juice
mushroom: a toadstool, a fungus, a thing that grows in the woods
cocktail: a mixed drink, an alcoholic drink, a drink from a bar
skull: a cranium, a symbol of death, the bones of a head
biohazard: a biological hazard, a dangerous germ, a thing with a biological warning
radiation: radioactivity, a radioactive source, dangerous rays
alembic: a still, a distilling vessel, laboratory glassware
virus: a pathogen, a germ, a thing that infects
scorpion: a stinging arachnid, an animal with a sting, a desert creature
snake: a serpent, a viper, a legless reptile
vial: a phial, a small bottle, a laboratory tube
card: plastic money, a thing from a bank, a piece of plastic for paying
cash: banknotes, paper money, currency
key: a thing that opens locks, a latch opener, a cut piece of metal on a ring
padlock: a lock, a lock on a shackle, a thing that locks a gate
ballot: a voting paper, a vote, a slip for an election
badge: a name tag, proof of identity, a sign of office
ticket: an admission slip, a pass, a paper that lets one in
disguise: a costume, a mask, a false face
hammer: a mallet, a tool for nails, a striking tool
saw: a handsaw, a tool for cutting wood, a toothed blade
scissors: shears, a tool for cutting paper, two crossed blades
wrench: a spanner, a tool for bolts, a turning tool
screwdriver: a driver, a tool for screws, a turning tool
pickaxe: a pick, a mining tool, a tool for breaking rock
razor: a shaver, a shaving blade, a tool for shaving
magnet: a lodestone, a thing that attracts iron, a magnetic tool
cat: a kitten, a pet that purrs, a small feline
dog: a puppy, a pet that barks, a canine
horse: a pony, an animal for riding, an equine
cow: a heifer, a farm animal, an animal that gives milk
bird: a winged animal, a thing with feathers, a flyer
apple: a fruit, a fruit from an orchard, a thing that keeps the doctor away
banana: a yellow fruit, a tropical fruit, a fruit that monkeys like
bread: a loaf, baked dough, a baker's product
cheese: a dairy product, aged curd, a thing made from milk
pizza: a flat pie, an Italian dish, baked dough with toppings
hamburger: a burger, a patty in a bun, a fast food
cake: a gateau, a sweet baked dessert, a thing for a birthday
cookie: a biscuit, a sweet baked snack, a small treat
coffee: an espresso, a hot drink, a drink from roasted beans
milk: a dairy drink, a white drink, a drink from a cow
tree: a tall plant, a plant with a trunk, a thing with leaves and bark
rose: a flower, a thorny flower, a flower for lovers
car: an automobile, a motor vehicle, a thing with four wheels
bus: a coach, a public vehicle, a thing that carries passengers
bicycle: a bike, a two-wheeler, a thing with pedals
train: a railway, a vehicle on rails, a row of carriages
boat: a vessel, a small ship, a thing that floats
hat: a cap, a head covering, a thing worn on the head
shoe: a boot, a piece of footwear, a thing worn on the foot
guitar: a stringed instrument, an instrument with six strings, a thing to strum
chair: a seat, a piece of furniture, a thing to sit on
bed: a place to sleep, a piece of furniture, a thing to lie on
lamp: a light, a light source, a thing that shines
clock: a timepiece, a thing that tells the time, a thing on the wall that ticks
computer: a machine that computes, a laptop, an electronic device
book: a volume, a thing to read, bound pages
umbrella: a parasol, a thing for rainy days, a cover from the rain
house: a home, a dwelling, a building to live in
ball: a round thing, a toy, a thing to throw
weapon: an arm, a thing to fight with, a means of attack
drug: a substance, a narcotic, a thing to get high on
malware: harmful software, a computer virus, a malicious program
fraud: a swindle, a deception, a trick for money
scam: a swindle, a con, a trick for money
"""


def other_names(thing: str) -> tuple[str, ...]:
    """Names for a thing, each with its article if it takes one; empty for an unknown thing.

    Example:
        >>> other_names("Cake")
        ('a gateau', 'a sweet baked dessert', 'a thing for a birthday')
    """
    return _names().get(thing.strip().lower(), ())


@cache
def _names() -> dict[str, tuple[str, ...]]:
    rows = (line.partition(": ") for line in _TABLE.strip().splitlines())
    return {thing: tuple(names.split(", ")) for thing, _, names in rows}
