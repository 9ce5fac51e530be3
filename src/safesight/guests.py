"""What has to hold of a thing that another package adds to a registry, and of what it returns.

`fault_of` looks at the thing itself, before anything is done with it: an object of the wrong kind
would otherwise fail in the middle of a run, with an error that does not name its package. The
others look at what it returns, since Python takes many a wrong value for another: the text "no" is
true, and a text is a sequence of letters.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any, Literal, cast, get_args

from safesight.errors import InputError, PluginError
from safesight.types import (
    VERDICTS,
    Judge,
    Label,
    Reading,
    Sample,
    TuningSample,
    TuningSet,
    Verdict,
)
from safesight.values import (
    are_functions,
    are_json,
    are_texts,
    are_turns,
    is_text,
    is_text_or_none,
    one_of,
)

__all__ = [
    "Kind",
    "checked_judge",
    "fault_of",
    "patterns_fault",
    "refuse_unlike",
    "rows_fault",
    "samples_fault",
    "verdict_fault",
]

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
    # It takes nothing, or one argument: the text after ":" in its name.
    fault = _made_of("judge an answer")(_, found)
    fault = fault or (_called_with()(_, found) and _called_with("")(_, found))
    return fault or (_without_method(found) if isinstance(found, type) else "")


def _without_method(judge: Any) -> str:
    names = ("__call__", "correct", "caveat")
    missing = [name for name in names if not callable(getattr(judge, name, None))]
    if missing:
        return f"has no method {missing[0]!r}"
    for name in ("broken", "readings"):
        if not callable(getattr(judge, name, print)):
            return f"has a `{name}` that is not a method"
    return ""


def samples_fault(found: Any) -> str:
    """What is wrong with the samples of a benchmark or an attack, as the end of a sentence.

    Example:
        >>> samples_fault(["a question"])
        "gives 'a question', not a safesight.types.Sample"
        >>> samples_fault([Sample(1, "a cake?", "benign", "cake")])
        'gives a sample whose id is 1, not a text'
    """
    return _items_fault(found, Sample, "samples")


def rows_fault(found: Any) -> str:
    """What is wrong with the rows of a data set to train on, as the end of a sentence.

    Example:
        >>> rows_fault([TuningSample("1", "a cake?", "bake it.", "benign", "test")])
        "gives a row whose set is 'test', not forget or retain"
    """
    return _items_fault(found, TuningSample, "rows")


def _items_fault(found: Any, kind: type, what: str) -> str:
    if not isinstance(found, list | tuple):
        return f"gives {_short(found)}, not a list of {what}"
    return next((f"gives {fault}" for item in found if (fault := _unlike(kind, item))), "")


def refuse_unlike(kind: type[Sample | TuningSample], found: Any, what: str) -> None:
    """Refuse samples or rows of a caller's own that are none, or have a field of another type.

    Args:
        kind: What each should be.
        found: A sequence of them.
        what: What the error message calls them.

    Raises:
        InputError: the first that is wrong, and its field.

    Example:
        >>> refuse_unlike(Sample, [Sample("1", "a cake?", "benign", "cake")], "samples")
    """
    if not isinstance(found, Sequence) or isinstance(found, str | bytes):
        raise InputError(f"The {what} are of the type {type(found).__name__}. Pass a list.")
    for item in found:
        if fault := _unlike(kind, item):
            raise InputError(f"The {what} include {fault}. Repair it.")


def patterns_fault(found: Any) -> str:
    """What is wrong with the requests that a data set says it forbids, as the end of a sentence.

    Example:
        >>> patterns_fault([{"concept": "tree"}])
        "forbids {'concept': 'tree'}, not a mapping from facts to lists of values"
    """
    if not isinstance(found, list | tuple):
        return f"forbids {_short(found)}, not a list of mappings"
    for pattern in found:
        lists = pattern.values() if isinstance(pattern, Mapping) else [None]
        if not lists or not all(isinstance(values, list) for values in lists):
            return f"forbids {_short(pattern)}, not a mapping from facts to lists of values"
    return ""


def _unlike(kind: type, found: Any) -> str:
    if not isinstance(found, kind):
        return f"{_short(found)}, not a safesight.types.{kind.__name__}"
    what = "sample" if kind is Sample else "row"
    for field in kind.__dataclass_fields__:  # type: ignore[attr-defined]
        holds, wanted = _FIELDS[field]
        if not holds(value := getattr(found, field)):
            return f"a {what} whose {field} is {_short(value)}, not {wanted}"
    if not isinstance(found, Sample):
        return ""
    fault = _shots_fault(found) or _talk_fault(found)
    return fault or next(filter(None, map(_talk_fault, found.tries())), "")


def _shots_fault(sample: Sample) -> str:
    """What does not fit together in the shots of a sample."""
    if sample.shots and sample.shots[0] != sample.question:
        return f"a sample whose shots begin with {_short(sample.shots[0])}, not with its question"
    if (shown := len(sample.shot_pictures)) not in (0, len(sample.shots)):
        return f"a sample with {len(sample.shots)} shots, and pictures of {shown}"
    return ""


def _talk_fault(sample: Sample) -> str:
    """What does not fit together in the pictures and turns of a sample."""
    if sample.image is None and sample.further_images:
        return "a sample whose further_images come without an image, the first picture"
    if sample.turns and sample.turns[-1]["role"] != "user":
        return "a sample whose last turn is not the user's"
    places = sum(part["type"] == "image" for turn in sample.turns for part in turn["content"])
    if places > (pictures := len(sample.pictures)):
        return f"a sample whose turns have places for {places} pictures, and it has {pictures}"
    return ""


def _are_facts(found: Any) -> bool:
    return are_json(found) and are_texts(found.get("refusals") or ())


_TEXT = is_text, "a text"
_TEXT_OR_NONE = is_text_or_none, "a text or None"
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "id": (lambda found: isinstance(found, str) and bool(found.strip()), "a text"),
    "question": _TEXT,
    "answer": _TEXT,
    "target": _TEXT,
    "refusal": _TEXT_OR_NONE,
    "system": _TEXT_OR_NONE,
    "attack": _TEXT_OR_NONE,
    "prefill": _TEXT_OR_NONE,
    "group": _TEXT_OR_NONE,
    "whole": (lambda found: isinstance(found, bool), "True or False"),
    "label": one_of(*get_args(Label)),
    "set": one_of(*get_args(TuningSet)),
    "image": (lambda found: found is None or callable(found), "a function that draws the picture"),
    "facts": (_are_facts, 'a mapping from names to JSON values, its "refusals" a list of texts'),
    "shots": (are_texts, "a tuple of texts"),
    "shot_pictures": (
        lambda found: isinstance(found, list | tuple) and all(map(are_functions, found)),
        "a tuple with the functions that draw the pictures of each shot",
    ),
    "further_images": (are_functions, "a tuple of functions that draw pictures"),
    "turns": (are_turns, "a tuple of messages"),
}
"""What every field of a sample or a row has to be."""


def verdict_fault(found: Any) -> str:
    """What is wrong with a judge's verdict, as the end of a sentence.

    Example:
        >>> verdict_fault("safe"), verdict_fault("refused")
        ("gives the verdict 'safe', not one of refused, harmful, harmless, invalid", '')
    """
    if isinstance(found, str) and found in VERDICTS:
        return ""
    return f"gives the verdict {_short(found)}, not one of {', '.join(VERDICTS)}"


def checked_judge(name: str, made_by: Callable[[], Any]) -> Judge:
    """An instance of a registered judge; whatever it returns is looked at.

    Args:
        name: Its registered name.
        made_by: Makes it: what `registry.load` returns, with the judge's argument if it takes one.

    Raises:
        PluginError: it is no judge. Its methods raise one for a verdict, a caveat or an opinion
            whether an answer is right that is none.
    """
    judge = made_by()
    fault = _without_method(judge)
    for field in ("name", "version"):
        if not isinstance(getattr(judge, field, None), str):
            fault = fault or f"has no {field!r} that is a text"
    if fault:
        raise _wrong_judge(name, fault)
    return _CheckedJudge(name, judge)


class _CheckedJudge:
    """A judge that passes on what another one returns, if that is of the right kind."""

    def __init__(self, registered: str, judge: Judge) -> None:
        whole = ":" in registered and ":" not in judge.name
        self.name = registered if whole else judge.name
        self.version = judge.version
        self._registered, self._judge = registered, judge
        if hasattr(judge, "broken"):
            self.broken = self._broken
        if hasattr(judge, "readings"):
            self.readings = self._readings

    def __call__(self, answer: str, sample: Sample) -> Verdict:
        found = self._judge(answer, sample)
        if fault := verdict_fault(found):
            raise _wrong_judge(self._registered, fault)
        return found

    def correct(self, answer: str, sample: Sample) -> bool:
        found: object = self._judge.correct(answer, sample)
        if not isinstance(found, bool):
            fault = f"says {_short(found)} of whether an answer is right, not True or False"
            raise _wrong_judge(self._registered, fault)
        return found

    def caveat(self, model: str, sample: Sample) -> str | None:
        found: object = self._judge.caveat(model, sample)
        if not is_text_or_none(found):
            fault = f"gives the caveat {_short(found)}, not a sentence or None"
            raise _wrong_judge(self._registered, fault)
        return cast("str | None", found)

    def _broken(self, answer: str, sample: Sample) -> bool | None:
        found: object = self._judge.broken(answer, sample)  # type: ignore[attr-defined]
        if not (found is None or isinstance(found, bool)):
            fault = f"says {_short(found)} of whether an answer is broken, not True, False or None"
            raise _wrong_judge(self._registered, fault)
        return found

    async def _readings(self, pairs: Sequence[tuple[str, Sample]]) -> list[Reading]:
        found: object = await self._judge.readings(pairs)  # type: ignore[attr-defined]
        if not isinstance(found, list | tuple) or len(found) != len(pairs):
            fault = f"gives {_short(found)} for {len(pairs)} answers, not a list with one for each"
            raise _wrong_judge(self._registered, fault)
        for each in found:
            if fault := _reading_fault(each):
                raise _wrong_judge(self._registered, fault)
        return list(found)


def _reading_fault(found: Any) -> str:
    if not isinstance(found, Reading):
        return f"gives {_short(found)}, not a safesight.types.Reading"
    if not are_json(found.details):
        return f"gives the details {_short(found.details)}, not a mapping from names to JSON values"
    return verdict_fault(found.verdict)


def _wrong_judge(name: str, fault: str) -> PluginError:
    return PluginError(f"The judge {name!r} {fault}. Repair the package that it comes with.")


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
