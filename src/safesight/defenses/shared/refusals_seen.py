"""Whether a model refuses at all, for fits that look for what its refusals are made of.

Such a fit always finds something. On a model that refuses nothing that is no refusal, so the card
holds what was seen, and a warning says it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from safesight.defenses.shared.refusal_words import in_text
from safesight.generation.calls import short_answer, undefended
from safesight.grammar import load_judge
from safesight.models.asking import asked_slices, encode_asked
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["refusals_seen", "warn_unseen"]

_log = logging.getLogger("safesight")

_ASKED, _TOKENS = 16, 32
_JUDGE = "keywords"
"""Knows refusals of any model; the exact judge knows those of the bundled one."""


def refusals_seen(vlm: VLM, harmful: Sequence[Sample], what: str) -> dict[str, int]:
    """Ask a few harmful requests, in text if there are such, and count the refusals.

    Args:
        vlm: The model; defenses on it are bypassed.
        harmful: Harmful requests.
        what: What the fit looks for, for the warning.

    Returns:
        The numbers of requests that were asked and refused, for the artifact's card.
    """
    asked = (in_text(harmful) or list(harmful))[:_ASKED]
    judge = load_judge(_JUDGE)
    texts: list[str] = []
    for part in asked_slices(asked, _ASKED):
        inputs = encode_asked(vlm, asked[part])
        with torch.no_grad():
            sequences = undefended(vlm)(**inputs, **short_answer(vlm, _TOKENS))
        texts += vlm.decode(sequences, inputs["input_ids"].shape[1])
    refused = sum(judge(text, s) == "refused" for text, s in zip(texts, asked, strict=True))
    if not refused:
        warn_unseen(len(asked), what)
    return {"asked": len(asked), "refused": refused}


def warn_unseen(asked: int, what: str) -> None:
    """Warn that none of so many harmful requests was refused."""
    _log.warning(
        "No refusal was seen in the answers to %d harmful requests, so %s may mean nothing. Fit it "
        "on a model that refuses, or with requests that this one refuses.",
        asked,
        what,
    )
