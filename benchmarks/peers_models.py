"""Models of random weights with the exact sizes of published ones, but perhaps fewer blocks.

Not a benchmark. Sizes are those of the configs at Qwen/Qwen2.5-VL-3B-Instruct, .../7B-Instruct
and llava-hf/llava-1.5-7b-hf. The tokenizer is a small one of bytes: the vocabulary of the
weights, and so the time of their head, is the published one.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from safesight.models import VLM
from safesight.models.no_torchvision import NoVideo, without_torchvision
from safesight.types import Sample
from tests.tiny import template, token, tokenizer

__all__ = ["SHAPES", "Shape", "prompt", "vlm_of"]

_PATCH = 14
_TOKENS = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")


@dataclass(frozen=True)
class Shape:
    """A published model."""

    layers: int
    """Blocks of its decoder."""
    vision_layers: int
    vision_share: int
    """Its vision tower can be cut to one part in so many, with the same mixture of blocks."""
    side: int
    """Pixels on each side of a picture that makes 576 visual tokens."""
    make: Callable[[int, int], tuple[Any, Any]]
    """Makes config and processor from both depths."""


def _llava(layers: int, vision_layers: int) -> tuple[Any, Any]:
    words = tokenizer("<image>")
    text = {
        "model_type": "llama",
        "vocab_size": 32064,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
        **_ends(words),
    }
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": vision_layers,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": _PATCH,
        "projection_dim": 768,
    }
    config = hf.LlavaConfig(
        text_config=text,
        vision_config=vision,
        image_token_index=token(words, "<image>"),
        tie_word_embeddings=False,
    )
    size = {"height": 336, "width": 336}
    processor = hf.LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=size),
        words,
        patch_size=_PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )
    return config, processor


def _qwen(layers: int, vision_layers: int, **sizes: Any) -> tuple[Any, Any]:
    words = tokenizer(*_TOKENS)
    start, picture, _, video = (token(words, name) for name in _TOKENS)
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    text = {
        "num_hidden_layers": layers,
        "max_position_embeddings": 128000,
        "rope_parameters": rope,
        **sizes,
        **_ends(words),
    }
    vision = {
        "depth": vision_layers,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "patch_size": _PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "out_hidden_size": sizes["hidden_size"],
        "fullatt_block_indexes": list(range(7, vision_layers, 8)),
    }
    config = hf.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=picture,
        video_token_id=video,
        vision_start_token_id=start,
        tie_word_embeddings=sizes["tie_word_embeddings"],
    )
    images = Qwen2VLImageProcessorPil(
        patch_size=_PATCH,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": 56 * 56, "longest_edge": 1280 * 28 * 28},
    )
    shown = "<|vision_start|><|image_pad|><|vision_end|>"
    return config, hf.Qwen2_5_VLProcessor(images, words, NoVideo(), chat_template=template(shown))


def _qwen_3b(layers: int, vision_layers: int) -> tuple[Any, Any]:
    return _qwen(
        layers,
        vision_layers,
        vocab_size=151936,
        hidden_size=2048,
        intermediate_size=11008,
        num_attention_heads=16,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )


def _qwen_7b(layers: int, vision_layers: int) -> tuple[Any, Any]:
    return _qwen(
        layers,
        vision_layers,
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )


def _ends(words: Any) -> dict[str, int]:
    return {
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }


SHAPES = {
    "Qwen2.5-VL-3B": Shape(36, 32, 4, 24 * 28, _qwen_3b),
    "Qwen2.5-VL-7B": Shape(28, 32, 4, 24 * 28, _qwen_7b),
    "LLaVA-1.5-7B": Shape(32, 24, 4, 336, _llava),
}


def vlm_of(name: str, device: str, layers: int | None) -> VLM:
    """A model in bfloat16.

    Args:
        name: One of `SHAPES`.
        device: Where to make it.
        layers: Blocks of its decoder; the vision tower is then cut as well. None for all.
    """
    shape = SHAPES[name]
    vision = shape.vision_layers // (1 if layers is None else shape.vision_share)
    with without_torchvision():
        config, processor = shape.make(layers or shape.layers, vision)
    torch.manual_seed(0)
    with torch.device(device):
        model = hf.AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.generation_config.eos_token_id = None  # answers have the length that is asked for
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    return VLM.wrap(model.eval(), processor, name)


def prompt(vlm: VLM, number: int, tokens: int, label: Any = "benign") -> Sample:
    """A question about a picture of noise, as long as asked for."""
    import numpy as np
    from PIL import Image

    side = SHAPES[vlm.name].side

    def picture() -> Any:
        noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        return Image.fromarray(noise)

    def sample(question: str) -> Sample:
        return Sample(f"{number}", question, label, "x", image=picture)

    used = vlm.encode([sample("?").messages()])["input_ids"].shape[1]
    letter = string.ascii_lowercase[number % 26]
    return sample(letter * max(tokens - used, 0) + "?")
