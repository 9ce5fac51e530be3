"""A LoRA artifact as an adapter of vLLM: the answers are those of the merged checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; see make test-vllm")
pytest.importorskip("peft")

import vllm
from vllm.lora.request import LoRARequest

from safesight import VLM, registry
from safesight.fitting.bundled import bundled
from safesight.training.export import export_adapter, merge
from tests.vllm import engines

pytestmark = pytest.mark.slow

TOKENS = 16


def test_an_adapter_answers_as_the_merged_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in engines.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    vlm = VLM.load("testbed", dtype="float32", device="cpu")
    artifact = bundled("npo", vlm)
    adapter = export_adapter(artifact, tmp_path / "adapter")
    merged = VLM.load(str(merge(vlm, artifact, tmp_path / "merged")), dtype="float32", device="cpu")
    asked = [s for task in ("vqa", "image_harm") for s in registry.load("benchmark", task)(10)]
    wanted = [merged.answer([each.messages()], max_new_tokens=TOKENS)[0] for each in asked]
    plain = [vlm.answer([each.messages()], max_new_tokens=TOKENS)[0] for each in asked]
    assert wanted != plain
    assert _answers(asked, str(adapter)) == wanted


def _answers(samples: list[Any], adapter: str) -> list[str]:
    engine = vllm.LLM(
        str(registry.load("model", "testbed")),
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        distributed_executor_backend="uni",
        enable_lora=True,
        max_lora_rank=64,
    )
    turns = [
        [{**turn, "content": [_part(part) for part in turn["content"]]} for turn in each.messages()]
        for each in samples
    ]
    greedy = vllm.SamplingParams(temperature=0, max_tokens=TOKENS)
    lora = LoRARequest("safe", 1, adapter)
    found = engine.chat(turns, greedy, use_tqdm=False, lora_request=lora)
    return [each.outputs[0].text.strip() for each in found]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] != "image":
        return part
    return {"type": "image_pil", "image_pil": part["image"]}
