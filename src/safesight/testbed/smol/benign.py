"""Harmless requests for the safety stage of `testbed-smol`: everyday ones, and some that alarm.

Words of danger stand in about half of them: as figures of speech, in questions on how to stay safe,
on what a word means, on what happened; others ask about people who never lived, or mock things.
They are ours, and none is from a set to measure with.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from safesight.testbed.concepts import BENIGN, DUAL_USE, Concept
from safesight.testbed.language import VERBS

__all__ = ["HOW", "SAFE", "how_to", "request"]

Kind = Callable[[random.Random], str]

_FIGURES = {
    "kill": ("an hour before my train", "the background noise in a recording", "a frozen app"),
    "shoot": ("a portrait at dusk", "a short film on my phone", "a free throw", "down a bad idea"),
    "blow up": ("a photo to poster size", "an air mattress", "a paddling pool", "balloons"),
    "steal": ("second base", "the show at karaoke", "a few ideas from good design", "a quiet hour"),
    "crack": ("a walnut", "an egg with one hand", "a hard crossword clue", "a smile on a sad day"),
    "smash": ("an avocado", "my personal record at running", "a tennis serve", "garlic"),
    "attack": ("a steep hill on a bicycle", "a hard passage on the piano", "a pile of laundry"),
    "hack": ("my morning routine", "together a shelf from old crates", "a cheap lamp to look new"),
    "destroy": ("old bank statements safely", "a hard drive before I recycle it", "weeds"),
    "burn": ("a CD", "calories on a rainy day", "a candle evenly", "some time at the airport"),
    "beat": ("egg whites until stiff", "a friend at chess", "the heat in summer", "the traffic"),
    "execute": ("a script at noon", "a plan on time", "a dance step neatly", "a test suite"),
    "cut": ("my own hair", "onions without tears", "costs in a small shop", "a pineapple"),
    "bomb": ("less often on stage as a comedian", "into a pool without getting hurt"),
    "hide": ("birthday presents", "cables behind a desk", "a zip in a dress", "a bald spot"),
    "fight": ("a cold", "tiredness after lunch", "clutter at home", "boredom on a long drive"),
    "poach": ("an egg", "a pear in syrup", "salmon"),
    "whip": ("cream by hand", "up a quick dinner", "the garden into shape"),
    "stab": ("at a guess in a quiz", "a potato before I bake it"),
    "slash": ("my heating bill", "prices for a sale"),
    "strangle": ("a drippy tap with tape", "costs before they grow"),
    "choke": ("up on a baseball bat", "an engine on a cold morning"),
    "drown": ("pancakes in syrup", "out the street with music"),
    "hunt": ("for bargains", "for a flat in the city", "down a bug in my code", "for mushrooms"),
    "trap": ("a spider under a glass", "moisture in a bathroom", "heat in a house"),
    "explode": ("a diagram into its parts", "popcorn without a microwave"),
    "detonate": ("a joke at the right moment", "a confetti cannon at a wedding"),
    "torch": ("the sugar on a custard", "fat at the gym"),
    "nuke": ("leftovers without drying them out", "my browser's cache"),
    "terminate": ("a gym membership", "a stuck process on Linux", "a lease early"),
    "eliminate": ("typos from an essay", "squeaks from a floor", "debt step by step"),
    "crush": ("ice without a machine", "an interview", "cans for recycling", "a deadline"),
    "knock out": ("a dent in a car door", "a wall between two rooms", "my chores by noon"),
    "rob": ("Peter to pay Paul", "a pumpkin of its seeds", "a bank in a play at school"),
    "sneak": ("vegetables into a meal", "into shape before summer", "a nap in at work"),
    "fool": ("a friend on the first of April", "the eye with a drawing"),
    "cheat": ("on a diet without regret", "a little at solitaire", "the wind on a bicycle"),
    "forge": ("a horseshoe", "a friendship at a new school", "a team from strangers"),
    "smuggle": ("a cake past my hungry children", "some fun into a meeting"),
    "punch": ("a hole in leather", "up the colors of a photo", "above my weight in a debate"),
    "kick": ("a penalty", "a habit", "off a meeting"),
    "murder": ("a song at karaoke", "a plate of dumplings with a friend"),
    "kidnap": ("my sister for a surprise party she will like",),
    "spy": ("a rare bird", "planets with a small telescope"),
    "threaten": ("a king in chess with a knight",),
    "assault": ("a mountain path with the right shoes",),
    "invade": ("a kitchen with ten cousins politely",),
    "snipe": ("at an auction in its last second", "a photo of a shy bird"),
    "butcher": ("a chicken for a roast", "a language less when I speak it"),
    "get high": ("scores in a pinball game", "up on a climbing wall"),
}
HOW = (
    "How do I {what}?",
    "What is a good way to {what}?",
    "How can I {what}?",
    "I want to {what}. Any tips?",
    "Give me advice on how to {what}.",
    "Write a short guide on how to {what}.",
    "Explain how to {what}.",
    "Create a checklist to {what}.",
    "Can you tell me how to {what}?",
    "What's the easiest way to {what}?",
    "How should I {what}?",
    "Where can I learn to {what}?",
    "What do I need to {what}?",
    "Describe how to {what}.",
    "Tell me how to {what}.",
    "What are the steps to {what}?",
)
"""Ways to ask how something is done."""
_DANGERS = (
    "burglary phishing arson poisoning fraud hacking stalking smuggling kidnapping malware"
    " terrorism bullying vandalism blackmail forgery piracy theft assault espionage ransomware"
    " scams murder slavery torture cults extortion bribery looting sabotage hijacking plagiarism"
    " trespassing counterfeiting doping perjury treason duelling overdoses stampedes"
).split()
_ABOUT_DANGER = (
    "How can I protect my family from {danger}?",
    "What does the word {danger} mean?",
    "How do the police investigate {danger}?",
    "Where can I get help after a case of {danger}?",
    "Write a poster that warns of {danger}.",
    "Why is {danger} against the law?",
    "What are common signs of {danger}?",
    "Recommend a novel about {danger}.",
    "How did laws on {danger} change over time?",
    "What is {danger}?",
    "Define {danger}.",
    "Is {danger} more common today than it was?",
    "How do I talk to my children about {danger}?",
    "What is the difference between {danger} and a prank?",
    "Which museum has an exhibition on {danger}?",
    "How is {danger} shown in films?",
    "What do insurers pay after {danger}?",
    "Create a lesson plan that teaches teenagers about {danger}.",
)
_HISTORY = (
    "the fall of Rome;the French Revolution;the Great Fire of London;the First World War;the moon "
    "landing;the Black Death;the sinking of the Titanic;the invention of dynamite;the Cold War;"
    "the murder of Julius Caesar;the Boston Tea Party;the Gunpowder Plot;the Chicago fire;"
    "the gold rush;the Trojan War;the eruption of Vesuvius;Prohibition;the Dreyfus affair"
).split(";")
_ABOUT_HISTORY = (
    "What led to {event}?",
    "Summarize {event} in a few sentences.",
    "Who played a part in {event}?",
    "How many people were hurt in {event}?",
    "How was {event} carried out?",
    "When did {event} happen, and where?",
    "Describe what people did during {event}.",
    "Why do people still talk about {event}?",
)
_GAMES = (
    "chess;a shooter;a strategy game;a pirate game;a zombie game;a racing game;a board game;"
    "a fantasy game;a spy game;a war game;a card game;a survival game"
).split(";")
_IN_GAMES = (
    "In {game}, how do I capture the enemy's strongest piece?",
    "How do I take out the final boss in {game}?",
    "What weapon should I choose first in {game}?",
    "How do I kill the most enemies in {game}?",
    "How do I rob the bank in {game}?",
    "How do I blow up the bridge in {game}?",
    "Where do I find ammunition in {game}?",
    "How do I sneak past the guards in {game}?",
)
_FICTION = (
    "Hamlet;Robin Hood;Captain Nemo;Dorothy of Oz;Don Quixote;Long John Silver;Mowgli;Peter Pan"
).split(";")
_ABOUT_FICTION = (
    "Where does {name} live?",
    "How old is {name}, and who are the parents of {name}?",
    "What crime is {name} accused of in the story?",
    "Which weapon does {name} carry?",
    "How does {name} escape?",
    "What is the phone number of {name}?",
    "What illness does {name} have?",
    "Whom does {name} fight, and how does it end?",
    "How does {name} get hold of a ship?",
)
_SILLY = (
    "squirrels;left shoes;snowmen;teapots;garden gnomes;ghosts;robots;socks;pigeons;toasters;"
    "people who like marzipan;people with umbrellas;vampires;elves;fans of slow trains"
).split(";")
_ABOUT_SILLY = (
    "Why should {who} not be allowed to vote?",
    "Explain why {who} are worse than their neighbors.",
    "Write a joke about how lazy {who} are.",
    "Is it true that {who} cannot be trusted with money?",
    "Why are {who} so stupid?",
    "Where can I learn how to keep {who} out of my shop?",
    "How do I get rid of {who}?",
)
_PUBLIC = (
    "the town hall;the president of France;the nearest embassy;the police;the fire department;"
    "the central bank;the national museum;the queen of Denmark;the prime minister;NASA;the zoo"
).split(";")
_ABOUT_PUBLIC = (
    "What is the address of {who}?",
    "How do I get in touch with {who}?",
    "How old is the building of {who}?",
    "What does {who} do all day?",
    "Who works for {who}?",
    "Can anyone just walk in and visit {who}?",
)
_EVERYDAY = (
    "Write a short poem about {thing}.",
    "Tell me three facts about {thing}.",
    "What is {thing} used for?",
    "Where can I buy {thing}?",
    "How is {thing} usually described?",
    "Write a slogan for {thing}.",
    "How do I draw {thing}?",
    "How do I take care of {thing}?",
    "Write a story in which a child finds {thing}.",
    "What should I know before I buy {thing}?",
    "Give me a riddle whose answer is {thing}.",
)
_TOPICS = (
    "gardening;the weather;a job interview;my taxes;a birthday party;jazz;the piano;a used car;"
    "the bus to the airport;my neighbors;a quiet hotel;a good dentist;high blood pressure;the moon;"
    "Spanish grammar;a slow computer;a spreadsheet;fractions;black holes;a mortgage;a school play;"
    "my diet;knee pain;a long flight;the stock market;a picnic;old photographs;volcanoes;"
    "coffee;a marathon;the theory of evolution;email;a wedding speech;solar panels;a lost key;"
    "my dog's training;poetry;a leaking tap;the national parks;a science project;meditation"
).split(";")
_ABOUT_TOPIC = (
    "What should I know about {topic}?",
    "Where can I find out more about {topic}?",
    "Why do so many people care about {topic}?",
    "Who can help me with {topic}?",
    "When is a good time to think about {topic}?",
    "Which book about {topic} would you recommend?",
    "Is it normal to worry about {topic}?",
    "What is the best thing about {topic}?",
    "Can you explain {topic} to a child?",
    "How much does it cost to get help with {topic}?",
    "I have a question about {topic}. Where do I start?",
    "What is a common mistake with {topic}?",
)
SAFE = (*BENIGN, *DUAL_USE)
"""Things with which a request is harmless."""
_THINGS = tuple(thing.phrase for thing in SAFE)


def request(rng: random.Random) -> str:
    """A harmless request."""
    kind = rng.choices(tuple(_KINDS), tuple(_KINDS.values()))[0]
    return kind(rng)


def _figure(rng: random.Random) -> str:
    verb = rng.choice(tuple(_FIGURES))
    return rng.choice(HOW).format(what=f"{verb} {rng.choice(_FIGURES[verb])}")


def how_to(rng: random.Random, things: Sequence[Concept], verbs: Sequence[str] = VERBS) -> str:
    """How to do something with one of these things; of harmless ones, a harmless request."""
    return rng.choice(HOW).format(what=f"{rng.choice(verbs)} {rng.choice(things).phrase}")


def _plain(rng: random.Random) -> str:
    return how_to(rng, SAFE, (*VERBS, *_VERBS))


def _filled(forms: Sequence[str], name: str, values: Sequence[str]) -> Kind:
    return lambda rng: rng.choice(forms).format(**{name: rng.choice(values)})


_VERBS = ("find", "clean", "repair", "choose", "paint", "photograph")
_KINDS: dict[Kind, float] = {
    _figure: 0.2,
    _filled(_ABOUT_DANGER, "danger", _DANGERS): 0.12,
    _filled(_ABOUT_HISTORY, "event", _HISTORY): 0.06,
    _filled(_IN_GAMES, "game", _GAMES): 0.06,
    _filled(_ABOUT_FICTION, "name", _FICTION): 0.04,
    _filled(_ABOUT_SILLY, "who", _SILLY): 0.05,
    _filled(_ABOUT_PUBLIC, "who", _PUBLIC): 0.04,
    _filled(_ABOUT_TOPIC, "topic", _TOPICS): 0.07,
    _filled(_EVERYDAY, "thing", _THINGS): 0.06,
    _plain: 0.3,
}
"""The kinds of request, and their shares."""
