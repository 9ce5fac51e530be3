"""Checks of an encoded prompt: its length, its tokens, and whether its pictures arrived.

Beyond the length that a model was made for, positions were never trained, and no defense judges
rightly what comes out; `transformers` itself only warns. A chat template may drop a picture in
silence, and a tokenizer may write tokens that the model does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safesight.errors import InputError, LengthError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["answer_length", "check_length", "check_pictures", "check_vocabulary", "context_length"]


def context_length(config: Any) -> int | None:
    """The longest sequence of a text model, with any scaling of its rotary positions.

    Args:
        config: The config of the text model.

    Returns:
        None if the config does not say.

    Example:
        >>> from types import SimpleNamespace as N
        >>> context_length(N(max_position_embeddings=1024))
        1024
    """
    length = getattr(config, "max_position_embeddings", None)
    if not isinstance(length, int) or length < 1:
        return None
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    # A config may hold settings for each kind of layer.
    kinds = [each for each in rope.values() if isinstance(each, dict)] or [rope]
    return max([length, *map(_stretched, kinds)])


def _stretched(rope: Mapping[str, Any]) -> int:
    """The length after scaling, where the config names the one before it; else 0."""
    before, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
    return int(before * factor) if before and factor else 0


def answer_length(arguments: Mapping[str, Any], prompt: int) -> int:
    """The longest answer that a call of `generate` itself asks for; 0 if it leaves that open.

    Args:
        arguments: What the call passes, such as `max_new_tokens` or a `generation_config`.
        prompt: Length of the prompt in tokens.

    Example:
        >>> answer_length({"max_new_tokens": 5}, 20), answer_length({"max_length": 32}, 20)
        (5, 12)
    """

    def asked(name: str) -> int | None:
        value = arguments.get(name)
        config = arguments.get("generation_config")
        found = getattr(config, name, None) if value is None else value
        return None if found is None else int(found)

    new = asked("max_new_tokens")  # `generate` prefers it
    return max(0, (asked("max_length") or 0) - prompt) if new is None else new


def check_length(name: str, limit: int | None, prompt: int, answer: int = 0) -> None:
    """Check that a prompt, with an answer of at most so many tokens, fits into the context.

    Args:
        name: The model's name, for the message.
        limit: Its `context_length`.
        prompt: Length of the prompt in tokens.
        answer: The longest that the answer may become.

    Raises:
        LengthError: it does not fit; the message has the numbers.
    """
    if limit is None or prompt + answer <= limit:
        return
    left = limit - prompt
    if left <= 0:
        raise LengthError(
            f"A prompt has {prompt} tokens, but {name!r} was made for at most {limit}, with its "
            "answer. Shorten it.",
            left,
        )
    raise LengthError(
        f"A prompt of {prompt} tokens and an answer of up to {answer} exceed the {limit} tokens "
        f"that {name!r} was made for. Shorten the prompt or ask for a shorter answer.",
        left,
    )


def check_pictures(
    name: str, shown: Tensor, conversations: Sequence[Sequence[Mapping[str, Any]]]
) -> None:
    """Check that every encoded conversation shows its own pictures and no others.

    Args:
        name: The model's name, for the message.
        shown: The positions of visual tokens, bool, B x L.
        conversations: As returned by `clean_messages`.

    Raises:
        InputError: a picture has no token, or a token no picture.
    """
    for tokens, turns in zip(shown.sum(dim=1).tolist(), conversations, strict=True):
        pictures = sum(part["type"] == "image" for turn in turns for part in turn["content"])
        if tokens < pictures or bool(tokens) != bool(pictures):
            raise InputError(
                f"A conversation has {pictures} pictures, but its prompt for {name!r} has "
                f"{tokens} tokens for pictures. Put pictures into the turns of the user only."
            )


def check_vocabulary(name: str, ids: Tensor, shown: Tensor, known: int | None) -> None:
    """Check that the model has an embedding for every token but those that pictures replace.

    Args:
        name: The model's name, for the message.
        ids: The tokens, B x L.
        shown: The positions of visual tokens, bool, B x L.
        known: The number of embeddings; None if it cannot be told.

    Raises:
        ModelError: a token is not among them.
    """
    largest = int(ids.masked_fill(shown, 0).max())
    if known is not None and largest >= known:
        raise ModelError(
            f"The processor writes the token {largest}, but {name!r} has only {known}. "
            "Load the processor that belongs to the model."
        )
