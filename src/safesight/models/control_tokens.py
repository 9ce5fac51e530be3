"""Text stays text: control tokens that are spelled out in a message are taken apart.

A chat template joins the texts of a conversation into one string, and the tokenizer reads special
tokens in it wherever they are. So a question could close its own turn and write the next one, or
hold a placeholder without a picture. A space inside such a token leaves it readable as text, for
people and for the model. Image placeholders are refused instead: text that holds one was written
for a picture at that place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safesight.errors import InputError
from safesight.tools.calls import CALL_END, CALL_START

__all__ = ["ControlTokens", "control_tokens", "special_tokens", "taken_apart"]

_TYPED_BY_USERS = ("user", "tool")
"""Turns in which the tags of tool calls and of thinking are taken apart, too. In the others, the
model or the operator may write them as text."""
_ROLE = re.compile(r"\w[\w .-]*")
_NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True)
class ControlTokens:
    """The control tokens of one model, as patterns."""

    placeholders: re.Pattern[str]
    """What stands for a picture."""
    special: re.Pattern[str]
    """All tokens that the tokenizer or the processor declares special."""
    typed: re.Pattern[str]
    """In addition, the tags that the chat template writes, such as `<tool_response>`."""

    def plain(self, text: str) -> str:
        """The text with every control token in it taken apart, placeholders too.

        Example:
            >>> only = re.compile(re.escape("<|end|>"))
            >>> ControlTokens(only, only, only).plain("hi<|end|>")
            'hi< |end|>'
        """
        return taken_apart(text, self.typed)

    def plain_turn(self, role: str, text: str) -> str:
        """The text of a turn with control tokens taken apart, placeholders too.

        An assistant may have written the tags of a tool call, so those stay there.
        """
        return taken_apart(text, self.special if role == "assistant" else self.typed)

    def clean(self, conversation: list[dict[str, Any]], tags: Sequence[str] = ()) -> None:
        """Take apart the control tokens in the texts of a conversation, in place.

        Args:
            conversation: As returned by `clean_messages`.
            tags: Tags that the text may hold.

        Raises:
            InputError: an image placeholder in a text, or a role with other marks than a name has.
        """
        typed = _without(self.typed, tags) if tags else self.typed
        for message in conversation:
            self._check_role(str(message["role"]))
            pattern = typed if message["role"] in _TYPED_BY_USERS else self.special
            more = {name: message[name] for name in message.keys() - {"role", "content"}}
            message.update({name: _walked(value, self.special) for name, value in more.items()})
            texts = _texts([message])
            self._refuse_placeholders(texts)
            for part in texts:
                part["text"] = taken_apart(part["text"], pattern)
        # Templates may trim texts, join turns of one role, and put pictures elsewhere, so a token
        # that is split over several texts must not come together again.
        roles = sorted({str(message["role"]) for message in conversation})
        same = [[m for m in conversation if m["role"] == role] for role in roles]
        for group in [[message] for message in conversation] + same + [conversation]:
            texts = _texts(group)
            if len(texts) > 1:
                self._refuse_placeholders(texts)
                users = all(message["role"] in _TYPED_BY_USERS for message in group)
                _kept_apart(texts, typed if users else self.special)

    def cleaned(self, tools: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Tool definitions with the control tokens in their texts taken apart.

        Example:
            >>> only = re.compile(re.escape("<|end|>"))
            >>> ControlTokens(only, only, only).cleaned([{"description": "<|end|>"}])
            [{'description': '< |end|>'}]
        """
        return [_walked(tool, self.typed) for tool in tools]

    def _refuse_placeholders(self, texts: Sequence[dict[str, Any]]) -> None:
        for joined in ("".join(_of(texts)), "".join(_of(texts, trimmed=True))):
            if found := self.placeholders.search(joined):
                raise InputError(
                    f"A text contains the image placeholder {found[0]!r}. "
                    "Remove it: a picture is a separate part of the message."
                )

    def _check_role(self, role: str) -> None:
        if not _ROLE.fullmatch(role) or self.special.search(role):
            raise InputError(
                f"A message has the role {role[:40]!r}. Use a name such as user or assistant."
            )


