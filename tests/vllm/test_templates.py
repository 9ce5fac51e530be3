"""Defenses that rewrite prompts, as chat templates: the tokens are those of transformers."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from safesight.defenses.front_door import load_defense
from safesight.errors import InputError
from safesight.generation.prompt_rows import prompt_rows
from safesight.models import VLM
from safesight.models.unweighted import load_unweighted
from safesight.vllm.templates import template_with
from tests import tiny

REWRITERS = ("safety_prompt", "look_carefully", "adashield")


def tokens(vlm: VLM, messages: Any, names: tuple[str, ...] = ()) -> list[int]:
    inputs = dict(vlm.encode([messages]))
    for name in names:
        defense = load_defense(name)
        rewrite = defense.parts(vlm, defense.config, None).rewrite
        assert rewrite is not None
        inputs = rewrite(inputs)
    return prompt_rows(vlm, inputs)[0]["input_ids"].tolist()


def with_template(vlm: VLM, template: str) -> VLM:
    other = copy.copy(vlm)
    other.processor = copy.copy(vlm.processor)
    other.processor.chat_template = template
    return other


def conversations() -> list[Any]:
    """Other ones than those that a template is tried on."""
    seen = tiny.picture(3, 60, 44)
    rules = {"role": "system", "content": [{"type": "text", "text": 'Say "no" in {{ x }}.'}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]}
    return [
        tiny.ask("Is a kettle hot?"),
        tiny.ask("What is left of the mug?", seen),
        [rules, *tiny.ask("Count them.", seen, tiny.picture(4))],
        [*tiny.ask("Is it big?", seen), answer, *tiny.ask("And old?")],
        [rules, *tiny.ask("Is it big?"), answer, *tiny.ask("And old?", seen)],
    ]


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("name", REWRITERS)
def test_the_tokens_are_those_that_transformers_gets(name: str, family: str) -> None:
    vlm = tiny.vlm(family)
    other = with_template(vlm, template_with(vlm, [load_defense(name)]))
    for messages in conversations():
        assert tokens(other, messages) == tokens(vlm, messages, (name,))


def test_several_together_on_the_bundled_model() -> None:
    names = ("safety_prompt", "adashield")
    vlm = load_unweighted("testbed")
    other = with_template(vlm, template_with(vlm, [load_defense(name) for name in names]))
    for messages in conversations():
        assert tokens(other, messages) == tokens(vlm, messages, names)


def test_any_text_is_quoted() -> None:
    vlm = tiny.vlm("llava")
    defense = load_defense(
        "safety_prompt", text='Don\'t say "TEXT\\n" or {{ x }}\n{% y %} 🙂 ROLE.'
    )
    other = with_template(vlm, template_with(vlm, [defense]))
    rewrite = defense.parts(vlm, defense.config, None).rewrite
    messages = tiny.ask("What is it?", tiny.picture())
    assert rewrite is not None
    expected = prompt_rows(vlm, rewrite(dict(vlm.encode([messages]))))[0]["input_ids"].tolist()
    assert tokens(other, messages) == expected


def test_a_template_that_cannot_say_it_is_refused() -> None:
    vlm = tiny.vlm("llava")
    short = with_template(vlm, tiny.template("<image>").replace("c.text }}", "c.text[:30] }}"))
    with pytest.raises(InputError, match="adashield cannot be written"):
        template_with(short, [load_defense("adashield")])
