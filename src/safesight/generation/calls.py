"""What one `generate` call asks for: its prompt, its settings, and whether it can be judged.

This module only reads calls. `detectors` acts on them.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.activations import Site
from safesight.activations.sites import CACHES
from safesight.errors import InputError
from safesight.generation.prefill import Prefill, watch
from safesight.models.prompt_checks import check_length

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = [
    "bind",
    "check_supported",
    "prompt_of",
    "refuse_begun",
    "refuse_long",
    "run_prefill",
    "setting",
    "undefended",
    "without_cache",
]

_UNSUPPORTED = {
    "assistant_model": "assisted decoding",
    "prompt_lookup_num_tokens": "prompt lookup decoding",
    "custom_generate": "a custom decoding loop",
    "prefill_chunk_size": "chunked prefill",
    "penalty_alpha": "contrastive search",
    "dola_layers": "DoLa decoding",
}


_STATE = {*CACHES, "cache_position", "labels", "encoder_outputs", "logits_to_keep"}
"""What a forward pass takes beside the prompt."""


def bind(generate: Any, args: tuple[Any, ...], kwargs: Inputs) -> Inputs:
    """One call of `generate` as keyword arguments, with the prompt's tokens in `input_ids`."""
    bound = inspect.signature(generate).bind_partial(*args)
    inputs = {**bound.arguments, **kwargs}
    tokens = inputs.get("inputs")
    if isinstance(tokens, Tensor) and tokens.dim() == 2 and inputs.get("input_ids") is None:
        inputs["input_ids"] = inputs.pop("inputs")
    return inputs


def setting(vlm: VLM, inputs: Inputs, name: str) -> Any:
    """A generation setting from the call, else its generation config, else the model's."""
    for value in (
        inputs.get(name),
        getattr(inputs.get("generation_config"), name, None),
        getattr(vlm.model.generation_config, name, None),
    ):
        if value is not None:
            return value
    return None


def check_supported(vlm: VLM, inputs: Inputs, cannot: str = "A detector cannot judge") -> None:
    """Refuse a call whose prefill a detector cannot judge, or an edit cannot fully reach.

    Args:
        vlm: The model that will run.
        inputs: The call.
        cannot: How the error message begins.

    Raises:
        InputError: beam search, another decoding loop, a chunked prefill, or a streamer with a
            batch.
    """
    modes = [text for name, text in _UNSUPPORTED.items() if setting(vlm, inputs, name) is not None]
    if (setting(vlm, inputs, "num_beams") or 1) > 1:
        modes.insert(0, f"num_beams={setting(vlm, inputs, 'num_beams')}")
    if setting(vlm, inputs, "cache_implementation") == "paged":
        modes.append("continuous batching")
    if modes:
        raise InputError(
            f"{cannot} generation with {modes[0]}. "
            "Use greedy decoding or sampling, or remove the defense."
        )
    tokens = inputs.get("input_ids", inputs.get("inputs_embeds"))
    if inputs.get("streamer") is not None and tokens is not None and len(tokens) > 1:
        raise InputError(
            f"A streamer takes one prompt, but this batch has {len(tokens)}. Pass one at a time."
        )
    refuse_begun(inputs, f"{cannot} part of a prompt")


def refuse_long(vlm: VLM, inputs: Inputs) -> None:
    """Refuse a prompt that, with its answer, may exceed the model's context.

    Raises:
        InputError: it may; the message has the lengths.
    """
    prompt = inputs.get("input_ids")
    if isinstance(prompt, Tensor) and prompt.dim() == 2:
        answer = inputs.get("max_new_tokens") or 0
        check_length(vlm.name, vlm.context_length, prompt.shape[1], answer)


def refuse_begun(inputs: Inputs, why: str) -> None:
    """Refuse a call that continues from the cache of an earlier one.

    Raises:
        InputError: `past_key_values` already holds part of the prompt.
    """
    cache = inputs.get("past_key_values")
    length = getattr(cache, "get_seq_length", None)
    if cache is not None and (length is None or length() > 0):
        raise InputError(
            f"{why}, but generate was given a cache that already "
            "holds part of it. Pass the whole conversation and no past_key_values."
        )


def prompt_of(vlm: VLM, inputs: Inputs) -> Inputs:
    """What a call says about its prompt: tensors, and what else the processor makes of pictures.

    Left out are settings, caches, tokenizers and whatever else is no prompt.
    """
    settings = set(inspect.signature(type(vlm.model).generate).parameters)
    settings |= set(vlm.model.generation_config.to_dict()) | _STATE
    known = set(getattr(vlm.processor, "model_input_names", ()))
    return {
        name: value
        for name, value in inputs.items()
        if name not in settings and (name in known or _holds_tensors(value))
    }


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_holds_tensors, value))
    return isinstance(value, Tensor)


def without_cache(inputs: Inputs) -> Inputs:
    """The call without the caller's cache, for a further generation with another prompt."""
    return {name: value for name, value in inputs.items() if name not in CACHES}


def undefended(vlm: VLM) -> Generate:
    """The model's own generate, bypassing any attached defense; used for fits and prefills."""
    return partial(type(vlm.model).generate, vlm.model)


def run_prefill(
    vlm: VLM, inputs: Inputs, sites: Sequence[Site], replay_from: int | None
) -> tuple[Any, Prefill]:
    """Run one undefended prefill exactly as generate does, and record it with `watch`.

    Returns:
        The output of generate for one new token, and the prefill.
    """
    as_dict = bool(setting(vlm, inputs, "return_dict_in_generate"))
    with torch.no_grad(), watch(vlm, sites, replay_from, inputs.get("attention_mask")) as prefill:
        output = undefended(vlm)(
            **prompt_of(vlm, inputs),
            max_new_tokens=1,
            do_sample=False,
            return_dict_in_generate=as_dict,
        )
    return output, prefill
