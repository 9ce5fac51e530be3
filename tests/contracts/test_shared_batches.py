"""Rows of one batch keep what was asked for each of them, whatever defense is attached."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from safesight.defenses.baselines import ecso
from safesight.errors import InputError
from safesight.hosting import hosts
from safesight.hosting.arms import Arm, build_arm
from safesight.hosting.hosts import Host
from safesight.hosting.requests import Generation, Request
from safesight.hosting.settings import Settings
from safesight.hosting.streams import Caller
from tests import tiny
from tests.contracts import defense_helpers as helpers
from tests.contracts.rotation import dealt


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that ran."""
    sizes: list[int] = []
    generated = hosts.generated
    monkeypatch.setattr(
        hosts, "generated", lambda vlm, rows: (sizes.append(len(rows)), generated(vlm, rows))[1]
    )
    return sizes


def host_of(family: str) -> Iterator[Host]:
    host = Host(tiny.vlm(family))
    try:
        yield host
    finally:
        host.batcher.close()
        host.detach()


def arm_of(host: Host, name: str, family: str) -> Arm:
    defense = helpers.build(name)
    artifact = helpers.some_refused(
        defense, helpers.fitted(name, family), host.vlm, helpers.prompts()
    )
    given = {name: artifact} if defense.fitted else {}
    return build_arm(host.vlm, name, given, **helpers.CLASSES[name].contract.settings)


def asked(host: Host, arm: Arm, rows: Sequence[tuple[Settings, Any]]) -> list[Generation]:
    futures = [
        host.request(Request(arm, settings, prompt, caller=Caller())) for settings, prompt in rows
    ]
    return [future.result(60) for future in futures]


def rows_of(host: Host, arm: Arm) -> list[tuple[Settings, Any]]:
    """Rows that differ in length and seed, and one that ends amid its answer at a stop string."""
    rows = [
        (Settings(length, temperature=1.0, seed=seed), prompt)
        for length, seed, prompt in zip((6, 2, 8, 1), (1, 2, 1, 9), helpers.prompts(), strict=True)
    ]
    text = asked(host, arm, rows[:1])[0].text
    stopped = Settings(6, temperature=1.0, seed=1, stop=(text[len(text) // 2 :][:1] or "x",))
    return [(stopped, helpers.prompts()[0]), *rows[1:]]


@pytest.mark.parametrize(("name", "family"), dealt(helpers.DEFENSES, 1, ("llava", "qwen3_vl")))
def test_each_row_is_answered_as_it_is_alone(
    name: str, family: str, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of what a pipeline asks about all rows, the answers to some are yes.
    monkeypatch.setattr(ecso, "says_yes", lambda said: bool(zlib.crc32(said.encode()) % 2))
    for host in host_of(family):
        arm = arm_of(host, name, family)
        rows = rows_of(host, arm)
        del batches[:]
        together = asked(host, arm, rows)
        assert batches == [4]
        alone = [asked(host, arm, [row])[0] for row in rows]
        assert [replace(each, decisions={}) for each in together] == [
            replace(each, decisions={})
            for each in alone  # scores differ by rounding
        ]


def test_a_defense_inside_coca_cannot_ask_about_some_rows() -> None:
    for host in host_of("llava"):
        with pytest.raises(InputError, match=r"ecso\+coca"):
            asked(host, build_arm(host.vlm, "coca+ecso"), [(Settings(2), helpers.prompts()[0])])
        found = asked(host, build_arm(host.vlm, "ecso+coca"), [(Settings(2), helpers.prompts()[0])])
        assert found[0].output_tokens == 2


@pytest.mark.parametrize(
    "name", [name for name in helpers.DEFENSES if helpers.CLASSES[name].kind == "pipeline"]
)
def test_what_generate_itself_takes_for_each_row_reaches_that_row(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = itertools.cycle([False, True])
    monkeypatch.setattr(ecso, "says_yes", lambda said: next(turns))
    vlm, defense, artifact = tiny.vlm("llava"), helpers.build(name), helpers.fitted(name, "llava")
    letters = vlm.tokenizer.convert_tokens_to_ids(["a", "b", "c", "d"])
    if name in helpers.ZEROS:  # what replaces an answer is not made of letters
        defense, artifact = helpers.still(name, "llava")

    with defense.apply(vlm, artifact):
        found = helpers.answers(
            vlm, helpers.prompts(), prefix_allowed_tokens_fn=lambda row, _: [letters[row]]
        )
        assert found == [[letter] * 5 for letter in letters]


def test_a_stopping_criterion_under_coca_sees_the_rows_of_its_caller() -> None:
    vlm, longest = tiny.vlm("llava"), [1, 2, 3, 4]
    begun: list[int] = []

    def at_most(input_ids: Any, scores: Any) -> torch.Tensor:
        assert len(input_ids) == len(longest)
        begun.append(len(begun))
        return torch.tensor([len(begun) >= length for length in longest])

    with helpers.build("coca").apply(vlm, None):
        found = helpers.answers(vlm, helpers.prompts(), stopping_criteria=[at_most])
    assert [len(each) for each in found] == longest
