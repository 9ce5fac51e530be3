"""What detectors make of many prompts, on one prefill per batch and without an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from safesight.generation.calls import run_prefill
from safesight.generation.prefill import Decision, Detector, watched_by
from safesight.models.asking import by_batches, encode_asked

if TYPE_CHECKING:
    from safesight.models import VLM
    from safesight.types import Sample

__all__ = ["decisions_of"]


def decisions_of(
    vlm: VLM,
    detectors: Mapping[str, Detector],
    samples: Sequence[Sample],
    *,
    batch_size: int,
    label: str = "",
    progress: bool = True,
) -> dict[str, Decision]:
    """The decisions of every detector on every sample, on the CPU; the model is not changed.

    Args:
        vlm: The model; defenses attached to it take no part.
        detectors: By any name.
        samples: At least one.
        batch_size: Prompts per forward pass.
        label: What the progress bar says.
        progress: Show a progress bar.
    """
    sites, replay_from = watched_by(detectors.values())

    def judge(batch: Sequence[Sample]) -> dict[str, Decision]:
        inputs = dict(encode_asked(vlm, batch))
        _, prefill = run_prefill(vlm, inputs, sites, replay_from)
        with torch.no_grad():
            return {name: each.judge(prefill) for name, each in detectors.items()}

    found = list(by_batches(samples, batch_size, judge, label, progress=progress))
    return {
        name: Decision(
            torch.cat([batch[name].scores.float().cpu() for batch in found]),
            torch.cat([batch[name].refuse.cpu() for batch in found]),
            found[0][name].threshold,
        )
        for name in detectors
    }
