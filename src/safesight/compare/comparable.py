"""Whether answers can be compared: one model in one version, one judge a task, the same samples.

What cannot be compared is refused with the reason, before anything is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from safesight.errors import InputError
from safesight.types import Label

if TYPE_CHECKING:
    from safesight.evals import Answer

__all__ = ["Cell", "cells_of", "model_of", "refuse_mixed", "shared"]

Cell = dict[str, "Answer"]
"""The answers of one arm to one task, by sample."""


def model_of(answers: Sequence[Answer]) -> str:
    """The model that gave all answers, in a single version.

    Raises:
        InputError: there are no answers, or they come from two models or versions of one.
    """
    if not answers:
        raise InputError("There are no answers to compare. Run `safesight eval` first.")
    models = sorted({answer.model for answer in answers})
    if len(models) > 1:
        raise InputError(
            f"The answers come from {len(models)} models ({', '.join(models)}), but a "
            "scorecard covers one. Keep each model's logs in a separate folder."
        )
    versions: dict[str, dict[str, None]] = defaultdict(dict)
    for answer in answers:
        if identity := answer.metadata.get("model_identity"):
            versions[str(identity)][answer.defense] = None
    if len(versions) > 1:
        found = ", then ".join(f"{v[:12]} ({', '.join(arms)})" for v, arms in versions.items())
        raise InputError(
            f"The answers come from {len(versions)} versions of {models[0]!r}, which differ in "
            f"weights, config or dtype: {found}. They cannot be compared: remove the older logs, "
            "or use another --log-dir for each version."
        )
    return models[0]


def refuse_mixed(answers: Sequence[Answer]) -> None:
    """Refuse answers of which some were given or judged otherwise than the rest.

    Raises:
        InputError: an arm has two artifacts, settings or versions, or a task has two judges.
    """
    _refuse_two_fits(answers)
    _refuse_two_judges(answers)


def _refuse_two_fits(answers: Sequence[Answer]) -> None:
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for answer in answers:
        if identity := answer.metadata.get("identity"):
            found[answer.defense][str(identity)].add(answer.task)
    for defense, fits in found.items():
        if len(fits) > 1:
            told = ", then ".join(
                f"{identity[:8]} ({', '.join(sorted(tasks))})" for identity, tasks in fits.items()
            )
            raise InputError(
                f"The answers of {defense!r} come from {len(fits)} fits, settings or versions of "
                f"safesight: {told}. They are not one arm: ask all tasks with the same --artifact, "
                "or use another --log-dir."
            )


def shared(answers: Sequence[Answer], setting: str, verb: str, nouns: str) -> float:
    """The value of a setting of decoding, which all answers share; 0 if none was said.

    Args:
        answers: The answers, each with its settings in `metadata`.
        setting: The setting's name there.
        verb: What the setting did to an answer, for the error.
        nouns: The name of several values, for the error.

    Raises:
        InputError: answers differ in the setting.
    """
    found: dict[float, dict[str, None]] = defaultdict(dict)
    for answer in answers:
        found[float(answer.metadata.get(setting) or 0)][answer.defense] = None
    if len(found) > 1:
        told = ", ".join(f"{value:g} ({', '.join(arms)})" for value, arms in sorted(found.items()))
        raise InputError(
            f"The answers were {verb} {len(found)} {nouns}: {told}. They cannot be compared: use "
            "another --log-dir for each."
        )
    return next(iter(found))


def _refuse_two_judges(answers: Sequence[Answer]) -> None:
    judges: dict[str, set[str]] = defaultdict(set)
    for answer in answers:
        judges[answer.task].add(answer.judge)
    for task, found in judges.items():
        if len(found) > 1:
            raise InputError(
                f"Answers to {task!r} were judged by {' and '.join(sorted(found))}, which cannot "
                "be compared. Judge all answers by one: safesight judge LOGDIR --judge NAME, then "
                "safesight compare LOGDIR --judge NAME."
            )


def cells_of(answers: Iterable[Answer]) -> dict[tuple[str, str], Cell]:
    """The answers by defense and task, then by sample.

    Raises:
        InputError: a sample was answered twice by one defense, or two were asked different things
            under its id.
    """
    cells: dict[tuple[str, str], Cell] = defaultdict(dict)
    asked: dict[tuple[str, str], Answer] = {}
    for answer in answers:
        other = asked.setdefault((answer.task, answer.sample_id), answer)
        if _asked(other) != _asked(answer):
            raise InputError(
                f"{other.defense} and {answer.defense} were asked different versions of "
                f"{answer.sample_id!r} in the task {answer.task!r}, so they cannot be compared. "
                "Use another --log-dir for each version of the samples."
            )
        cell = cells[answer.defense, answer.task]
        if answer.sample_id in cell:
            raise InputError(
                f"Sample {answer.sample_id!r} of task {answer.task!r} was answered twice by "
                f"defense {answer.defense!r}. Keep the logs of one run in one folder."
            )
        cell[answer.sample_id] = answer
    return dict(cells)


def _asked(answer: Answer) -> tuple[str, Label, str]:
    return answer.question, answer.label, answer.target
