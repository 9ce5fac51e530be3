"""The bytes that a token stands for: a character of several bytes may be several tokens.

Decoded alone, such a token is only the mark of something that is no text. What it stands for is in
its name: byte-level vocabularies have a letter for each byte, others spell a byte as `<0xE2>`.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["token_bytes"]

_UNREADABLE = "\ufffd"
_SPELLED = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SHOWN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
"""Bytes whose letter in a byte-level vocabulary is their own; the others follow after U+0100."""
_BYTES = {chr(byte): byte for byte in _SHOWN} | {
    chr(0x100 + number): byte
    for number, byte in enumerate(byte for byte in range(0x100) if byte not in _SHOWN)
}


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """What a token stands for, in UTF-8; perhaps a part of a character.

    Args:
        tokenizer: The model's.
        token: Its number.
    """
    text = str(tokenizer.decode([token]))
    if _UNREADABLE not in text:
        return text.encode()
    name = str(tokenizer.convert_ids_to_tokens(token))
    if spelled := _SPELLED.fullmatch(name):
        return bytes([int(spelled[1], 16)])
    if all(letter in _BYTES for letter in name):
        return bytes(_BYTES[letter] for letter in name)
    return text.encode()
