"""Write into prompts that are tokens already, at places the chat template defines.

A protected `generate` sees token ids, not messages. What a chat template puts before
and after a question is found by rendering short conversations; rows are cut there and
the new tokens go in. Nothing is decoded and encoded again, so image placeholders and
the question's own tokens keep their ids. Rows that do not follow the template are
refused with an error. Which text goes where is decided by the defenses that use this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from safesight.errors import InputError, ModelError
from safesight.generation.prompt_rows import Splice, Tokens, Writer, rewrite_rows

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
"""Short questions, no two alike to a tokenizer that glues them to what stands before them."""
_ENDINGS = ("x", "x?", "x.", "x!", 'x"', "x)", "x:")
"""Some tokenizers glue the end of a question to what stands after it."""
SHORTEST = "x"
"""A question to write conversations around."""
_RENDERED: WeakKeyDictionary[VLM, dict[str, Tokens]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Question:
    """The last question of a row of tokens."""

    start: int
    """Where its turn begins: pictures, then words."""
    text_start: int
    """Where the words after its last picture begin."""
    words: Sequence[int]
    """All its words, without pictures and markers."""


def system_writer(vlm: VLM, text: str) -> Writer:
    """Writes `text` as the system turn, or before the text of the one that is there.

    A template without a system role gets it at the beginning of the first user turn.
    """
    plain = _common_prefix([_render(vlm, _user(s)) for s in _SENTINELS])
    try:
        with_system = [_render(vlm, _system(text), _user(s)) for s in _SENTINELS]
        header = _common_prefix([_render(vlm, _system(s), _user("x")) for s in _SENTINELS])
        before = [_render(vlm, _system(f"{text}\n\n{s}"), _user("x")) for s in _SENTINELS]
    except InputError:
        with_system, header, before = [], [], []
    opening = _common_prefix(with_system) if with_system else plain
    if opening == plain:  # there is no system role, or it is left out in silence
        opening = _common_prefix([_render(vlm, _user(f"{text}\n\n{s}")) for s in _SENTINELS])
        header, before = [], []
    inserted = _common_prefix(before)[len(header) :] if before else []

    def write(row: Tokens) -> Splice:
        if row[: len(plain)] == plain:
            return Splice(0, len(plain), opening)
        if header and row[: len(header)] == header:
            return Splice(len(header), len(header), inserted)
        raise _not_by_template("begin")

    return write


def tools_writer(vlm: VLM, tools: Sequence[Mapping[str, Any]]) -> Writer:
    """Writes the offer of tools where the chat template itself writes it.

    Args:
        vlm: The model; its template takes `tools=`.
        tools: Their JSON schemas.
    """
    plain = _common_prefix([_render(vlm, _user(s)) for s in _SENTINELS])
    opening = _common_prefix([_render(vlm, _user(s), tools=tools) for s in _SENTINELS])
    header = _common_prefix([_render(vlm, _system(s), _user("x")) for s in _SENTINELS])
    # What stands between a system text and the question after it, without the offer and with it.
    tails = {
        u: _common_suffix([_render(vlm, _system(s), _user(u)) for s in _SENTINELS])
        for u in _SENTINELS
    }
    between, tail = _common_prefix(list(tails.values())), len(tails["x"])
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
    """The prompt of `SHORTEST`, after checking that each row ends as it does.

    What a longer conversation has behind it is what may be written behind such rows.

    Raises:
        InputError: a row does not end where an answer begins.
    """
    closing = _common_suffix([_render(vlm, _user(e)) for e in _ENDINGS])
    if any(row[len(row) - len(closing) :] != closing for row in rows):
        raise _not_by_template("end")
    return _render(vlm, _user(SHORTEST))


def wrapped_question_writer(vlm: VLM, text: str) -> Writer:
    """Writes `text` after the last question, and the question's own text on a new line after that.

    Raises:
        ModelError: the template writes nothing after a question, so its end cannot be found.
    """
    ends = {e: _render(vlm, _user(e)) for e in _ENDINGS}
    opening, closing = _question_opening(vlm), _question_closing(vlm)
    inserted: dict[tuple[int, ...], Tokens] = {}
    for ending, plain in ends.items():
        longer = _common_prefix([_render(vlm, _user(f"{ending} {text}\n{s}")) for s in _SENTINELS])
        kept = len(_common_prefix([plain[: -len(closing)], longer]))
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
    """Finds the last question of a row; a row that does not follow the template is an InputError.

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
        return Question(start, next(text, end), _words(vlm, row[start:end]))

    return read


def question_renderer(vlm: VLM, *, whole: bool = False) -> Callable[[str], Tokens]:
    """Writes a text as the words of a question, up to where the answer begins.

    With `whole`, what stands before a first question comes first.
    """
    before = 0 if whole else len(_common_prefix([_render(vlm, _user(s)) for s in _SENTINELS]))
    return lambda text: _encoded(vlm, [_user(text)])[before:]


def _render(
    vlm: VLM, *messages: dict[str, Any], tools: Sequence[Mapping[str, Any]] | None = None
) -> Tokens:
    """The prompt of a conversation of ours; some dozens are asked for with every batch."""
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
    """What stands after every question, up to the answer.

    Raises:
        ModelError: nothing does, or nothing stands before it.
    """
    closing = _common_suffix([_render(vlm, _user(e)) for e in _ENDINGS])
    if not closing or not _question_opening(vlm):
        raise ModelError(
            f"The chat template of {vlm.name!r} does not mark where a question begins and ends, "
            "so nothing can be written there. Use another defense."
        )
    return closing


def _question_opening(vlm: VLM) -> Tokens:
    """What stands before every question, in the first turn and in later ones."""
    first = _common_prefix([_render(vlm, _user(s)) for s in _SENTINELS])
    history = (_user("x"), _turn("assistant", "x"))
    later = _common_prefix([_render(vlm, *history, _user(s)) for s in _SENTINELS])
    return _common_suffix([first, later])


def _words(vlm: VLM, content: Tokens) -> Tokens:
    """The tokens of a turn that are text: no image placeholders, markers, or blanks around them."""
    decode = vlm.tokenizer.decode
    special = set(vlm.tokenizer.added_tokens_decoder) | {vlm.image_token_id}
    runs: list[Tokens] = [[]]
    for token in content:
        if token in special:
            runs.append([])
        else:
            runs[-1].append(token)
    words = [token for run in runs if decode(run).strip() for token in run]
    first = next((i for i, token in enumerate(words) if decode([token]).strip()), 0)
    return words[first:]


def _common_prefix(rows: Sequence[Tokens]) -> Tokens:
    length = 0
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return rows[0][:length]


def _common_suffix(rows: Sequence[Tokens]) -> Tokens:
    return _common_prefix([row[::-1] for row in rows])[::-1]


def _last_match(row: Tokens, pattern: Tokens) -> int | None:
    """Where the tokens after the last occurrence of `pattern` begin."""
    for start in range(len(row) - len(pattern), -1, -1):
        if row[start : start + len(pattern)] == pattern:
            return start + len(pattern)
    return None


def _not_by_template(where: str) -> InputError:
    return InputError(
        f"A prompt does not {where} as the model's chat template writes it, so a defense that "
        "rewrites prompts cannot find its place. Build inputs with processor.apply_chat_template("
        "..., add_generation_prompt=True)."
    )
