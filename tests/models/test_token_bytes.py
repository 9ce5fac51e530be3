"""Tokens that are parts of characters, in the vocabularies that have them."""

from __future__ import annotations

from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from safesight.models.token_bytes import token_bytes
from tests import tiny

TEXT = "a café, 2 € ☕\ufffd\n"


def with_fallback() -> Any:
    """Characters, and `<0x..>` for the bytes of all others."""
    words = [
        "<unk>",
        *sorted({*TEXT} - {*"€☕\ufffd"}),
        *(f"<0x{byte:02X}>" for byte in range(256)),
    ]
    vocabulary = {word: number for number, word in enumerate(words)}
    inner = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>")
    )
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


@pytest.mark.parametrize("make", [lambda: tiny.vlm("llava").tokenizer, with_fallback])
def test_the_bytes_of_all_tokens_are_the_text(make: Any) -> None:
    tokenizer = make()
    tokens = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert len(tokens) > len(TEXT), "some characters are several tokens"
    assert b"".join(token_bytes(tokenizer, token) for token in tokens).decode() == TEXT


def test_every_byte_has_a_letter() -> None:
    tokenizer = tiny.vlm("llava").tokenizer
    letters = tokenizer.convert_tokens_to_ids(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(token_bytes(tokenizer, token) for token in letters) == [
        bytes([byte]) for byte in range(256)
    ]


def test_a_special_token_is_its_name() -> None:
    tokenizer = tiny.vlm("llava").tokenizer
    assert token_bytes(tokenizer, tokenizer.eos_token_id) == b"<eos>"
