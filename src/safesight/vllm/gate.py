"""Compares vLLM's model with the one that the artifacts were fitted on, before anything is served.

For each prompt of `fitting.reference`: the tokens have to be the same, the states of the last one
nearly the same after every block, and each detector's verdict the same. The prompts run through
vLLM's own processor, encoder and blocks, past its cache, and the verdicts through the guard as it
serves. If anything differs, the engine does not start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from safesight.errors import ModelError
from safesight.fitting.reference import (
    ReferencePrompt,
    conversations,
    hash_tokens,
    relative_error,
)
from safesight.models.template_turns import template_turns
from safesight.types import Messages
from safesight.vllm.guard import Guard
from safesight.vllm.replaying import uncached

__all__ = ["TOLERANCE", "once"]

_log = logging.getLogger("safesight")

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.01}
"""How far states may be off, relative to their norm.

Both engines round at every step, in other places. With the 8 significant bits of bfloat16 that
alone comes to 0.7% to 1.1% in the bundled model and 1.3% to 3.5% in a tiny one, whose float32
states agree, and to less than a fifth of it with the 11 bits of float16. So 1% cannot hold in
bfloat16. The sketches add an error of a fifth.
"""


def once(model: Any, guard: Guard, vllm_config: Any, forward: Any) -> None:
    """Compare when the loader has filled the model with weights, which it ends with `eval()`.

    Args:
        model: vLLM's, still without weights.
        guard: Its guard.
        vllm_config: The engine's configuration.
        forward: The model's own forward.
    """
    plain = model.eval

    def evaluating() -> Any:
        object.__delattr__(model, "eval")
        result = plain()
        _compare(_Runner(model, guard, vllm_config, forward))
        guard.compared = True
        return result

    object.__setattr__(model, "eval", evaluating)


@dataclass
class _Prompt:
    """A prompt as vLLM's processor makes it."""

    ids: list[int]
    features: list[Any] = field(default_factory=list)
    """vLLM's `MultiModalFeatureSpec` of every picture."""


def _compare(runner: _Runner) -> None:
    """Compare with every reference; artifacts of one model have the same.

    Raises:
        ModelError: something differs.
    """
    references = runner.guard.defenses.references()
    if not references:
        return
    worst = 0.0
    for index, (kind, messages) in enumerate(conversations()):
        if kind == "picture" and not runner.takes_pictures:
            continue
        prompt = runner.read(messages)
        states = runner.states(prompt)
        verdicts = runner.verdicts(prompt)
        for name, reference in references.items():
            expected = reference.prompts[index]
            _same_tokens(name, runner, prompt, expected)
            worst = max(worst, _near(name, runner, states, expected))
            _same_verdict(name, runner, verdicts.get(name), expected)
    _log.info("vLLM's states agree with the artifacts' within %.1e.", worst)


def _same_tokens(name: str, runner: _Runner, prompt: _Prompt, expected: ReferencePrompt) -> None:
    if hash_tokens(prompt.ids) != expected.tokens:
        raise ModelError(
            f"vLLM makes {len(prompt.ids)} other tokens of a prompt than the model of the {name} "
            f"artifact, which makes {expected.length}. {_same(runner)} Chat template, tokenizer "
            "and picture settings count, too."
        )


def _near(name: str, runner: _Runner, states: Tensor, expected: ReferencePrompt) -> float:
    errors = relative_error(states, expected)
    tolerance = TOLERANCE.get(runner.guard.host.dtype, 0.0)
    worst = int(errors.nan_to_num(torch.inf).argmax())
    if not float(errors[worst]) <= tolerance:
        raise ModelError(
            f"After block {worst}, vLLM's states are {float(errors[worst]):.1%} off those that the "
            f"{name} artifact was fitted on (allowed: {tolerance:.1%}). {_same(runner)}"
        )
    return float(errors[worst])


def _same_verdict(name: str, runner: _Runner, found: Any, expected: ReferencePrompt) -> None:
    if expected.refused is None or found is None:
        return
    if found.error is not None or bool(found.refuse[0]) != expected.refused:
        what = found.error or f"its score is {float(found.scores[0]):.3f}, not {expected.score}"
        raise ModelError(
            f"{name} decides otherwise in vLLM than where it was fitted: {what}. {_same(runner)}"
        )


def _same(runner: _Runner) -> str:
    return f"Is {runner.guard.host.name!r} the model that it was fitted on?"


