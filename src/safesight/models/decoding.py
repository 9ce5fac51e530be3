"""The settings of `generate`: which of them are known, and which make it decode in another way.

A defense that looks into a generation counts on a plain loop: one prefill of the whole prompt, then
one token after another, greedy or sampled. Known settings leave the loop as it is. Any other is
taken to change it, so that a mode of a later transformers is noticed, too.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from transformers import GenerationConfig, GenerationMixin

__all__ = [
    "GREEDY",
    "changes_loop",
    "draws",
    "ending",
    "explicit",
    "is_mode",
    "one_answer",
    "setting_names",
]

_PLAIN = frozenset(
    """
    inputs generation_config logits_processor stopping_criteria prefix_allowed_tokens_fn synced_gpus
    streamer tokenizer assistant_tokenizer trust_remote_code use_model_defaults
    max_length max_new_tokens min_length min_new_tokens max_time stop_strings early_stopping
    do_sample temperature top_k top_p min_p top_h typical_p epsilon_cutoff eta_cutoff
    repetition_penalty encoder_repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids renormalize_logits forced_bos_token_id
    forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens sequence_bias watermarking_config num_return_sequences
    output_attentions output_hidden_states output_scores output_logits return_dict_in_generate
    pad_token_id bos_token_id eos_token_id decoder_start_token_id
    use_cache cache_implementation cache_config max_cache_len compile_config disable_compile
    low_memory continuous_batching_config transformers_version
    is_assistant num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold
    max_matching_ngram_size assistant_lookbehind target_lookbehind assistant_ensemble_weight
    speculation_type
    """.split()
)
"""Settings that leave the loop as it is. Those of an assistant have no effect without one."""

_NEUTRAL: Mapping[str, float] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "guidance_scale": 1,
    "diversity_penalty": 0,
    "penalty_alpha": 0,
}
"""Values at which other settings change nothing."""


_NEVER_NONE: Mapping[str, float] = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "length_penalty": 1.0,
}
"""Settings that transformers compares or computes with, and what no value means."""


def draws(call: Mapping[str, Any]) -> bool:
    """Whether the generation config of a call asks for drawn answers."""
    return bool(getattr(call.get("generation_config"), "do_sample", False))


def explicit(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call, with a number for every setting that must not be None.

    Example:
        >>> explicit({"num_beams": None, "top_k": None})
        {'num_beams': 1, 'top_k': None}
    """
    numbers = {
        name: number
        for name, number in _NEVER_NONE.items()
        if name in inputs and inputs[name] is None
    }
    return {**inputs, **numbers}


@cache
def setting_names() -> frozenset[str]:
    """All arguments of `generate` that are settings, not parts of a prompt."""
    arguments = set(inspect.signature(GenerationMixin.generate).parameters) - {"self", "kwargs"}
    configured = {name for name in GenerationConfig().to_dict() if not name.startswith("_")}
    return frozenset(_PLAIN | arguments | configured)


def is_mode(name: str) -> bool:
    """Whether a setting may change the loop."""
    return name in setting_names() - _PLAIN


def changes_loop(name: str, value: Any) -> bool:
    """Whether a setting with this value may change the loop.

    Example:
        >>> changes_loop("num_beams", 2), changes_loop("num_beams", 1), changes_loop("top_k", 5)
        (True, False, False)
    """
    if value is None or value is False or not is_mode(name):
        return False
    return value is True or name not in _NEUTRAL or value != _NEUTRAL[name]


def one_answer(model: Any) -> dict[str, Any]:
    """Arguments that undo what a model's generation config says about the loop and the output.

    Answers then come one per prompt, as plain tokens. Empty for most models.
    """
    config = model.generation_config
    neutral = {name: _NEUTRAL.get(name) for name in setting_names() if is_mode(name)}
    neutral |= {"num_return_sequences": 1, "return_dict_in_generate": False}
    return {
        name: value
        for name, value in neutral.items()
        if getattr(config, name, None) not in (None, False, value)
    }


GREEDY: Mapping[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
"""Arguments for greedy decoding. The last three are unset, or transformers warns that greedy
decoding ignores them."""


@contextmanager
def ending(streamer: Any) -> Iterator[None]:
    """End a streamer if an error stops the call; its reader would wait for ever."""
    try:
        yield
    except BaseException:
        if streamer is not None:
            streamer.end()
        raise
