"""Tiny vision-language models of eight architectures, with random weights, made without download.

Real `transformers` classes on every side: model, tokenizer, image processor,
processor. A vocabulary of bytes and special tokens, pictures of about 32 pixels,
four decoder blocks of width 32. `vlm(family)` and `build(family)` are made once
per test session; a test that changes a model must build its own with `fresh`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.models import pixtral
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from safesight.models import VLM
from safesight.models.no_torchvision import NoVideo, without_torchvision

WIDTH, LAYERS, HEADS, PATCH, SIDE = 32, 4, 2, 8, 32
_BASE = ("<pad>", "<bos>", "<eos>")


def tokenizer(*special: str, **named: str) -> Any:
    """One token a byte, and the special tokens; `named` become attributes of the tokenizer."""
    words = [*_BASE, *special, *named.values()]
    vocabulary = {word: index for index, word in enumerate(words)}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(letter, len(vocabulary))
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(words)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=list(special),
        extra_special_tokens=named or None,
        # On purpose the wrong side: VLM must pad on the left without relying on this.
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def template(image: str) -> str:
    """A chat template that writes `image` for a picture."""
    return (
        "<bos>{% for m in messages %}{{ m.role }}:{% for c in m.content %}"
        "{% if c.type == 'image' %}" + image + "{% else %}{{ c.text }}{% endif %}"
        "{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )


def text_config(words: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(words),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": WIDTH // HEADS,
        "max_position_embeddings": 4096,
        # Larger than usual, so that greedy decoding has no near ties.
        "initializer_range": 0.2,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
        **more,
    }


def vision_config(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "image_size": SIDE,
        "patch_size": PATCH,
        "initializer_range": 0.2,
        **more,
    }


def token(words: Any, name: str) -> int:
    return int(words.convert_tokens_to_ids(name))


def _llava() -> tuple[Any, Any]:
    words = tokenizer("<image>")
    config = hf.LlavaConfig(
        text_config={"model_type": "llama", **text_config(words)},
        vision_config={"model_type": "clip_vision_model", **vision_config()},
        image_token_index=token(words, "<image>"),
        tie_word_embeddings=False,
    )
    processor = hf.LlavaProcessor(
        CLIPImageProcessorPil(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        ),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )
    return config, processor


def _llava_next() -> tuple[Any, Any]:
    words = tokenizer("<image>")
    grid = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = hf.LlavaNextConfig(
        text_config={"model_type": "llama", **text_config(words)},
        vision_config={"model_type": "clip_vision_model", **vision_config()},
        image_token_index=token(words, "<image>"),
        image_grid_pinpoints=grid,
    )
    processor = hf.LlavaNextProcessor(
        LlavaNextImageProcessorPil(
            size={"shortest_edge": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
            image_grid_pinpoints=grid,
        ),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )
    return config, processor


_QWEN_TOKENS = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")


def _qwen_parts() -> tuple[Any, dict[str, int], Any]:
    words = tokenizer(*_QWEN_TOKENS)
    ids = {
        "image_token_id": token(words, "<|image_pad|>"),
        "video_token_id": token(words, "<|video_pad|>"),
        "vision_start_token_id": token(words, "<|vision_start|>"),
        "vision_end_token_id": token(words, "<|vision_end|>"),
    }
    images = Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": (2 * PATCH) ** 2, "longest_edge": (8 * PATCH) ** 2},
    )
    return words, ids, images


def _qwen_vision(**more: Any) -> dict[str, Any]:
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


def _qwen2_5_vl() -> tuple[Any, Any]:
    words, ids, images = _qwen_parts()
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    config = hf.Qwen2_5_VLConfig(
        text_config=text_config(words, rope_parameters=rope),
        vision_config=_qwen_vision(window_size=4 * PATCH, fullatt_block_indexes=[1]),
        **ids,
    )
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    processor = hf.Qwen2_5_VLProcessor(images, words, NoVideo(), chat_template=template(picture))
    return config, processor


def _qwen3_vl() -> tuple[Any, Any]:
    words, ids, images = _qwen_parts()
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [2, 3, 3],
        "mrope_interleaved": True,
    }
    config = hf.Qwen3VLConfig(
        text_config=text_config(words, rope_parameters=rope),
        vision_config=_qwen_vision(num_position_embeddings=64, deepstack_visual_indexes=[0, 1]),
        **ids,
    )
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    processor = hf.Qwen3VLProcessor(images, words, NoVideo(), chat_template=template(picture))
    return config, processor


def _idefics3() -> tuple[Any, Any]:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    words = tokenizer(
        "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *tiles
    )
    config = hf.Idefics3Config(
        text_config={"model_type": "llama", **text_config(words)},
        vision_config=vision_config(),
        image_token_id=token(words, "<image>"),
        scale_factor=2,
    )
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    processor = hf.Idefics3Processor(
        images, words, image_seq_len=4, chat_template=template("<image>")
    )
    return config, processor


def _internvl() -> tuple[Any, Any]:
    words = tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = hf.InternVLConfig(
        text_config={"model_type": "qwen2", **text_config(words)},
        vision_config=vision_config(image_size=[SIDE, SIDE], patch_size=[PATCH, PATCH]),
        image_token_id=token(words, "<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    images = GotOcr2ImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, min_patches=1, max_patches=2
    )
    processor = hf.InternVLProcessor(
        images,
        words,
        NoVideo(),
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>"),
    )
    return config, processor


def _gemma3() -> tuple[Any, Any]:
    words = tokenizer(
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
    )
    config = hf.Gemma3Config(
        # A window shorter than the prompts, on every other block.
        text_config=text_config(
            words,
            sliding_window=16,
            layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
            query_pre_attn_scalar=WIDTH // HEADS,
            final_logit_softcapping=5.0,
        ),
        vision_config={"model_type": "siglip_vision_model", **vision_config()},
        mm_tokens_per_image=4,
        boi_token_index=token(words, "<start_of_image>"),
        eoi_token_index=token(words, "<end_of_image>"),
        image_token_index=token(words, "<image_soft_token>"),
    )
    processor = hf.Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}),
        words,
        image_seq_length=4,
        chat_template=template("<start_of_image>"),
    )
    return config, processor


def _mistral3() -> tuple[Any, Any]:
    words = tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]")
    config = hf.Mistral3Config(
        text_config={"model_type": "mistral", **text_config(words, sliding_window=None)},
        vision_config={"model_type": "pixtral", **vision_config(image_size=2 * SIDE)},
        image_token_index=token(words, "[IMG]"),
        spatial_merge_size=2,
    )
    processor = pixtral.PixtralProcessor(
        PixtralImageProcessorPil(
            size={"longest_edge": 2 * SIDE}, patch_size={"height": PATCH, "width": PATCH}
        ),
        words,
        patch_size=PATCH,
        spatial_merge_size=2,
        chat_template=template("[IMG]"),
    )
    return config, processor


_MAKERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "idefics3": _idefics3,
    "internvl": _internvl,
    "gemma3": _gemma3,
    "mistral3": _mistral3,
}
FAMILIES = tuple(_MAKERS)


def _maker(family: str) -> Callable[[], tuple[Any, Any]]:
    if family in _MAKERS:
        return _MAKERS[family]
    from tests import zoo  # which needs this file

    return zoo.MAKERS[family]


def parts(family: str) -> tuple[Any, Any]:
    """The config and processor of a family."""
    with without_torchvision():
        return _maker(family)()


def fresh(family: str, seed: int = 0) -> tuple[Any, Any]:
    """A new model (float32, eval mode) and its processor; the same weights for the same seed."""
    config, processor = parts(family)
    return random_model(config, processor, seed), processor


def random_model(config: Any, processor: Any, seed: int = 0) -> Any:
    """A model with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = hf.AutoModelForImageTextToText.from_config(config)
    for name, parameter in model.named_parameters():
        # Some classes start these at zero or one, which would hide what they do.
        hidden = parameter.dim() == 1 and "norm" not in name
        if hidden or (parameter.dim() > 1 and not bool(parameter.any())):
            parameter.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    words = processor.tokenizer
    model.generation_config.pad_token_id = words.pad_token_id
    model.generation_config.bos_token_id = words.bos_token_id
    model.generation_config.eos_token_id = words.eos_token_id
    return model.eval()


@cache
def build(family: str) -> tuple[Any, Any]:
    """The session's model and processor of a family. Do not change them."""
    return fresh(family)


@cache
def vlm(family: str) -> VLM:
    """The session's VLM of a family. Do not change it."""
    wrapped = VLM.wrap(*build(family), name=f"tiny-{family}")
    # In its first forward transformers installs hooks of its own; tests that count hooks want
    # them there before, whichever test comes first.
    wrapped.generate(wrapped.encode([ask("hi", picture())]), max_new_tokens=1)
    return wrapped


def save(family: str, folder: Path) -> Path:
    """Write a family's model and processor into a folder, as `from_pretrained` wants them."""
    model, processor = build(family)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def picture(seed: int = 0, width: int = 40, height: int = 32) -> Image.Image:
    """A picture of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def ask(text: str, *pictures: Image.Image) -> list[dict[str, Any]]:
    """A conversation of one question, pictures first."""
    content: list[dict[str, Any]] = [{"type": "image", "image": each} for each in pictures]
    return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
