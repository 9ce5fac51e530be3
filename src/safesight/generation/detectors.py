"""Detectors inside a generation: judge its own prefill and end the refused rows.

The prefill runs once, as generate's own first forward pass. Rows judged safe continue from the
cache of that pass and are not touched in any way. Refused rows end after it, and their answer is
replaced by the refusal. If a detector fails, every row is refused; if generate does not ask the
detectors, nothing comes out. How a detector decides is not known here; `answers` writes refusals
into a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from safesight.errors import ModelError
from safesight.generation.answers import (
    refusal_tokens,
    replace_answers,
    sequences_of,
    stream_out,
    with_sequences,
)
from safesight.generation.calls import (
    check_supported,
    run_prefill,
    setting,
    short_answer,
    undefended,
)
from safesight.generation.prefill import Decision, Detector, Prefill, watch, watched_by
from safesight.generation.row_streams import RowStreamer

if TYPE_CHECKING:
    from safesight.generation.call_types import Generate, Inputs
    from safesight.models import VLM

__all__ = ["NotJudgedError", "Outcome", "check_judged", "generate_after", "generate_guarded"]

_log = logging.getLogger("safesight")


class NotJudgedError(ModelError):
    """The model's `generate` passed the detectors by, so it cannot be defended by one."""

    def __init__(self, vlm: VLM) -> None:
        super().__init__(
            f"generate of {vlm.name!r} did not run its logits processors, through which detectors "
            "judge a prompt, so no answer is returned. Use a defense that is not a detector."
        )


@dataclass(frozen=True)
class Outcome:
    """The decisions on one batch."""

    decisions: Mapping[str, Decision]
    """By detector name, in the order they ran."""
    refused: Tensor
    """B, bool: whether any detector refused the row."""


def generate_guarded(
    generate: Generate, vlm: VLM, detectors: Mapping[str, Detector], inputs: Inputs
) -> tuple[Any, Outcome]:
    """Run generate once, with every detector judging its prefill.

    Returns:
        The output of generate with the answers of refused rows replaced, and the decisions.
        Scores, logits and caches in a returned dict remain those of the model's own steps.

    Raises:
        InputError: a decoding mode in which the prefill cannot be judged.
        NotJudgedError: generate did not ask the detectors.
    """
    check_supported(vlm, inputs)
    guard = _Guard(vlm, detectors, inputs)
    with guard.watching:
        output = generate(**guard.added_to(inputs))
    outcome = guard.decided
    answers = _answers(vlm, detectors, outcome, inputs)
    return replace_answers(vlm, inputs, output, guard.prompt_length, answers), outcome


def generate_after(
    generate: Generate, vlm: VLM, detectors: Mapping[str, Detector], inputs: Inputs
) -> tuple[Any, Outcome]:
    """Judge an unedited prefill first, then run generate, whose own prefill is edited.

    If every row is refused, generate does not run at all.

    Raises:
        InputError: a decoding mode in which the prefill cannot be judged.
    """
    check_supported(vlm, inputs)
    sites, replay_from = watched_by(detectors.values())
    output, prefill = run_prefill(vlm, inputs, sites, replay_from)
    rows = len(sequences_of(output))
    with torch.no_grad():
        outcome = _decide(detectors, prefill, rows)
    del prefill  # free its memory before the answer is written
    prompt_length = sequences_of(output).shape[1] - 1
    rowwise = isinstance(inputs.get("streamer"), RowStreamer)
    if rowwise:
        _tell(inputs["streamer"], outcome, _answers(vlm, detectors, outcome, inputs))
    if bool(outcome.refused.all()):
        copies = setting(vlm, inputs, "num_return_sequences") or 1
        output = with_sequences(output, sequences_of(output).repeat_interleave(copies, dim=0))
    else:
        output = generate(**inputs)
        copies = len(sequences_of(output)) // rows
    refused = outcome.refused.repeat_interleave(copies)
    outcome = Outcome(_repeated(outcome.decisions, copies), refused)
    answers = _answers(vlm, detectors, outcome, inputs)
    streamer = inputs.get("streamer")
    if streamer is not None and not rowwise and 0 in answers:
        stream_out(streamer, inputs, answers[0])
    return replace_answers(vlm, inputs, output, prompt_length, answers), outcome


def check_judged(vlm: VLM, inputs: Inputs) -> None:
    """Answer a prompt with one token, to see whether detectors can act on this model at all.

    Raises:
        NotJudgedError: its generate would pass them by.
    """
    generate_guarded(undefended(vlm), vlm, {}, {**inputs, **short_answer(vlm, 1)})


