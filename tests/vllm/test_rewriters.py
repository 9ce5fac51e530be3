"""A server whose defense rewrites prompts: what the engine gets is what transformers would get."""

from __future__ import annotations

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; see make test-vllm")

import httpx
import openai

from safesight import VLM, load_defense
from tests.vllm.servers import serving
from tests.vllm.test_serve import asked, samples
from tests.vllm.test_templates import tokens

pytestmark = pytest.mark.slow

NAMES = ("safety_prompt", "adashield")
TOKENS = 16


def test_prompts_are_rewritten_on_the_way_to_the_engine() -> None:
    vlm = VLM.load("testbed", dtype="float32", device="cpu")
    wanted = samples("image_harm", "vqa", "text_harm")
    plain = [vlm.answer([each.messages()], max_new_tokens=TOKENS)[0] for each in wanted]
    with (
        load_defense(NAMES[0]).apply(vlm),
        load_defense(NAMES[1]).apply(vlm),
    ):
        theirs = [vlm.answer([each.messages()], max_new_tokens=TOKENS)[0] for each in wanted]
    assert theirs != plain
    with serving("--defense", ",".join(NAMES), "--name", "mine") as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        for sample, text in zip(wanted, theirs, strict=True):
            found = client.chat.completions.create(
                model="mine", messages=asked(sample), temperature=0, max_tokens=TOKENS
            )
            assert (found.choices[0].message.content or "").strip() == text
            assert found.usage is not None
            assert found.usage.prompt_tokens == len(tokens(vlm, sample.messages(), NAMES))
        talk = asked(wanted[0])
        for value, words in (("off", "turn its defenses off"), ("describe", "safety_prompt")):
            more = {"vllm_xargs": {"safesight": value}}
            with pytest.raises(openai.BadRequestError, match=words):
                client.chat.completions.create(model="mine", messages=talk, extra_body=more)
        body = {"model": "mine", "prompt": "what is a cup?", "max_tokens": 4}
        assert httpx.post(f"{address}/v1/completions", json=body).status_code == 404
