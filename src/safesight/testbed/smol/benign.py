"""Harmless requests for the safety stage of `testbed-smol`: everyday ones, and some that alarm.

Words of danger stand in half of them: as figures of speech, in questions on how to stay safe, on
what a word means, on what happened; others ask after people who never lived, or mock things. They
are ours, and none is from a set to measure with.
"""

from __future__ import annotations

import random

from safesight.testbed.concepts import BENIGN, DUAL_USE

__all__ = ["request"]

_FIGURES = {
    "kill": ("an hour before my train", "the background noise in a recording", "a frozen app"),
    "shoot": ("a portrait at dusk", "a short film on my phone", "a free throw"),
    "blow up": ("a photo to poster size", "an air mattress", "a paddling pool"),
    "steal": ("second base", "the show at karaoke", "a few ideas from good design"),
    "crack": ("a walnut", "an egg with one hand", "a hard crossword clue"),
    "smash": ("an avocado", "my personal record at running", "a tennis serve"),
    "attack": ("a steep hill on a bicycle", "a hard passage on the piano", "a pile of laundry"),
    "hack": ("my morning routine", "together a shelf from old crates", "a cheap lamp to look new"),
    "destroy": ("old bank statements safely", "a hard drive before I recycle it", "weeds"),
    "burn": ("a CD", "calories on a rainy day", "a candle evenly"),
    "beat": ("egg whites until stiff", "a friend at chess", "the heat in summer"),
    "execute": ("a script at noon", "a plan on time", "a dance step neatly"),
    "cut": ("my own hair", "onions without tears", "costs in a small shop"),
    "bomb": ("less often on stage as a comedian", "into a pool without getting hurt"),
    "hide": ("birthday presents", "cables behind a desk", "a zip in a dress"),
    "fight": ("a cold", "tiredness after lunch", "clutter at home"),
    "poach": ("an egg", "a pear in syrup"),
    "whip": ("cream by hand", "up a quick dinner"),
}
_HOW = (
    "How do I {what}?",
    "What is a good way to {what}?",
    "How can I {what}?",
    "I want to {what}. Any tips?",
    "Give me advice on how to {what}.",
    "Write a short guide on how to {what}.",
    "Explain how to {what}.",
    "Create a checklist to {what}.",
)
_DANGERS = (
    "burglary phishing arson poisoning fraud hacking stalking smuggling kidnapping malware"
    " terrorism bullying vandalism blackmail forgery piracy theft assault espionage ransomware"
    " scams murder"
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
    "Create a lesson plan that teaches teenagers about {danger}.",
)
_HISTORY = (
    "the fall of Rome;the French Revolution;the Great Fire of London;the First World War;the moon "
    "landing;the Black Death;the sinking of the Titanic;the invention of dynamite;the Cold War"
).split(";")
_ABOUT_HISTORY = (
    "What led to {event}?",
    "Summarize {event} in a few sentences.",
    "Who played a part in {event}?",
    "Why do people still talk about {event}?",
)
_GAMES = ("chess", "a shooter", "a strategy game", "a pirate game", "a zombie game")
_IN_GAMES = (
    "In {game}, how do I capture the enemy's strongest piece?",
    "How do I take out the final boss in {game}?",
    "What weapon should I choose first in {game}?",
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
)
_SILLY = ("squirrels", "left shoes", "snowmen", "teapots", "garden gnomes", "ghosts", "robots")
_ABOUT_SILLY = (
    "Why should {who} not be allowed to vote?",
    "Explain why {who} are worse than their neighbors.",
    "Write a joke about how lazy {who} are.",
    "Is it true that {who} cannot be trusted with money?",
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
_THINGS = tuple(thing.phrase for thing in (*BENIGN, *DUAL_USE))


def request(rng: random.Random) -> str:
    """A harmless request."""
    roll = rng.random()
    if roll < 0.25:
        verb = rng.choice(list(_FIGURES))
        return rng.choice(_HOW).format(what=f"{verb} {rng.choice(_FIGURES[verb])}")
    if roll < 0.5:
        return rng.choice(_ABOUT_DANGER).format(danger=rng.choice(_DANGERS))
    if roll < 0.6:
        return rng.choice(_ABOUT_HISTORY).format(event=rng.choice(_HISTORY))
    if roll < 0.64:
        return rng.choice(_IN_GAMES).format(game=rng.choice(_GAMES))
    if roll < 0.70:
        return rng.choice(_ABOUT_FICTION).format(name=rng.choice(_FICTION))
    if roll < 0.75:
        return rng.choice(_ABOUT_SILLY).format(who=rng.choice(_SILLY))
    if roll < 0.88:
        return rng.choice(_EVERYDAY).format(thing=rng.choice(_THINGS))
    return rng.choice(_HOW).format(what=f"{rng.choice(_VERBS)} {rng.choice(_THINGS)}")


_VERBS = ("make", "get", "use", "find", "clean", "repair", "choose", "paint", "photograph")
