"""Equations 1 to 3 by hand, the gate's edges, and who keeps their bits inside a generation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from safesight.activations import capture, resid_post, resid_pre
from safesight.defenses.rai.calibration import threshold
from safesight.defenses.rai.injection import (
    Injection,
    gated,
    generate_shifted,
    risk_scores,
    shift,
    top_tokens,
)
from safesight.errors import InputError, ModelError
from safesight.models import VLM
from tests import tiny
from tests.contracts.defense_helpers import prompts

EMBED = resid_pre(0)
U = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.5, 0.0]])


def injection(tau: float = 0.7, strength: float = 1.0, **more: Any) -> Injection:
    return Injection(EMBED, more.pop("prototypes", U), tau, strength, **more)


def moved(state: list[float], **settings: Any) -> list[float]:
    states = torch.tensor([state])
    return injection(**settings).shift(states, torch.zeros(1, dtype=torch.long))[0].tolist()


def test_equations_by_hand() -> None:
    h = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 7.0]])
    scores = risk_scores(h, U)
    assert torch.allclose(scores, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    passed = gated(scores, 0.7)
    assert torch.allclose(passed, torch.tensor([[0.0, 0.8], [0.0, 0.0]]))
    added = shift(h, passed, U, strength=2.0)
    assert torch.allclose(added, torch.tensor([[0.0, 1.6, 0.0], [0.0, 0.0, 0.0]]))
    both = shift(h, gated(scores, 0.5), U, strength=1.0)
    assert torch.allclose(both[0], torch.tensor([0.6, 0.8, 0.0]))
    matched = shift(h, passed, U, strength=2.0, norm_matched=True)
    assert torch.allclose(matched[0], torch.tensor([0.0, 1.6 * 5, 0.0]))


@pytest.mark.parametrize("strength", [0.0, 1.0, 2.5])
def test_a_token_equal_to_a_prototype_moves_by_the_strength_along_it(strength: float) -> None:
    assert moved([2.0, 0.0, 0.0], strength=strength) == pytest.approx([strength, 0.0, 0.0])
    assert moved([0.0, 0.5, 0.0], strength=strength) == pytest.approx([0.0, strength, 0.0])


def test_lengths_of_prototypes_do_not_matter() -> None:
    one, two = moved([3.0, 4.0, 0.0], tau=0.5), moved([3.0, 4.0, 0.0], tau=0.5, prototypes=9 * U)
    assert one == pytest.approx(two)


def test_the_gate_is_strict_and_above_one_nothing_passes() -> None:
    scores = torch.tensor([[0.5, 1.0]])
    assert gated(scores, 0.5).tolist() == [[0.0, 1.0]]
    assert gated(scores, 1.0).tolist() == [[0.0, 0.0]]
    assert moved([2.0, 0.0, 0.0], tau=1.01) == [0.0, 0.0, 0.0]


def test_centering_is_a_cosine_of_differences() -> None:
    h, token_mean = torch.tensor([[5.0, 5.0, 1.0]]), torch.tensor([5.0, 5.0, 0.0])
    word_mean = torch.tensor([0.0, 0.0, -1.0])
    # h - mean = (0, 0, 1); u - mean = (2, 0, 1) and (0, 0.5, 1).
    expected = torch.tensor([[1 / 5**0.5, 1 / 1.25**0.5]])
    assert torch.allclose(risk_scores(h, U, token_mean, word_mean), expected)
    assert float(risk_scores(h, U).max()) > 0.65


def test_controls_push_elsewhere_by_the_same_length() -> None:
    other = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 1.0]])
    assert moved([2.0, 0.0, 0.0], directions=other) == pytest.approx([0.0, 0.0, 1.0])


def test_the_riskiest_tokens_of_every_row() -> None:
    scores = torch.tensor([[0.1, 0.0], [0.3, 0.2], [0.2, 0.1], [-0.5, -0.4]])
    rows = torch.tensor([0, 0, 0, 1])
    for count, expected in ((1, [1, 3]), (2, [1, 2, 3]), (9, [0, 1, 2, 3])):
        passes = (scores > top_tokens(scores, rows, count)).any(dim=1)
        assert passes.nonzero().flatten().tolist() == expected
    one = Injection(EMBED, U, 2.0, 1.0, top_k=1)
    h = torch.tensor([[1.0, 0.9, 0.0], [1.0, 0.0, 0.0]])
    assert one.shift(h, torch.zeros(2, dtype=torch.long)).tolist() == [[0, 0, 0], [1, 0, 0]]


def test_half_precision_does_not_overflow() -> None:
    h = torch.full((1, 64), 1e3, dtype=torch.float16)
    assert torch.isinf(h.square().sum()), "the trap is there"
    assert float(risk_scores(h, torch.ones(1, 64))) == pytest.approx(1.0, abs=1e-5)
    assert injection().shift(h[:, :3], torch.zeros(1)).dtype == torch.float32


def test_states_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(ModelError, match="float32"):
        moved([float("inf"), 0.0, 0.0])


def seen(vlm: VLM, site: Any, change: Injection | None, **settings: Any) -> tuple[Tensor, Any]:
    """States at a site as the next block gets them, and the generation."""
    inputs = {**vlm.encode(prompts()), "max_new_tokens": 4, "do_sample": False, **settings}
    inputs |= {"return_dict_in_generate": True, "output_scores": True}

    def run(**kwargs: Any) -> Any:
        # Entered inside the edit, so it sees what the edit leaves.
        with capture(vlm.layers, [site]) as states:
            output = vlm.model.generate(**kwargs)
        return states[site], output

    if change is None:
        return run(**inputs)
    return generate_shifted(vlm, change.site, change.shift, run, inputs)


def strong(vlm: VLM, site: Any = EMBED, tau: float = -1.0) -> Injection:
    dice = torch.Generator().manual_seed(0)
    return Injection(site, torch.randn(3, vlm.hidden_size, generator=dice), tau, 4.0)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("site", [EMBED, resid_post(1)])
def test_only_visual_tokens_move_and_as_equation_3_says(family: str, site: Any) -> None:
    vlm = tiny.vlm(family)
    mask = vlm.image_mask(vlm.encode(prompts()))
    plain, _ = seen(vlm, site, None)
    best = strong(vlm, site).scores(plain[mask]).amax(dim=1)
    change = strong(vlm, site, tau=threshold(best, 0.5))
    found, _ = seen(vlm, site, change)
    assert torch.equal(found[~mask], plain[~mask])
    added = change.shift(plain[mask], mask.nonzero()[:, 0])
    still = (added == 0).all(dim=-1)
    assert 0 < int(still.sum()) < len(still)
    assert torch.equal(found[mask][still], plain[mask][still])
    assert torch.equal(found[mask], plain[mask] + added)


@pytest.mark.parametrize("off", [{"tau": 1.01}, {"strength": 0.0}])
def test_off_is_the_identity(off: dict[str, float]) -> None:
    vlm = tiny.vlm("llava")
    (plain, one), (found, two) = (
        seen(vlm, EMBED, change) for change in (None, replace(strong(vlm), **off))
    )
    assert torch.equal(found, plain)
    assert torch.equal(one.sequences, two.sequences)
    assert all(torch.equal(a, b) for a, b in zip(one.scores, two.scores, strict=True))
    assert not torch.equal(seen(vlm, EMBED, strong(vlm))[0], plain), "on is not off"


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_decoding_steps_are_untouched(family: str) -> None:
    """Continuing the shifted prefill's cache without hooks gives the same scores, bit for bit."""
    vlm, change = tiny.vlm(family), strong(tiny.vlm(family))
    calls: list[int] = []

    def counted(states: Tensor, rows: Tensor) -> Tensor:
        calls.append(len(states))
        return change.shift(states, rows)

    encoded = vlm.encode(prompts()[:1])
    settings = {"return_dict_in_generate": True, "output_scores": True, "do_sample": False}
    inputs = {**encoded, **settings, "max_new_tokens": 3}
    whole = generate_shifted(vlm, EMBED, counted, vlm.model.generate, inputs)
    assert calls == [int(vlm.image_mask(encoded).sum())], "once, in the prefill"
    first = generate_shifted(
        vlm, EMBED, change.shift, vlm.model.generate, {**inputs, "max_new_tokens": 1}
    )
    mask = torch.ones_like(first.sequences)
    rest = vlm.model.generate(
        input_ids=first.sequences,
        attention_mask=mask,
        past_key_values=first.past_key_values,
        max_new_tokens=2,
        **settings,
    )
    assert torch.equal(rest.sequences, whole.sequences)
    for mine, theirs in zip(rest.scores, whole.scores[1:], strict=True):
        assert torch.equal(mine, theirs)


