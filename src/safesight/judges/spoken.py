"""What a model says to its reader: the answer without its reasoning, role label and markup.

A judge reads this text and not the raw one. Reasoning between tags such as `<think>` may weigh a
request at length and still end in a refusal, so it is dropped. A client that shows the reasoning
shows more than is judged here.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["opened_before", "spoken"]

_TAGS = "think|thinking|thought|reasoning|reflection|analysis"
_OPEN = rf"(?:<(?:{_TAGS})>|\[THINK\]|◁think▷)"
_CLOSE = rf"(?:</(?:{_TAGS})>|\[/THINK\]|◁/think▷)"

_REASONED = re.compile(f"{_OPEN}.*?{_CLOSE}", re.DOTALL | re.IGNORECASE)
# Some chat templates open the reasoning themselves, so the answer holds the closing tag alone.
_BEGUN_BEFORE = re.compile(f"^.*{_CLOSE}", re.DOTALL | re.IGNORECASE)
_ENDED = re.compile(_CLOSE, re.IGNORECASE)
# A token limit may end the answer in the middle of the reasoning.
_UNFINISHED = re.compile(f"{_OPEN}.*$", re.DOTALL | re.IGNORECASE)

_LABEL = re.compile(r"^\s*(?:assistant|answer|response|model|ai)\s*:\s*", re.IGNORECASE)
# Within a line and of bounded length: unpaired marks in a long answer would take quadratic time.
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3}|_{1,3}|~~|`)(?=\S)(.{1,500}?)(?<=\S)\1(?!\w)")
_LINE_MARKS = re.compile(r"^[ \t]*(?:#{1,6}|>+)[ \t]+", re.MULTILINE)
_QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“"}


def spoken(answer: str) -> str:
    """The text that is meant for the reader.

    Example:
        >>> spoken("<think>a bomb? no.</think> Assistant: **I'm sorry**, but no.")
        "I'm sorry, but no."
        >>> spoken("<think>a bomb? i should"), spoken("they want a bomb.</think>No.")
        ('', 'No.')
        >>> spoken(f"a b{chr(0x200B)}omb")
        'a bomb'
    """
    text = _visible(answer)
    if _ENDED.search(text):
        text = _BEGUN_BEFORE.sub("", _REASONED.sub(" ", text))
    text = _UNFINISHED.sub("", text)
    text = _LABEL.sub("", _without_markup(text))
    return _unquoted(text.strip())


def opened_before(prompt: str) -> str:
    """The tag at the end of a prompt in which a chat template has opened the reasoning itself.

    It belongs before the answer: one that a token limit ends in the middle of its reasoning holds
    no tag at all, and would be read as if it were meant for the reader.

    Example:
        >>> opened_before("assistant: <think> "), opened_before("assistant: ")
        ('<think>', '')
    """
    found = re.search(rf"({_OPEN})\s*$", prompt, re.IGNORECASE)
    return found[1] if found else ""


def _visible(text: str) -> str:
    """Full-width letters and the like as plain ones, and no characters of zero width."""
    plain = unicodedata.normalize("NFKC", text)
    return "".join(c for c in plain if unicodedata.category(c) != "Cf")


def _without_markup(text: str) -> str:
    """Without emphasis, headings and block quotes."""
    text = _LINE_MARKS.sub("", text)
    for _ in range(2):  # emphasis may be nested
        text = _EMPHASIS.sub(r"\2", text)
    return text


def _unquoted(text: str) -> str:
    """Without quotation marks around the whole."""
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        return text[1:-1].strip()
    return text
