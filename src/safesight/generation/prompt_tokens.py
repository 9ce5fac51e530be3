"""Insert text into tokenized prompts, at the places the chat template defines.

A protected `generate` sees token ids, not messages. Short conversations are rendered to find
what the chat template puts before and after a question; rows are cut there and the new tokens
inserted. Nothing is decoded and re-encoded, so image placeholders and the question's own
tokens keep their ids. Rows that do not follow the template raise an error. The defenses that
use this module decide which text goes where.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from safesight.errors import InputError, ModelError
from safesight.generation.picture_spans import picture_reader
from safesight.generation.prompt_rows import (
    Splice,
    Tokens,
    Writer,
    common_prefix,
    rewrite_rows,
)

if TYPE_CHECKING:
    from safesight.models import VLM

__all__ = [
    "SHORTEST",
    "Question",
    "Splice",
    "continuation",
    "question_reader",
    "question_renderer",
    "rewrite_rows",
    "system_writer",
    "tools_writer",
    "wrapped_question_writer",
]

_SENTINELS = ("x", "7", "?", "I", "how", "the")
"""Short questions that stay distinct even if the tokenizer merges them with the text before."""
_ENDINGS = ("x", "x?", "x.", "x!", 'x"', "x)", "x:")
"""Question endings: some tokenizers merge the end of a question with the text after it."""
SHORTEST = "x"
"""The question that conversations are built around."""
_RENDERED: WeakKeyDictionary[VLM, dict[str, Tokens]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Question:
    """The last question of a row of tokens."""

    start: int
    """Where the content of its turn begins: pictures, then words."""
    text_start: int
    """Where the words after its last picture begin."""
    words: Sequence[int]
    """The tokens of all its words, without pictures and markers."""
    leading: Sequence[int]
    """Those of them that stand before its last picture."""


def system_writer(vlm: VLM, text: str) -> Writer:
    """Writes `text` as the system turn, or at the start of an existing one.

    If the template has no system role, the text goes at the start of the first user turn.
    """
    plain = common_prefix([_render(vlm, _user(s)) for s in _SENTINELS])
    try:
        with_system = [_render(vlm, _system(text), _user(s)) for s in _SENTINELS]
        header = common_prefix([_render(vlm, _system(s), _user("x")) for s in _SENTINELS])
        before = [_render(vlm, _system(f"{text}\n\n{s}"), _user("x")) for s in _SENTINELS]
    except InputError:
        with_system, header, before = [], [], []
    opening = common_prefix(with_system) if with_system else plain
    if opening == plain:  # no system role, or the template silently drops it
        opening = common_prefix([_render(vlm, _user(f"{text}\n\n{s}")) for s in _SENTINELS])
        header, before = [], []
    inserted = common_prefix(before)[len(header) :] if before else []

    def write(row: Tokens) -> Splice:
        if row[: len(plain)] == plain:
            return Splice(0, len(plain), opening)
        if header and row[: len(header)] == header:
            return Splice(len(header), len(header), inserted)
        raise _not_by_template("begin")

    return write


def tools_writer(vlm: VLM, tools: Sequence[Mapping[str, Any]]) -> Writer:
    """Writes the tool definitions where the chat template itself puts them.

    Args:
        vlm: The model; its template takes `tools=`.
        tools: JSON schemas of the tools.
    """
    plain = common_prefix([_render(vlm, _user(s)) for s in _SENTINELS])
    opening = common_prefix([_render(vlm, _user(s), tools=tools) for s in _SENTINELS])
    header = common_prefix([_render(vlm, _system(s), _user("x")) for s in _SENTINELS])
    # The text between a system text and the question after it, without the tools and with them.
    tails = {
        u: _common_suffix([_render(vlm, _system(s), _user(u)) for s in _SENTINELS])
        for u in _SENTINELS
    }
    between, tail = common_prefix(list(tails.values())), len(tails["x"])
    with_system = _render(vlm, _system("x"), _user("x"))
    offered = _render(vlm, _system("x"), _user("x"), tools=tools)
    offer = offered[len(with_system) - tail : len(offered) - tail]

    def write(row: Tokens) -> Splice:
        if row[: len(plain)] == plain:
            return Splice(0, len(plain), opening)
        if header and between and row[: len(header)] == header:
            for end in range(len(header), len(row) - len(between)):
                if row[end : end + len(between)] == between:
                    return Splice(end, end, offer)
        raise _not_by_template("begin")

    return write


def continuation(vlm: VLM, rows: Sequence[Tokens]) -> Tokens:
    """The prompt of `SHORTEST`, after checking that each row ends the same way.

    What a longer conversation adds after this prompt can also be added after such rows.

    Raises:
        InputError: a row does not end where an answer begins.
    """
    closing = _common_suffix([_render(vlm, _user(e)) for e in _ENDINGS])
    if any(row[len(row) - len(closing) :] != closing for row in rows):
        raise _not_by_template("end")
    return _render(vlm, _user(SHORTEST))


def wrapped_question_writer(vlm: VLM, text: str) -> Writer:
    """Writes `text` after the last question, and repeats the question on a new line after it.

    Raises:
        ModelError: the template writes nothing after a question, so its end cannot be found.
    """
    ends = {e: _render(vlm, _user(e)) for e in _ENDINGS}
    opening, closing = _question_opening(vlm), _question_closing(vlm)
    inserted: dict[tuple[int, ...], Tokens] = {}
    for ending, plain in ends.items():
        longer = common_prefix([_render(vlm, _user(f"{ending} {text}\n{s}")) for s in _SENTINELS])
        kept = len(common_prefix([plain[: -len(closing)], longer]))
        inserted.setdefault(tuple(plain[kept : -len(closing)]), longer[kept:])
    glued = sorted(inserted, key=len, reverse=True)

    def write(row: Tokens) -> Splice:
        end = len(row) - len(closing)
        if row[end:] != closing:
            raise _not_by_template("end")
        start = _last_match(row[:end], opening)
        if start is None:
            raise _not_by_template("begin")
        question = _words(vlm, row[start:end])
        for tail in glued:
            if tuple(row[end - len(tail) : end]) == tail:
                return Splice(end - len(tail), end, [*inserted[tail], *question])
        raise _not_by_template("end")

    return write


def question_reader(vlm: VLM) -> Callable[[Tokens], Question]:
    """Finds the last question of a row; raises InputError if it does not follow the template.

    Raises:
        ModelError: the template does not mark where a question begins and ends.
    """
    opening, closing = _question_opening(vlm), _question_closing(vlm)
    decode = vlm.tokenizer.decode
    special = set(vlm.tokenizer.added_tokens_decoder) | {vlm.image_token_id}

    def read(row: Tokens) -> Question:
        end = len(row) - len(closing)
        if row[end:] != closing:
            raise _not_by_template("end")
        start = _last_match(row[:end], opening)
        if start is None:
            raise _not_by_template("begin")
        after_picture = max((i + 1 for i in range(start, end) if row[i] in special), default=start)
        text = (i for i in range(after_picture, end) if decode([row[i]]).strip())
        leading = _words(vlm, row[start:after_picture])
        return Question(start, next(text, end), _words(vlm, row[start:end]), leading)

    return read


def question_renderer(vlm: VLM) -> Callable[[str], Tokens]:
    """Renders a text as the words of a question, up to where the answer begins.

    Control tokens in the text are text: it may quote an answer of the model.
    """
    before = len(common_prefix([_render(vlm, _user(s)) for s in _SENTINELS]))
    return lambda text: _encoded(vlm, [_user(vlm.control_tokens.plain(text))])[before:]


def _render(
    vlm: VLM, *messages: dict[str, Any], tools: Sequence[Mapping[str, Any]] | None = None
) -> Tokens:
    """The prompt of a short conversation; cached, since every batch needs dozens of them."""
    known = _RENDERED.setdefault(vlm, {})
    tokenizer = vlm.tokenizer
    key = repr((vlm.processor.chat_template, id(tokenizer), len(tokenizer), messages, tools))
    if key not in known:
        known[key] = _encoded(vlm, messages, tools)
    return list(known[key])


def _encoded(
    vlm: VLM, messages: Sequence[dict[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
) -> Tokens:
    tokens: Tokens = vlm.encode([messages], tools=tools)["input_ids"][0].tolist()
    return tokens


def _turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _user(text: str) -> dict[str, Any]:
    return _turn("user", text)


def _system(text: str) -> dict[str, Any]:
    return _turn("system", text)


def _question_closing(vlm: VLM) -> Tokens:
    """The tokens after every question, up to the answer.

    Raises:
        ModelError: there are none there, or none before the question.
    """
    closing = _common_suffix([_render(vlm, _user(e)) for e in _ENDINGS])
    if not closing or not _question_opening(vlm):
        raise ModelError(
            f"The chat template of {vlm.name!r} does not mark where a question begins and ends, "
            "so nothing can be inserted there. Use another defense."
        )
    return closing


def _question_opening(vlm: VLM) -> Tokens:
    """The tokens before every question, in the first turn and in later ones."""
    first = common_prefix([_render(vlm, _user(s)) for s in _SENTINELS])
    history = (_user("x"), _turn("assistant", "x"))
    later = common_prefix([_render(vlm, *history, _user(s)) for s in _SENTINELS])
    return _common_suffix([first, later])


def _words(vlm: VLM, content: Tokens) -> Tokens:
    """The text tokens of a turn, without image placeholders, markers or surrounding blanks."""
    decode = vlm.tokenizer.decode
    special = set(vlm.tokenizer.added_tokens_decoder) | {vlm.image_token_id}
    has_picture = vlm.image_token_id in content
    shown = picture_reader(vlm)(content) if has_picture else [False] * len(content)
    runs: list[Tokens] = [[]]
    for token, pictured in zip(content, shown, strict=True):
        if token in special or pictured:
            runs.append([])
        else:
            runs[-1].append(token)
    words = [token for run in runs if decode(run).strip() for token in run]
    first = next((i for i, token in enumerate(words) if decode([token]).strip()), 0)
    return words[first:]


def _common_suffix(rows: Sequence[Tokens]) -> Tokens:
    return common_prefix([row[::-1] for row in rows])[::-1]


def _last_match(row: Tokens, pattern: Tokens) -> int | None:
    """The index just after the last occurrence of `pattern`, or None."""
    for start in range(len(row) - len(pattern), -1, -1):
        if row[start : start + len(pattern)] == pattern:
            return start + len(pattern)
    return None


def _not_by_template(where: Literal["begin", "end"]) -> InputError:
    advice = {
        "begin": "Begin the conversation with a user's or a system's message",
        "end": "End the conversation with the user's message, and begin no answer (no prefill)",
    }
    return InputError(
        f"A prompt does not {where} as the model's chat template writes it, so a defense that "
        f"rewrites prompts cannot be used. {advice[where]}."
    )
