"""How several names are combined into one.

    arm    = defense ["~" stress test] { "+" defense ["~" stress test] }
    task   = benchmark { "+" attack }
    attack = name { ":" setting "=" number }
    judge  = name [":" argument]

An arm is "safety_prompt+npo~int4", for example; a task is "image_harm+one_word+prefill" or
"image_harm+best_of_n:shots=64"; a judge is "graded:openai/gpt-4o". The undefended model is the arm
"none", and stands alone. Spaces around a name do not count. This file splits and joins names and
checks that they go together; `registry` knows what they stand for.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from safesight import registry
from safesight.errors import InputError
from safesight.guests import checked_judge
from safesight.types import Judge, Sample

__all__ = [
    "ANY_MODEL",
    "BUNDLED",
    "POOLED",
    "UNDEFENDED",
    "ArmPart",
    "AttackPart",
    "arm_of",
    "arm_parts",
    "attack_name",
    "attack_parts",
    "check_arm",
    "check_task",
    "close_up",
    "judge_of_model",
    "judge_parts",
    "load_attack",
    "load_judge",
    "task_parts",
]

UNDEFENDED = "none"
"""The arm without a defense."""
POOLED = "all"
"""What stands in the place of a task for the rates over all tasks."""


def close_up(name: str) -> str:
    """An arm or a task without spaces around its parts, as logs and scorecards know it.

    Example:
        >>> close_up(" safety_prompt + npo ~ int4")
        'safety_prompt+npo~int4'
    """
    return re.sub(r"\s*([+~])\s*", r"\1", name.strip())


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
    pairs = (part.partition("~") for part in close_up(arm).split("+"))
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
        >>> task_parts("vqa+prefill+repeat:shots=2"), task_parts("vqa")
        (('vqa', ('prefill', 'repeat:shots=2')), ('vqa', ()))
    """
    benchmark, *attacks = (part.strip() for part in task.split("+"))
    return benchmark, tuple(attacks)


class AttackPart(NamedTuple):
    """An attack in a task, and its settings as they are written."""

    name: str
    settings: dict[str, str]


def attack_name(attack: str) -> str:
    """The registered name of an attack, without its settings, whatever these are.

    Example:
        >>> attack_name("best_of_n:shots=4")
        'best_of_n'
    """
    return attack.partition(":")[0].strip()


def attack_parts(attack: str) -> AttackPart:
    """The registered name of an attack, and its settings.

    Raises:
        InputError: a setting does not have the form NAME=NUMBER, or is repeated.

    Example:
        >>> tuple(attack_parts("best_of_n:shots=4:strength=0.2"))
        ('best_of_n', {'shots': '4', 'strength': '0.2'})
    """
    texts = [part.strip() for part in attack.split(":")[1:]]
    settings: dict[str, str] = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value):
            raise InputError(
                f"The attack {attack!r} has the setting {text!r}. Write it like "
                "best_of_n:shots=64, and more of them with further colons."
            )
        if key in settings:
            raise InputError(f"The attack {attack!r} sets {key!r} twice. Set it once.")
        settings[key] = value
    return AttackPart(attack_name(attack), settings)


def load_attack(attack: str) -> tuple[Callable[[Sample], Sample], dict[str, float]]:
    """The attack that a name stands for, and the settings in the name as numbers.

    A name sets numbers only; texts and pictures are set from Python.

    Args:
        attack: A registered name, or a name with settings, such as "best_of_n:shots=64".

    Raises:
        UnknownNameError: no such attack; the message suggests the nearest one.
        PluginError: another package adds the attack, and it cannot be used.
        InputError: it has no such setting, the value is no such number, or it needs more than that.

    Example:
        >>> load_attack("repeat:shots=2")
        (Repeat(shots=2), {'shots': 2})
    """
    name, settings = attack_parts(attack)
    made_by: Callable[..., Callable[[Sample], Sample]] = registry.load("attack", name)
    known = _numbers_of(made_by) if settings else {}
    given: dict[str, float] = {}
    for key, text in settings.items():
        if key not in known:
            told = f"It can set {', '.join(known)}" if known else "It can set none"
            raise InputError(f"A task cannot set {key!r} of the attack {name!r}. {told}.")
        given[key] = _number(known[key], key, text, name)
    try:
        return made_by(**given), given
    except TypeError as error:
        raise InputError(
            f"The attack {name!r} needs arguments ({_needed(made_by) or error}), so it cannot be "
            "part of a task name. Apply it to the samples from Python."
        ) from error


_NUMBERS: dict[str, type[int] | type[float]] = {"int": int, "float": float}
_MOST = 1_000_000
"""The largest number in a name; more tries or pixels would run for days without a word."""


def _needed(made_by: Callable[..., Any]) -> str:
    """The arguments that an attack cannot be made without, by name."""
    found = inspect.signature(made_by).parameters.items()
    return ", ".join(name for name, each in found if each.default is inspect.Parameter.empty)


def _numbers_of(made_by: Callable[..., Any]) -> dict[str, type[int] | type[float]]:
    """The settings of an attack that are numbers, or numbers or None."""
    found = {}
    for name, parameter in inspect.signature(made_by).parameters.items():
        hint = parameter.annotation
        words = hint.__name__ if isinstance(hint, type) else str(hint)
        kinds = {word.strip() for word in words.split("|")} - {"None"}
        if len(kinds) == 1 and (kind := _NUMBERS.get(kinds.pop())):
            found[name] = kind
    return found


