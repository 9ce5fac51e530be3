"""`testbed-smol` as a `transformers` model: a pretrained language model, an eye, a projector.

A plain `LlavaForConditionalGeneration`. The eye starts as that of the bundled model: pictures of 96
pixels, 36 visual tokens. The projector is new. Nothing here trains.
"""

from __future__ import annotations

import json

import torch
from tokenizers import Tokenizer
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from safesight.testbed import WEIGHTS
from safesight.testbed.architecture import with_eye
from safesight.testbed.layout import PATCH
from safesight.testbed.scenes import SIZE
from safesight.testbed.smol.language import Language

__all__ = ["EYE", "IMAGE", "assemble", "build_processor"]

EYE = ("model.vision_tower.", "model.multi_modal_projector.")
"""Prefixes of the parameters that are not the language model's."""

IMAGE = "<image>"
_SPARE = "<empty_output>"
"""A control token for notebooks, which no chat holds: the placeholder takes its place, so that the
vocabulary does not grow. In a text, its old name is plain text."""
_START, _END, _PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

# As SmolLM2 was trained, its default system prompt included; texts may come in parts.
_CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if loop.first and m.role != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for c in m.content %}{% if c.type == 'image' %}{{ '<image>\\n' }}"
    "{% elif c.text %}{{ c.text }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def build_processor(tokenizer: Tokenizer, *, length: int = 8192) -> LlavaProcessor:
    """The tokenizer with a placeholder for pictures, and the bundled model's image processor."""
    words = PreTrainedTokenizerFast(
        tokenizer_object=_with_placeholder(tokenizer),
        bos_token=_START,
        eos_token=_END,
        pad_token=_PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=length,
        extra_special_tokens={"image_token": IMAGE},
    )
    return with_eye(words, _CHAT_TEMPLATE)


def _with_placeholder(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer, with the spare token under the placeholder's name."""
    settings = json.loads(tokenizer.to_str())
    vocabulary = settings["model"]["vocab"]
    vocabulary[IMAGE] = vocabulary.pop(_SPARE)
    for token in settings["added_tokens"]:
        if token["content"] == _SPARE:
            token["content"] = IMAGE
    return Tokenizer.from_str(json.dumps(settings))


def assemble(
    language: Language, *, seed: int = 0
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The language model behind the bundled model's eye and a new projector, float32."""
    text = language.model.config
    processor = build_processor(language.tokenizer, length=text.max_position_embeddings)
    words = processor.tokenizer
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(text, name, getattr(words, name))
    bundled = LlavaForConditionalGeneration.from_pretrained(WEIGHTS, dtype=torch.float32)
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=bundled.config.vision_config,
            text_config=text,
            image_token_index=words.convert_tokens_to_ids(IMAGE),
            image_seq_length=(SIZE // PATCH) ** 2,
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
            tie_word_embeddings=text.tie_word_embeddings,
        )
    )
    model.model.language_model.load_state_dict(language.model.model.state_dict())
    model.lm_head.load_state_dict(language.model.lm_head.state_dict())
    model.model.vision_tower.load_state_dict(bundled.model.vision_tower.state_dict())
    model.generation_config.eos_token_id = words.eos_token_id
    model.generation_config.pad_token_id = words.pad_token_id
    model.generation_config.bos_token_id = words.bos_token_id
    return model.eval(), processor
