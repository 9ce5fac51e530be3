"""The sets of a transfer matrix: tasks of harmful requests with benign twins, and own files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safesight.analysis.transfer import TransferSet
from safesight.errors import InputError
from safesight.grammar import task_parts
from safesight.types import Sample
from safesight.workflows.artifacts import split_of

__all__ = ["ATTACKS", "NEGATIVES", "SetPlan", "transfer_sets"]

ATTACKS = ("text_harm", "image_harm", "typographic_harm")
"""The kinds of attack in the bundled world."""
NEGATIVES = ("over_refusal",)
"""Their benign twins: the same words and pictures of the same kind, about another thing."""


@dataclass(frozen=True)
class SetPlan:
    """How many prompts of what a set has."""

    n: int = 100
    """Prompts of each label to fit on, and to test on."""
    calibration: int = 400
    """Benign prompts for the threshold."""
    negatives: Sequence[str] = NEGATIVES
    """Tasks of benign prompts, for tasks that have none of their own."""
    seed: int = 0


def transfer_sets(tasks: Sequence[str], plan: SetPlan) -> list[TransferSet]:
    """One set per task.

    Benign prompts are a task's own or, if it has none, those of the negatives under the same
    attack: a detector that tells pictures from words would otherwise look like one of harm.

    Args:
        tasks: At least two registered tasks with splits, or files that were registered.
        plan: How many prompts.

    Raises:
        InputError: there are fewer than two tasks, a task has no splits, or lacks a label.
    """
    if len(tasks) < 2:
        raise InputError(
            "A transfer matrix needs at least two sets. Name tasks with --tasks, or files with "
            "--data."
        )
    return [_set(task, plan) for task in tasks]


def _set(task: str, plan: SetPlan) -> TransferSet:
    fit, test = (_both(task, split, plan) for split in ("fit", "test"))
    benign = _benign(task, _drawn(task, "calibration", plan.calibration, plan), "calibration", plan)
    return TransferSet(task, fit, benign[: plan.calibration], test)


def _both(task: str, split: str, plan: SetPlan) -> list[Sample]:
    """As many samples of each label."""
    drawn = _drawn(task, split, plan.n, plan)
    harmful = [sample for sample in drawn if sample.label == "harmful"]
    if not harmful:
        raise InputError(f"The {split} split of {task} has no harmful samples. Choose another one.")
    return [*harmful[: plan.n], *_benign(task, drawn, split, plan)[: plan.n]]


def _drawn(task: str, split: str, n: int, plan: SetPlan) -> list[Sample]:
    return split_of(task, 2 * n, plan.seed, split)


def _benign(task: str, drawn: Sequence[Sample], split: str, plan: SetPlan) -> list[Sample]:
    """The benign samples of a draw or, if it has none, negatives that look alike."""
    own = [sample for sample in drawn if sample.label == "benign"]
    if own:
        return own
    attacks = task_parts(task)[1]
    # Three kinds of twins in turn, of which one is like this task.
    wanted = 3 * max(plan.n, plan.calibration)
    found = [
        sample
        for name in plan.negatives
        for sample in split_of("+".join([name, *attacks]), wanted, plan.seed, split)
        if sample.label == "benign"
    ]
    kinds = {sample.attack for sample in drawn}
    alike = [sample for sample in found if sample.attack in kinds] or found
    if not alike:
        raise InputError(
            f"{task} has no benign samples, and {' and '.join(plan.negatives) or 'no task'} has "
            "none for it. Name tasks of benign samples with --negatives."
        )
    return alike
