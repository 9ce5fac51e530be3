"""LiteLLM's client, against a server with the defenses on."""

from __future__ import annotations

import pytest

from tests.server.serving import TOKENS, Serving, samples, shown

litellm = pytest.importorskip("litellm", reason="litellm is not installed")


@pytest.mark.parametrize(("task", "reason"), [("image_harm", "content_filter"), ("vqa", None)])
def test_answers_whole_and_in_pieces(served: Serving, task: str, reason: str | None) -> None:
    sample = samples(task)[0]
    asked = {
        "model": "openai/testbed",
        "api_base": f"{served.root}/v1",
        "api_key": "none",
        "messages": shown(sample),
        "max_tokens": TOKENS,
        "max_retries": 0,
    }
    found = litellm.completion(**asked).choices[0]
    assert found.message.content == served.expected(sample.messages())
    assert found.finish_reason == reason or reason is None
    pieces = litellm.completion(**asked, stream=True)
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert streamed == found.message.content
