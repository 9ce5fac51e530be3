"""An answer that the caller has begun: the prompt ends in its words, and the model goes on."""

from __future__ import annotations

import pytest

from safesight.errors import InputError
from safesight.models import VLM
from safesight.types import begins_answer
from tests import tiny

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


@pytest.mark.parametrize("messages", [[], "text", [{"content": "x"}], ["x"], None])
def test_what_is_no_conversation_begins_no_answer(messages: object) -> None:
    assert not begins_answer(messages)  # type: ignore[arg-type]
