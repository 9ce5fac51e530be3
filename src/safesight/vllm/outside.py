"""Says once if a detector judges prompts unlike those that set its threshold.

The sentences are those of `generation.outside`. A worker sees the tokens of a prompt and where its
pictures are. It does not see how large they are, and two that lie side by side look like one. So
sizes are not compared, and of the number only whether there is a picture at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from safesight.generation.outside import tell_outside
from safesight.generation.prompt_sizes import PromptSizes

if TYPE_CHECKING:
    from safesight.fitting.ranges import CalibrationRange
    from safesight.generation.prefill import Decision
    from safesight.vllm.requests import Request

__all__ = ["tell"]


def tell(
    name: str, calibrated: CalibrationRange, decision: Decision, requests: Sequence[Request]
) -> None:
    """Compare the prompts of one step with a detector's range.

    Args:
        name: The detector's.
        calibrated: Of its artifact.
        decision: On every prompt.
        requests: The prompts.
    """
    tell_outside({name: calibrated}, {name: decision}, partial(_sizes, calibrated, requests))


def _sizes(calibrated: CalibrationRange, requests: Sequence[Request]) -> PromptSizes:
    never = calibrated.pictures.high == 0
    pictures = [each.pictures for each in requests if never or not each.pictures]
    return PromptSizes([each.words for each in requests], pictures, [])
