"""States are those of the model's own forward, row by row, and those that a defense leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from safesight import registry
from safesight.activations import add, edit, resid_post
from safesight.analysis.states import states_before_answer
from safesight.defenses import Defense, DefenseConfig, Parts, load_defense
from safesight.errors import InputError
from safesight.fitting.bundled import bundled
from safesight.models import VLM
from safesight.types import Sample
from tests import tiny
from tests.contracts.defense_helpers import fingerprint
from tests.defenses.fakes import FakeDetector

FAMILIES = ("llava", "qwen2_5_vl", "gemma3", "qwen3_vl")
EDITED = 1


def _samples() -> list[Sample]:
    """Of different lengths, with and without a picture, not in order of length."""
    questions = ("a longer question than the others?", "what?", "how to do it?", "why not now?")
    return [
        Sample(str(i), q, "benign", "x", image=partial(tiny.picture, i) if i % 2 else None)
        for i, q in enumerate(questions)
    ]


def _direct(vlm: VLM, sample: Sample) -> Tensor:
    """By hooks of this test's own, one row at a time: layers x d."""
    found: list[Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        found.append((output[0] if isinstance(output, tuple) else output)[0, -1].float())

    handles = [block.register_forward_hook(keep) for block in vlm.layers]
    with torch.no_grad():
        vlm.model(**vlm.encode([sample.messages()]), use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack(found)


class Push(Defense[DefenseConfig, None]):
    """Adds a constant after one block, by a hook of its own around generate."""

    name = "push"
    kind = "activation"
    paper = "none"

    def parts(self, vlm: VLM, config: DefenseConfig, fitted: None) -> Parts:
        vector = torch.full((vlm.hidden_size,), 0.5)

        def around(generate: Any, inputs: Any) -> Any:
            with edit(vlm.layers, {resid_post(EDITED): add(vector)}, prefill_only=True):
                return generate(**inputs)

        return Parts(around=around)


class Twice(Defense[DefenseConfig, None]):
    """Generates a first time with another prompt, as pipelines do."""

    name = "twice"
    kind = "activation"
    paper = "none"

    def parts(self, vlm: VLM, config: DefenseConfig, fitted: None) -> Parts:
        def around(generate: Any, inputs: Any) -> Any:
            generate(**vlm.encode([tiny.ask("first")]), max_new_tokens=1)
            return generate(**inputs)

        return Parts(around=around)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_is_as_it_is_alone_whatever_the_batch(family: str) -> None:
    vlm, samples = tiny.vlm(family), _samples()
    alone = torch.stack([_direct(vlm, sample) for sample in samples])
    for batch_size in (1, 3, 16):
        states = states_before_answer(vlm, samples, batch_size=batch_size)
        assert states.shape == (4, vlm.num_layers, vlm.hidden_size)
        torch.testing.assert_close(states, alone, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_defense_changes_is_seen_from_the_layer_it_changes(family: str) -> None:
    vlm, samples = tiny.vlm(family), _samples()
    before, print_ = states_before_answer(vlm, samples), fingerprint(vlm.model)
    after = states_before_answer(vlm, samples, defended=Push().apply(vlm))
    assert torch.equal(after[:, :EDITED], before[:, :EDITED])
    torch.testing.assert_close(after[:, EDITED], before[:, EDITED] + 0.5)
    assert not torch.allclose(after[:, EDITED + 1], before[:, EDITED + 1] + 0.5, atol=1e-2)
    assert fingerprint(vlm.model) == print_
    assert torch.equal(states_before_answer(vlm, samples), before)


def test_a_rewritten_prompt_is_what_is_read() -> None:
    vlm, samples = tiny.vlm("llava"), _samples()
    prompt = load_defense("safety_prompt", text="Careful.")
    states = states_before_answer(vlm, samples, defended=prompt.apply(vlm))
    said = [
        Sample(s.id, s.question, s.label, s.target, image=s.image, system="Careful.")
        for s in samples
    ]
    torch.testing.assert_close(states, states_before_answer(vlm, said), atol=2e-4, rtol=1e-3)


def test_of_several_generations_the_last_counts() -> None:
    vlm, samples = tiny.vlm("llava"), _samples()
    states = states_before_answer(vlm, samples, defended=Twice().apply(vlm))
    assert torch.equal(states, states_before_answer(vlm, samples))


def test_a_detector_changes_no_state() -> None:
    vlm, samples = tiny.vlm("llava"), _samples()
    states = states_before_answer(vlm, samples, defended=FakeDetector().apply(vlm))
    assert torch.equal(states, states_before_answer(vlm, samples))


def test_a_refusal_put_in_the_place_of_an_answer_begins_at_no_prefill() -> None:
    vlm, samples = tiny.vlm("llava"), _samples()
    with pytest.raises(InputError, match="do not come from its last prefill"):
        states_before_answer(vlm, samples, defended=FakeDetector(0).apply(vlm))


@contextmanager
def _silent(vlm: VLM) -> Iterator[None]:
    """A defense that answers without asking the model."""
    model = vlm.model
    kept = vars(model)["generate"]
    vars(model)["generate"] = lambda **inputs: inputs["input_ids"]
    try:
        yield
    finally:
        vars(model)["generate"] = kept


def test_an_answer_without_a_prefill_is_said_and_the_model_is_as_before() -> None:
    vlm = tiny.vlm("llava")
    print_ = fingerprint(vlm.model)
    with pytest.raises(InputError, match="do not come from its last prefill"):
        states_before_answer(vlm, _samples(), defended=_silent(vlm))
    assert fingerprint(vlm.model) == print_


@pytest.mark.parametrize("name", ["ecso", "coca"])
def test_answers_that_begin_elsewhere_are_said(name: str) -> None:
    """ECSO asks about its answer last; CoCA makes one answer of two prompts."""
    vlm, samples = VLM.load("testbed"), registry.load("benchmark", "image_harm")(2)
    with pytest.raises(InputError, match="do not come from its last prefill"):
        states_before_answer(vlm, samples, defended=load_defense(name).apply(vlm))
    assert torch.equal(states_before_answer(vlm, samples), states_before_answer(vlm, samples))


@pytest.mark.parametrize("name", ["image_tools", "adashield", "shiftdc", "tool_vector", "npo"])
def test_defenses_of_all_other_kinds_are_read(name: str) -> None:
    vlm, samples = VLM.load("testbed"), registry.load("benchmark", "image_harm")(2)
    defense = load_defense(name)
    artifact = bundled(name, vlm) if defense.fitted else None
    states = states_before_answer(vlm, samples, defended=defense.apply(vlm, artifact))
    assert not torch.equal(states, states_before_answer(vlm, samples))


def test_layers_can_be_chosen_and_steps_are_told() -> None:
    vlm, samples, told = tiny.vlm("llava"), _samples(), []
    states = states_before_answer(vlm, samples, layers=[3, 0], batch_size=3, step=told.append)
    assert torch.equal(states, states_before_answer(vlm, samples, batch_size=3)[:, [3, 0]])
    assert told == [3, 1]


def test_no_samples() -> None:
    with pytest.raises(InputError, match="no samples"):
        states_before_answer(tiny.vlm("llava"), [])
