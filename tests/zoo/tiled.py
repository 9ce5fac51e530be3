"""Tiny models whose image processors exist for torchvision only; a stand-in cuts the pictures.

Every picture becomes one square tile. What the model's own processor makes of it, the prompt
and its placeholders, is real.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers as hf
from torch import Tensor
from transformers import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import make_flat_list_of_images
from transformers.processing_utils import ImagesKwargs

from safesight.models.no_torchvision import NoVideo
from tests.tiny import (
    HEADS,
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

_GRID = SIDE // PATCH


class _Tiles(PilBackend):
    """Each picture as one square tile; subclasses pack the tiles as their model wants them."""

    merge_size, patch_size = 2, PATCH
    do_rescale, do_normalize, rescale_factor = True, True, 1 / 255
    image_mean = image_std = (0.5, 0.5, 0.5)

    def __call__(self, images: Any, **kwargs: Any) -> BatchFeature:
        tiles = [
            torch.from_numpy(np.asarray(each.convert("RGB").resize((SIDE, SIDE)), np.float32))
            for each in make_flat_list_of_images(images)
        ]
        return BatchFeature(self.pack(torch.stack(tiles).permute(0, 3, 1, 2) / 127.5 - 1))

    def pack(self, tiles: Tensor) -> dict[str, Any]:
        """The model's tensors for N x 3 x SIDE x SIDE."""
        raise NotImplementedError


def _patches(tiles: Tensor) -> Tensor:
    """N x 3 x SIDE x SIDE to N x patches x 3 x PATCH x PATCH."""
    cut = tiles.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)
    return cut.permute(0, 2, 3, 1, 4, 5).reshape(len(tiles), -1, 3, PATCH, PATCH)


class Llama4Tiles(_Tiles):
    def pack(self, tiles: Tensor) -> dict[str, Any]:
        return {"pixel_values": tiles, "aspect_ratios": torch.ones(len(tiles), 2, dtype=torch.long)}


class CohereTiles(_Tiles):
    patch_size = 2
    """The side of the grid of image tokens, as Cohere's processor reads it."""

    def pack(self, tiles: Tensor) -> dict[str, Any]:
        return {"pixel_values": tiles, "num_patches": [1] * len(tiles)}


class KimiTiles(_Tiles):
    def pack(self, tiles: Tensor) -> dict[str, Any]:
        grid = torch.tensor([[1, _GRID, _GRID]] * len(tiles))
        return {"pixel_values": _patches(tiles).flatten(0, 1), "image_grid_thw": grid}


class LfmKwargs(ImagesKwargs, total=False):
    return_row_col_info: bool


class LfmTiles(_Tiles):
    valid_kwargs = LfmKwargs
    tile_size, encoder_patch_size, downsample_factor, use_thumbnail = SIDE, PATCH, 2, False

    def pack(self, tiles: Tensor) -> dict[str, Any]:
        count = len(tiles)
        return {
            "pixel_values": _patches(tiles).permute(0, 1, 3, 4, 2).flatten(2),
            "pixel_attention_mask": torch.ones(count, _GRID**2, dtype=torch.long),
            "spatial_shapes": torch.tensor([[_GRID, _GRID]] * count),
            "image_rows": [1] * count,
            "image_cols": [1] * count,
            "image_sizes": [[SIDE, SIDE]] * count,
        }


class MolmoTiles(_Tiles):
    """Molmo 2 sees a picture twice: as a whole and in crops; here there is one crop."""

    def pack(self, tiles: Tensor) -> dict[str, Any]:
        count, half = len(tiles), _GRID // 2
        patches = _patches(tiles).permute(0, 1, 3, 4, 2).flatten(2)
        pool = torch.arange(_GRID**2).reshape(half, 2, half, 2).permute(0, 2, 1, 3).reshape(-1, 4)
        crops = torch.cat([pool, pool + _GRID**2])
        return {
            "pixel_values": patches.repeat_interleave(2, dim=0),
            "image_token_pooling": torch.cat([crops + 2 * _GRID**2 * i for i in range(count)]),
            "image_grids": torch.tensor([[half] * 4] * count),
            "image_num_crops": torch.tensor([2] * count),
        }


def llama4() -> tuple[Any, Any]:
    marks = ("image", "patch", "image_start", "image_end", "tile_x_separator", "tile_y_separator")
    words = tokenizer(*(f"<|{mark}|>" for mark in marks))
    config = hf.Llama4Config(
        text_config=text_config(
            words,
            intermediate_size_mlp=2 * WIDTH,
            no_rope_layer_interval=2,
            attention_chunk_size=64,
            num_local_experts=4,
            num_experts_per_tok=1,
        ),
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": HEADS,
            "image_size": SIDE,
            "patch_size": PATCH,
            "vision_output_dim": WIDTH,
            "projector_input_dim": WIDTH,
            "projector_output_dim": WIDTH,
            "pixel_shuffle_ratio": 0.5,
            "initializer_range": 0.2,
        },
        image_token_index=token(words, "<|patch|>"),
        boi_token_index=token(words, "<|image_start|>"),
        eoi_token_index=token(words, "<|image_end|>"),
    )
    processor = hf.Llama4Processor(
        Llama4Tiles(),
        words,
        patch_size=PATCH,
        pixel_shuffle_ratio=0.5,
        chat_template=template("<|image|>"),
    )
    return config, processor


