"""The judge of a fit that chooses settings by answers, and a warning of what it cannot tell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safesight.grammar import ANY_MODEL, judge_of_model
from safesight.types import Judge, Sample

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["judge_for_fit"]

_log = logging.getLogger("safesight")


def judge_for_fit(name: str | None, vlm: VLM, samples: Sequence[Sample]) -> Judge:
    """A judge whose caveat about this model's answers is logged as a warning.

    Args:
        name: The judge; None for the one that knows most about this model.
        vlm: The model that answers.
        samples: What it is asked.

    Raises:
        UnknownNameError: there is no such judge.
    """
    judge = judge_of_model(vlm.name, name)
    found = (judge.caveat(vlm.name, sample) for sample in samples)
    for caveat in dict.fromkeys(caveat for caveat in found if caveat):
        _log.warning("Settings are chosen by a judge. %s%s", caveat, _advice(name))
    return judge


def _advice(name: str | None) -> str:
    """What to choose in place of a judge that does not know this model."""
    if name in (None, ANY_MODEL, "keywords"):
        return ""
    return f" Choose {ANY_MODEL}: --set judge={ANY_MODEL}."
