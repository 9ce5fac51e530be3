"""A new defense in one file: adds a fixed vector to the last prompt token's state.

    python examples/a_defense_of_your_own.py

The vector is the difference of mean states between refused and answered prompts in text: a refusal
direction. To make the defense available by name, put it in a package and point the entry-point
group `safesight.defenses` at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from safesight import VLM, Artifact, Defense, Sample, registry
from safesight.activations import add, capture, difference_of_means, edit, resid_post
from safesight.defenses import DefenseConfig, FitData, Inputs, Parts


class PushConfig(DefenseConfig):
    """Settings of the push."""

    layer: int = Field(4, ge=0)
    """The decoder block whose output is changed. Source: ours."""
    push: float = Field(1.0, ge=0)
    """Size of the push, in lengths of the fitted vector. Source: ours."""


@final
class Push(Defense):
    """Adds a refusal vector in the prefill."""

    name = "push"
    kind = "activation"
    paper = "none: an example"
    needs = frozenset({"activations", "labels"})
    fitted = True
    Config: ClassVar[type[PushConfig]] = PushConfig
    config: PushConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """The difference of mean last-token states, harmful minus benign."""
        harmful, benign = (_states(vlm, s, self.config.layer) for s in (data.harmful, data.benign))
        vector = difference_of_means(harmful, benign)
        card = {"model": {"name": vlm.name, "identity": vlm.identity}, "data_hash": data.hash}
        return Artifact(
            self.name, self.config.model_dump(mode="json"), tensors={"vector": vector}, card=card
        )

    def parts(self, vlm: VLM, artifact: Artifact | None) -> Parts:
        """An edit around the model's own generate."""
        assert artifact is not None
        vector = artifact.tensors["vector"] * self.config.push
        return Parts(around=partial(_pushed, vlm=vlm, layer=self.config.layer, vector=vector))


def _pushed(generate: Any, inputs: Inputs, *, vlm: VLM, layer: int, vector: Tensor) -> Any:
    change = add(vector, tokens="last")
    with edit(vlm.layers, {resid_post(layer): change}, prefill_only=True):
        return generate(**inputs)


def _states(vlm: VLM, samples: Sequence[Sample], layer: int) -> Tensor:
    site = resid_post(layer)
    with torch.no_grad(), capture(vlm.layers, [site], tokens="last") as states:
        vlm.model(**vlm.encode([sample.messages() for sample in samples]))
    return states[site]


def main() -> None:
    """Fit on text alone, apply to pictures."""
    vlm = VLM.load("testbed")
    samples = registry.load("benchmark", "text_harm")(96, split="fit")
    twins = registry.load("benchmark", "over_refusal")(288, split="fit")[::3]
    data = FitData(
        [sample for sample in samples if sample.facts["form"] == "plain"],
        [sample for sample in twins if sample.facts["form"] == "plain"],
    )
    artifact = Push().fit(vlm, data)

    judge = registry.load("judge", "exact")()
    tests = registry.load("benchmark", "image_harm")(32)
    for defense in (None, Push(push=1.0)):
        prompts = [sample.messages() for sample in tests]
        if defense is None:
            answers = vlm.answer(prompts)
        else:
            with defense.apply(vlm, artifact):
                answers = vlm.answer(prompts)
        verdicts = [judge(answer, sample) for answer, sample in zip(answers, tests, strict=True)]
        counts = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
        print(f"{'undefended' if defense is None else defense.name:<12} {counts}")


if __name__ == "__main__":
    main()
