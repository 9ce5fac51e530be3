"""CoCA: two forward passes per token, with and without a safety principle, amplify its effect.

Paper: Gao et al., "CoCA: Regaining Safety-awareness of Multimodal Large Language Models with
Constitutional Calibration", COLM 2024, https://arxiv.org/abs/2409.11365. Its claim: a picture
weakens the effect of a safety principle in the prompt on the logits but does not remove it, so
amplify what is left.

Where it acts: on the logits of every answer token. With L_s the logits after "principle +
question" and L_0 those after the question alone, both followed by the same answer so far:

    L = L_s + strength (L_s - L_0)          next token = argmax L

The two prompts of a row run as two rows of one batch, on one copy of the weights, each with its
own cache. Both get the same L, so they choose the same token. Nothing is fitted.

`strength=0` gives L_s: the principle as a plain prompt. It is not the undefended model; for that
use `enabled=False`.

What it cannot do: where the principle changes nothing, there is nothing to amplify. It amplifies
everything the principle does, including over-refusal and garbled words. It needs the time and
memory of two rows for each prompt.

Where we differ: the paper's own strength (its alpha) could not be read; 4 is from a
re-implementation. In a longer conversation the principle precedes only the last question; where
words of the question stand before a picture, it precedes those after the last one. No sampling by
`generate`; a caller's logits processors see the calibrated scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, final

import torch
from pydantic import Field
from torch import Tensor

from safesight.activations.sites import CACHES
from safesight.defenses.base import Defense, DefenseConfig, Parts
from safesight.errors import InputError
from safesight.generation.answers import put_back_prompt, sequences_of
from safesight.generation.calls import check_supported, prompt_of, setting, without_cache
from safesight.generation.follow_ups import introduced
from safesight.generation.per_row import allowed_in
from safesight.generation.prompt_rows import padded, prompt_rows
from safesight.generation.row_streams import RowStreamer

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["CoCA", "CoCAConfig", "calibrated"]


class CoCAConfig(DefenseConfig):
    """Settings of CoCA."""

    at_use: ClassVar[frozenset[str]] = frozenset({"enabled", "strength"})

    strength: float = Field(4.0, ge=0, allow_inf_nan=False)
    """How much the principle's effect is amplified; 0 uses the principle as a plain prompt.
    Source: secondary, a re-implementation."""
    principle: str = Field(
        "The assistant should answer in a harmless, ethical and inoffensive manner. "
        "The assistant cannot provide answers related to illegal activities.",
        min_length=1,
        max_length=10_000,
    )
    """Put before the question, separated by a space.
    Source: secondary, a re-implementation."""


def calibrated(prompted: Tensor, plain: Tensor, strength: float) -> Tensor:
    """L_s + strength (L_s - L_0) in float32; non-finite (forbidden) tokens keep their L_s.

    Args:
        prompted: L_s, B x vocabulary.
        plain: L_0, the same shape.
        strength: 0 returns L_s.

    Example:
        >>> calibrated(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 3.0]]), strength=4.0)
        tensor([[ 6., -7.]])
    """
    prompted, plain = prompted.float(), plain.float()
    finite = prompted.isfinite() & plain.isfinite()
    return torch.where(finite, prompted + strength * (prompted - plain), prompted)


@final
class CoCA(Defense[CoCAConfig, None]):
    """Constitutional calibration."""

    name = "coca"
    kind = "pipeline"
    paper = "Gao et al., CoCA, COLM 2024, https://arxiv.org/abs/2409.11365"
    in_demo = True
    Config = CoCAConfig

    def parts(self, vlm: VLM, config: CoCAConfig, fitted: None) -> Parts:
        """Generates with both prompts at once."""
        return Parts(around=partial(_generate_both, vlm, config))


def _generate_both(vlm: VLM, config: CoCAConfig, generate: Generate, inputs: Inputs) -> Any:
    check_supported(vlm, inputs, "CoCA cannot calibrate")
    if setting(vlm, inputs, "do_sample") and config.strength:
        raise InputError("CoCA decodes greedily. Pass do_sample=False.")
    prompted = introduced(vlm, inputs, config.principle)
    if config.strength == 0:
        return put_back_prompt(generate(**prompted), prompted["input_ids"], inputs["input_ids"])
    # A cache of the caller would be filled with the rows of both prompts.
    both, rows = without_cache(_stacked(vlm, prompted, inputs)), len(inputs["input_ids"])
    # The caller's processors come after it: the noise of a sampler must not be amplified, and
    # both halves must choose the same token.
    own = [partial(_on_first_half, each, rows) for each in inputs.get("logits_processor") or ()]
    both["logits_processor"] = [_Calibration(rows, config.strength), *own]
    both["stopping_criteria"] = [
        partial(_of_first_half, each, rows) for each in inputs.get("stopping_criteria") or ()
    ]
    both = allowed_in(both, [*range(rows), *range(rows)])
    if inputs.get("streamer") is not None:
        both["streamer"] = _FirstRows(inputs["streamer"], inputs["input_ids"])
    output = _first_rows(generate(**both), rows)
    return put_back_prompt(output, both["input_ids"], inputs["input_ids"])


class _Calibration:
    """A logits processor: the first half of the rows has the principle, the second does not."""

    def __init__(self, rows: int, strength: float) -> None:
        self.rows, self.strength = rows, strength

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        prompted, plain = scores[: self.rows], scores[self.rows :]
        return calibrated(prompted, plain, self.strength).repeat(2, 1)

    def for_rows(self, rows: Sequence[int]) -> NoReturn:
        """Refuse to be narrowed: a row without its pair cannot be calibrated."""
        raise InputError(
            "CoCA asks with two prompts at once, so no defense inside it can ask again about some "
            "of them. Name coca last, as in ecso+coca, or leave out one of the two."
        )


def _on_first_half(
    process: Callable[[Tensor, Tensor], Tensor], rows: int, input_ids: Tensor, scores: Tensor
) -> Tensor:
    """One of the caller's logits processors, which expects the caller's number of rows."""
    return process(input_ids[:rows], scores[:rows]).repeat(2, 1)


def _of_first_half(
    criterion: Callable[..., Any], rows: int, input_ids: Tensor, scores: Any, **more: Any
) -> Any:
    """One of the caller's stopping criteria, as for its processors; both halves end together."""
    own = tuple(step[:rows] for step in scores) if isinstance(scores, tuple) else scores
    over = criterion(input_ids[:rows], own, **more)
    return over.repeat(2) if isinstance(over, Tensor) else over


