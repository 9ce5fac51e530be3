"""Tiny models of more architectures than `tests/tiny.py` has, made as they are made there.

`tests/tiny.py` finds them by name, so `tiny.vlm("gemma4")` works. The tests that run on every
architecture use `FAMILIES`; others use those of `tests/tiny.py`, which are fewer and faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.zoo import gemma, llava, qwen, tiled

_MAKERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_vl": qwen.qwen2_vl,
    "qwen3_vl_moe": qwen.qwen3_vl_moe,
    "qwen3_5": qwen.qwen3_5,
    "qwen3_5_moe": qwen.qwen3_5_moe,
    "glm4v": qwen.glm4v,
    "glm46v": qwen.glm46v,
    "glm4v_moe": qwen.glm4v_moe,
    "gemma4": gemma.gemma4,
    "llava_onevision": llava.llava_onevision,
    "vipllava": llava.vipllava,
    "idefics2": llava.idefics2,
    "smolvlm": llava.smolvlm,
    "aria": llava.aria,
    "deepseek_vl": llava.deepseek_vl,
    "minicpmv4_6": llava.minicpmv4_6,
    "janus": llava.janus,
    "qwen3_omni_moe_thinker": qwen.qwen3_omni_moe_thinker,
    "llama4": tiled.llama4,
    "molmo2": tiled.molmo2,
    "cohere2_vision": tiled.cohere2_vision,
    "lfm2_vl": tiled.lfm2_vl,
    "kimi_k25": tiled.kimi_k25,
}
MAKERS = _MAKERS
FAMILIES = tuple(_MAKERS)
NEED_TORCHVISION = ("llama4", "molmo2", "cohere2_vision", "lfm2_vl", "kimi_k25")
"""Their image processors exist for torchvision only; here a stand-in cuts the pictures."""
