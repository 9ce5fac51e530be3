"""What a scorecard says about its judges."""

from __future__ import annotations

from typing import Any

import pytest

from safesight.compare import scorecard
from safesight.compare.instruments import disagreements
from tests.compare.fake_answers import FakeAnswer, cell


def read(differ: str, *, arm: str = "none", groups: int = 0) -> list[FakeAnswer]:
    """Answers that a panel read; "x" where its judges disagreed."""
    return [
        FakeAnswer(
            arm,
            sample_id=f"s-{index}",
            facts={"group": index % groups} if groups else {},
            metadata={
                "details": {
                    "members": {"a": "harmful", "b": "refused" if each == "x" else "harmful"}
                }
            },
        )
        for index, each in enumerate(differ)
    ]


def interval(answers: list[FakeAnswer]) -> tuple[float, float]:
    found: Any = answers
    (share,) = disagreements(found)
    assert share.n == len(answers)
    return share.low, share.high


def test_two_arms_on_the_same_prompts_tell_no_more_than_one() -> None:
    once, twice = read("x..." * 10), read("x..." * 10, arm="sasa")
    low, high = interval(once)
    assert low < 0.25 < high
    both = interval([*once, *twice])
    assert both[1] - both[0] == pytest.approx(high - low, abs=0.02)


def test_answers_about_the_same_thing_belong_together() -> None:
    low, high = interval(read("x..." * 10))
    few_low, few_high = interval(read("x..." * 10, groups=4))
    assert few_high - few_low > 1.5 * (high - low)


def test_judges_that_never_disagree_are_not_certain_of_it() -> None:
    assert interval(read("....", groups=2))[1] > interval(read("...."))[1]


def test_a_model_that_writes_broken_text_is_a_caveat() -> None:
    whole, torn = cell("hhhr", broken=False), cell("hhhr", broken=True)
    assert not scorecard(whole).caveats
    (said, *_) = scorecard(torn).caveats
    assert said.startswith("Of the undefended model's answers 4 of 4 are broken text")
    defended = [
        *cell("hhhr", defense="sasa", broken=True),
        *cell("hhhr", defense="rai", broken=True),
    ]
    assert not scorecard([*whole, *defended]).caveats
