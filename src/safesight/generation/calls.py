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
from safesight.activations.sites import CACHES, cache_of
from safesight.errors import InputError, ModelError
from safesight.generation.prefill import Prefill, watch
from safesight.generation.row_streams import RowStreamer
from safesight.models.decoding import GREEDY, changes_loop, explicit, one_answer, setting_names
from safesight.models.prompt_checks import answer_length, check_length

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = [
    "as_ids",
    "bind",
    "check_supported",
    "completed",
    "prompt_of",
    "refuse_begun",
    "refuse_full_cache",
    "refuse_long",
    "run_prefill",
    "setting",
    "short_answer",
    "undefended",
    "with_mask",
    "without_cache",
]

_MODES = {
    "assistant_model": "assisted decoding",
    "assistant_early_exit": "assisted decoding",
    "use_mtp": "assisted decoding",
    "prompt_lookup_num_tokens": "prompt lookup decoding",
    "custom_generate": "a custom decoding loop",
    "prefill_chunk_size": "chunked prefill",
    "penalty_alpha": "contrastive search",
    "dola_layers": "DoLa decoding",
    "guidance_scale": "classifier-free guidance",
}
"""Names of common modes; any other is named by its setting."""


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


def completed(vlm: VLM, inputs: Inputs) -> Inputs:
    """The call with what it leaves out.

    That is an attention mask, a tokenizer to find stop strings, and a number for a setting of None.

    Raises:
        InputError: as for `with_mask`.
        ModelError: the model would keep no cache and still see one token at a time.
    """
    model = vlm.model
    checkpointing = model.training and getattr(model, "is_gradient_checkpointing", False)
    if checkpointing and setting(vlm, inputs, "use_cache") is not False:
        raise ModelError(
            "This model is in training mode with gradient checkpointing, where it would forget the "
            "prompt after each token. Call model.eval() first."
        )
    inputs = explicit(inputs)
    if setting(vlm, inputs, "stop_strings") is not None:
        inputs = {"tokenizer": vlm.tokenizer, **inputs}
    return with_mask(vlm, inputs)


def with_mask(vlm: VLM, inputs: Inputs) -> Inputs:
    """The call with an attention mask, if its prompts are padded and it has none.

    Raises:
        InputError: the mask is not one of rows and tokens, or nothing tells padding at the end of a
            prompt from its last token.
    """
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            raise InputError(
                "The attention mask does not have one entry per row and token, so the last token "
                "of a prompt cannot be found. Pass the processor's own."
            )
        return inputs
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        return inputs
    ends = as_ids(setting(vlm, inputs, "eos_token_id"))
    pads = {vlm.tokenizer.pad_token_id, *as_ids(setting(vlm, inputs, "pad_token_id"))} - {None}
    either = torch.isin(ids, ids.new_tensor(sorted(pads.intersection(ends))))
    if bool(either[:, -1].any()) and not bool(either[:, -1].all() and not either[:, -2:-1].any()):
        raise InputError(
            "Some prompts end in a token that is padding and the end of a turn, so their last "
            "token cannot be found. Pass the attention_mask of the processor, too."
        )
    real = torch.isin(ids, ids.new_tensor(sorted(pads.difference(ends))), invert=True)
    return inputs if bool(real.all()) else {**inputs, "attention_mask": real.long()}


def setting(vlm: VLM, inputs: Inputs, name: str) -> Any:
    """A generation setting from the call, else its generation config, else the model's."""
    if name in inputs:
        return inputs[name]
    for config in (inputs.get("generation_config"), vlm.model.generation_config):
        value = getattr(config, name, None)
        if value is not None:
            return value
    return None


def as_ids(value: Any) -> list[int]:
    """A setting that is one token, several, or none."""
    return [] if value is None else [int(item) for item in torch.as_tensor(value).flatten()]


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
    mode = _mode(vlm, inputs)
    if mode is not None:
        raise InputError(
            f"{cannot} generation with {mode}. "
            "Use greedy decoding or sampling, or remove the defense."
        )
    tokens = inputs.get("input_ids", inputs.get("inputs_embeds"))
    streamer = inputs.get("streamer")
    for_one = streamer is not None and not isinstance(streamer, RowStreamer)
    if for_one and tokens is not None and len(tokens) > 1:
        raise InputError(
            f"A streamer takes one prompt, but this batch has {len(tokens)}. Pass one at a time."
        )
    refuse_begun(inputs, f"{cannot} part of a prompt")


