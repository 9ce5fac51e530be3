"""Splits keep groups together, and nuisances that give a label away are found."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from safesight import registry
from safesight.data import Data, OwnTask, split_by_group
from safesight.data.balance import nuisances
from safesight.errors import InputError
from safesight.types import Label, Sample


def row(number: int, label: Label, group: str | None = None, **more: object) -> Sample:
    facts = {} if group is None else {"group": group}
    return Sample(str(number), f"{number}?", label, "", facts=facts, **more)  # type: ignore[arg-type]


@given(st.integers(10, 60), st.integers(1, 4), st.integers(0, 5))
def test_no_group_is_in_two_splits_and_no_row_is_lost(groups: int, size: int, seed: int) -> None:
    rows = [
        row(size * g + i, "harmful" if g % 2 else "benign", f"g{g}")
        for g in range(groups)
        for i in range(size)
    ]
    parts = split_by_group(rows, seed=seed)
    assert sorted(int(s.id) for part in parts.values() for s in part) == list(range(len(rows)))
    where = [(s.facts["group"], name) for name, part in parts.items() for s in part]
    assert len(set(where)) == groups
    mixed = random.Random(seed).sample(rows, len(rows))
    again = split_by_group(mixed, seed=seed)
    assert all({s.id for s in again[name]} == {s.id for s in parts[name]} for name in parts)


def test_twins_of_both_labels_stay_together() -> None:
    rows = [row(2 * g + i, ("harmful", "benign")[i], f"g{g}") for g in range(20) for i in (0, 1)]
    for part in split_by_group(rows).values():
        assert sum(s.label == "harmful" for s in part) == sum(s.label == "benign" for s in part) > 0


def test_too_few_groups_are_refused() -> None:
    rows = [row(i, "harmful" if i % 2 else "benign", "one") for i in range(50)]
    with pytest.raises(InputError, match="split of this set would have no"):
        split_by_group(rows)


def test_a_task_of_a_file_gives_as_many_of_each_label_as_possible() -> None:
    rows = [row(i, "harmful" if i < 4 else "benign") for i in range(40)]
    task = OwnTask(Data("x.csv", rows), without=frozenset({"0"}))
    assert len(task()) == 39
    some = task(10, seed=1)
    assert sum(s.label == "harmful" for s in some) == 3
    assert len(some) == 10
    assert [int(s.id) for s in some] == sorted(int(s.id) for s in some)
    with pytest.raises(InputError, match="no split 'train'"):
        task(split="train")  # type: ignore[arg-type]


def test_a_name_that_is_taken_is_not_replaced() -> None:
    with pytest.raises(InputError, match="already a benchmark called 'vqa'"):
        registry.add("benchmark", "vqa", OwnTask(Data("x", [])), "")


def picture() -> Image.Image:
    return Image.new("RGB", (4, 4))


def test_what_gives_a_label_away_is_named() -> None:
    fair = [row(i, "harmful" if i % 2 else "benign") for i in range(40)]
    assert nuisances(fair) == []
    half = [row(i, "harmful", image=picture) for i in range(20)]
    half += [row(20 + i, "benign", image=picture if i % 2 else None) for i in range(20)]
    (found,) = nuisances(half)
    assert (found.name, found.always, found.alarming) == ("having a picture", "harmful", True)
    assert 0.7 < found.auroc < 0.8
    sources = [
        Sample(str(i), "?", "harmful" if i % 2 else "benign", "", facts={"source": "ab"[i % 2]})
        for i in range(20)
    ]
    (found,) = nuisances(sources)
    assert (found.name, found.auroc) == ("the source", 1.0)
    assert "The source alone tells harmful rows" in found.sentence
