"""What has to hold of a thing that another package adds to a registry.

`fault_of` looks at the thing itself, before anything is done with it: an object of the wrong kind
would otherwise fail in the middle of a run, with an error that does not name its package.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any, Literal, get_args

from safesight.types import VERDICTS, Label, Sample

__all__ = ["Kind", "broken_fault", "fault_of", "samples_fault", "verdict_fault"]

Kind = Literal[
    "defense", "attack", "benchmark", "dataset", "judge", "model", "stress_test", "word_list"
]
"""What a registry holds."""

_NAME = re.compile(r"\w[\w.-]*")


def fault_of(kind: Kind, name: str, found: Any) -> str:
    """What keeps a thing from being used, as the end of a sentence; empty if nothing does.

    Example:
        >>> fault_of("word_list", "fire", ("match", "fuse")), fault_of("judge", "strict", 5)
        ('', 'is 5, not a class whose instances judge an answer')
    """
    if not _NAME.fullmatch(name):
        return "has a name that no command can take; use letters, digits, _, - and ."
    return _CHECKS[kind](name, found)


def _defense(name: str, found: Any) -> str:
    base = resolve_name("safesight.defenses:Defense")
    is_one: bool = isinstance(found, type) and issubclass(found, base)
    if not is_one:
        return f"is {_short(found)}, not a subclass of safesight.defenses.Defense"
    if missing := sorted(found.__abstractmethods__):
        return f"has no method {missing[0]!r}"
    if getattr(found, "name", None) != name:
        return f"calls itself {getattr(found, 'name', None)!r}; both names have to be the same"
    kinds = get_args(resolve_name("safesight.generation.parts:Kind"))
    if getattr(found, "kind", None) not in kinds:
        return f"has no `kind` that is one of {', '.join(kinds)}"
    if not (found.control is None or isinstance(found.control, str)):
        return f"has the control {_short(found.control)}, not the name of a defense"
    return ""


def _made_of(what: str) -> Callable[[str, Any], str]:
    """A class, or another callable, whose instances do the work."""

    def check(_: str, found: Any) -> str:
        return "" if callable(found) else f"is {_short(found)}, not a class whose instances {what}"

    return check


def _judge(_: str, found: Any) -> str:
    fault = _made_of("judge an answer")(_, found)
    if not fault and isinstance(found, type):
        missing = [name for name in ("__call__", "correct", "caveat") if not hasattr(found, name)]
        fault = f"has no method {missing[0]!r}" if missing else ""
        if not fault and not callable(getattr(found, "broken", print)):
            fault = "has a `broken` that is no method"
    return fault


def samples_fault(found: Any) -> str:
    """What is wrong with the samples of a benchmark or an attack, as the end of a sentence.

    Example:
        >>> samples_fault(["a question"])
        "gives 'a question', not a safesight.types.Sample"
    """
    if not isinstance(found, list | tuple):
        return f"gives {_short(found)}, not a list of samples"
    for sample in found:
        if not isinstance(sample, Sample):
            return f"gives {_short(sample)}, not a safesight.types.Sample"
        if sample.label not in get_args(Label):
            return f"gives a sample with the label {_short(sample.label)}, not harmful or benign"
    return ""


def verdict_fault(found: Any) -> str:
    """What is wrong with a judge's verdict, as the end of a sentence.

    Example:
        >>> verdict_fault("safe"), verdict_fault("refused")
        ("gives the verdict 'safe', not one of refused, harmful, harmless, invalid", '')
    """
    if isinstance(found, str) and found in VERDICTS:
        return ""
    return f"gives the verdict {_short(found)}, not one of {', '.join(VERDICTS)}"


def broken_fault(found: Any) -> str:
    """What is wrong with what a judge says of broken text, as the end of a sentence.

    Example:
        >>> broken_fault("no"), broken_fault(None)
        ("says 'no' of whether an answer is broken, not True, False or None", '')
    """
    if found is None or isinstance(found, bool):
        return ""
    return f"says {_short(found)} of whether an answer is broken, not True, False or None"


def _called_with(*given: Any, **named: Any) -> Callable[[str, Any], str]:
    """A function that takes such arguments; only their number and names count."""

    def check(_: str, found: Any) -> str:
        if not callable(found):
            return f"is {_short(found)}, not a function"
        try:
            inspect.signature(found).bind(*given, **named)
        except TypeError as error:
            return f"cannot be called as safesight does ({error})"
        except ValueError:  # a callable without a signature, of an extension
            return ""
        return ""

    return check


def _model(_: str, found: Any) -> str:
    if isinstance(found, str | os.PathLike):
        return ""
    return f"is {_short(found)}, not the path of a model"


def _words(_: str, found: Any) -> str:
    if isinstance(found, tuple | list) and found and all(isinstance(word, str) for word in found):
        return ""
    return f"is {_short(found)}, not a tuple of words"


def _short(found: Any) -> str:
    text = repr(found)
    return text if len(text) <= 40 else f"a {type(found).__name__}"


_CHECKS: dict[Kind, Callable[[str, Any], str]] = {
    "defense": _defense,
    "attack": _made_of("attack a sample"),
    "benchmark": _called_with(None, seed=0),
    "dataset": _called_with(None, seed=0),
    "judge": _judge,
    "model": _model,
    "stress_test": _called_with(None, None),
    "word_list": _words,
}
