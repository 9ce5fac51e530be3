"""What a launcher's variables say about this process, and what a process alone does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from safesight import ranks
from safesight.console import stderr, stdout
from safesight.errors import InputError
from safesight.ranks import Place

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Place()),
        ({"RANK": "red"}, Place()),  # of something else: no launcher leaves out the other
        ({"WORLD_SIZE": "1", "RANK": "0"}, Place()),
        ({"WORLD_SIZE": "", "RANK": ""}, Place()),
        ({"WORLD_SIZE": "3", "RANK": "2"}, Place(2, 3, 2, 3)),
        (
            {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
            Place(3, 4, 1, 2),
        ),
    ],
)
def test_the_place_of_a_process(monkeypatch, given: dict[str, str], expected: Place) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert ranks.place() == expected
    assert ranks.first() == (expected.index == 0)
    assert ranks.label() == (f", rank {expected.index}" if expected.count > 1 else "")
    assert list(ranks.mine("abcdef")) == list("abcdef")[expected.index :: expected.count]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', where a number is needed"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE is '-2'"),
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "1.5"}, "RANK is '1.5'"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is 2 and WORLD_SIZE is 2, but the ranks"),
        (
            {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_WORLD_SIZE": "2"},
            "LOCAL_RANK is 3 and LOCAL_WORLD_SIZE is 2",
        ),
    ],
)
def test_impossible_places_are_refused(monkeypatch, given: dict[str, str], message: str) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=re.escape(message)):
        ranks.place()
    assert ranks.label() == ""  # the error is shown, with no other one on top


def test_a_process_alone_waits_for_nobody(tmp_path: Path) -> None:
    with ranks.together():
        assert list(ranks.shared([1, 2], str)) == ["1", "2"]
    ranks.meet()
    ranks.check_shared(tmp_path / "nowhere")
    assert ranks.agreed("this") == "this"


def test_processes_that_cannot_find_each_other_are_told_how(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match=r"cannot find each other .*torchrun or accelerate launch"):
        ranks.meet()


@pytest.mark.parametrize(("rank", "shown"), [("0", "something\n"), ("1", "")])
def test_only_the_first_rank_shows_anything(monkeypatch, capsys, rank: str, shown: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    stdout().print("something")
    stderr().print("something")
    assert capsys.readouterr() == (shown, shown)
