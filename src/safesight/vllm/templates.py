"""The defenses that rewrite prompts, as a chat template.

A request reaches vLLM's engine as tokens, so these defenses act before: a preamble in the model's
own chat template changes the messages that it renders. With transformers the same defenses splice
tokens. Both have to give the same tokens, so each template is tried on conversations of every
shape that a request can have, and a defense that cannot be written so is refused by name.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from safesight.errors import InputError
from safesight.generation.prompt_rows import prompt_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from safesight.defenses.base import AnyDefense
    from safesight.generation.call_types import Inputs
    from safesight.models import VLM
    from safesight.types import Messages

__all__ = ["template_with"]

_SYSTEM = (
    "{%- if messages and messages[0].role == safesight_role -%}"
    "{%- set safesight_old = messages[0].content -%}"
    "{%- if safesight_old is string -%}"
    "{%- set safesight_new = safesight_text ~ safesight_gap ~ safesight_old -%}"
    "{%- elif safesight_old and safesight_old[0].type == 'text' -%}"
    "{%- set safesight_new = [dict(safesight_old[0], "
    "text=safesight_text ~ safesight_gap ~ safesight_old[0].text)] + safesight_old[1:] -%}"
    "{%- else -%}"
    "{%- set safesight_new = [{'type': 'text', 'text': safesight_text ~ safesight_end}] "
    "+ (safesight_old or []) -%}"
    "{%- endif -%}"
    "{%- set messages = [dict(messages[0], content=safesight_new)] + messages[1:] -%}"
    "{%- elif safesight_role == 'system' -%}"
    "{%- set messages = [{'role': 'system', "
    "'content': [{'type': 'text', 'text': safesight_text}]}] + messages -%}"
    "{%- endif -%}"
)
"""Puts a text at the start of the first message, which becomes a system turn if it is none."""

_WRAPPED = (
    "{%- set safesight = namespace(at=-1, words='', last=-1) -%}"
    "{%- for safesight_turn in messages -%}"
    "{%- if safesight_turn.role == 'user' -%}{%- set safesight.at = loop.index0 -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if safesight.at >= 0 -%}"
    "{%- set safesight_old = messages[safesight.at].content -%}"
    "{%- if safesight_old is string -%}"
    "{%- set safesight_new = safesight_old ~ ' ' ~ safesight_text ~ safesight_lead "
    "~ safesight_old -%}"
    "{%- else -%}"
    "{%- for safesight_part in safesight_old -%}"
    "{%- if safesight_part.type == 'text' -%}"
    "{%- set safesight.words = safesight.words ~ (safesight_glue if safesight.words else '') "
    "~ safesight_part.text -%}"
    "{%- set safesight.last = loop.index0 -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- set safesight_more = safesight_text ~ safesight_lead ~ safesight.words -%}"
    "{%- if safesight.last >= 0 and safesight.last == safesight_old | length - 1 -%}"
    "{%- set safesight_new = safesight_old[:-1] + [dict(safesight_old[-1], "
    "text=safesight_old[-1].text ~ ' ' ~ safesight_more)] -%}"
    "{%- else -%}"
    "{%- set safesight_new = safesight_old + [{'type': 'text', 'text': safesight_more}] -%}"
    "{%- endif -%}"
    "{%- endif -%}"
    "{%- set messages = messages[:safesight.at] + [dict(messages[safesight.at], "
    "content=safesight_new)] + messages[safesight.at + 1:] -%}"
    "{%- endif -%}"
)
"""Puts a text after the last question, and the question again."""


def template_with(vlm: VLM, defenses: Sequence[AnyDefense]) -> str:
    """The model's chat template with defenses that rewrite prompts, in their order.

    Args:
        vlm: The model; its weights are not used.
        defenses: Of the kind "input".

    Raises:
        InputError: the template cannot give the tokens that a defense gives with transformers.
    """
    rewrites: list[Callable[[Inputs], Inputs]] = []
    template, before = str(vlm.processor.chat_template), ""
    shapes = list(_shapes(vlm))
    for defense in defenses:
        rewrite = defense.parts(vlm, defense.config, None).rewrite
        if rewrite is None or "text" not in type(defense.config).model_fields:
            raise _not_so(vlm, defense)
        rewrites.append(rewrite)
        wanted = [_tokens(vlm, shape, rewrites) for shape in shapes]
        for preamble in _preambles(defense.config.text):
            tried = preamble + template
            if _gives(vlm, tried, shapes, wanted):
                template = tried
                break
        else:
            raise _not_so(vlm, defense)
    return before + template


def _not_so(vlm: VLM, defense: AnyDefense) -> InputError:
    return InputError(
        f"{defense.name} cannot be written into the chat template of {vlm.name!r}. Use another "
        "defense, or `safesight serve` on transformers."
    )


def _preambles(text: str) -> Iterator[str]:
    """Everything that may come to the same as splicing tokens; what a template does decides."""
    for blank in ("", " "):  # some templates begin a text with one
        gap = f"\n\n{blank}"
        yield _set(text=text, role="system", gap=gap, end="") + _SYSTEM
        yield _set(text=text, role="user", gap=gap, end="\n\n") + _SYSTEM
        for glue in ("", " ", "\n"):
            yield _set(text=text, lead=f"\n{blank}", glue=glue) + _WRAPPED


def _set(**values: str) -> str:
    """Texts as variables of a template; a literal of JSON is one of Jinja, too."""
    return "".join(
        f"{{%- set safesight_{name} = {json.dumps(value, ensure_ascii=False)} -%}}"
        for name, value in values.items()
    )


def _shapes(vlm: VLM) -> Iterator[Messages]:
    """Conversations of every shape that both the template and the defenses take."""
    picture = {"type": "image", "image": Image.new("RGB", (48, 40), (90, 120, 60))}
    say = partial(_turn, "user")
    yield [say("What is this?")]
    yield [say(picture, "What is shown here?")]
    yield [say(picture, picture, "Are these two alike?")]
    yield [say("Look at this.", picture, "What is it?")]
    yield [say("What is this?"), _turn("assistant", "A tree."), say("How tall is it?")]
    yield [say(picture, "Is it red?"), _turn("assistant", "No."), say("Which colour then?")]
    rules = [_turn("system", "Be brief."), say(picture, "What is this?")]
    try:
        vlm.encode([rules])
    except InputError:
        return  # the template knows no system turn
    yield rules


def _turn(role: str, *parts: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": role, "content": content}


def _tokens(
    vlm: VLM, messages: Messages, rewrites: Sequence[Callable[[Inputs], Inputs]] = ()
) -> list[int]:
    inputs: Inputs = dict(vlm.encode([messages]))
    for rewrite in rewrites:
        inputs = rewrite(inputs)
    found: list[int] = prompt_rows(vlm, inputs)[0]["input_ids"].tolist()
    return found


def _gives(
    vlm: VLM, template: str, shapes: Sequence[Messages], wanted: Sequence[list[int]]
) -> bool:
    """Whether a template gives these tokens for these conversations."""
    other = copy.copy(vlm)
    other.processor = copy.copy(vlm.processor)
    other.processor.chat_template = template
    try:
        return all(
            _tokens(other, shape) == tokens for shape, tokens in zip(shapes, wanted, strict=True)
        )
    except InputError:
        return False
