"""What a fit is fed: draws of at most a share, and their hash."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from safesight.analysis.outcomes import outcomes
from safesight.defenses import FitData
from safesight.errors import InputError
from safesight.types import Sample
from tests import tiny
from tests.training.helpers import row


def pool(n: int) -> list[Sample]:
    """Two thirds benign; a tenth of each label is attacked."""
    return [
        Sample(
            id=str(i),
            question=f"q{i}",
            label="harmful" if i % 3 == 0 else "benign",
            target="x",
            attack="typography" if i % 10 == 0 else None,
            facts={"request": "how_to" if i % 2 else "vqa"},
        )
        for i in range(n)
    ]


SHOWN = {"role": "user", "content": [{"type": "image"}]}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"further_images": (tiny.picture,)}, "whose further_images come without an image"),
        ({"turns": (SHOWN, {**SHOWN, "role": "assistant"})}, "whose last turn is not the user's"),
        (
            {"turns": (SHOWN, SHOWN), "image": tiny.picture},
            "whose turns have places for 2 pictures, and it has 1",
        ),
        ({"turns": ({"role": "user", "content": [{"type": "video"}]},)}, "whose turns is"),
        ({"id": 3}, "whose id is 3, not a text"),
        ({"target": ["cake"]}, "whose target is ['cake']"),
        ({"label": "unsafe"}, "whose label is 'unsafe', not harmful or benign"),
        ({"shots": "how"}, "whose shots is 'how'"),
        ({"shots": ("other",)}, "whose shots begin with 'other', not with its question"),
        ({"shot_pictures": (tiny.picture,)}, "whose shot_pictures is"),
        ({"shot_pictures": ((tiny.picture,),)}, "with 0 shots, and pictures of 1"),
        ({"facts": {"refusals": "no"}}, "whose facts is {'refusals': 'no'}"),
    ],
)
def test_own_samples_are_looked_at(change: Mapping[str, Any], fault: str) -> None:
    odd: Any = [replace(pool(1)[0], **change)]
    for meeting in (
        lambda: FitData(odd, ()),
        lambda: FitData((), odd),
        lambda: FitData((), (), odd),
        lambda: FitData.from_pool(odd),
        lambda: outcomes(tiny.vlm("llava"), odd),
    ):
        with pytest.raises(InputError, match=re.escape(f"include a sample {fault}")):
            meeting()


def test_own_rows_are_looked_at() -> None:
    with pytest.raises(InputError, match="tuning rows include a row whose answer is None"):
        FitData((), (), tuning=[replace(row("a"), answer=cast("Any", None))])
    with pytest.raises(InputError, match="harmful samples are of the type generator"):
        FitData(cast("Any", (each for each in pool(2))), ())
    with pytest.raises(InputError, match="benign samples include 'how'"):
        FitData((), cast("Any", ["how"]))


@pytest.mark.parametrize(("n", "share"), [(1000, 0.05), (999, 0.05), (300, 0.29), (60, 1.0)])
def test_share_is_never_exceeded_and_is_even(n: int, share: float) -> None:
    data = FitData.from_pool(pool(n), share=share)
    drawn = [*data.harmful, *data.benign]
    assert len(drawn) == int(share * n + 1e-9)
    assert data.share is not None
    assert data.share <= share
    assert len({sample.id for sample in drawn}) == len(drawn)
    assert abs(len(data.harmful) - len(drawn) / 3) <= 3
    assert {sample.label for sample in data.harmful} == {"harmful"}
    assert {sample.label for sample in data.benign} == {"benign"}
    if n > 500:  # every kind is there
        assert {(s.label, s.attack, s.facts["request"]) for s in drawn} == {
            (s.label, s.attack, s.facts["request"]) for s in pool(n)
        }


def test_seed_decides_the_draw() -> None:
    one, two, three = (FitData.from_pool(pool(1000), seed=seed) for seed in (0, 0, 1))
    assert one.hash == two.hash != three.hash


@pytest.mark.parametrize("share", [0, -1, 1.1])
def test_impossible_shares(share: float) -> None:
    with pytest.raises(InputError, match="share"):
        FitData.from_pool(pool(100), share=share)


def test_pools_that_are_too_small() -> None:
    with pytest.raises(InputError, match="0 harmful and 0 benign"):
        FitData.from_pool([])
    with pytest.raises(InputError, match="0 benign"):
        FitData.from_pool([s for s in pool(100) if s.label == "harmful"])


def test_hash_sees_texts_labels_pixels_and_roles() -> None:
    sample = Sample(id="a", question="q", label="benign", target="x", image=tiny.picture)
    changed = [
        replace(sample, question="r"),
        replace(sample, label="harmful"),
        replace(sample, image=lambda: tiny.picture(1)),
        replace(sample, image=None),
        replace(sample, system="s"),
    ]
    datas = [FitData([], [item]) for item in (sample, *changed)]
    second = replace(sample, id="b")
    datas += [FitData([sample], []), FitData([], [], [sample]), FitData([], [sample, second])]
    datas += [FitData([], [sample], [second]), FitData([], [sample], tuning=[row("a")])]
    assert len({data.hash for data in datas}) == len(datas)
    assert FitData([], [replace(sample)]).hash == datas[0].hash


SETS = ("harmful", "benign", "calibration_benign")


@pytest.mark.parametrize("name", SETS)
def test_a_repeated_id_is_refused(name: str) -> None:
    one, other = Sample("a", "q", "benign", "x"), Sample("a", "r", "benign", "x")
    given = {"harmful": (), "benign": (), name: (one, other)}
    with pytest.raises(InputError, match=rf"Two {name.split('_')[0]} samples have the id 'a'"):
        FitData(**given)


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(SETS, 2)])
def test_a_sample_in_two_sets_is_refused(one: str, other: str) -> None:
    sample = Sample("a", "q", "benign", "x", image=tiny.picture)
    again = replace(sample, image=lambda: tiny.picture())
    given = {"harmful": (), "benign": (), one: (sample,), other: (again,)}
    with pytest.raises(InputError, match=r"'a' is in the \w+ and the \w+ set"):
        FitData(**given)
    # Two files may both be numbered from one.
    FitData(**{**given, other: (replace(sample, image=lambda: tiny.picture(1)),)})


def test_repeated_tuning_rows_are_refused() -> None:
    with pytest.raises(InputError, match="Two rows have the id 'a'"):
        FitData((), (), tuning=[row("a"), row("a")])
