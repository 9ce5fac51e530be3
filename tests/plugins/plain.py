"""The bundled model asked without safesight, and the questions that every tool is to ask it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from safesight import VLM, load_benchmark, protect, registry
from safesight.types import Message, Sample

LENGTH = 24


@cache
def samples() -> tuple[Sample, ...]:
    """Harmful requests and harmless questions about pictures."""
    return (*load_benchmark("image_harm")(3), *load_benchmark("vqa")(3))


def plain(*conversations: list[Message], length: int = LENGTH) -> list[str]:
    """The answers of plain transformers, each asked alone."""
    model, processor = _loaded()
    return [_answer(model, processor, each, length) for each in conversations]


def defended(*conversations: list[Message], length: int = LENGTH) -> list[str]:
    """The answers behind sasa, by the public functions, each asked alone."""
    vlm = VLM.load("testbed", device="cpu")
    with protect(vlm, "sasa"):
        return [vlm.answer([each], max_new_tokens=length)[0] for each in conversations]


@cache
def _loaded() -> tuple[Any, Any]:
    folder = registry.load("model", "testbed")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(folder)


def _answer(model: Any, processor: Any, conversation: list[Message], length: int) -> str:
    inputs = processor.apply_chat_template(
        [conversation],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    found = model.generate(**inputs, do_sample=False, max_new_tokens=length)
    new = found[:, inputs["input_ids"].shape[1] :]
    return str(processor.batch_decode(new, skip_special_tokens=True)[0].strip())
