"""The judge of a fit that chooses settings by answers, and a warning of what it cannot tell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safesight.grammar import load_judge
from safesight.types import Judge, Sample

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["judge_for_fit"]

_log = logging.getLogger("safesight")

_ANY_MODEL = "keywords"
"""The judge that needs to know nothing about the model."""


def judge_for_fit(name: str, vlm: VLM, samples: Sequence[Sample]) -> Judge:
    """A registered judge; its caveat about this model's answers is logged as a warning.

    Raises:
        UnknownNameError: there is no such judge.
    """
    judge = load_judge(name)
    found = (judge.caveat(vlm.name, sample) for sample in samples)
    for caveat in dict.fromkeys(caveat for caveat in found if caveat):
        _log.warning("Settings are chosen by a judge. %s%s", caveat, _advice(name))
    return judge


def _advice(name: str) -> str:
    return "" if name == _ANY_MODEL else f" Choose another one: --set judge={_ANY_MODEL}."
