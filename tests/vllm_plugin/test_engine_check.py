"""Which options of an engine are refused; vLLM's configuration is stood in for."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from safesight.vllm import engine_check


@pytest.fixture(autouse=True)
def platform(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("vllm.platforms")
    module.current_platform = SimpleNamespace(is_cpu=lambda: False)
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    monkeypatch.setitem(sys.modules, "vllm.platforms", module)


class Limits(SimpleNamespace):
    """As vLLM's: what no limit is set for is allowed 999 times, also if the model takes none."""

    def get_limit_per_prompt(self, modality: str) -> int:
        return int(self.limit_per_prompt.get(modality, 999))


def config(
    cache: str = "auto",
    limits: dict[str, int] | None = None,
    architecture: str = "LlavaForConditionalGeneration",
    **hf: int | None,
) -> Any:
    model = SimpleNamespace(
        architecture=architecture,
        dtype=torch.bfloat16,
        enable_prompt_embeds=False,
        hf_config=SimpleNamespace(**hf),
        is_mm_prefix_lm=False,
        multimodal_config=Limits(limit_per_prompt=limits or {}),
        quantization=None,
        runner_type="generate",
    )
    return SimpleNamespace(
        cache_config=SimpleNamespace(cache_dtype=cache, kv_sharing_fast_prefill=False),
        kv_transfer_config=None,
        lora_config=None,
        model_config=model,
        parallel_config=SimpleNamespace(
            decode_context_parallel_size=1, pipeline_parallel_size=1, use_ubatching=False
        ),
        speculative_config=None,
    )


@pytest.mark.parametrize(
    ("cache", "refused"),
    [("auto", False), ("bfloat16", False), ("float16", True), ("fp8", True), ("nvfp4", True)],
)
def test_a_cache_in_another_dtype(cache: str, refused: bool) -> None:
    found = engine_check._problems(config(cache))
    assert ("--kv-cache-dtype" in "".join(found)) is refused
    assert len(found) == refused


@pytest.mark.parametrize(
    ("made", "refused"),
    [
        ({}, False),  # vLLM's own limit, of a model that takes none
        ({"video_token_id": None}, False),
        ({"limits": {"video": 1}}, True),
        ({"limits": {"image": 1}, "video_token_id": 7}, True),
        ({"video_token_index": 7}, True),
        ({"limits": {"video": 0}, "video_token_id": 7}, False),
        ({"architecture": "InternVLForConditionalGeneration"}, True),
        ({"architecture": "InternVLForConditionalGeneration", "limits": {"video": 0}}, False),
    ],
)
def test_videos(made: Any, refused: bool) -> None:
    found = engine_check._problems(config(**made))
    assert ("""--limit-mm-per-prompt '{"video": 0}'""" in "".join(found)) is refused
    assert len(found) == refused


def test_a_model_without_pictures() -> None:
    made = config(video_token_id=7)
    made.model_config.multimodal_config = None
    assert engine_check._problems(made) == []
