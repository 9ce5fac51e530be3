"""Templates of strangers read some turns as parts and others as one text."""

import pytest
import torch

from safesight.defenses import load_defense
from safesight.errors import InputError
from safesight.generation.prompt_tokens import system_writer
from safesight.models import VLM
from safesight.models.template_turns import rendered, template_turns
from tests import tiny

PARTS = "{% for p in m.content %}{{ p.text if p.type == 'text' else '<image>' }}{% endfor %}"
"""What the user's turns look like, pictures included."""
TURNS = {
    "parts": f"{{{{ m.role }}}}: {PARTS};",
    "joins": "{% if m.role == 'user' %}user: " + PARTS + ";{% else %}"
    "{{ m.role }}: {{ m.content + ';' }}{% endif %}",
    "writes": "{% if m.role == 'user' %}user: " + PARTS + ";{% else %}"
    "{{ m.role }}: {{ m.content | trim }};{% endif %}",
    "dumps": "{% if m.role == 'user' %}user: " + PARTS + ";{% else %}"
    "{{ m.role }}: {{ m.content if m.content is string else m.content | tojson }};{% endif %}",
    "drops": "{% if m.role == 'user' %}user: " + PARTS + ";{% else %}"
    "{{ m.role }}: {% if m.content is string %}{{ m.content }}{% endif %};{% endif %}",
    "first": "{{ m.role }}: {% for p in (m.content if m.role == 'user' else m.content[:1]) %}"
    "{{ p.text if p.type == 'text' else '<image>' }}{% endfor %};",
    "named": f"{{{{ m.role }}}}: {PARTS.replace('p.text', 'p.content')};",
    "texts": "{{ m.role }}: {{ m.content + ';' }}",
}
TEMPLATES = {
    name: "{% for m in messages %}" + turn + "{% endfor %}" for name, turn in TURNS.items()
}
TALK = [
    {
        "role": "system",
        "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "kind"}],
    },
    {"role": "user", "content": [{"type": "text", "text": "who?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "me"}]},
    {"role": "user", "content": [{"type": "text", "text": "why?"}]},
]


@pytest.fixture
def own() -> VLM:
    """A model that the test may change."""
    return VLM.wrap(*tiny.fresh("llava"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_text_of_a_conversation_reaches_the_prompt(own, name):
    own.processor.chat_template = TEMPLATES[name]
    found = rendered(own.processor, TALK)
    assert found is not None
    said = [turn.partition(": ")[2] for turn in found.split(";")]
    assert said == ["be kind", "who?", "me", "why?", ""]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_prompt_is_the_same_however_its_template_reads_turns(own, name):
    """Also a turn with a picture, which stays a list of parts beside turns of one text."""
    pictures = [] if name == "texts" else [{"type": "image", "image": tiny.picture(0)}]
    talk = [*TALK[:3], {"role": "user", "content": [*pictures, *TALK[3]["content"]]}]
    own.processor.chat_template = TEMPLATES["parts"]
    wanted = own.encode([talk])["input_ids"]
    own.processor.chat_template = TEMPLATES[name]
    assert torch.equal(own.encode([talk])["input_ids"], wanted)


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "named"])
def test_a_begun_answer_is_continued_in_any_form(own, name):
    own.processor.chat_template = TEMPLATES[name]
    text = own.tokenizer.decode(own.encode([TALK[:3]], continue_answer=True)["input_ids"][0])
    assert text.endswith("me")


def test_what_reads_parts_is_left_as_it_is(own):
    own.processor.chat_template = TEMPLATES["parts"]
    assert template_turns(own.processor, TALK) == TALK
    assert TALK[0]["content"][0]["text"] == "be "


def test_a_token_made_by_marks_is_seen_in_a_template_of_texts(own):
    """The check of texts looked at parts only, which such a template refuses."""
    special = own.tokenizer.all_special_tokens[-1]
    own.processor.chat_template = "{{ '" + special[0] + "' + messages[0].content }}"
    with pytest.raises(InputError, match="becomes a control token"):
        own.encode([[{"role": "system", "content": special[1:]}]])


def test_a_text_that_the_template_leaves_out_is_refused(own):
    """A safety prompt would protect nobody there; it goes to the user's turn instead."""
    own.processor.chat_template = (
        "{% for m in messages if m.role != 'system' %}" + TURNS["parts"] + "{% endfor %}"
    )
    own.encode([TALK[1:]])
    with pytest.raises(InputError, match="leaves out a text"):
        own.encode([TALK])
    with load_defense("safety_prompt", text="take care").apply(own):
        assert own.answer([TALK[1:]], max_new_tokens=1)
    written = system_writer(own, "take care")(own.encode([TALK[1:]])["input_ids"][0].tolist())
    assert "take care" in own.tokenizer.decode(written.tokens)


def test_what_an_assistant_says_beside_a_call_may_be_left_out(own):
    own.processor.chat_template = (
        "{% for m in messages if not m.tool_calls %}" + TURNS["parts"] + "{% endfor %}"
    )
    call = {"role": "assistant", "content": TALK[2]["content"], "tool_calls": [{"name": "look"}]}
    assert own.encode([[*TALK[:2], call, TALK[3]]])["input_ids"].shape[0] == 1


def test_what_no_form_can_show_is_an_input_error(own):
    own.processor.chat_template = "{{ messages[0].content + 1 }}"
    with pytest.raises(InputError, match="cannot take this conversation"):
        own.encode([[{"role": "system", "content": "be kind"}]])
