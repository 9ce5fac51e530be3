"""The verdict of one detector; whatever goes wrong refuses the prompts that it concerns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

from safesight.errors import ModelError
from safesight.generation.prefill import Decision, Detector
from safesight.vllm.packed import PackedPrefill

__all__ = ["verdict"]

_log = logging.getLogger("safesight")


def verdict(
    name: str,
    detector: Detector,
    prefill: Callable[[], PackedPrefill],
    seen: Sequence[int],
    count: int,
) -> Decision:
    """The decision on every prompt of a step.

    Args:
        name: The detector's.
        detector: The detector.
        prefill: Makes the states that it asked for, of the prompts in `seen`.
        seen: The prompts whose states were all seen; the others are refused.
        count: How many prompts there are.
    """
    scores = torch.full((count,), torch.nan)
    refuse = torch.ones(count, dtype=torch.bool)
    error = None if len(seen) == count else "not all states of its prompt were seen"
    if not seen:
        return Decision(scores, refuse, error=error)
    try:
        with torch.inference_mode():
            found = detector.judge(prefill())
        judged, refused = found.scores.float().cpu(), found.refuse.cpu()
        if judged.shape != (len(seen),) or refused.shape != (len(seen),):
            raise ModelError(f"it judged {len(judged)} of {len(seen)} prompts")
    except Exception as failure:
        _log.exception("The detector %s failed, so %d prompts are refused.", name, count)
        return Decision(scores, refuse, error=f"{type(failure).__name__}: {failure}")
    usable = judged.isfinite()
    scores[list(seen)] = judged
    refuse[list(seen)] = refused | ~usable
    return Decision(scores, refuse, found.threshold, error)
