"""Which tokens of a prompt are a picture: its placeholders, and what is written around them.

Around the placeholders stand markers, tokens for rows and tiles, and with some chat templates words
and line breaks. Code that takes pictures out of a conversation, or reads its words, has to know all
of them. They are learned from a short conversation with a picture, once per model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from safesight.generation.prompt_rows import Tokens, common_prefix
from safesight.models.check import drawn

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = ["opening_marker", "picture_reader", "placeholder_runs"]

_QUESTIONS = ("x", "7")
"""What they begin with alike belongs to the template."""
_KNOWN: WeakKeyDictionary[VLM, dict[Any, _Surroundings]] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Surroundings:
    """What a model's template and processor write with a picture."""

    markers: frozenset[int]
    """Special tokens that no conversation in text has."""
    opening: Tokens
    """The tokens before the first placeholder of a picture, in the turn of the user."""
    closing: Tokens
    """The tokens after the last one."""


def picture_reader(vlm: VLM) -> Callable[[Tokens], list[bool]]:
    """Tells for every token of a row whether it is part of a picture."""
    around = _surroundings(vlm)
    image, decode = vlm.image_token_id, vlm.tokenizer.decode

    def read(row: Tokens) -> list[bool]:
        marked = [token == image for token in row]
        for order in (range(len(row)), range(len(row) - 1, -1, -1)):
            beside = False
            for index in order:
                beside = marked[index] or (beside and row[index] in around.markers)
                marked[index] = beside
        for start, stop in placeholder_runs(vlm, row):
            before, after = start - len(around.opening), stop + len(around.closing)
            if before >= 0 and _alike(row[before:start], around.opening, decode):
                marked[before:start] = [True] * len(around.opening)
            if row[stop:after] == around.closing:
                marked[stop:after] = [True] * len(around.closing)
        _fill_blanks(row, marked, decode)
        return marked

    return read


def opening_marker(vlm: VLM) -> int | None:
    """The first special token that is written before every picture; None if there is none."""
    around = _surroundings(vlm)
    return next((token for token in around.opening if token in around.markers), None)


def placeholder_runs(vlm: VLM, row: Sequence[int]) -> list[tuple[int, int]]:
    """Start and end of every run of placeholders, such as the tokens of one picture or tile."""
    runs: list[tuple[int, int]] = []
    for index, token in enumerate(row):
        if token != vlm.image_token_id:
            continue
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _alike(found: Tokens, opening: Tokens, decode: Callable[[Tokens], str]) -> bool:
    """Whether these tokens open a picture; some processors number the pictures of a prompt."""
    return all(
        one == other or (decode([one]).isdigit() and decode([other]).isdigit())
        for one, other in zip(found, opening, strict=True)
    )


def _fill_blanks(row: Tokens, marked: list[bool], decode: Callable[[Tokens], str]) -> None:
    """Mark what is blank between two parts of a picture, such as the break after a row of tiles."""
    shown = [index for index, mark in enumerate(marked) if mark]
    for left, right in pairwise(shown):
        if right > left + 1 and not decode(row[left + 1 : right]).strip():
            marked[left + 1 : right] = [True] * (right - left - 1)


def _surroundings(vlm: VLM) -> _Surroundings:
    known = _KNOWN.setdefault(vlm, {})
    tokenizer = vlm.tokenizer
    key = (vlm.processor.chat_template, id(tokenizer), len(tokenizer))
    if key not in known:
        known[key] = _learned(vlm)
    return known[key]


def _learned(vlm: VLM) -> _Surroundings:
    picture = {"type": "image", "image": drawn()}
    plain = [_encoded(vlm, _text(text)) for text in _QUESTIONS]
    shown = [_encoded(vlm, picture, _text(text)) for text in _QUESTIONS]
    image = vlm.image_token_id
    before = len(common_prefix(plain))
    first = shown[0].index(image)
    behind = [row[len(row) - row[::-1].index(image) :] for row in shown]
    talk = vlm.encode([[_turn("user"), _turn("assistant"), _turn("user")]])["input_ids"]
    spoken = {*talk[0].tolist(), *(token for row in plain for token in row)}
    special = set(vlm.tokenizer.added_tokens_decoder) - spoken
    return _Surroundings(frozenset(special), shown[0][before:first], common_prefix(behind))


def _encoded(vlm: VLM, *parts: dict[str, Any]) -> Tokens:
    inputs = vlm.encode([[{"role": "user", "content": list(parts)}]])
    tokens: Tokens = inputs["input_ids"][0].tolist()
    return tokens


def _turn(role: str) -> dict[str, Any]:
    return {"role": role, "content": [_text("x")]}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
