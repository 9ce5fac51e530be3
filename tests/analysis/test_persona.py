"""The persona vector is the shift that training causes, and steering adds it where it says."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from safesight.analysis.persona import persona, random_like, steering
from safesight.analysis.states import states_before_answer
from safesight.defenses import load_defense
from safesight.errors import InputError
from tests import tiny
from tests.contracts.defense_helpers import sample
from tests.training.helpers import fit

KINDS = {
    "harmful": [sample(i, "harmful", i % 2 == 0) for i in range(4)],
    "benign": [sample(i, "benign", i % 2 == 0) for i in range(10, 13)],
}
ALL = [one for given in KINDS.values() for one in given]


def test_the_vector_is_the_mean_shift_and_the_model_is_left_alone() -> None:
    vlm = tiny.vlm("llava")
    artifact = fit("npo", vlm, max_steps=2)
    base = states_before_answer(vlm, ALL)
    refusal = torch.randn(vlm.num_layers, vlm.hidden_size)
    found = persona(vlm, load_defense("npo").apply(vlm, artifact), KINDS, refusal)
    assert torch.equal(states_before_answer(vlm, ALL), base)
    with load_defense("npo").apply(vlm, artifact):
        shifts = states_before_answer(vlm, ALL) - base
    assert torch.allclose(found.vectors, shifts.mean(dim=0), atol=1e-6)
    weights = [len(given) / len(ALL) for given in KINDS.values()]
    along = sum(w * found.projections[kind] for w, kind in zip(weights, KINDS, strict=True))
    relative = found.vectors.norm(dim=1) / base.norm(dim=2).mean(dim=0)
    assert torch.allclose(torch.as_tensor(along), relative, atol=1e-5)
    rows = found.report()
    assert [row["layer"] for row in rows] == list(range(vlm.num_layers))
    assert all(0 <= row["explained"] <= 1 for row in rows)


@pytest.mark.parametrize("amount", [0.3, -0.3, 0.0])
def test_steering_adds_the_direction_in_units_of_the_states(amount: float) -> None:
    vlm = tiny.vlm("llava")
    card = fit("npo", vlm, max_steps=1).card
    vector, layer = random_like(torch.zeros(vlm.hidden_size), 0), 1
    plain = states_before_answer(vlm, ALL, layers=[layer])[:, 0]
    moved = states_before_answer(
        vlm, ALL, layers=[layer], defended=steering(vlm, layer, vector, amount, 2.0, card)
    )[:, 0]
    wanted = 2.0 * amount * vector / vector.norm()
    assert torch.allclose(moved - plain, wanted.expand_as(plain), atol=1e-5)


def test_every_kind_needs_prompts() -> None:
    vlm = tiny.vlm("llava")
    with pytest.raises(InputError, match="needs prompts of every kind"):
        persona(vlm, nullcontext(), {"harmful": []}, torch.zeros(2, 2))
