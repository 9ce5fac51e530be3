"""Checkpoints of tiny models that vLLM can serve on a CPU, and what transformers makes of them.

They are the models of `tests/tiny.py` with a wider decoder: vLLM's attention on a CPU takes heads
of 32 numbers or more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from tests import tiny

ARCHITECTURES = {
    "llava": "LlavaForConditionalGeneration",
    "llava_next": "LlavaNextForConditionalGeneration",
    "llava_onevision": "LlavaOnevisionForConditionalGeneration",
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "idefics3": "Idefics3ForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
    "internvl": "InternVLForConditionalGeneration",
    "gemma3": "Gemma3ForConditionalGeneration",
    "mistral3": "Mistral3ForConditionalGeneration",
}
"""By family: the name in checkpoints, which vLLM goes by."""
WIDTH, HEAD = 64, 32


def write(family: str, folder: Path) -> Path:
    """Save a tiny model of an architecture, with its processor."""
    config, processor = tiny.parts(family)
    _widen(config)
    if family == "gemma3":
        _newlines(config, processor.tokenizer)
    model = tiny.random_model(config, processor)
    assert type(model).__name__ == ARCHITECTURES[family]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if config.vision_config.model_type in ("clip_vision_model", "siglip_vision_model"):
        _rename(folder / "model.safetensors")
    return folder


def _widen(config: Any) -> None:
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.head_dim = WIDTH, HEAD
    text.num_attention_heads, text.num_key_value_heads = WIDTH // HEAD, 1
    if hasattr(text, "query_pre_attn_scalar"):
        text.query_pre_attn_scalar = HEAD
    rope = getattr(text, "rope_parameters", None) or {}
    if "mrope_section" in rope:  # whose sum is half a head
        rope["mrope_section"] = [4, 6, 6]
    if config.model_type == "qwen2_vl":
        vision.hidden_size = WIDTH
    elif hasattr(vision, "out_hidden_size"):
        vision.out_hidden_size = WIDTH


def _newlines(config: Any, words: Any) -> None:
    """Tokens for several lines' ends, which vLLM looks up by name; and no soft cap on logits, which
    no released Gemma 3 has, and which vLLM would heed and transformers would not."""
    words.add_tokens(["\n" * count for count in range(1, 5)])
    config.text_config.vocab_size = len(words)
    config.text_config.final_logit_softcapping = None


def _rename(weights: Path) -> None:
    """Name the vision tower as released checkpoints and vLLM do; transformers reads both."""
    state = load_file(weights)
    inner = "vision_tower.vision_model."
    named = {
        name if inner in name else name.replace("vision_tower.", inner): value
        for name, value in state.items()
    }
    save_file(named, weights, {"format": "pt"})