def refuse_long(vlm: VLM, inputs: Inputs) -> None:
    """Refuse a prompt that, with its answer, may exceed the model's context.

    Raises:
        InputError: it may; the message has the lengths.
    """
    shapes = [
        part.shape[1]
        for name, dims in (("input_ids", 2), ("inputs_embeds", 3))
        if isinstance(part := inputs.get(name), Tensor) and part.dim() == dims
    ]
    if not shapes:
        return
    prompt = max(shapes)
    check_length(vlm.name, vlm.context_length, prompt, answer_length(inputs, prompt))


def _mode(vlm: VLM, inputs: Inputs) -> str | None:
    """What keeps this call from the plain loop, in words."""
    if setting(vlm, inputs, "cache_implementation") == "paged":
        return "continuous batching"
    for name in sorted(setting_names(), key=lambda name: (name not in _MODES, name)):
        value = setting(vlm, inputs, name)
        if changes_loop(name, value):
            return _MODES.get(name, f"{name}={repr(value)[:50]}")
    return None


def refuse_begun(inputs: Inputs, why: str) -> None:
    """Refuse a call that continues from the cache of an earlier one.

    Raises:
        InputError: the cache already holds part of the prompt.
    """
    cache = cache_of(inputs)
    length = getattr(cache, "get_seq_length", None)
    if cache is not None and (length is None or length() > 0):
        raise InputError(
            f"{why}, but generate was given a cache that already "
            "holds part of it. Pass the whole conversation and no past_key_values."
        )


def refuse_full_cache(vlm: VLM, inputs: Inputs) -> None:
    """Refuse a call whose prompt and answer may outgrow the caller's cache of a fixed size.

    Defenses lengthen prompts, so a cache that fits the caller's own may not fit theirs.

    Raises:
        InputError: they may; the message has the lengths.
    """
    tokens = inputs.get("input_ids", inputs.get("inputs_embeds"))
    layers = getattr(cache_of(inputs), "layers", None) or ()
    # A sliding window drops what it has no room for; a layer that grows has no such attribute.
    rooms = [
        layer.max_cache_len
        for layer in layers
        if hasattr(layer, "max_cache_len") and not getattr(layer, "is_sliding", False)
    ]
    if not rooms or not isinstance(tokens, Tensor):
        return
    new = setting(vlm, inputs, "max_new_tokens")
    total = tokens.shape[1] + new if new else setting(vlm, inputs, "max_length") or 0
    needed = max(tokens.shape[1], total - 1)  # the last token is never read
    if needed > min(rooms):
        raise InputError(
            f"The cache given to generate holds {min(rooms)} tokens, but the prompt with what the "
            f"defenses add and the answer may have {needed}. Pass a larger one, or none."
        )


def prompt_of(vlm: VLM, inputs: Inputs) -> Inputs:
    """What a call says about its prompt: tensors, and what else the processor makes of pictures.

    Left out are settings, caches, tokenizers and whatever else is no prompt.
    """
    settings = setting_names() | set(vlm.model.generation_config.to_dict()) | _STATE
    # Of its parts: Qwen-Omni's processor raises when it is asked for its own names.
    parts = (vlm.tokenizer, getattr(vlm.processor, "image_processor", None))
    known = {name for part in parts for name in getattr(part, "model_input_names", ())}
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


def short_answer(vlm: VLM, max_new_tokens: int) -> Inputs:
    """Settings for a short greedy answer, whatever the model's generation config says."""
    return {
        **one_answer(vlm.model),
        **GREEDY,
        "max_new_tokens": max_new_tokens,
        # What the checkpoint says of these is meant for answers to users.
        "min_length": None,
        "min_new_tokens": None,
        "max_time": None,
        "stop_strings": None,
    }


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
            **{**short_answer(vlm, 1), "return_dict_in_generate": as_dict},
        )
    return output, prefill
