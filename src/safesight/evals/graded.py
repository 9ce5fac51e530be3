"""A judge that asks a model: `graded:MODEL`, or `graded:RUBRIC=MODEL`.

The model is any that Inspect knows, such as `openai/gpt-4o`, `vllm/org/model` or
`safesight/testbed`; `graded:self` is the model under test. The rubrics are in `judges.rubrics`.

A grading that cannot be read, that the model refuses to give, that takes too long or that fails is
`invalid`: it counts as such and never as safe. The log keeps which of these it was.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import anyio
from inspect_ai.model import ChatMessageUser, GenerateConfig, Model, ModelOutput, get_model

from safesight.errors import InputError, UnknownNameError, reason_of
from safesight.judges.answers import opens_with_refusal
from safesight.judges.reading import wait_for
from safesight.judges.rubrics import BENIGN, REFERENCE, RUBRICS, Rubric, grades_in
from safesight.judges.scope import refusal_judge
from safesight.judges.spoken import spoken
from safesight.types import GRADED, Reading, Sample, Verdict

__all__ = ["GradedJudge"]

_log = logging.getLogger("safesight")

SELF = "self"
SECONDS = 300.0
"""How long one grading may take, waiting for a connection included."""
_MAX_TOKENS = 2048
_AT_ONCE = 32
"""Gradings that are asked for at a time. More would wait for a connection, until it is too late."""
_NEEDS_WEIGHTS = ("safesight", "hf", "vllm", "sglang", "llama-cpp-python", "mockllm")
"""Providers whose models are loaded when the first answer is graded, not before."""


class GradedJudge:
    """The verdict that follows from a model's grades.

    Args:
        model: A model of Inspect or "self", after "RUBRIC=" for another rubric than harmbench.

    Raises:
        InputError: there is no such model, or its provider cannot be used.
        UnknownNameError: there is no such rubric.

    Example:
        >>> judge = GradedJudge("strongreject=mockllm/model")
        >>> judge.name, judge.rubric
        ('graded:strongreject=mockllm/model', 'strongreject')
    """

    name = "graded"
    example = "graded:openai/gpt-4o"

    def __init__(self, model: str) -> None:
        self.name = f"graded:{model}"
        self.rubric, self.model = _rubric_and_model(model)
        self._refusals = refusal_judge()
        self.version = f"1-{self.rubric}+{self._refusals.name}-{self._refusals.version}"
        self._places = anyio.CapacityLimiter(_AT_ONCE)
        if self.model == SELF:
            _warn_of_self()
        elif self.model.partition("/")[0] not in _NEEDS_WEIGHTS:
            _model(self.model)

    def __call__(self, answer: str, sample: Sample) -> Verdict:
        """The verdict on one answer to one sample."""
        return wait_for(self.readings([(answer, sample)]))[0].verdict

    async def readings(self, pairs: Sequence[tuple[str, Sample]]) -> list[Reading]:
        """What the model's grades say of each answer; several are asked for at a time.

        Raises:
            InputError: the model cannot be used.
        """
        model = _model(self.model)
        found: dict[int, Reading] = {}

        async def read(index: int) -> None:
            async with self._places:
                found[index] = await self._reading(model, *pairs[index])

        async with anyio.create_task_group() as tasks:
            for index in range(len(pairs)):
                tasks.start_soon(read, index)
        return [found[index] for index in range(len(pairs))]

    def correct(self, answer: str, sample: Sample) -> bool:
        """Whether the answer names the target and is not a refusal."""
        return self._refusals.correct(answer, sample)

    def caveat(self, model: str, sample: Sample) -> str | None:
        """What a model's grades do not show."""
        if self.model == SELF:
            return f"The judge {self.name} is the model under test, which grades its own answers."
        return f"The judge {self.name} is a model, whose grades may be wrong; it sees no pictures."

    async def _reading(self, model: Model, answer: str, sample: Sample) -> Reading:
        first = self._refusals(answer, sample)
        if first == "invalid":
            return Reading("invalid")
        rubric = self._rubric_for(sample)
        try:
            output = await _grading(model, rubric.prompt(answer, sample))
        except _Failed as error:
            return Reading("invalid", {"failure": "error", "said": str(error)})
        if output is None:
            return Reading("invalid", {"failure": "timeout"})
        return _read(output, rubric, first)

    def _rubric_for(self, sample: Sample) -> Rubric:
        if sample.facts.get("answer") == GRADED:
            return REFERENCE
        return RUBRICS[self.rubric] if sample.label == "harmful" else BENIGN


class _Failed(Exception):
    """A model could not be asked; the message is one line."""


@contextmanager
def _asking() -> Iterator[None]:
    """Inside, every error becomes a `_Failed`: providers fail in their own ways."""
    try:
        yield
    except Exception as error:
        raise _Failed(f"{type(error).__name__}: {reason_of(error)}"[:200]) from error


async def _grading(model: Model, prompt: str) -> ModelOutput | None:
    """What the model writes; None if it takes too long."""
    config = GenerateConfig(temperature=0.0, max_tokens=_MAX_TOKENS)
    with anyio.move_on_after(SECONDS):
        with _asking():
            return await model.generate([ChatMessageUser(content=prompt)], config=config)
    return None


def _read(output: ModelOutput, rubric: Rubric, first: Verdict) -> Reading:
    text = spoken(output.completion)
    grades = grades_in(text, rubric)
    if output.stop_reason == "content_filter":
        return Reading("invalid", {"failure": "refused"})
    if grades is None:
        failure = "refused" if opens_with_refusal(text) else "unparsable"
        return Reading("invalid", {"failure": failure})
    found = rubric.verdict(grades, first)
    return Reading(found.verdict, {"grades": dict(grades), **found.details})


def _rubric_and_model(text: str) -> tuple[str, str]:
    rubric, mark, model = text.partition("=")
    if not mark or not re.fullmatch(r"\w+", rubric):
        rubric, model = next(iter(RUBRICS)), text
    if rubric not in RUBRICS:
        raise UnknownNameError("rubric", rubric, RUBRICS)
    if model != SELF and not re.fullmatch(r"[\w.-]+/.+", model):
        raise InputError(
            f"The judge 'graded:{text}' names no model of Inspect. Write PROVIDER/MODEL, as in "
            f"{GradedJudge.example}, or self."
        )
    return rubric, model


def _model(name: str) -> Model:
    """The model with this name.

    Raises:
        InputError: it cannot be used, or "self" was asked for where no model is under test.
    """
    if name == SELF:
        return _under_test()
    try:
        with _asking():
            return get_model(name)
    except _Failed as error:
        raise InputError(
            f"The model {name!r} cannot be asked to grade ({error}). Check its name, and the "
            "package and the key of its provider."
        ) from error


def _under_test() -> Model:
    with suppress(ValueError):  # no model is active
        active = get_model()
        if not str(active).startswith("none/"):
            return active
    raise InputError(
        "graded:self grades while the model under test answers, so saved answers cannot be graded "
        "by it. Name the model: graded:safesight/MODEL."
    )


@cache
def _warn_of_self() -> Any:
    _log.warning("The model under test grades its own answers: read its scores with care.")
