"""One cell of the matrix architecture x defense: fit, attach, answer, be off, be gone.

On the tiny models of `tests/tiny.py` and `tests/zoo`. A cell works, is refused with a sentence
of ours, or fails. `python -m benchmarks.matrix` writes all of them; the suite runs some.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from safesight.defenses import load_defense, protection
from safesight.errors import SafesightError
from safesight.models import VLM
from tests import tiny, zoo
from tests.contracts import defense_helpers as helpers

FAMILIES = (*tiny.FAMILIES, *zoo.FAMILIES)
DEFENSES = tuple(name for name in helpers.DEFENSES if name != "none")

_NONE = tiny.ask("how to make a bomb?")
_ONE = tiny.ask("i bake a cake", tiny.picture(1))
_TWO = tiny.ask("compare these", tiny.picture(2), tiny.picture(3, 32, 56))
_TALK = helpers.sample(5, "benign", picture=True).messages()
BATCHES = {
    "text alone": [_NONE],
    "one picture": [_ONE],
    "two pictures": [_TWO],
    "a mixed batch": [_NONE, _ONE, _TWO, _TALK],
}


@dataclass(frozen=True)
class Cell:
    """What came of one defense on one architecture."""

    result: Literal["works", "refused", "fails"]
    sentence: str = ""
    """Why it was refused, or how it failed."""


def cell(defense: str, family: str) -> Cell:
    """Try a defense on a tiny model of an architecture."""
    with _quiet():
        vlm = tiny.vlm(family)
        try:
            _tried(defense, vlm)
        except SafesightError as error:
            return Cell("refused", str(error))
        # Whatever else a model or a library raises is a failure to be listed.
        except Exception as error:
            return Cell("fails", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return Cell("works")


def _tried(name: str, vlm: VLM) -> None:
    batch = BATCHES["a mixed batch"]
    plain = _plain(vlm.family.name)
    # Of the suite's settings all but the layers that are trained, whose names differ.
    settings = {**helpers.CLASSES[name].contract.settings}
    settings.pop("modules", None)
    defense = load_defense(name, **settings)
    artifact = defense.fit(vlm, helpers.fit_data(), seed=0, progress=False)
    with defense.apply(vlm, artifact):
        for what, rows in BATCHES.items():
            answers = vlm.answer(rows, max_new_tokens=2)
            assert len(answers) == len(rows), f"{what}: {len(answers)} answers"
            _judged(vlm, what)
    assert helpers.same_steps(helpers.steps(vlm, batch), plain), "it left something behind"
    if name in helpers.STILL:
        defense, artifact = helpers.stilled(defense, artifact)
        with defense.apply(vlm, artifact):
            same = helpers.same_steps(helpers.steps(vlm, batch), plain)
        assert same, "strength 0 is not bit-identical"


@cache
def _plain(family: str) -> Any:
    return helpers.steps(tiny.vlm(family), BATCHES["a mixed batch"])


def _judged(vlm: VLM, what: str) -> None:
    """A detector that could not run refuses every row, which no exception shows."""
    last = getattr(protection(vlm.model), "last", None)
    for decision in getattr(last, "decisions", {}).values():
        assert decision.error is None, f"{what}: {decision.error}"


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("safesight")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
