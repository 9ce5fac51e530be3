"""At which layer do picture and text merge? Cosines between kinds of prompts.

At each layer the last-token state of a request with its picture is compared with that of

- the same picture with a neutral instruction: similar until the text matters;
- the same text without the picture: similar until the picture matters.

The first is a proxy for the modality-alignment analysis of SASA (Wang et al., ACM MM 2025,
arXiv 2507.21637). It comes from a re-implementation, which calls it reproducible but not the
paper's own. Cosines of residual states are high for any two prompts, because a few coordinates
are always large; compare layers and curves, not levels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from safesight.activations import cosine
from safesight.analysis.results import Alignment
from safesight.types import Sample

__all__ = ["INSTRUCTION", "alignment", "described", "without_picture"]

INSTRUCTION = "Describe the image."
"""Source: secondary, a re-implementation of SASA."""


def described(sample: Sample, instruction: str = INSTRUCTION) -> Sample:
    """The same picture with a neutral instruction."""
    return replace(sample.reworded(instruction), id=f"{sample.id}+described")


def without_picture(sample: Sample) -> Sample:
    """The same text without the picture.

    Example:
        >>> sample = Sample("1", "what is this?", "benign", "cat", image=lambda: None)
        >>> without_picture(sample).image is None
        True
    """
    return replace(sample.without_pictures(), id=f"{sample.id}+without")


def alignment(states: Tensor, others: Tensor, *, against: Literal["describe", "text"]) -> Alignment:
    """Mean and standard deviation of the cosine of each sample's two states, layer by layer.

    Args:
        states: n x layers x d, for requests with their pictures.
        others: The same for the prompts to compare with, in the same order.
        against: Which prompts those are.
    """
    cosines = cosine(states, others)
    sd = cosines.std(dim=0, correction=min(1, len(cosines) - 1))
    return Alignment(
        against=against, mean=cosines.mean(dim=0).tolist(), sd=sd.tolist(), n=len(cosines)
    )
