"""At which layer do picture and words become one? Cosines between kinds of prompts.

At each layer the last-token state of a request with its picture is compared with that of

- the same picture with a neutral instruction: alike while the words do not yet matter;
- the same words without the picture: alike while the picture does not yet matter.

The first is a re-implementation's proxy for the modality-alignment analysis of SASA (Wang
et al., ACM MM 2025, arXiv 2507.21637), which calls it reproducible and not the
paper's own. Cosines of residual states are high for any two prompts, because a few
large coordinates are always there; compare layers and curves, not the level.
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
    return replace(sample, id=f"{sample.id}+described", question=instruction)


def without_picture(sample: Sample) -> Sample:
    """The same words and no picture.

    Example:
        >>> sample = Sample("1", "what is this?", "benign", "cat", image=lambda: None)
        >>> without_picture(sample).image is None
        True
    """
    return replace(sample, id=f"{sample.id}+without", image=None)


def alignment(states: Tensor, others: Tensor, *, against: Literal["describe", "text"]) -> Alignment:
    """Mean and standard deviation of the cosine of each sample's two states, layer by layer.

    Args:
        states: n x layers x d, of requests with their pictures.
        others: The same, of what they are compared with, in the same order.
        against: What that is.
    """
    cosines = cosine(states, others)
    sd = cosines.std(dim=0, correction=min(1, len(cosines) - 1))
    return Alignment(
        against=against, mean=cosines.mean(dim=0).tolist(), sd=sd.tolist(), n=len(cosines)
    )
