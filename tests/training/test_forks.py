"""Where the answers of two sets part."""

from __future__ import annotations

import random

import pytest
import torch

from safesight.errors import InputError
from safesight.training.batches import Collator
from safesight.training.forks import Forks, shared
from tests import tiny
from tests.training.helpers import data, fit, row, rows


def test_shared_beginnings_are_those_of_a_search_through_all_pairs() -> None:
    dice = random.Random(0)
    one, two = (
        [tuple(dice.choices((1, 2, 3), k=dice.randint(0, 6))) for _ in range(60)] for _ in range(2)
    )
    for answer, found in zip(one, shared(one, two), strict=True):
        lengths = [n for n in range(len(answer)) if any(o[:n] == answer[:n] for o in two)]
        assert found == max(lengths, default=0)
    assert shared([(1, 2)], []) == [0]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_from_the_fork_the_first_differing_token_is_predicted(family: str) -> None:
    """On any architecture; an answer that shares nothing forks at the end of its prompt."""
    vlm = tiny.vlm(family)
    forget = [row("a", answer="get a gun now", picture=True), row("bb", answer="get a saw")]
    retain = [
        row("c", "retain", answer="get a sun"),
        row("dd", "retain", answer="no", picture=True),
    ]
    collator = Collator(vlm)
    forks = Forks.of(collator, forget, retain)
    for given, expected in ((forget, ("gun now", "aw")), (retain, ("un", "no"))):
        batch = collator.rows(given)
        mask = forks.mask(batch)
        assert mask.sum(dim=1).tolist() == [1, 1]
        for n, text in enumerate(expected):
            behind = batch["inputs"]["input_ids"][n, int(mask[n].nonzero()) + 1 :]
            real = behind[batch["inputs"]["attention_mask"][n, -len(behind) :].bool()]
            assert vlm.tokenizer.decode(real[:-1]) == text
            assert torch.equal(batch["answer"][n, -len(behind) :][: len(real)], real)


@pytest.mark.parametrize("setting", ["tokens", "retain_tokens"])
def test_rmu_at_the_fork_needs_answers_that_part(setting: str) -> None:
    vlm, forked = tiny.vlm("llava"), {"max_steps": 1, setting: "fork"}
    assert fit("rmu", vlm, None, None, **forked).config[setting] == "fork"
    mute = data(*rows(), row("mute", answer=""))
    with pytest.raises(InputError, match="forget row 'mute' has no answer"):
        fit("rmu", vlm, None, mute, **forked)
