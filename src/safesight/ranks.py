"""This process among those that `torchrun` or `accelerate launch` has started for one command.

Each process, or rank, has a number, a device and a model of its own. A command does the same in
all of them, except for what is divided here: `mine` gives a process its part of some items, and
inside `together` the processes share the work on a list, whose results all of them get. What is
shown or written once, the first process shows or writes.

In a single process nothing here does anything, and torch is not loaded.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from safesight.errors import InputError, PeerError, StorageError, reason_of

__all__ = [
    "Place",
    "agreed",
    "check_shared",
    "first",
    "label",
    "meet",
    "mine",
    "place",
    "shared",
    "together",
]

Item = TypeVar("Item")
Result = TypeVar("Result")

_PATIENCE = timedelta(days=7)
"""How long the fastest process waits for the slowest. One that has died is noticed at once."""

_together: ContextVar[bool] = ContextVar("safesight_together", default=False)


@dataclass(frozen=True)
class Place:
    """The number of a process, and how many there are: of all, and on this machine."""

    index: int = 0
    count: int = 1
    local: int = 0
    local_count: int = 1


def place() -> Place:
    """Where this process stands, by the variables that a launcher sets.

    Raises:
        InputError: the variables contradict each other, or one is not a number.
    """
    count = _number("WORLD_SIZE", 1)
    if count == 1:
        return Place()
    index, local_count = _number("RANK"), _number("LOCAL_WORLD_SIZE", count)
    local = _number("LOCAL_RANK", index)
    for name, number, size, among in (
        ("RANK", index, "WORLD_SIZE", count),
        ("LOCAL_RANK", local, "LOCAL_WORLD_SIZE", local_count),
    ):
        if number >= among:
            raise InputError(
                f"{name} is {number} and {size} is {among}, but the ranks are counted from 0. "
                "Let torchrun or accelerate launch set both."
            )
    return Place(index, count, local, local_count)


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "").strip()
    if not text and default is not None:
        return default
    least = 1 if name.endswith("SIZE") else 0
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        state = f"is {text!r}" if text else "is not set"
        raise InputError(
            f"{name} {state}, where a number is needed to tell the processes of a run apart. "
            "Start them with torchrun or accelerate launch, or unset WORLD_SIZE."
        )
    return int(text)


def first() -> bool:
    """Whether this is the process that shows and writes what there is once."""
    return place().index == 0


def label() -> str:
    """Which process speaks, for its error messages; nothing where there is one alone."""
    try:
        here = place()
    except InputError:
        return ""
    return "" if here.count == 1 else f", rank {here.index}"


def mine(items: Sequence[Item]) -> Sequence[Item]:
    """The items of this process: the one at its own number, and then one for each round."""
    here = place()
    return items[here.index :: here.count]


@contextmanager
def together() -> Iterator[None]:
    """Inside, all processes do the same, and `shared` divides what it is given among them."""
    token = _together.set(place().count > 1)
    try:
        yield
        if _together.get():
            meet()
    finally:
        _together.reset(token)


def shared(items: Sequence[Item], work: Callable[[Item], Result]) -> Iterator[Result]:
    """What `work` returns for each item, in order.

    Inside `together`, each process does a part of the work, and gets all results. They are copied
    from one process to the others, so tensors in them should be on the CPU.

    Raises:
        PeerError: another process has stopped.

    Example:
        >>> list(shared([1, 2, 3], lambda number: number * number))
        [1, 4, 9]
    """
    if not _together.get():
        yield from map(work, items)
        return
    here = place()
    for start in range(0, len(items), here.count):
        turn = items[start : start + here.count]
        own = work(turn[here.index]) if here.index < len(turn) else None
        yield from _gathered(own)[: len(turn)]


def meet() -> None:
    """Wait until every process has come here.

    Raises:
        PeerError: another process has stopped.
    """
    if place().count > 1:
        _gathered(None)


def agreed(value: Item) -> Item:
    """The value that the first process has.

    Raises:
        PeerError: another process has stopped.
    """
    if place().count == 1:
        return value
    found: Item = _gathered(value if first() else None)[0]
    return found


def check_shared(folder: Path) -> None:
    """Refuse a folder that the processes do not have in common.

    Raises:
        StorageError: what the first process writes there, this one does not see.
        PeerError: another process has stopped.
    """
    if place().count == 1:
        return
    mark = folder / agreed(f".ranks-{secrets.token_hex(4)}")
    if first():
        mark.touch()
    meet()
    seen = mark.exists()
    unseen = [rank for rank, sees in enumerate(_gathered(seen)) if not sees]
    if first():
        mark.unlink()
    if unseen:
        raise StorageError(
            f"Rank {unseen[0]} does not see in {folder} what rank 0 writes there. Choose a folder "
            "that all machines share."
        )


def _gathered(value: Any) -> list[Any]:
    """The values of all processes, in their order."""
    import torch.distributed as dist

    found: list[Any] = [None] * place().count
    try:
        dist.all_gather_object(found, value, group=_group())
    except RuntimeError as error:
        raise PeerError(
            "Another process of this run has stopped. Unless it was killed, it says why."
        ) from error
    return found


@cache
def _group() -> Any:
    """The connection of all processes. It is of the CPU, whatever devices they use."""
    import torch.distributed as dist

    if dist.is_initialized():
        return dist.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    except ValueError as error:
        raise InputError(
            f"WORLD_SIZE is {place().count}, but the processes cannot find each other "
            f"({reason_of(error)}). Start them with torchrun or accelerate launch."
        ) from error
    return dist.group.WORLD
