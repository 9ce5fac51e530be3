"""The bundled VLM as an untrained `transformers` model: tokenizer, processor, config.

A small LLaVA with the usual parts: CLIP vision tower, two-layer projector, Llama decoder.
Nothing here trains; `train` does. Sizes are chosen so that one step with 32 pictures takes about
a third of a second on two CPU cores.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from safesight.testbed.concepts import CONCEPTS
from safesight.testbed.curriculum import picture_dialogue, text_dialogue, tool_dialogue
from safesight.testbed.dialogues import Dialogue
from safesight.testbed.language import COMMON_WORDS
from safesight.testbed.layout import PATCH
from safesight.testbed.scenes import SIZE
from safesight.testbed.tools import TOOLS

__all__ = ["build_model", "build_processor", "messages", "with_eye"]

_WIDTH = 192
_SPECIAL = (
    "<pad>",
    "<bos>",
    "<|end|>",
    "<image>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
)

_CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% set ns = namespace(system='') %}"
    "{% for m in messages %}{% if m.role == 'system' %}"
    "{% if m.content is string %}{% set ns.system = m.content %}"
    "{% else %}{% for c in m.content %}{% if c.type == 'text' %}"
    "{% set ns.system = ns.system + c.text %}{% endif %}{% endfor %}{% endif %}"
    "{% endif %}{% endfor %}"
    "{% if ns.system or tools %}<|system|>{{ ' ' + ns.system if ns.system else '' }}"
    "{% if tools %}<tools>{% for t in tools %} {{ t | tojson }}{% endfor %}</tools>{% endif %}"
    "<|end|>{% endif %}"
    "{% for m in messages %}{% if m.role != 'system' %}"
    "{{ '<|assistant|>' if m.role == 'assistant' else '<|user|>' }}"
    "{% if m.role == 'tool' %}<tool_response>{% endif %}"
    "{% if m.content is string %}{{ ' ' + m.content }}"
    "{% else %}{% for c in m.content %}{% if c.type == 'image' %}<image>"
    "{% elif c.text %}{{ ' ' + c.text }}{% endif %}{% endfor %}{% endif %}"
    "{% if m.role == 'tool' %}</tool_response>{% endif %}"
    "<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_processor() -> LlavaProcessor:
    """A tokenizer with one token per word and bytes for the rest; a 96-pixel image processor."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<|end|>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        extra_special_tokens={"image_token": "<image>"},
    )
    return with_eye(tokenizer, _CHAT_TEMPLATE)


def with_eye(tokenizer: PreTrainedTokenizerFast, chat_template: str) -> LlavaProcessor:
    """A processor that prepares pictures for the bundled eye, with any tokenizer."""
    images = CLIPImageProcessorPil(
        size={"height": SIZE, "width": SIZE},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template,
    )


def build_model(processor: LlavaProcessor, seed: int) -> LlavaForConditionalGeneration:
    """The untrained model, float32."""
    tokenizer = processor.tokenizer
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=_WIDTH,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        image_size=SIZE,
        patch_size=PATCH,
        projection_dim=_WIDTH,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    return model


def messages(dialogue: Dialogue) -> list[dict[str, object]]:
    """A dialogue as chat messages, with image placeholders but without pictures."""
    turns: list[dict[str, object]] = []
    pending = bool(dialogue.scenes)
    for role, text in dialogue.turns:
        content: list[dict[str, str]] = []
        if (role == "user" and pending) or (role == "tool" and not text):
            content.append({"type": "image"})
            pending = False
        if text:
            content.append({"type": "text", "text": text})
        turns.append({"role": role, "content": content})
    return turns


def _tokenizer() -> Tokenizer:
    """Byte-level, lower case, one token per known word, no merges.

    With `ignore_merges` the tokenizer uses a whole word if it is in the vocabulary, and its
    bytes if not. So any text survives a round trip (in lower case), while the world's own words
    are single tokens, like common words in a large model.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*_SPECIAL, *alphabet, *_words()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in _SPECIAL[:7]])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in _SPECIAL[7:]])
    return tokenizer


def _words() -> list[str]:
    """Every word the curriculum uses more than once, then the extra words; sorted."""
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rng = random.Random(0)
    pieces: Counter[str] = Counter()
    for make in (text_dialogue, picture_dialogue, tool_dialogue):
        for _ in range(12_000):
            for _, text in make(rng).turns:
                text = re.sub("|".join(map(re.escape, _SPECIAL)), " ", text)
                pieces.update(p for p, _ in split.pre_tokenize_str(" " + text))
    for tool in TOOLS:
        pieces.update({p: 9 for p, _ in split.pre_tokenize_str(" " + json.dumps(tool).lower())})
    wanted = {p for p, count in pieces.items() if count > 1 and len(p) > 1}
    wanted |= {f"Ġ{c.name}" for c in CONCEPTS} | {f"Ġ{w}" for w in COMMON_WORDS}
    return sorted(wanted)
