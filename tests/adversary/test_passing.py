"""Answers to want from a model whose defense judges answers: harmful, and least so to it first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from safesight.adversary import attacked
from safesight.adversary.passing import harmful_answers
from safesight.adversary.wanted import complying
from safesight.generation.parts import Parts
from safesight.hosting.hosts import host
from safesight.judges.exact import ExactJudge
from safesight.testbed import tasks


def judging(sign: int) -> Parts:
    """A defense that likes long answers, or short ones."""

    def margins(inputs: object, answers: Sequence[str]) -> torch.Tensor:
        return sign * torch.tensor([float(len(answer)) for answer in answers])

    return Parts(around=lambda generate, inputs: generate(**inputs), answers=margins)


def test_the_harmful_answer_that_passes_most_easily_comes_first() -> None:
    vlm, judge, samples = host("testbed").vlm, ExactJudge(), tasks.image_harm(2, split="fit")
    dice = torch.get_rng_state()
    short, long = (harmful_answers(vlm, samples, judge, [judging(s)]) for s in (1, -1))
    assert torch.equal(torch.get_rng_state(), dice)
    for sample, first, last in zip(samples, short, long, strict=True):
        assert len(first) > 3
        assert all(judge(answer.text, sample) == "harmful" for answer in first)
        assert [answer.margin for answer in first] == sorted(len(each.text) for each in first)
        assert first[0].text == last[-1].text
        assert vlm.tokenizer.decode(first[0].tokens[:-1]) == first[0].text
        assert first[0].tokens[-1] == vlm.tokenizer.eos_token_id
        assert complying(sample) in [answer.text for answer in first]


def test_an_attacker_may_know_further_answers() -> None:
    vlm, samples = host("testbed").vlm, tasks.image_harm(1, split="fit")
    told = f"ask a friend about {samples[0].target} now."
    found = harmful_answers(vlm, samples, ExactJudge(), [judging(1)], further=[[told]])[0]
    assert told in [answer.text for answer in found]


def test_two_requests_with_one_id_keep_their_own_answers() -> None:
    """As those of two files may have."""
    vlm, samples = host("testbed").vlm, tasks.image_harm(2, split="fit")
    same = [replace(sample, id="0") for sample in samples]
    told = [[f"ask a friend about {sample.target} now."] for sample in same]
    found = harmful_answers(vlm, same, ExactJudge(), [judging(1)], further=told)
    for (text,), answers, others in zip(told, found, reversed(found), strict=True):
        assert text in [answer.text for answer in answers]
        assert text not in [answer.text for answer in others]


def test_the_strictest_defense_counts_and_a_judge_that_finds_nothing_leaves_the_known_answer() -> (
    None
):
    vlm, samples = host("testbed").vlm, tasks.image_harm(1, split="fit")
    found = harmful_answers(
        vlm, samples, lambda *_: "harmless", [judging(-1), judging(1), Parts()]
    )[0]
    assert [answer.text for answer in found] == [complying(samples[0])]
    assert found[0].margin == len(found[0].text)


def test_a_defense_that_only_replaces_answers_has_the_gradient_of_the_model() -> None:
    with attacked(host("testbed").vlm, [judging(1)]) as model:
        assert not model.detectors
