"""The curves of searches are those of the pictures that the answers are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safesight.compare.searches import search_curves
from safesight.errors import StorageError
from tests.compare.fake_answers import FakeAnswer

ROWS = {
    "a": {"losses": [3.0, 1.0, 2.0], "random": 2.9, "seconds": 1.0, "id": "1"},
    "b": {"losses": [5.0, 4.0, 3.0], "random": 5.1, "seconds": 1.0, "id": "2"},
    "c": {"losses": [9.0, 9.0, 9.0], "random": 9.0, "seconds": 1.0, "id": "3"},
}


def searched(folder: Path, rows: dict[str, Any], arm: str = "sasa") -> None:
    place = folder / "adaptive" / arm / "pgd-8-1"
    place.mkdir(parents=True)
    (place / "rows.json").write_text(json.dumps(rows))
    for key in rows:
        (place / f"{key}.png").touch()


def about(*keys: str, arm: str = "sasa") -> list[Any]:
    budget = {"queries": 1, "steps": 2, "epsilon": 8}
    return [
        FakeAnswer(
            task="image_harm+pgd8",
            facts={"crafted": f"{arm}/pgd-8-1/{key}.png", "budget": budget},
        )
        for key in keys
    ]


def test_median_and_range_are_over_what_was_asked(tmp_path: Path) -> None:
    searched(tmp_path, ROWS)
    (curve,) = search_curves(tmp_path, about("a", "b", "b"))
    assert (curve.against, curve.epsilon, curve.n) == ("sasa", 8, 2)
    assert curve.median == [4.0, 2.5, 2.0], "the best picture is kept"
    assert (curve.low, curve.high) == ([3.0, 1.0, 1.0], [5.0, 4.0, 3.0])
    assert curve.random == 4.0


def test_noise_was_not_searched_for_and_older_folders_have_no_control(tmp_path: Path) -> None:
    searched(tmp_path, {"a": {"losses": [], "seconds": 0, "id": "1"}}, arm="noise")
    searched(tmp_path, {"a": {"losses": [2.0], "seconds": 0, "id": "1"}}, arm="none")
    (curve,) = search_curves(tmp_path, [*about("a", arm="noise"), *about("a", arm="none")])
    assert (curve.against, curve.random) == ("none", None)


def test_what_is_gone_has_no_curve(tmp_path: Path) -> None:
    assert list(search_curves(tmp_path, about("a"))) == []


@pytest.mark.parametrize(
    "rows", [{"a": {"losses": "low"}}, {"a": {"losses": [1]}, "b": {"losses": [1, 2]}}]
)
def test_damaged_losses_are_a_user_error(tmp_path: Path, rows: dict[str, Any]) -> None:
    searched(tmp_path, rows)
    with pytest.raises(StorageError, match=r"rows\.json.*Delete its folder"):
        list(search_curves(tmp_path, about(*rows)))