class _Guard:
    """One generation under detectors: the hooks, the decisions, and the rows that stop."""

    def __init__(self, vlm: VLM, detectors: Mapping[str, Detector], inputs: Inputs) -> None:
        self.vlm, self.detectors, self.inputs = vlm, detectors, inputs
        self.outcome: Outcome | None = None
        tokens = inputs.get("input_ids")
        self.prompt_length = 0 if tokens is None else tokens.shape[1]
        self.finished: Tensor | None = None
        self.watching = ExitStack()
        sites, replay_from = watched_by(detectors.values())
        mask = inputs.get("attention_mask")
        self.prefill: Prefill | None = self.watching.enter_context(
            watch(vlm, sites, replay_from, mask)
        )

    def added_to(self, inputs: Inputs) -> Inputs:
        """The inputs, changed so that generate asks this guard after its prefill."""
        added: Inputs = {
            "logits_processor": [*(inputs.get("logits_processor") or ()), _Judge(self)],
            "stopping_criteria": [*(inputs.get("stopping_criteria") or ()), self.stop],
        }
        if (streamer := inputs.get("streamer")) is not None:
            kind = _RowStream if isinstance(streamer, RowStreamer) else _Stream
            added["streamer"] = kind(streamer, self)
        return {**inputs, **added}

    def judge(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Called at every step; decides once, after the prefill. Never changes a score."""
        if self.prefill is not None:
            # Free the prefill's memory before the answer is written.
            prefill, self.prefill = self.prefill, None
            self.watching.close()
            self.prompt_length = input_ids.shape[1]
            self.outcome = _decide(self.detectors, prefill, len(input_ids))
            self.finished = self.outcome.refused.to(input_ids.device)
        return scores

    def stop(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """A stopping criterion: refused rows are finished."""
        if self.finished is None:
            raise NotJudgedError(self.vlm)
        return self.finished

    @property
    def decided(self) -> Outcome:
        """The decisions; without any, no token of an answer may leave."""
        if self.outcome is None:
            raise NotJudgedError(self.vlm)
        return self.outcome


class _Judge:
    """The guard as a logits processor.

    An object with `__call__` instead of a bound method: generate inspects the signature at
    every step, which takes 0.4 ms for a bound method and almost nothing for this.
    """

    def __init__(self, guard: _Guard) -> None:
        self.guard = guard

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores, unchanged."""
        return self.guard.judge(input_ids, scores)


class _Stream:
    """Wraps the user's streamer (one row) and streams the refusal."""

    def __init__(self, streamer: Any, guard: _Guard) -> None:
        self.streamer, self.guard = streamer, guard
        self.begun = self.refused = False

    def put(self, tokens: Tensor) -> None:
        """Pass on the prompt, then each answer token, or the refusal instead."""
        guard = self.guard
        if not self.begun:
            self.begun = True
            self.streamer.put(tokens)
        elif not bool(guard.decided.refused.any()):
            self.streamer.put(tokens)
        elif not self.refused:
            self.refused = True
            for token in _answers(guard.vlm, guard.detectors, guard.decided, guard.inputs)[0]:
                self.streamer.put(torch.tensor([token]))

    def end(self) -> None:
        """End the stream."""
        self.streamer.end()


class _RowStream(RowStreamer):
    """Wraps a streamer of a batch: refusals first, then the answers of the other rows."""

    def __init__(self, streamer: RowStreamer, guard: _Guard) -> None:
        self.streamer, self.guard = streamer, guard
        self.begun = self.told = False

    def put(self, tokens: Tensor) -> None:
        """Pass on the prompts; the decisions and the refusals; then token after token."""
        if self.begun and not self.told:
            self.told = True
            guard = self.guard
            answers = _answers(guard.vlm, guard.detectors, guard.decided, guard.inputs)
            _tell(self.streamer, guard.decided, answers)
        self.begun = True
        self.streamer.put(tokens)

    def replace(self, row: int, tokens: Sequence[int]) -> None:
        """Pass on what another defense puts in the place of an answer."""
        self.streamer.replace(row, tokens)

    def end(self) -> None:
        """End the stream."""
        self.streamer.end()


def _tell(streamer: RowStreamer, outcome: Outcome, answers: Mapping[int, Sequence[int]]) -> None:
    streamer.judged(outcome.decisions)
    for row, tokens in answers.items():
        streamer.replace(row, tokens)


def _decide(detectors: Mapping[str, Detector], prefill: Prefill, rows: int) -> Outcome:
    decisions = {name: _ask(name, item, prefill, rows) for name, item in detectors.items()}
    refused = torch.zeros(rows, dtype=torch.bool)
    for decision in decisions.values():
        refused |= decision.refuse
    return Outcome(decisions, refused)


def _ask(name: str, detector: Detector, prefill: Prefill, rows: int) -> Decision:
    """The detector's decision; rows without a valid decision are refused."""
    try:
        decision = detector.judge(prefill)
        scores, refuse = decision.scores.float().cpu(), decision.refuse.cpu()
        if scores.shape != (rows,) or refuse.shape != (rows,) or refuse.dtype != torch.bool:
            raise ValueError(f"scores of shape {tuple(scores.shape)} for {rows} rows")
    # Whatever a detector raises, the undefended answer must not come out.
    except Exception as error:
        if rows > 1 and isinstance(error, torch.OutOfMemoryError):
            raise  # a smaller batch may fit, and nothing has been answered yet
        _log.exception("The detector %r could not run: every row is refused", name)
        return _all_refused(rows, f"{type(error).__name__}: {error}")
    unsound = ~scores.isfinite()
    if bool(unsound.any()):
        _log.error("The detector %r returned %d non-finite scores", name, int(unsound.sum()))
    return replace(decision, scores=scores, refuse=refuse | unsound)


def _all_refused(rows: int, error: str) -> Decision:
    refuse = torch.ones(rows, dtype=torch.bool)
    return Decision(torch.full((rows,), torch.nan), refuse, error=error)


def _repeated(decisions: Mapping[str, Decision], copies: int) -> dict[str, Decision]:
    """Each decision repeated for all answers to the same prompt."""
    return {
        name: replace(
            decision,
            scores=decision.scores.repeat_interleave(copies),
            refuse=decision.refuse.repeat_interleave(copies),
        )
        for name, decision in decisions.items()
    }


def _answers(
    vlm: VLM, detectors: Mapping[str, Detector], outcome: Outcome, inputs: Inputs
) -> dict[int, list[int]]:
    """Refusal tokens by row, in the words of the first detector that refused the row."""
    answers: dict[int, list[int]] = {}
    for name, decision in outcome.decisions.items():
        tokens = refusal_tokens(vlm, inputs, detectors[name].refusal)
        for row in decision.refuse.nonzero().flatten().tolist():
            answers.setdefault(row, tokens)
    return answers
