"""Tiny models whose pictures keep their native size: Qwen-VL and GLM-V."""

from __future__ import annotations

from typing import Any

import transformers as hf
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.glm46v.image_processing_pil_glm46v import Glm46VImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from safesight.models.no_torchvision import NoVideo
from tests.tiny import HEADS, LAYERS, PATCH, WIDTH, template, text_config, token, tokenizer

_SIZE = {"shortest_edge": (2 * PATCH) ** 2, "longest_edge": (8 * PATCH) ** 2}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
_EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": WIDTH,
    "shared_expert_intermediate_size": WIDTH,
}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"] * (LAYERS // 2),
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}


def _vision(**more: Any) -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_heads": HEADS,
        "patch_size": PATCH,
        "out_hidden_size": WIDTH,
        "initializer_range": 0.2,
        **more,
    }


def _qwen(
    config: Any, processor: Any, text: dict[str, Any], vision: dict[str, Any]
) -> tuple[Any, Any]:
    words = tokenizer("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    images = Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=2, temporal_patch_size=2, size=_SIZE
    )
    made = config(
        text_config=text_config(words, **text),
        vision_config=vision,
        image_token_id=token(words, "<|image_pad|>"),
        video_token_id=token(words, "<|video_pad|>"),
        vision_start_token_id=token(words, "<|vision_start|>"),
        vision_end_token_id=token(words, "<|vision_end|>"),
    )
    return made, processor(images, words, NoVideo(), chat_template=template(picture))


def qwen2_vl() -> tuple[Any, Any]:
    vision = {key: value for key, value in _vision().items() if key != "intermediate_size"}
    vision |= {"embed_dim": WIDTH, "mlp_ratio": 2}
    return _qwen(hf.Qwen2VLConfig, hf.Qwen2VLProcessor, {"rope_parameters": _ROPE}, vision)


def _qwen3(config: Any, text: dict[str, Any], vision: dict[str, Any]) -> tuple[Any, Any]:
    rope = {**_ROPE, "mrope_interleaved": True, "partial_rotary_factor": 1.0}
    text = {"rope_parameters": rope, **text}
    return _qwen(config, hf.Qwen3VLProcessor, text, _vision(num_position_embeddings=64, **vision))


def qwen3_vl_moe() -> tuple[Any, Any]:
    return _qwen3(hf.Qwen3VLMoeConfig, _EXPERTS, {"deepstack_visual_indexes": [0, 1]})


def qwen3_5() -> tuple[Any, Any]:
    return _qwen3(hf.Qwen3_5Config, _LINEAR, {})


def qwen3_5_moe() -> tuple[Any, Any]:
    return _qwen3(hf.Qwen3_5MoeConfig, {**_LINEAR, **_EXPERTS}, {})


def _glm(config: Any, processor: Any, images: Any, text: dict[str, Any]) -> tuple[Any, Any]:
    marks = ("begin_of_image", "image", "end_of_image", "video", "begin_of_video", "end_of_video")
    words = tokenizer(*(f"<|{mark}|>" for mark in marks))
    cut = images(
        patch_size=PATCH,
        merge_size=2,
        temporal_patch_size=2,
        size={**_SIZE, "shortest_edge": 2 * _SIZE["shortest_edge"]},
    )
    made = config(
        text_config=text_config(words, **text),
        vision_config=_vision(),
        image_token_id=token(words, "<|image|>"),
        video_token_id=token(words, "<|video|>"),
        image_start_token_id=token(words, "<|begin_of_image|>"),
        image_end_token_id=token(words, "<|end_of_image|>"),
        video_start_token_id=token(words, "<|begin_of_video|>"),
        video_end_token_id=token(words, "<|end_of_video|>"),
    )
    picture = "<|begin_of_image|><|image|><|end_of_image|>"
    return made, processor(cut, words, NoVideo(), chat_template=template(picture))


_GLM_ROPE = {"rope_parameters": {**_ROPE, "partial_rotary_factor": 1.0}}


def glm4v() -> tuple[Any, Any]:
    return _glm(hf.Glm4vConfig, hf.Glm4vProcessor, Glm4vImageProcessorPil, _GLM_ROPE)


def glm46v() -> tuple[Any, Any]:
    text = {**_GLM_ROPE, "model_type": "glm4v_text"}
    return _glm(hf.Glm46VConfig, hf.Glm46VProcessor, Glm46VImageProcessorPil, text)


def glm4v_moe() -> tuple[Any, Any]:
    rope = {**_ROPE, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 2]}
    text = {
        "rope_parameters": rope,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": WIDTH,
        "first_k_dense_replace": 1,
    }
    return _glm(hf.Glm4vMoeConfig, hf.Glm4vProcessor, Glm4vImageProcessorPil, text)


def qwen3_omni_moe_thinker() -> tuple[Any, Any]:
    words = tokenizer(
        image_token="<|image_pad|>",
        audio_token="<|audio_pad|>",
        video_token="<|video_pad|>",
        vision_bos_token="<|vision_start|>",
        vision_eos_token="<|vision_end|>",
        audio_bos_token="<|audio_start|>",
        audio_eos_token="<|audio_end|>",
    )
    rope = {**_ROPE, "mrope_interleaved": True}
    config = hf.Qwen3OmniMoeThinkerConfig(
        text_config=text_config(words, rope_parameters=rope, **_EXPERTS),
        vision_config=_vision(num_position_embeddings=64, deepstack_visual_indexes=[0, 1]),
        audio_config={
            "d_model": WIDTH,
            "encoder_layers": 1,
            "encoder_attention_heads": HEADS,
            "encoder_ffn_dim": WIDTH,
            "downsample_hidden_size": 8,
            "output_dim": WIDTH,
        },
        image_token_id=token(words, "<|image_pad|>"),
        audio_token_id=token(words, "<|audio_pad|>"),
        video_token_id=token(words, "<|video_pad|>"),
        audio_start_token_id=token(words, "<|audio_start|>"),
        vision_start_token_id=token(words, "<|vision_start|>"),
        vision_end_token_id=token(words, "<|vision_end|>"),
    )
    images = Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=2, temporal_patch_size=2, size=_SIZE
    )
    processor = hf.Qwen3OmniMoeProcessor(
        images,
        NoVideo(),
        hf.WhisperFeatureExtractor(),
        words,
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return config, processor