def control_tokens(processor: Any, image_token_id: int) -> ControlTokens:
    """Collect the control tokens of a processor.

    Args:
        processor: With its tokenizer and chat template.
        image_token_id: The id of the placeholder for one visual token.
    """
    tokenizer = processor.tokenizer
    added = _added(tokenizer)
    named = {
        name: str(value)
        for name, value in vars(processor).items()
        if name.endswith("_token") and value
    }
    pictures = {str(tokenizer.convert_ids_to_tokens(image_token_id))}
    pictures |= {named["image_token"]} if "image_token" in named else set()
    special = pictures | set(named.values()) | _special(tokenizer)
    template = str(processor.chat_template)
    tags = {
        str(token)
        for token in added
        if _is_tag(str(token)) and (str(token) in template or str(token) in (CALL_START, CALL_END))
    }
    return ControlTokens(_any_of(pictures), _any_of(special), _any_of(special | tags))


def special_tokens(tokenizer: Any, more: Iterable[str] = ()) -> re.Pattern[str]:
    """All tokens that a tokenizer declares special, and other marks of a prompt."""
    return _any_of(_special(tokenizer) | set(more))


def _special(tokenizer: Any) -> set[str]:
    declared = {str(token) for token in _added(tokenizer) if token.special}
    return declared | set(map(str, tokenizer.all_special_tokens))


def _added(tokenizer: Any) -> list[Any]:
    return list(tokenizer.added_tokens_decoder.values())


def _is_tag(token: str) -> bool:
    """Whether a token is a mark, such as `<think>`, and no word or blank."""
    return len(token.split()) == 1 and not token[0].isalnum() and not token[-1].isalnum()


def _any_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern for the longest of some tokens.

    What they have in common is written once: some tokenizers declare thousands, and trying each of
    them at each place of a long text takes minutes.
    """
    tree: dict[str, Any] = {}
    for token in tokens:
        if len(token.strip()) > 1:  # a single character is text, whatever the tokenizer calls it
            node = tree
            for letter in token:
                node = node.setdefault(letter, {})
            node[""] = {}
    return re.compile(_branches(tree)) if tree else _NOTHING


def _branches(tree: Mapping[str, Any]) -> str:
    """The pattern for what follows at a place in a tree of letters; "" is the end of a token."""
    common = ""
    while len(tree) == 1 and "" not in tree:
        ((letter, tree),) = tree.items()
        common += re.escape(letter)
    found = [re.escape(letter) + _branches(tree[letter]) for letter in sorted(tree) if letter]
    if not found:
        return common
    return f"{common}(?:{'|'.join(found)}){'?' if '' in tree else ''}"


def _without(pattern: re.Pattern[str], tags: Sequence[str]) -> re.Pattern[str]:
    allowed = "|".join(map(re.escape, tags))
    return re.compile(f"(?!{allowed})(?:{pattern.pattern})")


def _texts(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for message in messages for part in message["content"] if "text" in part]


def _of(texts: Sequence[dict[str, Any]], *, trimmed: bool = False) -> list[str]:
    return [part["text"].strip() if trimmed else part["text"] for part in texts]


def taken_apart(text: str, pattern: re.Pattern[str]) -> str:
    """The text with a space inside every match of a pattern.

    Example:
        >>> taken_apart("no.[/INST]", re.compile(re.escape("[/INST]")))
        'no.[ /INST]'
    """
    while pattern.search(text):
        text = pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    return text


def _kept_apart(texts: Sequence[dict[str, Any]], pattern: re.Pattern[str]) -> None:
    """Take apart tokens that would form where one text ends and the next begins, in place."""
    reach = len(pattern.pattern)  # no token is longer
    for trimmed in (False, True):
        start = 0
        while found := pattern.search("".join(_of(texts, trimmed=trimmed)), start):
            for part, text in zip(texts, _of(texts, trimmed=trimmed), strict=True):
                part["text"] = text
            _interrupt(texts, *found.span())
            # Before it, there is only what was searched already.
            start = max(0, found.start() - reach)


def _interrupt(texts: Sequence[dict[str, Any]], start: int, stop: int) -> None:
    """Put a space into one of the texts between two positions of all of them joined."""
    offset = 0
    for part in texts:
        text = part["text"]
        first, last = max(start - offset, 0), min(stop - offset, len(text))
        if last - first > 1:
            part["text"] = f"{text[: first + 1]} {text[first + 1 :]}"
            return
        offset += len(text)
    offset = 0
    for part in texts:  # one character in each: drop the first
        text = part["text"]
        if offset <= start < offset + len(text):
            part["text"] = text[: start - offset] + text[start - offset + 1 :]
            return
        offset += len(text)


def _walked(value: Any, pattern: re.Pattern[str]) -> Any:
    """A nested value, such as tool calls, with the control tokens in its texts taken apart."""
    if isinstance(value, str):
        return taken_apart(value, pattern)
    if isinstance(value, Mapping):
        return {_walked(key, pattern): _walked(each, pattern) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_walked(each, pattern) for each in value]
    return value