def _stacked(vlm: VLM, first: Inputs, second: Inputs) -> Inputs:
    """Join two batches with the same pictures into one, with the settings of the first."""
    if vlm.family.packed and first.get("pixel_values") is not None:
        raise InputError(
            f"CoCA asks with two prompts at once, but the pictures of {vlm.name!r} cannot be put "
            "into one batch twice. Use another defense."
        )
    rows = [*prompt_rows(vlm, first), *prompt_rows(vlm, second)]
    stacked = padded(vlm, first, rows)
    for name in prompt_of(vlm, first).keys() - rows[0].keys():
        # In every layout, pictures come in the order of the rows that show them.
        value = first[name]
        if isinstance(value, Tensor):
            stacked[name] = torch.cat([value, value])
        elif isinstance(value, list):
            stacked[name] = [*value, *value]
    return stacked


def _first_rows(output: Any, rows: int) -> Any:
    """The output of generate, reduced to the caller's rows."""
    if isinstance(output, Tensor):
        return output[:rows]
    output.sequences = sequences_of(output)[:rows]
    for name in ("scores", "logits"):
        steps = getattr(output, name, None)
        if steps is not None:
            setattr(output, name, tuple(step[:rows] for step in steps))
    for name in CACHES:
        if getattr(output, name, None) is not None:
            setattr(output, name, None)  # it holds the rows of both prompts
    return output


class _FirstRows(RowStreamer):
    """Sits between generate and the caller's streamer, which expects the caller's rows."""

    def __init__(self, streamer: Any, prompts: Tensor) -> None:
        self.streamer, self.prompts = streamer, prompts
        self.started = False

    def put(self, tokens: Tensor) -> None:
        """Pass on the caller's prompts first, then every token of the answers."""
        rows = len(self.prompts)
        self.streamer.put(tokens[:rows] if self.started else self.prompts.cpu())
        self.started = True

    def replace(self, row: int, tokens: Sequence[int]) -> None:
        """Pass on what another defense puts in the place of an answer."""
        self.streamer.replace(row, tokens)

    def end(self) -> None:
        """Signal the end of the answers."""
        self.streamer.end()
