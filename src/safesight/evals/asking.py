"""Solvers that ask a sample: its conversation, and each of its tries in turn.

A picture is rendered when its sample starts, added to the conversation as a PNG, and dropped with
the sample. If a sample has several shots, each is asked alone, but it remains one sample: its
output has one choice per shot. All of them are asked, also after one that succeeded, so that
success can be counted after any number of tries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Content,
    ContentImage,
    ContentText,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver

from safesight.errors import InputError, SafesightError
from safesight.evals.messages import data_uri
from safesight.evals.session import failed
from safesight.types import Message, Sample

__all__ = ["asking", "conversation", "decisions_on", "seed_of", "shooting", "unreadable"]

_DECISIONS, _OF_SHOTS = "decisions", "shot_decisions"
"""In the metadata of an output: what the detectors decided, about the first shot and about each."""


def asking(samples: Mapping[str, Sample]) -> Solver:
    """A solver that sets a sample's conversation, with the pictures rendered on the spot."""

    # No arguments: Inspect would copy them into the log and the task's identity.
    @solver
    def ask() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            try:
                state.messages = conversation(samples[str(state.sample_id)].tries()[0])
            except SafesightError as error:
                failed(error)
                raise
            return state

        return solve

    return ask()


def shooting(samples: Mapping[str, Sample], seed: int | None = None) -> Solver:
    """A solver that asks the shots of a sample one after the other.

    They need not run concurrently: shots of other samples fill the batches.

    Args:
        samples: The samples by id.
        seed: Seed of the answers if they are sampled; each shot gets one of its own.
    """

    @solver
    def shoot() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            sample = samples[str(state.sample_id)]
            outputs: list[ModelOutput] = []
            for shot, each in enumerate(sample.tries()):
                if shot:
                    state.messages = conversation(each)
                own = None if seed is None else seed_of(seed, sample.id, shot)
                state = await generate(state, seed=own)
                outputs.append(state.output)
            if len(outputs) > 1:
                state.output = _together(outputs)
            return state

        return solve

    return shoot()


def seed_of(seed: int, sample_id: str, shot: int) -> int:
    """The seed of one answer, which no other sample or shot changes.

    Example:
        >>> seed_of(0, "a", 0) == seed_of(0, "a", 0), seed_of(0, "a", 0) == seed_of(0, "a", 1)
        (True, False)
    """
    digest = hashlib.sha256(repr((seed, sample_id, shot)).encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1  # engines take 31 bits


def _together(outputs: Sequence[ModelOutput]) -> ModelOutput:
    """One output with one choice per shot, and the token counts of all of them."""
    usages = [output.usage for output in outputs if output.usage is not None]
    total = {
        name: sum(getattr(usage, name) for usage in usages)
        for name in ("input_tokens", "output_tokens", "total_tokens")
    }
    first = outputs[0].metadata
    decided = [(output.metadata or {}).get(_DECISIONS) for output in outputs]
    return outputs[0].model_copy(
        update={
            "choices": [choice for output in outputs for choice in output.choices[:1]],
            "usage": ModelUsage(**total) if usages else None,
            "metadata": {**(first or {}), _OF_SHOTS: decided} if any(decided) else first,
        }
    )


def decisions_on(metadata: Mapping[str, Any] | None, shot: int, shots: int) -> Any:
    """What the detectors decided about a shot, as a log has it; None if it does not say.

    Logs of older versions know it of samples with a single shot alone.
    """
    found = metadata or {}
    if shots == 1:
        return found.get(_DECISIONS)
    each = found.get(_OF_SHOTS)
    return each[shot] if isinstance(each, list) and shot < len(each) else None


def conversation(sample: Sample) -> list[ChatMessage]:
    """What a sample without further shots asks, as Inspect's messages.

    Raises:
        InputError: a picture cannot be read.
    """
    turns: list[ChatMessage] = []
    for turn in _rendered(sample):
        if turn["role"] == "system":  # as text, which is how logs show it
            turns.append(ChatMessageSystem(content=turn["content"][0]["text"], source="input"))
        elif turn["role"] == "user":
            turns.append(ChatMessageUser(content=_parts(turn), source="input"))
        else:
            turns.append(ChatMessageAssistant(content=_parts(turn), source="input"))
    if sample.prefill is not None:
        turns[-1] = ChatMessageAssistant(content=sample.prefill, source="input")
    return turns


def _rendered(sample: Sample) -> list[Message]:
    try:
        return sample.messages()
    except OSError as error:
        raise unreadable(sample, error) from error


def _parts(turn: Message) -> list[Content]:
    return [
        ContentText(text=part["text"])
        if part["type"] == "text"
        else ContentImage(image=data_uri(part["image"]))
        for part in turn["content"]
    ]


def unreadable(sample: Sample, error: OSError) -> InputError:
    """The error for a sample with a picture that cannot be read."""
    return InputError(
        f"The picture of sample {sample.id!r} cannot be read ({error}). "
        "Replace it, or leave the sample out."
    )
