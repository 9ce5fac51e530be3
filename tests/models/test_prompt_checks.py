"""Prompts that a model was not made for are refused with their numbers, at every door."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from safesight.defenses import FitData, load_defense, protect
from safesight.errors import InputError, ModelError
from safesight.models import VLM
from safesight.models.prompt_checks import context_length
from safesight.types import TuningSample
from tests import tiny

LIMIT = 1000


@pytest.fixture
def short() -> VLM:
    """A model with a short context."""
    vlm = VLM.wrap(*tiny.fresh("llava"), name="short")
    vlm.model.config.text_config.max_position_embeddings = LIMIT
    return vlm


def of_length(vlm: VLM, tokens: int) -> list[dict[str, object]]:
    """A question whose prompt has this many tokens."""
    shell = vlm.encode([tiny.ask("x")])["input_ids"].shape[1] - 1
    return tiny.ask("x" * (tokens - shell))


def test_a_prompt_may_fill_the_context_but_not_exceed_it(short: VLM) -> None:
    assert short.encode([of_length(short, LIMIT)])["input_ids"].shape[1] == LIMIT
    with pytest.raises(InputError, match=f"{LIMIT + 1} tokens.* at most {LIMIT}"):
        short.encode([of_length(short, LIMIT + 1)])


def test_room_for_the_answer_is_needed(short: VLM) -> None:
    assert len(short.answer([of_length(short, LIMIT - 4)], max_new_tokens=4)) == 1
    with pytest.raises(InputError, match=f"{LIMIT - 4} tokens.* up to 5 .*{LIMIT}"):
        short.answer([of_length(short, LIMIT - 4)], max_new_tokens=5)


LENGTHS: dict[str, dict[str, Any]] = {
    "max_new_tokens": {"max_new_tokens": LIMIT},
    "max_length": {"max_length": LIMIT + 1},
    "config": {"generation_config": GenerationConfig(max_new_tokens=LIMIT)},
    "config's max_length": {"generation_config": GenerationConfig(max_length=LIMIT + 1)},
}


@pytest.mark.parametrize("length", LENGTHS)
def test_however_the_length_of_the_answer_is_given(short: VLM, length: str) -> None:
    inputs = short.encode([of_length(short, 200)])
    with pytest.raises(InputError, match="200 tokens and an answer of up to"):
        short.generate(inputs, **LENGTHS[length])
    protect(short, "none")
    with pytest.raises(InputError, match="200 tokens and an answer of up to"):
        short.model.generate(**inputs, **LENGTHS[length])


def test_embeddings_count_as_the_prompt_that_they_are(short: VLM) -> None:
    protect(short, "none")
    long = torch.zeros(1, LIMIT + 1, tiny.WIDTH)
    with pytest.raises(InputError, match=f"{LIMIT + 1} tokens"):
        short.model.generate(inputs_embeds=long, max_new_tokens=1)


@pytest.mark.parametrize("name", ["none", "safety_prompt", "ecso", "coca", "image_tools"])
def test_a_protected_model_refuses_what_its_processor_let_through(short: VLM, name: str) -> None:
    ids = torch.full((1, LIMIT + 1), 100)
    protect(short.model, short.processor, name)
    with pytest.raises(InputError, match=f"{LIMIT + 1} tokens"):
        short.model.generate(input_ids=ids, max_new_tokens=1)


def test_a_defense_that_lengthens_the_prompt_is_held_to_it(short: VLM) -> None:
    inputs = short.encode([of_length(short, LIMIT - 8)])
    with (
        load_defense("safety_prompt").apply(short),
        pytest.raises(InputError, match=rf"\d+ tokens.* at most {LIMIT}"),
    ):
        short.generate(inputs, max_new_tokens=1)


def test_a_long_training_row_is_named_before_anything_is_trained(short: VLM) -> None:
    rows = [
        TuningSample("good", "a?", "b.", "harmful", "forget"),
        TuningSample("long", "x" * 50_000, "b.", "benign", "retain"),
    ]
    with pytest.raises(InputError, match=rf"'long' has 5\d,\d\d\d tokens.* at most {LIMIT:,}"):
        load_defense("npo", max_steps=1).fit(short, FitData([], [], tuning=rows), progress=False)


def test_a_row_that_is_long_with_its_template_is_named_too(short: VLM) -> None:
    from safesight.training.batches import Collator

    with pytest.raises(InputError, match=r"'long' has \d,\d+ tokens.* at most 1,000"):
        Collator(short).rows([TuningSample("long", "x" * 600, "y" * 600, "benign", "retain")])


def test_tokens_that_the_model_does_not_have_are_refused(short: VLM) -> None:
    inputs = short.encode([tiny.ask("x")])
    inputs["input_ids"][0, 1] = 10_000
    with pytest.raises(ModelError, match="token 10000"):
        short.generate(inputs, max_new_tokens=1)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({}, None),
        ({"max_position_embeddings": None}, None),
        ({"max_position_embeddings": 100}, 100),
        (
            {
                "max_position_embeddings": 100,
                "rope_parameters": {"factor": 4.0, "original_max_position_embeddings": 100},
            },
            400,
        ),
        (
            {
                "max_position_embeddings": 400,
                "rope_parameters": {
                    "full": {"factor": 4.0, "original_max_position_embeddings": 100},
                    "sliding": {"rope_type": "default"},
                },
            },
            400,
        ),
    ],
)
def test_the_context_is_read_from_the_config(config: dict[str, object], length: object) -> None:
    assert context_length(SimpleNamespace(**config)) == length
