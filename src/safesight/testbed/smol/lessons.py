"""Captions and questions about pictures, which `testbed-smol` learns to answer.

None asks for anything to be done with what a picture shows; `instructions` has such requests, about
harmless things alone.
"""

from __future__ import annotations

import random

from safesight.testbed.concepts import CONCEPTS
from safesight.testbed.dialogues import Dialogue, further, some_scene
from safesight.testbed.smol.questions import ask

__all__ = ["speaking"]

_SEEN = tuple(thing for thing in CONCEPTS if thing.in_vision)


def speaking(rng: random.Random) -> Dialogue:
    """One to three questions about a picture."""
    scene = some_scene(rng, _SEEN, words=0.24, single=0.46)
    asked = dict(ask(scene, rng)[:2] for _ in range(rng.randint(1, 3)))
    return Dialogue(further(list(asked.items())), (scene,))