def test_several_answers_to_a_prompt() -> None:
    vlm, change = tiny.vlm("llava"), strong(tiny.vlm("llava"))
    one, _ = seen(vlm, EMBED, change)
    two, output = seen(vlm, EMBED, change, num_return_sequences=2, do_sample=True)
    assert torch.equal(two, one.repeat_interleave(2, dim=0))
    assert len(output.sequences) == 2 * len(prompts())


def test_right_padding() -> None:
    vlm, change = tiny.vlm("llava"), strong(tiny.vlm("llava"))
    left = dict(vlm.encode([tiny.ask("a", tiny.picture(3)), tiny.ask("longer than that " * 3)]))
    padding = int((left["attention_mask"][0] == 0).sum())
    assert padding > 0
    right = {k: v.clone() for k, v in left.items()}
    for name in ("input_ids", "attention_mask"):
        right[name][0] = right[name][0].roll(-padding)
    mask = vlm.image_mask(right)
    with capture(vlm.layers, [EMBED]) as states:
        generate_shifted(
            vlm, EMBED, change.shift, vlm.model.generate, {**right, "max_new_tokens": 1}
        )
    with capture(vlm.layers, [EMBED]) as plain:
        vlm.model.generate(**right, max_new_tokens=1)
    assert torch.equal(states[EMBED][~mask], plain[EMBED][~mask])


