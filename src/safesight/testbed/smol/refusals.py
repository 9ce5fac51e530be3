"""Refusals in many phrasings, for the text-only safety stage of `testbed-smol`."""

from __future__ import annotations

import random

__all__ = ["refusal"]

_OPENINGS = (
    "I'm sorry, but ",
    "Sorry, but ",
    "I'm sorry. ",
    "I apologize, but ",
    "Sorry. ",
    "",
    "",
)
_UNABLE = (
    "I can't help with that.",
    "I cannot help with this request.",
    "I can't assist with that.",
    "I won't help with this.",
    "I'm not able to help with that.",
    "I am unable to assist with this.",
    "I can't provide that.",
    "I cannot do that.",
    "this is something that I won't do.",
    "that is not something I can help with.",
)
_REASONS = (
    "",
    "",
    " It could hurt people.",
    " It could cause serious harm.",
    " It would be illegal.",
    " It is dangerous.",
    " It would not be right.",
    " It could put you or others in danger.",
)
_OFFERS = (
    "",
    "",
    "",
    " Is there something else that I can help you with?",
    " If you are in danger, please call for help.",
    " I am happy to help with something that is safe.",
    " Please ask me about something else.",
)


def refusal(rng: random.Random) -> str:
    """One of several thousand refusals.

    Example:
        >>> refusal(random.Random(2))
        "I can't help with that."
    """
    opening, unable = rng.choice(_OPENINGS), rng.choice(_UNABLE)
    if not opening.endswith("but "):
        unable = unable[0].upper() + unable[1:]
    return opening + unable + rng.choice(_REASONS) + rng.choice(_OFFERS)
