"""Let a protected model begin `with` blocks, each of which undoes one call of `protect`.

`with` looks for `__enter__` and `__exit__` on the class alone, so each call of `protect` gives the
object a class of its own. A block takes the latest call that has none yet, and the object then has
the class that it had before that call. What the calls attached is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NoReturn

from safesight.errors import ModelError

__all__ = ["Undo", "WithBlocks", "no_copy", "undo_all"]

Undo = Callable[[], None]


@dataclass
class _Object:
    """The model, or a wrapper around it, and its own class."""

    model: Any
    plain: type
    ours: list[type]


class WithBlocks:
    """The objects whose class was replaced, until `restore`."""

    def __init__(self) -> None:
        self._objects: list[_Object] = []

    def begin(self, model: Any, undo: Sequence[Undo]) -> None:
        """Let the next `with` block that begins with `model` call `undo` when it is left."""
        known = self._known(model)
        below = type(model)
        entered = False

        def enter(model: Any) -> Any:
            nonlocal entered
            if entered:  # through a class that torch has put on top, to parametrize or to shard
                _nothing_to_enter()
            entered = True
            if type(model) is ours:
                model.__class__ = below
            return model

        def leave(model: Any, *_: Any) -> None:
            undo_all(undo)

        ours = _like(below, __enter__=enter, __exit__=leave)
        known.ours.append(ours)
        model.__class__ = ours

    def restore(self) -> None:
        """Give every object its own class again, unless something else has replaced it since."""
        for each in self._objects:
            if type(each.model) in each.ours:
                each.model.__class__ = each.plain
        self._objects.clear()

    def _known(self, model: Any) -> _Object:
        for each in self._objects:
            if each.model is model:
                return each
        plain = type(model)
        model.__class__ = _like(plain, __enter__=_nothing_to_enter, __exit__=_nothing_to_enter)
        self._objects.append(_Object(model, plain, [type(model)]))
        return self._objects[-1]


def undo_all(undo: Iterable[Undo]) -> None:
    """Call all of them, the last one first, even if one raises."""
    with ExitStack() as stack:
        for each in undo:
            stack.callback(each)


def no_copy(*_: Any) -> NoReturn:
    """Refuse to copy or pickle a protected model.

    Raises:
        ModelError: always.
    """
    raise ModelError(
        "A protected model cannot be copied or pickled: the copy would not be defended. "
        "Call unprotect(model) first and protect the copy."
    )


def _like(plain: type, **methods: Any) -> type:
    """A class like `plain`, whose objects cannot be copied."""
    names = ("__module__", "__qualname__", "__doc__")
    body = {name: getattr(plain, name) for name in names}
    return type(plain.__name__, (plain,), {**body, "__reduce_ex__": no_copy, **methods})


def _nothing_to_enter(*_: Any) -> NoReturn:
    raise ModelError(
        "This `with` block has nothing to remove: each call of protect has a block already. "
        "Begin each block with a call of its own: `with protect(...) as model:`."
    )
