"""Tiny models whose processors work with PIL: LLaVA's relatives, Idefics's and others."""

from __future__ import annotations

from typing import Any

import transformers as hf
from transformers.models.aria.image_processing_pil_aria import AriaImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import (
    DeepseekVLImageProcessorPil,
)
from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6 import (
    MiniCPMV4_6ImageProcessorPil,
)
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from safesight.models.no_torchvision import NoVideo
from tests.tiny import (
    LAYERS,
    PATCH,
    SIDE,
    WIDTH,
    template,
    text_config,
    token,
    tokenizer,
    vision_config,
)

_SQUARE = {"height": SIDE, "width": SIDE}


def llava_onevision() -> tuple[Any, Any]:
    words = tokenizer("<image>", "<video>")
    grid = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = hf.LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **text_config(words)},
        vision_config={"model_type": "siglip_vision_model", **vision_config()},
        image_token_index=token(words, "<image>"),
        video_token_index=token(words, "<video>"),
        image_grid_pinpoints=grid,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    processor = hf.LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessorPil(size=_SQUARE, image_grid_pinpoints=grid),
        words,
        NoVideo(),
        num_image_tokens=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        chat_template=template("<image>"),
    )
    return config, processor


def vipllava() -> tuple[Any, Any]:
    words = tokenizer("<image>")
    config = hf.VipLlavaConfig(
        text_config={"model_type": "llama", **text_config(words)},
        vision_config={"model_type": "clip_vision_model", **vision_config()},
        image_token_index=token(words, "<image>"),
        vision_feature_layers=[-1, -2],
    )
    processor = hf.LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=_SQUARE),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )
    return config, processor


def idefics2() -> tuple[Any, Any]:
    words = tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>")
    config = hf.Idefics2Config(
        text_config={"model_type": "mistral", **text_config(words, sliding_window=None)},
        vision_config=vision_config(),
        perceiver_config={
            "hidden_size": WIDTH,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 2,
        },
        image_token_id=token(words, "<image>"),
    )
    images = Idefics2ImageProcessorPil(
        size={"shortest_edge": SIDE // 2, "longest_edge": SIDE}, do_image_splitting=False
    )
    processor = hf.Idefics2Processor(
        images, words, image_seq_len=4, chat_template=template("<image>")
    )
    return config, processor


def smolvlm() -> tuple[Any, Any]:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    words = tokenizer(
        "<end_of_utterance>",
        *tiles,
        fake_image_token="<fake_token_around_image>",
        image_token="<image>",
        global_image_token="<global-img>",
    )
    config = hf.SmolVLMConfig(
        text_config={"model_type": "llama", **text_config(words)},
        vision_config=vision_config(),
        image_token_id=token(words, "<image>"),
        scale_factor=2,
    )
    images = SmolVLMImageProcessorPil(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    processor = hf.SmolVLMProcessor(
        images, words, NoVideo(), image_seq_len=4, chat_template=template("<image>")
    )
    return config, processor


def aria() -> tuple[Any, Any]:
    words = tokenizer(image_token="<|img|>")
    experts = {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1}
    config = hf.AriaConfig(
        text_config=text_config(words, **experts),
        vision_config={
            "model_type": "idefics3_vision",
            **vision_config(image_size=980, patch_size=140),
        },
        image_token_index=token(words, "<|img|>"),
        projector_patch_to_query_dict={"49": 4},
    )
    processor = hf.AriaProcessor(
        AriaImageProcessorPil(max_image_size=980, min_image_size=336, split_image=False),
        words,
        chat_template=template("<|img|>"),
        size_conversion={980: 4},
    )
    return config, processor


def deepseek_vl() -> tuple[Any, Any]:
    words = tokenizer(image_token="<image_placeholder>")
    config = hf.DeepseekVLConfig(
        text_config={"model_type": "llama", **text_config(words)},
        vision_config={"model_type": "siglip_vision_model", **vision_config()},
        image_token_id=token(words, "<image_placeholder>"),
    )
    processor = hf.DeepseekVLProcessor(
        DeepseekVLImageProcessorPil(size=_SQUARE),
        words,
        chat_template=template("<image_placeholder>"),
        num_image_tokens=(SIDE // PATCH) ** 2,
    )
    return config, processor


def minicpmv4_6() -> tuple[Any, Any]:
    words = tokenizer(
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        image_start_token="<image>",
        image_end_token="</image>",
        slice_start_token="<slice>",
        slice_end_token="</slice>",
        image_id_start_token="<image_id>",
        image_id_end_token="</image_id>",
    )
    text = text_config(
        words,
        layer_types=["linear_attention", "full_attention"] * (LAYERS // 2),
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
    )
    config = hf.MiniCPMV4_6Config(
        text_config={"model_type": "qwen3_5_text", **text},
        vision_config=vision_config(),
        insert_layer_id=0,
        image_size=SIDE,
        image_token_id=token(words, "<|image_pad|>"),
        video_token_id=token(words, "<|video_pad|>"),
    )
    processor = hf.MiniCPMV4_6Processor(
        MiniCPMV4_6ImageProcessorPil(max_slice_nums=2, scale_resolution=SIDE, patch_size=PATCH),
        NoVideo(),
        words,
        chat_template=template("<|image_pad|>"),
    )
    return config, processor


def janus() -> tuple[Any, Any]:
    words = tokenizer(
        image_token="<image_placeholder>", boi_token="<begin_of_image>", eoi_token="<end_of_image>"
    )
    config = hf.JanusConfig(
        text_config={"model_type": "llama", **text_config(words)},
        vision_config={
            **vision_config(),
            "projection_dim": WIDTH,
            "depth": 2,
            "num_image_tokens": (SIDE // PATCH) ** 2,
            "mlp_ratio": 2.0,
            "use_qk_norm": False,
        },
        vq_config={
            "embed_dim": 8,
            "num_embeddings": 16,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
            "latent_channels": 8,
            "projection_dim": WIDTH,
            "image_token_embed_dim": WIDTH,
            "num_patches": 4,
        },
        image_token_id=token(words, "<image_placeholder>"),
    )
    processor = hf.JanusProcessor(
        JanusImageProcessorPil(size=_SQUARE, min_size=8),
        words,
        chat_template=template("<image_placeholder>"),
    )
    processor.num_image_tokens = (SIDE // PATCH) ** 2
    return config, processor
