"""The arms of neutral rows: each differs from the threat arm in what its name says."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from safesight import registry
from safesight.defenses.vsfa import is_neutral
from safesight.errors import InputError
from safesight.testbed.concepts import CONCEPTS, concept
from safesight.testbed.neutral import ARMS, neutral_rows
from safesight.testbed.scenes import Scene

N = 120


def scenes(arm: Any) -> list[Scene]:
    return [row.image.__self__ for row in neutral_rows(N, arm=arm, replay=0) if row.image]  # type: ignore[attr-defined]


def pairs(arm: Any) -> list[tuple[str, str]]:
    return [(row.question, row.answer) for row in neutral_rows(N, arm=arm, replay=0)]


@pytest.mark.parametrize("arm", ARMS)
def test_rows_are_labelled_benign_and_speak_of_nothing_else(arm: Any) -> None:
    rows = neutral_rows(N, arm=arm, replay=0)
    assert len(rows) == len({row.id for row in rows}) == N
    assert {(row.label, row.set, row.refusal) for row in rows} == {("benign", "retain", None)}
    assert all(row.answer for row in rows)
    # "what should i do?" asks one how-to request in twelve of the usual kinds.
    assert sum(not is_neutral(row) for row in rows) <= (N // 10 if arm == "random" else 0)


def test_threats_are_in_the_pictures_of_three_arms_only() -> None:
    for arm in ("threat", "shuffled"):
        assert all(concept(item.concept).harmful for s in scenes(arm) for item in s.items)
    assert not any(concept(item.concept).harmful for s in scenes("neutral") for item in s.items)


def test_the_neutral_arm_has_the_same_boxes_on_the_same_grounds() -> None:
    for threat, neutral in zip(scenes("threat"), scenes("neutral"), strict=True):
        assert (threat.color, threat.places, threat.noise) == (
            neutral.color,
            neutral.places,
            neutral.noise,
        )
        where = [[(i.left, i.top, i.size, i.style) for i in s.items] for s in (threat, neutral)]
        assert where[0] == where[1]


def test_the_neutral_arm_asks_the_same_families() -> None:
    names = "|".join(sorted((thing.name for thing in CONCEPTS), key=len, reverse=True))

    def families(arm: Any) -> Counter[str]:
        # The name of the thing is all that may differ.
        return Counter(
            re.sub(rf"\b(?:(?:an?|the) )?(?:{names})\b", "IT", question)
            for question, _ in pairs(arm)
        )

    assert families("threat") == families("neutral")


def test_only_one_arm_tells_what_kind_of_thing_it_is() -> None:
    told = {arm: sum("kind of" in answer for _, answer in pairs(arm)) for arm in ARMS}
    assert 0.05 * N < told.pop("kinds") < 0.2 * N
    told.pop("random")
    assert not any(told.values())
    assert scenes("kinds") == scenes("threat")


def test_blank_pictures_have_the_questions_and_the_grounds_and_nothing_on_them() -> None:
    assert pairs("blank") == pairs("threat")
    assert not any(scene.items or scene.word for scene in scenes("blank"))
    assert [s.color for s in scenes("blank")] == [s.color for s in scenes("threat")]


def test_shuffling_keeps_pictures_and_pairs_and_parts_them() -> None:
    assert scenes("shuffled") == scenes("threat")
    assert Counter(pairs("shuffled")) == Counter(pairs("threat"))
    rows = zip(*(neutral_rows(N, arm=arm, replay=0) for arm in ("threat", "shuffled")), strict=True)
    moved = sum((a.question, a.answer) != (b.question, b.answer) for a, b in rows)
    assert moved > 0.8 * N  # some pairs are equal by chance


def test_text_tells_what_the_picture_showed() -> None:
    for row, scene in zip(neutral_rows(N, arm="text", replay=0), scenes("threat"), strict=True):
        assert row.image is None
        assert all(item.concept in row.question for item in scene.items)
        assert scene.color in row.question


def test_mixed_takes_turns() -> None:
    rows = neutral_rows(N, arm="mixed", replay=0)
    assert [row.image is None for row in rows] == [i % 2 == 1 for i in range(N)]


def test_rows_depend_on_seed_and_split() -> None:
    def told(**given: Any) -> list[Scene]:
        return [row.image.__self__ for row in neutral_rows(40, **given)]  # type: ignore[union-attr]

    assert told() == told()
    assert not {s.noise for s in told()} & {s.noise for s in told(seed=1)}
    assert not {s.noise for s in told()} & {s.noise for s in told(split="test")}
    assert len(registry.load("dataset", "testbed_neutral")()) == 1100


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_has_the_same_replay_behind_its_rows(arm: Any) -> None:
    rows, alone = neutral_rows(N, arm=arm, replay=1), neutral_rows(N // 2, arm=arm, replay=0)
    assert [row.id for row in rows[: N // 2]] == [row.id for row in alone]
    again = rows[N // 2 :]
    assert len({row.id for row in rows}) == N
    assert [(r.id, r.question, r.answer) for r in again] == [
        (r.id, r.question, r.answer) for r in neutral_rows(N, replay=1)[N // 2 :]
    ]
    shown = [row.image.__self__ for row in again if row.image]  # type: ignore[attr-defined]
    assert len(shown) == N // 2
    assert not any(concept(item.concept).harmful for scene in shown for item in scene.items)
    assert not {s.noise for s in shown} & {s.noise for s in scenes("neutral")}
    default = neutral_rows(110, arm=arm)
    assert (len(default), sum(row.id.startswith("replay/") for row in default)) == (110, 10)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(InputError, match=r"no arm 'cats'\. Use one of threat, neutral"):
        neutral_rows(1, arm="cats")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no split 'fit'"):
        neutral_rows(1, split="fit")  # type: ignore[arg-type]
    for replay in (-1, float("inf"), float("nan"), "much"):
        with pytest.raises(InputError, match=f"0 or more, not {replay!r}"):
            neutral_rows(1, replay=replay)  # type: ignore[arg-type]
