"""Names to objects, without importing anything until a name is asked for.

Named are defenses, attacks, benchmarks (the tasks of an evaluation), data sets to fine-tune on,
judges, bundled models, stress tests of changed weights and lists of risky words. A built-in name
is one entry in `builtin`, with one sentence about it.

Another package adds names through an entry-point group, which is the plural of the kind
(`safesight.defenses`, `safesight.stress_tests`; see `GROUPS`). It also says what they are. The
sentence about a name is, in this order:

1. the object's own `summary`, if it has that attribute;
2. the first sentence of the docstring of a class or a function;
3. for a value, such as a tuple of words or the path of a model, the first sentence of the
   docstring of the module that holds it: give each such value a module of its own.

To read it the package is imported. What cannot be imported, or is not of its kind, is still listed,
with the reason, and is refused when it is used. Tables about architectures live in
`models.families`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any, get_args

from safesight.builtin import BUILTIN, Entry
from safesight.errors import InputError, PluginError, UnknownNameError
from safesight.guests import Kind, fault_of

__all__ = [
    "GROUPS",
    "WORLD",
    "Entry",
    "Kind",
    "add",
    "check",
    "describe",
    "group",
    "in_bundled_world",
    "is_local",
    "load",
    "names",
    "whole",
]

GROUPS: dict[Kind, str] = {kind: f"safesight.{kind}s" for kind in get_args(Kind)}
"""The entry-point group of every kind."""

WORLD = "bundled world"
"""What the tasks for the bundled model are listed under."""


@cache
def _table(kind: Kind) -> dict[str, Entry]:
    """Built-in names first; an entry point may add a name but not replace one."""
    table = dict(BUILTIN[kind])
    for point in entry_points(group=GROUPS[kind]):
        table.setdefault(point.name, Entry(point.value, package=_package(point)))
    return table


def _package(point: EntryPoint) -> str:
    dist = point.dist
    return point.module.partition(".")[0] if dist is None else f"{dist.name} {dist.version}"


def names(kind: Kind, *, builtin: bool = False) -> list[str]:
    """All names of one kind, in the order in which they are listed to people.

    Args:
        kind: Of what.
        builtin: Leave out what other packages add.

    Example:
        >>> "sasa" in names("defense")
        True
    """
    assert kind in get_args(Kind)
    return [
        name
        for name, entry in _table(kind).items()
        if not (builtin and (entry.package or entry.thing is not None))
    ]


def in_bundled_world(kind: Kind, name: str) -> bool:
    """Whether a name stands for something of the bundled model's world of pictograms.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.

    Example:
        >>> in_bundled_world("benchmark", "vqa"), in_bundled_world("dataset", "vlguard")
        (True, False)
    """
    return _entry(kind, name).target.startswith("safesight.testbed")


def is_local(kind: Kind, name: str) -> bool:
    """Whether a name was added by `add`, for this process alone.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.
    """
    return _entry(kind, name).thing is not None


def whole(kind: Kind, name: str) -> str:
    """The name of what a name stands for a part of; the name itself, if it is no part of anything.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.

    Example:
        >>> whole("benchmark", "vqa")
        'vqa'
    """
    return _entry(kind, name).part_of or name


def add(kind: Kind, name: str, thing: Any, summary: str, *, part_of: str = "") -> None:
    """Let a name stand for a thing in this process, such as a task made of a user's file.

    Args:
        kind: Of what.
        name: The name.
        thing: What it stands for.
        summary: One sentence about it.
        part_of: The name that the thing is a part of: it is judged and counted like that.

    Raises:
        InputError: the name already stands for something else.

    Example:
        >>> add("word_list", "mine", ("match", "fuse"), "Words about fire.")
        >>> load("word_list", "mine"), describe("word_list", "mine")
        (('match', 'fuse'), 'Words about fire.')
    """
    known = _table(kind).get(name)
    if known is not None and known.thing is None:
        raise InputError(f"There is already a {_words(kind)} called {name!r}. Choose another name.")
    _table(kind)[name] = Entry("", summary, thing=thing, part_of=part_of)


def check(kind: Kind, name: str) -> None:
    """Refuse a name that cannot be used. A built-in one is not imported for that.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.
        PluginError: another package adds the name, and it cannot be used.
    """
    if _entry(kind, name).package is not None:
        load(kind, name)


def describe(kind: Kind, name: str) -> str:
    """One sentence about a named thing; for how another package says it, see above.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.
    """
    entry = _entry(kind, name)
    if entry.package is None:
        return entry.summary
    try:
        found = load(kind, name)
        with _guest(kind, name, entry):
            said = _summary(found, entry)
    except PluginError as error:
        return f"Not usable: {error}"
    return said or f"From the package {entry.package}."


def group(name: str) -> str:
    """What a task is listed under; "yours" for what does not come with the package.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.

    Example:
        >>> group("vqa"), group("figstep")
        ('bundled world', 'attacks')
    """
    entry = _entry("benchmark", name)
    if entry.package or entry.thing is not None:
        return "yours"
    return entry.group or WORLD


def load(kind: Kind, name: str) -> Any:
    """Import and return what a name stands for.

    Raises:
        UnknownNameError: no such name; the message suggests the nearest one.
        PluginError: another package adds the name, and it cannot be imported or is not of its
            kind.

    Example:
        >>> load("defense", "none").name
        'none'
    """
    entry = _entry(kind, name)
    if entry.thing is not None:
        return entry.thing
    if entry.package is None:
        return resolve_name(entry.target)
    with _guest(kind, name, entry):
        found = resolve_name(entry.target)
        fault = fault_of(kind, name, found)
    if fault:
        raise _unusable(kind, name, entry, fault)
    return found


@contextmanager
def _guest(kind: Kind, name: str, entry: Entry) -> Iterator[None]:
    """Turn whatever the code of another package raises into an error that names the package."""
    try:
        yield
    except (Exception, SystemExit) as error:  # some call sys.exit where they miss something
        raise _unusable(kind, name, entry, f"cannot be imported ({_said(error)})") from error


def _said(error: BaseException) -> str:
    """The type of an error and the first line of its message, if it has one that can be read."""
    with suppress(Exception):
        if text := str(error).strip():
            return f"{type(error).__name__}: {text.splitlines()[0]}"
    return type(error).__name__


def _unusable(kind: Kind, name: str, entry: Entry, fault: str) -> PluginError:
    return PluginError(
        f"The {_words(kind)} {name!r} of the package {entry.package} {fault}. "
        "Repair the package, or uninstall it."
    )


def _entry(kind: Kind, name: str) -> Entry:
    table = _table(kind)
    if name not in table:
        raise UnknownNameError(_words(kind), name, table)
    return table[name]


def _words(kind: Kind) -> str:
    return kind.replace("_", " ")


def _summary(found: Any, entry: Entry) -> str:
    """What a package says of a thing of its own, as one sentence; empty if it says nothing."""
    said = getattr(found, "summary", None)
    if isinstance(said, str):
        return " ".join(said.split())
    # The docstring of a value is that of its type, and says nothing of the value.
    of_its_own = inspect.isclass(found) or inspect.isroutine(found)
    holder = found if of_its_own else import_module(entry.target.partition(":")[0])
    paragraph = inspect.cleandoc(holder.__doc__ or "").split("\n\n")[0]
    return re.split(r"(?<=[.!?])\s", " ".join(paragraph.split()))[0]