class _Runner:
    """Runs prompts through vLLM's model, one at a time."""

    def __init__(self, model: Any, guard: Guard, vllm_config: Any, forward: Any) -> None:
        from vllm.multimodal import MULTIMODAL_REGISTRY

        self.guard = guard
        self._model, self._forward, self._config = model, forward, vllm_config.model_config
        self._processor = MULTIMODAL_REGISTRY.create_processor(self._config)
        self._vllm_config = vllm_config

    @property
    def takes_pictures(self) -> bool:
        """Whether the engine was started with pictures."""
        return bool(self._config.multimodal_config.get_limit_per_prompt("image"))

    def read(self, messages: Messages) -> _Prompt:
        """The prompt of a conversation."""
        hub = self._processor.info.get_hf_processor()
        turns = template_turns(hub, messages)
        text = hub.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        pictures = [
            part["image"]
            for turn in messages
            for part in turn["content"]
            if part["type"] == "image"
        ]
        items = self._processor.info.parse_mm_data({"image": pictures} if pictures else {})
        made = self._processor(text, items)
        return _Prompt(list(made["prompt_token_ids"]), _features(made))

    def states(self, prompt: _Prompt) -> Tensor:
        """What the model without defenses has of the last token after every block, N x d."""
        self.guard.skip()
        found: dict[int, Tensor] = {}

        def keep(module: Any, args: Any, output: Any, *, layer: int) -> None:
            hidden, residual = output if isinstance(output, tuple) else (output, None)
            last = hidden[-1] if residual is None else hidden[-1] + residual[-1]
            found[layer] = last.float().cpu()

        with ExitStack() as stack:
            for layer, block in enumerate(self.guard.host.layers):
                stack.callback(block.register_forward_hook(partial(keep, layer=layer)).remove)
            self._run(prompt)
        return torch.stack([found[layer] for layer in sorted(found)])

    def verdicts(self, prompt: _Prompt) -> Any:
        """The decision of each detector."""
        if not self.guard.defenses.detectors:
            return {}
        self.guard.add(0, "reference", prompt.ids, None)
        self.guard.begin([(0, 0, len(prompt.ids), 0)], self._positions(prompt))
        try:
            self._run(prompt)
            return self.guard.judge(quiet=True)[0]
        finally:
            self.guard.remove(0)
            self.guard.skip()

    def _run(self, prompt: _Prompt) -> None:
        from vllm.config import set_current_vllm_config
        from vllm.forward_context import set_forward_context

        with (
            torch.inference_mode(),
            set_current_vllm_config(self._vllm_config),
            set_forward_context(None, self._vllm_config, num_tokens=len(prompt.ids)),
            uncached(self.guard.host.layers, [len(prompt.ids)], self._mutual(prompt)),
            _as_written(self.guard.host.decoder),
        ):
            embeds = self._embeds(prompt)
            self._forward(None, self._positions(prompt), None, inputs_embeds=embeds)

    def _embeds(self, prompt: _Prompt) -> Tensor:
        from vllm.multimodal.utils import group_and_batch_mm_kwargs

        ids = torch.tensor(prompt.ids, device=self.guard.device)
        visual = torch.zeros(len(ids), dtype=torch.bool, device=self.guard.device)
        for feature in prompt.features:
            for first, last in feature.mm_position.extract_embeds_range():
                visual[first : last + 1] = True
        items = [(feature.modality, feature.data) for feature in prompt.features]
        pictures: list[Tensor] = []
        for _, _, batch in group_and_batch_mm_kwargs(items, device=self.guard.device):
            pictures.extend(self._model.embed_multimodal(**batch))
        shown = {"multimodal_embeddings": pictures, "is_multimodal": visual} if pictures else {}
        return cast(Tensor, self._model.embed_input_ids(ids, **shown))

    def _mutual(self, prompt: _Prompt) -> list[tuple[int, int]]:
        """The rows of every picture, if its tokens see each other."""
        if not self._config.is_mm_prefix_lm:
            return []
        return [
            (first, last + 1)
            for feature in prompt.features
            for first, last in feature.mm_position.extract_embeds_range()
        ]

    def _positions(self, prompt: _Prompt) -> Tensor:
        if not self._config.uses_mrope:
            return torch.arange(len(prompt.ids), device=self.guard.device)
        found, _ = self._model.get_mrope_input_positions(prompt.ids, prompt.features)
        return cast(Tensor, found.to(self.guard.device))


def _features(made: Any) -> list[Any]:
    from vllm.multimodal.inputs import MultiModalFeatureSpec

    return [
        MultiModalFeatureSpec(data, modality, f"reference-{index}", place)
        for modality, places in (made.get("mm_placeholders") or {}).items()
        for index, (place, data) in enumerate(zip(places, made["mm_kwargs"][modality], strict=True))
    ]


@contextmanager
def _as_written(decoder: Any) -> Iterator[None]:
    """Inside, the decoder runs as it is written, if it is compiled."""
    before = getattr(decoder, "do_not_compile", None)
    if before is None:
        yield
        return
    decoder.do_not_compile = True
    try:
        yield
    finally:
        decoder.do_not_compile = before
