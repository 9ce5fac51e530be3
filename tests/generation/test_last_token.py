"""The last prompt token's state: read at the right place, changed there and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from safesight.activations import capture, resid_post
from safesight.errors import ModelError
from safesight.generation.last_token import at_last, last_states, last_tokens, states_of
from tests import tiny
from tests.contracts.defense_helpers import fingerprint, prompts


def doubled(states: Tensor) -> Tensor:
    return 2 * states


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_states_are_the_models_own(family: str) -> None:
    vlm = tiny.vlm(family)
    inputs = vlm.encode(prompts())
    with torch.no_grad():
        hidden = vlm.model(**inputs, output_hidden_states=True).hidden_states
    found = last_states(vlm, dict(inputs), [0, 2])
    expected = torch.stack([hidden[1][:, -1], hidden[3][:, -1]], dim=1)
    assert torch.allclose(found, expected, atol=1e-4)
    batched = states_of(vlm, prompts(), [0, 2], batch_size=3, label="", progress=False)
    assert torch.allclose(batched, expected, atol=1e-4)


def test_right_padding_is_seen_through() -> None:
    vlm = tiny.vlm("llava")
    left = dict(vlm.encode([tiny.ask("a"), tiny.ask("a longer question than that")]))
    padding = int((left["attention_mask"][0] == 0).sum())
    right = {name: value.clone() for name, value in left.items()}
    for value in right.values():
        value[0] = value[0].roll(-padding)
    assert last_tokens(right)[0].nonzero().item() == left["input_ids"].shape[1] - padding - 1
    found, expected = (last_states(vlm, each, [1]) for each in (right, left))
    assert torch.allclose(found, expected, atol=1e-3)


def test_only_the_last_token_is_changed() -> None:
    vlm = tiny.vlm("llava")
    inputs = dict(vlm.encode(prompts()))
    site, later = resid_post(1), resid_post(2)
    with torch.no_grad(), capture(vlm.layers, [site, later]) as plain:
        vlm.model(**inputs)
    before = fingerprint(vlm.model)
    with (
        torch.no_grad(),
        at_last(vlm, inputs, {1: doubled}),
        capture(vlm.layers, [site, later]) as found,
    ):
        vlm.model(**inputs)
    assert fingerprint(vlm.model) == before
    assert torch.equal(found[site][:, :-1], plain[site][:, :-1])
    assert torch.equal(found[site][:, -1], 2 * plain[site][:, -1])
    assert torch.equal(found[later][:, :-1], plain[later][:, :-1])
    assert not torch.equal(found[later][:, -1], plain[later][:, -1])


def test_several_answers_to_a_prompt_are_changed_alike() -> None:
    vlm = tiny.vlm("llava")
    inputs = dict(vlm.encode(prompts()))
    seen: list[Tensor] = []

    def note(states: Tensor) -> Tensor:
        seen.append(states)
        return states

    with at_last(vlm, inputs, {0: note}):
        vlm.generate(inputs, do_sample=True, num_return_sequences=2, max_new_tokens=3)
    assert len(seen) == 1, "decoding steps are left alone"
    assert torch.equal(seen[0][::2], seen[0][1::2])
    assert len(seen[0]) == 2 * len(prompts())


@pytest.mark.parametrize("text", ["a", "a question that is much longer than any other one here"])
def test_another_prompt_inside_is_an_error(text: str) -> None:
    vlm = tiny.vlm("llava")
    inputs, other = (dict(vlm.encode([tiny.ask(each)])) for each in ("how to do it?", text))
    before = fingerprint(vlm.model)
    with (
        pytest.raises(ModelError, match="Attach that one first"),
        at_last(vlm, inputs, {1: doubled}),
    ):
        vlm.generate(other, max_new_tokens=1)
    assert fingerprint(vlm.model) == before
