"""The same door on a real model: the bundled VLM through Inspect, and its bare loop."""

from __future__ import annotations

import asyncio

import pytest
from inspect_ai.model import GenerateConfig, Model, ModelOutput, get_model

from safesight import registry
from safesight.evals import _registry  # noqa: F401 (registers the provider)
from safesight.evals.asking import conversation

TOKENS = 12
SAMPLES = [
    *registry.load("benchmark", "text_harm")(3),
    *registry.load("benchmark", "image_harm")(3),
    *registry.load("benchmark", "vqa")(2),
]


@pytest.fixture(scope="module")
def model() -> Model:
    return get_model("safesight/testbed", memoize=False, device="cpu")


def ask(model: Model, config: GenerateConfig) -> list[ModelOutput]:
    async def everything() -> list[ModelOutput]:
        calls = (model.generate(conversation(sample), config=config) for sample in SAMPLES)
        return await asyncio.gather(*calls)

    return asyncio.run(everything())


def test_answers_are_those_of_the_bare_loop(model: Model) -> None:
    outputs = ask(model, GenerateConfig(max_tokens=TOKENS))
    vlm = model.api.host.vlm
    bare = vlm.answer([sample.messages() for sample in SAMPLES], max_new_tokens=TOKENS)
    assert [output.completion for output in outputs] == bare
    for output in outputs:
        assert 0 < output.usage.output_tokens <= TOKENS
        assert output.usage.input_tokens > 0


def test_a_seeded_sample_does_not_depend_on_its_company(model: Model) -> None:
    config = GenerateConfig(max_tokens=TOKENS, temperature=1.0, seed=5)
    together = [output.completion for output in ask(model, config)]
    alone = asyncio.run(model.generate(conversation(SAMPLES[4]), config=config)).completion
    assert alone == together[4]
    other = GenerateConfig(max_tokens=TOKENS, temperature=5.0, seed=6)
    assert [output.completion for output in ask(model, other)] != together


def test_a_stop_sequence_ends_the_answer(model: Model) -> None:
    plain = ask(model, GenerateConfig(max_tokens=TOKENS))[0].completion
    stop = plain[len(plain) // 2]
    cut = ask(model, GenerateConfig(max_tokens=TOKENS, stop_seqs=[stop]))[0].completion
    assert cut == plain[: plain.index(stop)]


def test_a_prompt_defense_changes_the_prompt_and_leaves_no_trace(model: Model) -> None:
    defended = get_model("safesight/testbed", memoize=False, device="cpu", defense="safety_prompt")
    assert defended.api.host is model.api.host
    config = GenerateConfig(max_tokens=TOKENS)
    before = [output.completion for output in ask(model, config)]
    guarded = ask(defended, config)
    assert guarded[0].metadata["defense"] == "safety_prompt"
    assert [output.completion for output in ask(model, config)] == before


def picky(**settings: object) -> Model:
    return get_model("safesight/testbed", memoize=False, device="cpu", defense="picky", **settings)


def test_every_answer_carries_its_own_decision(model: Model, fake_names) -> None:
    config = GenerateConfig(max_tokens=TOKENS)
    undefended = ask(model, config)
    judged = ask(picky(), config)
    refused = [output.metadata["refused_by_detector"] for output in judged]
    assert len(set(refused)) == 2
    for before, after, row in zip(undefended, judged, refused, strict=True):
        decision = after.metadata["decisions"]["picky"]
        assert decision["refuse"] == row == (decision["score"] > decision["threshold"])
        assert after.completion == ("no." if row else before.completion)
        assert after.stop_reason == "stop" or not row


def test_a_detector_that_cannot_run_refuses_and_says_so(model: Model, fake_names) -> None:
    for output in ask(picky(broken=True), GenerateConfig(max_tokens=TOKENS)):
        assert output.completion == "no."
        decision = output.metadata["decisions"]["picky"]
        assert decision["score"] is None  # JSON has no "not a number"
        assert "a probe of another size" in decision["error"]