def cohere2_vision() -> tuple[Any, Any]:
    words = tokenizer(
        image_token="<|IMG_PATCH|>",
        boi_token="<|START_OF_IMG|>",
        eoi_token="<|END_OF_IMG|>",
        img_line_break_token="<|IMG_LINE_BREAK|>",
    )
    text = text_config(
        words,
        layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
        sliding_window=16,
        logit_scale=0.25,
    )
    config = hf.Cohere2VisionConfig(
        text_config={"model_type": "cohere2", **text},
        vision_config={"model_type": "siglip_vision_model", **vision_config()},
        image_token_id=token(words, "<|IMG_PATCH|>"),
        downsample_factor=2,
        alignment_intermediate_size=WIDTH,
    )
    processor = hf.Cohere2VisionProcessor(
        CohereTiles(), words, chat_template=template("<|IMG_PATCH|>")
    )
    return config, processor


def lfm2_vl() -> tuple[Any, Any]:
    words = tokenizer("<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>")
    text = text_config(
        words,
        layer_types=["conv", "full_attention"] * (LAYERS // 2),
        block_auto_adjust_ff_dim=False,
        conv_L_cache=3,
    )
    del text["head_dim"]
    vision = {key: value for key, value in vision_config().items() if key != "image_size"}
    vision |= {"num_patches": _GRID**2, "vision_use_head": False}
    config = hf.Lfm2VlConfig(
        text_config={"model_type": "lfm2", **text},
        vision_config={"model_type": "siglip2_vision_model", **vision},
        image_token_id=token(words, "<image>"),
        downsample_factor=2,
        projector_hidden_size=WIDTH,
    )
    return config, hf.Lfm2VlProcessor(LfmTiles(), words, chat_template=template("<image>"))


def kimi_k25() -> tuple[Any, Any]:
    words = tokenizer(
        "<|media_begin|>",
        "<|media_content|>",
        "<|media_end|>",
        image_token="<|media_pad|>",
        video_token="<|kimi_k25_video_placeholder|>",
    )
    text = text_config(
        words,
        kv_lora_rank=16,
        q_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        moe_intermediate_size=WIDTH,
        first_k_dense_replace=1,
    )
    del text["head_dim"]
    config = hf.Kimi_K25Config(
        text_config={"model_type": "deepseek_v3", **text},
        vision_config=vision_config(pos_emb_height=8, pos_emb_width=8),
        projection_hidden_size=WIDTH,
        tie_word_embeddings=False,
        image_token_id=token(words, "<|media_pad|>"),
        video_token_id=token(words, "<|kimi_k25_video_placeholder|>"),
        vision_start_token_id=token(words, "<|media_begin|>"),
        vision_end_token_id=token(words, "<|media_end|>"),
    )
    picture = "<|media_begin|>image<|media_content|><|media_pad|><|media_end|>"
    processor = hf.Kimi_K25Processor(KimiTiles(), words, NoVideo(), chat_template=template(picture))
    return config, processor


def molmo2() -> tuple[Any, Any]:
    words = tokenizer(
        "<im_start>",
        "<im_end>",
        "<im_patch>",
        "<im_col>",
        "<low_res_im_start>",
        "<im_low>",
        "<frame_start>",
        "<frame_end>",
        image_token="<|image|>",
        video_token="<|video|>",
    )
    vision = {
        **vision_config(image_size=[SIDE, SIDE]),
        "num_key_value_heads": HEADS,
        "head_dim": WIDTH // HEADS,
    }
    config = hf.Molmo2Config(
        text_config=text_config(words, additional_vocab_size=8),
        vision_config=vision,
        adapter_config={
            "vision_feature_layer": [-1, -2],
            "hidden_size": WIDTH,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": WIDTH // HEADS,
            "intermediate_size": 2 * WIDTH,
            "text_hidden_size": WIDTH,
        },
        image_start_token_id=token(words, "<im_start>"),
        low_res_image_start_token_id=token(words, "<low_res_im_start>"),
        image_end_token_id=token(words, "<im_end>"),
        image_patch_id=token(words, "<im_patch>"),
        image_col_id=token(words, "<im_col>"),
        image_low_res_id=token(words, "<im_low>"),
        frame_start_token_id=token(words, "<frame_start>"),
        frame_end_token_id=token(words, "<frame_end>"),
    )
    processor = hf.Molmo2Processor(
        MolmoTiles(), NoVideo(), words, chat_template=template("<|image|>")
    )
    return config, processor
