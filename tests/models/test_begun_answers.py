"""An answer that the caller has begun: the prompt ends in its words, and the model goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from safesight.analysis.states import states_before_answer
from safesight.errors import InputError
from safesight.generation.last_token import last_states, states_of_samples
from safesight.models import VLM
from safesight.types import begins_answer
from tests import tiny
from tests.contracts.defense_helpers import (
    CLASSES,
    DEFENSES,
    TUNED,
    build,
    fit_data,
    fitted,
    prompts,
    sample,
)

FITTED = [name for name in DEFENSES if CLASSES[name].fitted and name not in TUNED]
BEGUN = {"role": "assistant", "content": [{"type": "text", "text": "Sure,"}]}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_prompt_is_that_of_the_question_and_the_words_after_it(family: str) -> None:
    vlm = tiny.vlm(family)
    question = tiny.ask("what is this?", tiny.picture(0))
    plain = vlm.encode([question])["input_ids"][0].tolist()
    begun = vlm.encode([[*question, BEGUN]], continue_answer=True)["input_ids"][0].tolist()
    assert begun[: len(plain)] == plain
    assert vlm.tokenizer.decode(begun[len(plain) :]).strip() == "Sure,"


def test_an_answer_goes_on_as_the_model_goes_on_from_those_tokens() -> None:
    vlm = tiny.vlm("llava")
    rows = [[*tiny.ask("hi"), BEGUN], [*tiny.ask("what?", tiny.picture(0)), BEGUN]]
    together = vlm.answer(rows, max_new_tokens=5)
    assert together == [vlm.answer([row], max_new_tokens=5)[0] for row in rows]
    assert not any(answer.startswith("Sure") for answer in together)


def test_the_conversation_is_left_as_it_was() -> None:
    row = [*tiny.ask("hi"), {**BEGUN, "content": [dict(part) for part in BEGUN["content"]]}]
    tiny.vlm("llava").encode([row], continue_answer=True)
    assert row[-1] == BEGUN


def test_begun_and_other_answers_do_not_share_a_batch() -> None:
    vlm: VLM = tiny.vlm("llava")
    with pytest.raises(InputError, match="in another"):
        vlm.answer([tiny.ask("hi"), [*tiny.ask("hi"), BEGUN]])


def test_an_assistant_turn_is_closed_unless_the_answer_goes_on() -> None:
    """Rows for training hold whole answers."""
    model, processor = tiny.fresh("llava")
    processor.chat_template = (
        "{% for m in messages %}{{ m.role }}:{% for c in m.content %}{{ c.text }}{% endfor %};"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    vlm = VLM.wrap(model, processor)
    row = [*tiny.ask("hi"), BEGUN]

    def text(**how: bool) -> str:
        return str(vlm.tokenizer.decode(vlm.encode([row], **how)["input_ids"][0]))

    assert text(add_generation_prompt=False) == "user:hi;assistant:Sure,;"
    assert text() == "user:hi;assistant:Sure,;assistant:"
    assert text(continue_answer=True) == "user:hi;assistant:Sure,"


def test_a_fit_reads_begun_answers_where_they_end_and_others_where_they_begin() -> None:
    """Each row as it is generated from, whatever stands beside it."""
    vlm = tiny.vlm("llava")
    plain = [sample(index, "harmful", picture=index % 2 == 1) for index in range(6)]
    mixed = [
        replace(each, prefill="Sure,") if i in (1, 2, 5) else each for i, each in enumerate(plain)
    ]
    found = states_of_samples(vlm, mixed, 4, "", False)
    for each, states in zip(mixed, found, strict=True):
        begun = each.prefill is not None
        inputs = vlm.encode([each.messages()], continue_answer=begun)
        alone = last_states(vlm, dict(inputs), range(vlm.num_layers))[0]
        assert torch.allclose(states, alone, atol=1e-4)
    assert torch.allclose(states_before_answer(vlm, mixed), found, atol=1e-4)


def unless_refused(call: Callable[[], Any]) -> tuple[Any, str]:
    """What a call returns, and the sentence if it is refused."""
    try:
        return call(), ""
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize("name", FITTED)
def test_every_fit_takes_begun_answers_or_says_why_not(name: str) -> None:
    data = fit_data()
    begun = [replace(each, prefill="Sure,") for each in data.harmful[::3]]
    some = replace(data, harmful=[*begun, *data.harmful[1::3], *data.harmful[2::3]])
    fit = partial(build(name).fit, tiny.vlm("llava"), some, progress=False)
    artifact, sentence = unless_refused(fit)
    if artifact is None:
        assert "Leave samples with a prefill out." in sentence
    else:
        assert artifact.card["data"]["hash"] == some.hash != data.hash


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defense_goes_on_from_begun_answers_or_says_why_not(name: str) -> None:
    vlm = tiny.vlm("llava")
    rows = [[*row, BEGUN] for row in prompts()]
    with build(name).apply(vlm, fitted(name, "llava")):
        together, sentence = unless_refused(lambda: vlm.answer(rows, max_new_tokens=3))
        if together is None:
            assert "begin no answer (no prefill)" in sentence
        else:
            assert together == [vlm.answer([row], max_new_tokens=3)[0] for row in rows]


@pytest.mark.parametrize("messages", [[], "text", [{"content": "x"}], ["x"], None])
def test_what_is_no_conversation_begins_no_answer(messages: object) -> None:
    assert not begins_answer(messages)  # type: ignore[arg-type]
