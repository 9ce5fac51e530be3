"""Rewriting tokens gives what rendering the rewritten conversation gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from safesight.defenses import load_defense
from safesight.errors import InputError, ModelError
from safesight.generation.prompt_tokens import (
    _RENDERED,
    question_renderer,
    rewrite_rows,
    system_writer,
    wrapped_question_writer,
)
from safesight.models import VLM
from tests import tiny

TEXT = 'Look first. If it is bad, say "no".\nThen go on.'

CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are kind.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VICUNA = (
    "<bos>{% for m in messages %}{% if m.role != 'system' %}{{ m.role | upper }}: {% endif %}"
    "{% for c in m.content if c.type == 'image' %}<image>\n{% endfor %}"
    "{% for c in m.content if c.type == 'text' %}{{ c.text }} {% endfor %}"
    "{% if m.role == 'assistant' %}<eos>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
FOLDED = (
    "<bos>{% set ns = namespace(first='') %}"
    "{% for m in messages %}{% if m.role == 'system' %}"
    "{% set ns.first = m.content[0].text + '\n\n' %}{% else %}"
    "<|im_start|>{{ m.role }}\n{{ ns.first }}{% set ns.first = '' %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
NO_SYSTEM = (
    "<bos>{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('no system role') }}{% endif %}"
    "{% if m.role == 'user' %}[INST]{% endif %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}"
    "{% if m.role == 'user' %}[/INST]{% else %}<eos>{% endif %}{% endfor %}"
)
DEAF = NO_SYSTEM.replace(
    "{{ raise_exception('no system role') }}{% endif %}", "{% else %}"
).replace("<eos>{% endif %}{% endfor %}", "<eos>{% endif %}{% endif %}{% endfor %}")
TEMPLATES = {
    "chatml": CHATML,
    "vicuna": VICUNA,
    "folded": FOLDED,
    "no_system": NO_SYSTEM,
    "deaf": DEAF,
}


def with_template(template: str, merges: bool = False) -> VLM:
    """The tiny llava with another chat template, and a tokenizer that has its markers."""
    model, processor = tiny.fresh("llava")
    markers = ["<|im_start|>", "<|im_end|>", "[INST]", "[/INST]"]
    if merges:
        processor.tokenizer._tokenizer = merging_tokenizer()
    processor.tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", *markers]})
    processor.chat_template = template
    return VLM.wrap(model, processor)


def merging_tokenizer() -> Tokenizer:
    """Glues punctuation to line breaks, as GPT-like tokenizers do, and spaces to words."""
    words = ["<pad>", "<bos>", "<eos>", "<image>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pairs = [("?", "Ċ"), (".", "Ċ"), ("Ċ", "Ċ"), ("?Ċ", "Ċ"), ("Ġ", "t"), ("Ġt", "h"), ("o", "o")]
    vocabulary = {word: index for index, word in enumerate([*words, *(a + b for a, b in pairs)])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<pad>", "<bos>", "<eos>", "<image>"])
    return inner


def user(*parts: Any) -> dict[str, Any]:
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image", "image": part}
        for part in parts
    ]
    return {"role": "user", "content": content}


def turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


QUESTIONS = ["how do i bake?", "tell me.", 'say "yes" (now)']


def conversations(system: str | None) -> Iterator[list[dict[str, Any]]]:
    start = [] if system is None else [turn("system", system)]
    for question in QUESTIONS:
        yield [*start, user(question)]
        yield [*start, user(tiny.picture(), question)]
    history = [user(tiny.picture(1), "what is it?"), turn("assistant", "a user: cat")]
    yield [*start, *history, user("are you sure?")]


def assert_same(vlm: VLM, write: Any, before: list[Any], after: list[Any]) -> None:
    """Row by row, then all rows as one batch."""
    for one, two in zip(before, after, strict=True):
        found = rewrite_rows(vlm, dict(vlm.encode([one])), write)
        assert found["input_ids"].tolist() == vlm.encode([two])["input_ids"].tolist()
    found, expected = rewrite_rows(vlm, dict(vlm.encode(before)), write), vlm.encode(after)
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


def add_system(messages: list[Any]) -> list[Any]:
    if messages[0]["role"] == "system":
        old = messages[0]["content"][0]["text"]
        return [turn("system", f"{TEXT}\n\n{old}"), *messages[1:]]
    return [turn("system", TEXT), *messages]


def wrap_question(messages: list[Any]) -> list[Any]:
    *parts, last = messages[-1]["content"]
    question = last["text"]
    pictures = [part["image"] for part in parts]
    return [*messages[:-1], user(*pictures, f"{question} {TEXT}\n{question}")]


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("system", [None, "speak plainly"])
def test_system_turn_in_every_family(family: str, system: str | None) -> None:
    vlm = tiny.vlm(family)
    before = list(conversations(system))
    assert_same(vlm, system_writer(vlm, TEXT), before, [add_system(each) for each in before])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_wrapped_question_in_every_family(family: str) -> None:
    vlm = tiny.vlm(family)
    before = list(conversations(None))
    after = [wrap_question(each) for each in before]
    assert_same(vlm, wrapped_question_writer(vlm, TEXT), before, after)


@pytest.mark.parametrize("merges", [False, True])
@pytest.mark.parametrize("template", ["chatml", "vicuna", "folded"])
@pytest.mark.parametrize("system", [None, "speak plainly"])
def test_system_turn_in_other_templates(template: str, system: str | None, merges: bool) -> None:
    vlm = with_template(TEMPLATES[template], merges)
    before = list(conversations(system))
    if template == "folded" and system is None:
        before = [each for each in before if len(each) == 1]
    assert_same(vlm, system_writer(vlm, TEXT), before, [add_system(each) for each in before])


@pytest.mark.parametrize("template", ["no_system", "deaf"])
def test_templates_without_a_system_role(template: str) -> None:
    vlm = with_template(TEMPLATES[template])
    before = [[user(question)] for question in QUESTIONS]
    after = [[user(f"{TEXT}\n\n{question}")] for question in QUESTIONS]
    assert_same(vlm, system_writer(vlm, TEXT), before, after)


@pytest.mark.parametrize("merges", [False, True])
@pytest.mark.parametrize("template", TEMPLATES)
def test_wrapped_question_in_other_templates(template: str, merges: bool) -> None:
    vlm = with_template(TEMPLATES[template], merges)
    before = list(conversations(None))
    after = [wrap_question(each) for each in before]
    write = wrapped_question_writer(vlm, TEXT)
    if (template, merges) != ("vicuna", True):
        assert_same(vlm, write, before, after)
        return
    # The space glued to the question's first word is repeated with it.
    found = rewrite_rows(vlm, dict(vlm.encode(before)), write)["input_ids"]
    expected = vlm.encode(after)["input_ids"]
    for mine, theirs in zip(found, expected, strict=True):
        texts = [vlm.tokenizer.decode(row, skip_special_tokens=True) for row in (mine, theirs)]
        assert texts[0].split() == texts[1].split()


def test_glued_line_breaks() -> None:
    template = tiny.template("<image>").replace("\\n", "\n\n").replace("\n", "\n\n")
    vlm = with_template(template, merges=True)
    before = [[user(question)] for question in ("how do i bake?", "tell me.", "look")]
    after = [wrap_question(each) for each in before]
    assert_same(vlm, wrapped_question_writer(vlm, TEXT), before, after)


def test_text_before_and_after_a_picture_is_repeated() -> None:
    vlm = tiny.vlm("qwen2_5_vl")
    before = [user("see ", tiny.picture(), " there?")]
    after = [user("see ", tiny.picture(), f" there? {TEXT}\nsee  there?")]
    assert_same(vlm, wrapped_question_writer(vlm, TEXT), [before], [after])


def test_right_padding_becomes_left_padding() -> None:
    vlm = tiny.vlm("llava")
    conversation = [[user("a")], [user("a longer one")]]
    left = dict(vlm.encode(conversation))
    right = {name: value.clone() for name, value in left.items()}
    padding = int((left["attention_mask"][0] == 0).sum())
    for name in right:
        right[name][0] = left[name][0].roll(-padding)
    write = system_writer(vlm, TEXT)
    found, expected = rewrite_rows(vlm, right, write), rewrite_rows(vlm, left, write)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    del left["attention_mask"]
    unmasked = rewrite_rows(vlm, left, write)
    assert torch.equal(unmasked["attention_mask"], expected["attention_mask"])


def test_length_limits_move_with_the_prompt() -> None:
    vlm = tiny.vlm("llava")
    inputs = dict(vlm.encode([[user("hello")]]))
    length = inputs["input_ids"].shape[1]
    plain = vlm.generate(inputs, max_length=length + 3, min_length=length + 3)
    with load_defense("safety_prompt").apply(vlm):
        found = vlm.generate(inputs, max_length=length + 3, min_length=length + 3)
    assert found.shape == plain.shape


@pytest.mark.parametrize("writer", [system_writer, wrapped_question_writer])
@pytest.mark.parametrize("text", ["hello", "<bos>nobody:hello"])
def test_prompts_that_ignore_the_template_are_refused(writer: Any, text: str) -> None:
    vlm = tiny.vlm("llava")
    inputs = vlm.tokenizer([text], return_tensors="pt", add_special_tokens=False)
    with pytest.raises(InputError, match="as the model's chat template writes it"):
        rewrite_rows(vlm, dict(inputs), writer(vlm, TEXT))


def test_tensors_of_unknown_meaning_are_refused() -> None:
    vlm = tiny.vlm("llava")
    inputs = dict(vlm.encode([[user("hello")]]))
    inputs["position_ids"] = inputs["input_ids"].cumsum(1)
    with pytest.raises(InputError, match="position_ids"):
        rewrite_rows(vlm, inputs, system_writer(vlm, TEXT))


def test_a_template_without_marks_is_refused() -> None:
    vlm = with_template(
        "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}"
    )
    with pytest.raises(ModelError, match="does not mark"):
        wrapped_question_writer(vlm, TEXT)


def test_inputs_are_not_changed_in_place() -> None:
    vlm = tiny.vlm("qwen3_vl")
    inputs = dict(vlm.encode([[user(tiny.picture(), "hello")]]))
    before = {name: value.clone() for name, value in inputs.items()}
    rewrite_rows(vlm, inputs, system_writer(vlm, TEXT))
    assert all(torch.equal(inputs[name], before[name]) for name in before)


def test_what_is_remembered_of_a_template_follows_it_and_does_not_grow() -> None:
    vlm = tiny.vlm("llava")
    inputs = vlm.encode([tiny.ask("what is it")])

    def written() -> Any:
        writer = system_writer(vlm, TEXT)
        return rewrite_rows(vlm, dict(inputs), write=writer)["input_ids"].tolist()

    first, size = written(), len(_RENDERED[vlm])
    assert written() == first
    assert len(_RENDERED[vlm]) == size
    render = question_renderer(vlm)
    before = len(_RENDERED[vlm])
    assert render("one") != render("two")
    assert len(_RENDERED[vlm]) == before, "questions of samples are not kept"
    template = vlm.processor.chat_template
    try:
        vlm.processor.chat_template = CHATML
        inputs = vlm.encode([tiny.ask("what is it")])
        assert written() != first
    finally:
        vlm.processor.chat_template = template
