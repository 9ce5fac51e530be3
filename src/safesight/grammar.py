"""How several names are combined into one.

    arm  = defense ["~" stress test] { "+" defense ["~" stress test] }
    task = benchmark { "+" attack }

An arm is "safety_prompt+npo~int4", for example; a task is "image_harm+one_word+prefill". The
undefended model is the arm "none". This file only splits and joins names; `registry` knows what
each of them stands for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from safesight import registry
from safesight.errors import InputError

__all__ = ["UNDEFENDED", "ArmPart", "arm_of", "arm_parts", "check_arm", "check_task", "task_parts"]

UNDEFENDED = "none"
"""The arm without a defense."""


class ArmPart(NamedTuple):
    """A defense in an arm, and the stress test applied to its weights, if any."""

    defense: str
    stress: str | None = None


def arm_parts(arm: str) -> list[ArmPart]:
    """The defenses of an arm, in the order in which they are attached.

    Example:
        >>> [tuple(part) for part in arm_parts("safety_prompt+npo~int4")]
        [('safety_prompt', None), ('npo', 'int4')]
    """
    pairs = (part.strip().partition("~") for part in arm.split("+"))
    return [ArmPart(defense, stress if mark else None) for defense, mark, stress in pairs]


def arm_of(parts: Iterable[ArmPart]) -> str:
    """The name of an arm; a repeated defense is named once.

    Example:
        >>> arm_of([ArmPart("probe"), ArmPart("npo", "int4"), ArmPart("probe")])
        'probe+npo~int4'
    """
    names = (f"{defense}~{stress}" if stress else defense for defense, stress in parts)
    return "+".join(dict.fromkeys(names))


def task_parts(task: str) -> tuple[str, tuple[str, ...]]:
    """The benchmark of a task and the attacks on it, in the order in which they are applied.

    Example:
        >>> task_parts("vqa+prefill"), task_parts("vqa")
        (('vqa', ('prefill',)), ('vqa', ()))
    """
    benchmark, *attacks = (part.strip() for part in task.split("+"))
    return benchmark, tuple(attacks)


def check_arm(arm: str) -> None:
    """Refuse an arm that cannot be built on any model.

    Raises:
        UnknownNameError: no such defense or stress test; the message suggests the nearest one.
        InputError: a defense is repeated.
    """
    parts = arm_parts(arm)
    for defense, stress in parts:
        registry.describe("defense", defense)
        if stress is not None:
            registry.describe("stress_test", stress)
    names = [part.defense for part in parts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"The arm {arm!r} has {twice[0]} twice. Name each defense once.")


def check_task(task: str) -> None:
    """Refuse a task that contains an unknown name.

    Raises:
        UnknownNameError: no such benchmark or attack; the message suggests the nearest one.
    """
    benchmark, attacks = task_parts(task)
    registry.describe("benchmark", benchmark)
    for attack in attacks:
        registry.describe("attack", attack)
