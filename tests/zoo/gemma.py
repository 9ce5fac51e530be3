"""A tiny Gemma 4 as E2B and E4B are: an embedding for each block, later blocks share keys."""

from __future__ import annotations

from typing import Any

import transformers as hf
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from safesight.models.no_torchvision import NoVideo
from tests.tiny import HEADS, LAYERS, PATCH, WIDTH, template, text_config, token, tokenizer


def gemma4() -> tuple[Any, Any]:
    words = tokenizer(
        boi_token="<|image>",
        eoi_token="<image|>",
        image_token="<|image|>",
        audio_token="<|audio|>",
        boa_token="<|audio>",
        eoa_token="<audio|>",
        video_token="<|video|>",
    )
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": WIDTH // HEADS,
        "patch_size": PATCH,
        "pooling_kernel_size": 2,
        "position_embedding_size": 64,
        "initializer_range": 0.2,
    }
    config = hf.Gemma4Config(
        text_config=text_config(
            words,
            sliding_window=16,
            layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
            global_head_dim=WIDTH // HEADS,
            hidden_size_per_layer_input=8,
            vocab_size_per_layer_input=len(words),
            num_kv_shared_layers=LAYERS // 2,
            final_logit_softcapping=5.0,
        ),
        vision_config={"model_type": "gemma4_vision", **vision},
        audio_config=None,
        image_token_id=token(words, "<|image|>"),
        boi_token_id=token(words, "<|image>"),
        eoi_token_id=token(words, "<image|>"),
        audio_token_id=token(words, "<|audio|>"),
        boa_token_id=token(words, "<|audio>"),
        video_token_id=token(words, "<|video|>"),
    )
    processor = hf.Gemma4Processor(
        hf.Gemma4AudioFeatureExtractor(),
        Gemma4ImageProcessorPil(patch_size=PATCH, max_soft_tokens=70, pooling_kernel_size=2),
        words,
        NoVideo(),
        chat_template=template("<|image|>"),
        image_seq_length=70,
    )
    return config, processor
