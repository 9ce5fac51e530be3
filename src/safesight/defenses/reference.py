"""Writes into an artifact what its model makes of a few prompts, for engines to compare with.

An engine such as vLLM computes the same model with other code. Before it serves a defense, it
answers the prompts of `fitting.reference` and compares: the same tokens, nearly the same states
after every block, the same verdicts. `safesight fit` writes the reference; a fit from Python adds
it with `with_reference`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from safesight.activations import resid_post
from safesight.fitting.reference import (
    KEY,
    Reference,
    ReferencePrompt,
    conversations,
    hash_tokens,
    lines_of,
)
from safesight.generation.calls import run_prefill

if TYPE_CHECKING:
    from safesight.defenses.base import AnyDefense
    from safesight.fitting.artifact import Artifact
    from safesight.generation.prefill import Detector
    from safesight.models import VLM

__all__ = ["with_reference"]


def with_reference(vlm: VLM, defense: AnyDefense, artifact: Artifact) -> Artifact:
    """The artifact with a reference in its card; what affects answers, and so its hash, stays.

    Only of defenses that read or change states: weights are served as a checkpoint, and other
    defenses do not run inside an engine.

    Args:
        vlm: The model that it was fitted on.
        defense: The defense.
        artifact: The result of its fit.

    Raises:
        ArtifactError: it is for another model or defense.

    Example:
        >>> from safesight import VLM, load_defense
        >>> from safesight.fitting.bundled import bundled
        >>> vlm = VLM.load("testbed")
        >>> probe = bundled("probe", vlm)
        >>> with_reference(vlm, load_defense("probe"), probe).hash == probe.hash
        True
    """
    if defense.kind not in ("detector", "activation"):
        return artifact
    detector = defense.build(vlm, artifact).detector
    prompts = [_prompt(vlm, detector, *each) for each in conversations()]
    return replace(artifact, card={**artifact.card, KEY: Reference(prompts=prompts).model_dump()})


def _prompt(vlm: VLM, detector: Detector | None, kind: Any, messages: Any) -> ReferencePrompt:
    inputs = dict(vlm.encode([messages]))
    sites = [resid_post(layer) for layer in range(vlm.num_layers)]
    _, prefill = run_prefill(vlm, inputs, sites, None if detector is None else detector.replay_from)
    last = torch.stack([prefill.at_last(prefill.states[site])[0].cpu() for site in sites])
    ids = inputs["input_ids"][0].tolist()
    verdict: dict[str, Any] = {}
    if detector is not None:
        with torch.no_grad():
            decision = detector.judge(prefill)
        verdict = {"score": float(decision.scores[0]), "refused": bool(decision.refuse[0])}
    return ReferencePrompt(
        kind=kind,
        length=len(ids),
        tokens=hash_tokens(ids),
        states=lines_of(last),
        **verdict,
    )
