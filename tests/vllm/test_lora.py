"""A LoRA artifact in vLLM, as an adapter and merged: the answers are those of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed; see make test-vllm")
pytest.importorskip("peft")

import vllm
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.lora.request import LoRARequest

from safesight import VLM, registry
from safesight.fitting.bundled import bundled
from safesight.training.export import export_adapter, merge
from tests.vllm import engines

pytestmark = pytest.mark.slow

TOKENS = 16


def test_an_adapter_and_a_merged_checkpoint_answer_as_in_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in engines.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    vlm = VLM.load("testbed", dtype="float32", device="cpu")
    artifact = bundled("npo", vlm)
    adapter = export_adapter(artifact, tmp_path / "adapter")
    folder = merge(vlm, artifact, tmp_path / "merged")
    merged = VLM.load(str(folder), dtype="float32", device="cpu")
    asked = [s for task in ("vqa", "image_harm") for s in registry.load("benchmark", task)(10)]
    wanted = [merged.answer([each.messages()], max_new_tokens=TOKENS)[0] for each in asked]
    plain = [vlm.answer([each.messages()], max_new_tokens=TOKENS)[0] for each in asked]
    assert wanted != plain
    assert _answers(asked, registry.load("model", "testbed"), adapter) == wanted
    assert _answers(asked, folder) == wanted


def _answers(samples: list[Any], model: Path, adapter: Path | None = None) -> list[str]:
    engine = vllm.LLM(
        str(model),
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        distributed_executor_backend="uni",
        enable_lora=adapter is not None,
        max_lora_rank=64,
    )
    turns = [
        [{**turn, "content": [_part(part) for part in turn["content"]]} for turn in each.messages()]
        for each in samples
    ]
    greedy = vllm.SamplingParams(temperature=0, max_tokens=TOKENS)
    lora = None if adapter is None else LoRARequest("safe", 1, str(adapter))
    found = engine.chat(turns, greedy, use_tqdm=False, lora_request=lora)
    del engine
    cleanup_dist_env_and_memory()
    return [each.outputs[0].text.strip() for each in found]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] != "image":
        return part
    return {"type": "image_pil", "image_pil": part["image"]}
