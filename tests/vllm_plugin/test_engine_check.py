"""Which options of an engine are refused; vLLM's configuration is stood in for."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from safesight.defenses import load_defense
from safesight.vllm import engine_check
from safesight.vllm.about import About, fingerprint
from safesight.vllm.settings import Settings


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


def asked(made: Any, *defenses: str, **more: Any) -> list[About]:
    """Whose requests an engine checks."""
    entries = [{"name": name} for name in defenses]
    settings = Settings.model_validate({"defenses": entries, **more})
    inside = {name: "a1" for name in defenses if name != "none"}
    made.use_v2_model_runner = False
    made.model_config.logits_processors = None
    engine_check._check_requests(made, settings, inside)
    engine_check._check_requests(made, settings, inside)  # vLLM may make its configuration twice
    named = made.model_config.logits_processors or []
    return [About.of_class(each.removeprefix("safesight.vllm.runner_v1:")) for each in named]


def test_requests_are_checked_also_without_defenses_in_the_engine() -> None:
    assert asked(config(), "none") == [About(defenses={}, per_request=False)]
    (about,) = asked(config(), "none", template=["safety_prompt"])
    assert about.template == {"safety_prompt": fingerprint(load_defense("safety_prompt"), None)}
    (about,) = asked(config(), "probe", per_request=True)
    assert (about.defenses, about.per_request) == ({"probe": "a1"}, True)


def test_where_vllm_takes_no_checks_an_undefended_engine_starts_without() -> None:
    made = config()
    made.speculative_config = object()
    assert asked(made, "none") == []


def test_an_engine_without_defenses_is_not_held_to_their_limits() -> None:
    made = config("fp8", architecture="AnyForCausalLM")
    made.additional_config = {"safesight": {"defenses": [{"name": "none"}]}}
    made.use_v2_model_runner, made.model_config.logits_processors = False, None
    engine_check.checked(None).verify_and_update_config(made)
    assert len(made.model_config.logits_processors) == 1
