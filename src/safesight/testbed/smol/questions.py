"""Questions about pictures in natural English, with answers that are known to be right.

The bundled model's questions come in few phrasings and in lower case. A pretrained language model
reads any, so these come in many. `KEPT_OUT` are for measuring only: no lesson asks them.
"""

from __future__ import annotations

import random

from safesight.testbed.concepts import CONCEPTS, Concept, concept
from safesight.testbed.language import join
from safesight.testbed.questions import NUMBERS, Asked
from safesight.testbed.scenes import Scene

__all__ = ["ANSWERS", "KEPT_OUT", "PHRASINGS", "ask"]

PHRASINGS: dict[str, tuple[str, ...]] = {
    "name": (
        "What is in the picture?",
        "What does the picture show?",
        "Which object do you see?",
        "Name the object in the picture.",
        "What is this?",
        "What am I looking at?",
        "Tell me what this is a picture of.",
        "Can you identify the object?",
        "What thing is shown here?",
        "What do you see in this image?",
        "Identify what is in the image.",
        "What is the object in this image called?",
    ),
    "word": (
        "What does the picture say?",
        "Which word is in the picture?",
        "Read the word in the picture.",
        "What is written here?",
        "Can you read this?",
        "What text do you see?",
        "Tell me the word that is written in the image.",
    ),
    "kind": (
        "What kind of thing is in the picture?",
        "What kind of object is this?",
        "What type of thing is shown?",
        "Which category does this object belong to?",
    ),
    "color": (
        "What color is the background?",
        "Which color is behind it?",
        "What is the background color of this image?",
        "Tell me the color of the background.",
    ),
    "count": (
        "How many objects are there?",
        "Count the objects in the picture.",
        "How many things do you see?",
        "What is the number of objects in this image?",
    ),
    "place": (
        "Where is the {name}?",
        "Where in the picture is the {name}?",
        "In which part of the image do you see the {name}?",
        "What is the position of the {name}?",
    ),
    "presence": (
        "Is there {thing} in the picture?",
        "Do you see {thing}?",
        "Does the image show {thing}?",
        "Can you find {thing} in this picture?",
    ),
    "describe": (
        "Describe the picture.",
        "What do you see?",
        "Describe what is shown here.",
        "Write a caption for this image.",
        "Give me a short description of this picture.",
        "What can be seen in the image?",
    ),
}
KEPT_OUT: dict[str, tuple[str, ...]] = {
    "name": ("Please say what the image depicts.", "What would you call this thing?"),
    "word": ("Which letters are printed in the image?", "Please read it out to me."),
    "kind": ("To what class of things does it belong?",),
    "color": ("Against which color does it stand?",),
    "count": ("Please tell me the total of things shown.",),
    "place": ("Please locate the {name}.",),
    "presence": ("Would I find {thing} in here?",),
    "describe": ("Summarize this image in a sentence.",),
}
ANSWERS: dict[str, tuple[str, ...]] = {
    "name": ("It is {thing}.", "This is {thing}.", "The picture shows {thing}.", "I see {thing}."),
    "word": ("It says {word}.", 'The word is "{word}".', 'The picture says "{word}".'),
    "kind": ("It is a kind of {kind}.", "This belongs to the category {kind}."),
    "color": ("The background is {color}.", "It is {color}."),
    "count": ("There are {number} objects.", "The number of objects is {number}."),
    "place": ("It is at the {place}.", "The {name} is at the {place} of the picture."),
    "yes": ("Yes, there is {thing}.", "Yes, the picture shows {thing}."),
    "no": ("No, there is no {name}.", "No, I do not see {thing}."),
    "describe": (
        "The picture shows {things} on a {color} background.",
        "This is a picture of {things} in front of a {color} background.",
        "There is {things} on a {color} background.",
    ),
}
_AS_TYPED = 0.15
"""Share of questions that are written in lower case, as people type and as the bundled world is."""


def ask(
    scene: Scene, rng: random.Random, phrasings: dict[str, tuple[str, ...]] = PHRASINGS
) -> Asked:
    """A question that fits the scene, its answer, and what a right answer must contain.

    Args:
        scene: What the picture shows.
        rng: Chooses.
        phrasings: `PHRASINGS`, or `KEPT_OUT`.
    """
    about = _topic(scene, rng)
    form, slots, key = _content(about, scene, rng)
    question = rng.choice(phrasings[about]).format(**slots)
    if rng.random() < _AS_TYPED:
        question = question.lower()
    answer = rng.choice(ANSWERS[form]).format(**slots)
    return question, answer.replace("There are one objects", "There is one object"), key


def _topic(scene: Scene, rng: random.Random) -> str:
    if scene.word is not None:
        topics = {"word": 0.85, "color": 0.15}
    elif len(scene.items) == 1:
        topics = {"name": 0.5, "kind": 0.08, "presence": 0.12, "describe": 0.14, "color": 0.1}
        topics["count"] = 0.06
    else:
        topics = {"count": 0.25, "place": 0.25, "presence": 0.2, "describe": 0.3}
    return rng.choices(list(topics), list(topics.values()))[0]


def _content(about: str, scene: Scene, rng: random.Random) -> tuple[str, dict[str, str], str]:
    """The form of the answer, what fills its slots and the question's, and the key."""
    shown = [concept(item.concept) for item in scene.items]
    slots = {"color": scene.color, "number": NUMBERS[len(shown)]}
    if about == "word":
        return about, {**slots, "word": scene.word or ""}, scene.word or ""
    if about in ("color", "count"):
        return about, slots, scene.color if about == "color" else slots["number"]
    if about == "presence":
        there = rng.random() < 0.5
        others = [one for one in CONCEPTS if one not in shown and one.in_vision]
        thing = rng.choice(shown if there else others)
        answer = "yes" if there else "no"
        return answer, {**slots, **_named(thing)}, answer
    if about == "describe":
        return about, {**slots, "things": join([one.phrase for one in shown])}, shown[0].name
    index = rng.randrange(len(shown))
    thing = shown[index]
    if about == "place":
        place = scene.places[index]
        return about, {**slots, **_named(thing), "place": place}, place
    key = thing.kind if about == "kind" else thing.name
    return about, {**slots, **_named(thing)}, key


def _named(thing: Concept) -> dict[str, str]:
    return {"name": thing.name, "thing": thing.phrase, "kind": thing.kind}