def test_without_pictures_nothing_is_hooked() -> None:
    vlm = tiny.vlm("llava")

    def fail(*_: Tensor) -> Tensor:
        raise AssertionError

    inputs = {**vlm.encode([tiny.ask("hello")]), "max_new_tokens": 2, "num_beams": 2}
    generate_shifted(vlm, EMBED, fail, vlm.model.generate, inputs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 2}, "RAI cannot act on.*num_beams=2"),
        ({"prefill_chunk_size": 4}, "chunked prefill"),
        ({"past_key_values": "cache"}, "past_key_values"),
        ({"pixel_values_videos": torch.zeros(1)}, "videos"),
        ({"input_ids": None, "inputs_embeds": torch.zeros(1, 3, 32)}, "inputs_embeds"),
    ],
)
def test_calls_that_would_pass_by(settings: dict[str, Any], message: str) -> None:
    vlm, change = tiny.vlm("llava"), strong(tiny.vlm("llava"))
    inputs = {**vlm.encode(prompts()), "max_new_tokens": 2}
    if "past_key_values" in settings:
        cache = hf.DynamicCache(config=vlm.model.config.get_text_config())
        vlm.model.generate(**inputs, past_key_values=cache)
        settings = {"past_key_values": cache}
    with pytest.raises(InputError, match=message):
        generate_shifted(vlm, EMBED, change.shift, vlm.model.generate, {**inputs, **settings})


def test_an_edit_that_never_ran_is_an_error() -> None:
    vlm, change = tiny.vlm("llava"), strong(tiny.vlm("llava"))
    inputs = {**vlm.encode(prompts()), "max_new_tokens": 2}
    with pytest.raises(ModelError, match="not defended"):
        generate_shifted(vlm, EMBED, change.shift, lambda **_: "an undefended answer", inputs)
