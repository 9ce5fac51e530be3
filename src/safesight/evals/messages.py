"""Translate Inspect's chat messages and settings to those of `transformers`, and back.

Pictures arrive as data URIs (Inspect inlines files before the provider sees them) and leave as
RGB images. Anything unsupported is an error, never silently dropped.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ContentImage,
    ContentReasoning,
    ContentText,
    GenerateConfig,
)

from safesight.errors import InputError
from safesight.hosting.settings import Settings
from safesight.models import open_picture
from safesight.types import Message

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["data_uri", "hf_messages", "settings_of"]

# Settings the provider honors, and those that do not affect the text of an answer.
_HONORED = {"max_tokens", "temperature", "top_p", "top_k", "seed", "stop_seqs"}
_NEUTRAL = {
    "system_message",  # Inspect adds it to the messages
    "max_retries",
    "timeout",
    "attempt_timeout",
    "stream_idle_timeout",
    "max_connections",
    "adaptive_connections",
    "batch",
    "cache",
    "cache_prompt",
    "max_tool_output",
    "internal_tools",
    "parallel_tool_calls",
    "reasoning_history",
    "fail_on_refusal",
}


def settings_of(config: GenerateConfig, default_max_tokens: int) -> Settings:
    """The decoding settings of a config; greedy unless it sets a temperature.

    Raises:
        InputError: the config has a setting that local generation does not support.
    """
    asked = config.model_dump(exclude_none=True)
    off = {name for name, value in asked.items() if value is False}
    if config.num_choices == 1:
        off.add("num_choices")
    unknown = sorted(asked.keys() - _HONORED - _NEUTRAL - off)
    if unknown:
        raise InputError(
            f"safesight models do not support the generation setting {unknown[0]!r}. "
            f"Remove it. Supported settings: {', '.join(sorted(_HONORED))}."
        )
    temperature = config.temperature or 0.0
    return Settings(
        max_new_tokens=config.max_tokens or default_max_tokens,
        temperature=temperature,
        top_p=config.top_p if temperature else None,
        top_k=config.top_k if temperature else None,
        seed=config.seed if temperature else None,
        stop=tuple(config.stop_seqs or ()),
    )


def hf_messages(input: Sequence[ChatMessage]) -> list[Message]:
    """The conversation in the form chat templates expect.

    Raises:
        InputError: a message holds audio, video, a document or a damaged picture.
    """
    return [{"role": message.role, "content": _content(message)} for message in input]


def _content(message: ChatMessage) -> list[dict[str, Any]]:
    content = message.content
    parts = [ContentText(text=content)] if isinstance(content, str) else content
    hf: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, ContentText):
            hf.append({"type": "text", "text": part.text})
        elif isinstance(part, ContentImage):
            hf.append({"type": "image", "image": open_picture(_bytes_of(part.image))})
        elif isinstance(part, ContentReasoning):
            continue  # a model's earlier reasoning is not shown to it again
        else:
            raise InputError(
                f"safesight models take text and pictures, not {part.type}. "
                f"Remove it from the {message.role} message."
            )
    if isinstance(message, ChatMessageAssistant) and message.tool_calls:
        calls = [
            {"name": call.function, "arguments": call.arguments} for call in message.tool_calls
        ]
        hf += [{"type": "text", "text": json.dumps(call)} for call in calls]
    return hf


def _bytes_of(reference: str) -> bytes | str:
    """The bytes of a data URI; anything else is returned as a path."""
    if not reference.startswith("data:"):
        return reference
    try:
        return base64.b64decode(reference.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise InputError(f"A picture's data URI is damaged ({error}). Encode it again.") from error


def data_uri(picture: Image) -> str:
    """The picture as a PNG data URI, which is lossless.

    Example:
        >>> from PIL import Image
        >>> data_uri(Image.new("RGB", (2, 2)))[:22]
        'data:image/png;base64,'
    """
    buffer = io.BytesIO()
    # Level 1: three times as fast as the default, 10% larger; logs are compressed anyway.
    picture.save(buffer, format="PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