def _number(kind: type[int] | type[float], key: str, text: str, attack: str) -> float:
    try:
        value = kind(text)
        if not (math.isfinite(value) and abs(value) <= _MOST):
            raise ValueError
    except ValueError:
        wanted = "whole number" if kind is int else "number"
        raise InputError(
            f"{key}={text} of the attack {attack!r} is not a {wanted} up to {_MOST}. Write it like "
            "best_of_n:shots=64."
        ) from None
    return value


def check_arm(arm: str) -> None:
    """Refuse an arm that cannot be built on any model.

    Raises:
        UnknownNameError: no such defense or stress test; the message suggests the nearest one.
        PluginError: another package adds one of the names, and it cannot be used.
        InputError: a name is missing or repeated, or two of them do not go together.
    """
    _check_whole("arm", arm, "+~")
    parts = arm_parts(arm)
    for defense, stress in parts:
        registry.check("defense", defense)
        if stress is not None:
            registry.check("stress_test", stress)
    names = [part.defense for part in parts]
    _check_once("arm", arm, names)
    if len(parts) > 1 and UNDEFENDED in names:
        raise InputError(
            f"The arm {arm!r} joins {UNDEFENDED!r}, the model without a defense, to others. "
            f"Leave {UNDEFENDED!r} out."
        )
    if len(parts) > 1 or parts[0].stress is not None:
        _check_weights(arm, parts)


def _check_weights(arm: str, parts: list[ArmPart]) -> None:
    """At most one defense may change the weights, and only that one can be put under stress."""
    tuned = [name for name, _ in parts if registry.load("defense", name).kind == "weights"]
    for defense, stress in parts:
        if stress is not None and defense not in tuned:
            raise InputError(
                f"{defense} does not change weights, so {stress!r} cannot be applied to it. Use "
                "it with a defense that does, such as npo."
            )
    if len(tuned) > 1:
        raise InputError(
            f"The arm {arm!r} cannot run: {tuned[0]} and {tuned[1]} both change the weights. "
            "Name one of them, or merge the first into a checkpoint and fit the second on that."
        )


def check_task(task: str) -> None:
    """Refuse a task that cannot be built.

    Raises:
        UnknownNameError: no such benchmark or attack; the message suggests the nearest one.
        PluginError: another package adds one of the names, and it cannot be used.
        InputError: a name is missing, an attack is repeated, or a setting cannot be used.
    """
    _check_whole("task", task, "+")
    benchmark, attacks = task_parts(task)
    registry.check("benchmark", benchmark)
    for attack in attacks:
        name, settings = attack_parts(attack)
        registry.check("attack", name)
        if settings:
            load_attack(attack)
    _check_once("task", task, map(attack_name, attacks))


def judge_parts(judge: str) -> tuple[str, str | None]:
    """The registered name of a judge and its argument, or None without one.

    Example:
        >>> judge_parts("graded:vllm/org/model:latest"), judge_parts("exact")
        (('graded', 'vllm/org/model:latest'), ('exact', None))
    """
    name, mark, argument = (part.strip() for part in judge.partition(":"))
    return name, argument if mark else None


ANY_MODEL = "rules"
"""The judge that needs to know nothing about the model or the task. Others, which know only harm,
rest on it for what is refused and what cannot be judged."""


BUNDLED = "testbed"
"""The model whose world the exact judge knows."""


def judge_of_model(model: str, chosen: str | None = None) -> Judge:
    """The judge of a model's answers to the bundled world's requests.

    Args:
        model: The model under test, by name.
        chosen: A registered judge; None for `exact` if the model is the bundled one, whose wording
            is known, and for `rules` if it is any other.

    Raises:
        UnknownNameError: there is no such judge.

    Example:
        >>> judge_of_model("testbed").name, judge_of_model("org/model").name
        ('exact', 'rules')
    """
    return load_judge(chosen or ("exact" if model == BUNDLED else ANY_MODEL))


def load_judge(judge: str) -> Judge:
    """The judge that a name stands for. Everything that judges answers gets its judge here.

    A judge takes the argument that its class takes: one text, needed or not. Weights are loaded
    when the first answer is read.

    Args:
        judge: A registered name, or a name, ":" and an argument, such as "relevance:./encoder".

    Raises:
        UnknownNameError: no such judge; the message suggests the nearest one.
        PluginError: another package adds the judge, and it cannot be used.
        InputError: its argument is missing, or cannot be used.

    Example:
        >>> load_judge("keywords:safety_mirage").version
        '3-safety_mirage'
    """
    name, argument = judge_parts(judge)
    made_by = registry.load("judge", name)
    _check_argument(judge, made_by)
    given = () if argument is None else (argument,)
    return checked_judge(judge, partial(made_by, *given))


def _check_argument(judge: str, made_by: Callable[..., Any]) -> None:
    name, argument = judge_parts(judge)
    example = getattr(made_by, "example", f"{name}:ARGUMENT")
    takes = [
        parameter
        for parameter in inspect.signature(made_by).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if argument == "":
        raise InputError(f"The judge {judge!r} ends in a colon. Write it like {example}.")
    if argument is None and takes and takes[0].default is inspect.Parameter.empty:
        raise InputError(f"The judge {name!r} needs an argument. Write it like {example}.")
    if argument is not None and not takes:
        raise InputError(f"The judge {name!r} takes no argument. Leave {f':{argument}'!r} out.")


def _check_whole(what: str, name: str, marks: str) -> None:
    """Refuse a mark without a name on both sides."""
    if not all(re.split(f"[{marks}]", close_up(name))):
        raise InputError(
            f"The {what} {name!r} lacks a name. Write one on both sides of each "
            f"{' and each '.join(marks)}."
        )


def _check_once(what: str, whole: str, names: Iterable[str]) -> None:
    names = list(names)
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"The {what} {whole!r} has {twice[0]} twice. Name it once.")
