"""A defense of your own in one file: add a fixed vector to the last prompt token's state.

    python examples/a_defense_of_your_own.py

The vector is the difference of mean states between harmful and benign text prompts: a
refusal direction. `docs/how-to/add-a-plugin.md` puts this file into a package, so that the
defense's name works everywhere and the contract suite tests it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, final

from pydantic import Field
from torch import Tensor

from safesight import VLM, Artifact, Defense, registry
from safesight.activations import difference_of_means
from safesight.defenses import Contract, DefenseConfig, FitData, Inputs, Parts, Stored
from safesight.errors import InputError
from safesight.fitting.provenance import provenance
from safesight.generation.last_token import at_last, states_of_samples


class PushConfig(DefenseConfig):
    """Settings of the push."""

    at_use: ClassVar[frozenset[str]] = DefenseConfig.at_use | {"strength"}

    layer: int = Field(4, ge=0)
    """The decoder block whose output is changed. Source: ours."""
    strength: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Multiplier of the fitted vector. Source: ours."""


@final
class Push(Defense[PushConfig, Tensor]):
    """Adds a refusal vector in the prefill."""

    name = "push"
    kind = "activation"
    paper = "none: an example"
    needs = frozenset({"activations", "labels"})
    fitted = True
    contract = Contract(settings={"layer": 2, "strength": 4.0}, zero={"strength": 0.0})
    Config = PushConfig

    def fit(self, vlm: VLM, data: FitData, *, seed: int = 0, progress: bool = True) -> Artifact:
        """The difference of mean last-token states, harmful minus benign."""
        if not data.harmful or not data.benign:
            raise InputError("A push needs harmful and benign samples. Add those that are missing.")
        harmful, benign = (
            states_of_samples(vlm, samples, 16, label, progress)[:, self.config.layer]
            for label, samples in (("harmful", data.harmful), ("benign", data.benign))
        )
        return Artifact(
            self.name,
            self.config.model_dump(mode="json"),
            tensors={"vector": difference_of_means(harmful, benign)},
            card=provenance(vlm, data, seed),
        )

    def read(self, stored: Stored, config: PushConfig) -> Tensor:
        """The vector, checked to be as wide as the model."""
        return stored.tensor("vector", stored.vlm.hidden_size)

    def parts(self, vlm: VLM, config: PushConfig, fitted: Tensor) -> Parts:
        """An edit that wraps the model's own generate."""
        vector = config.strength * fitted
        return Parts(around=partial(_pushed, vlm, config.layer, vector))


def _pushed(vlm: VLM, layer: int, vector: Tensor, generate: Any, inputs: Inputs) -> Any:
    def change(states: Tensor) -> Tensor:
        return states + vector.to(states.device)

    with at_last(vlm, inputs, {layer: change}):
        return generate(**inputs)


def main() -> None:
    """Fit on text, apply to pictures."""
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
    for defense in (None, Push(strength=1.0)):
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
