"""Events that tasks report to their `run_eval`, and values they share.

Tasks, scorers and solvers run deep inside Inspect; a context variable passes the listener down
to them. Without a listener, as under `inspect eval`, nothing is reported or kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from safesight.errors import SafesightError

if TYPE_CHECKING:
    from inspect_ai import Task

__all__ = ["Session", "answered", "failed", "listening", "once", "planned", "refused"]

_Made = TypeVar("_Made")


@dataclass
class Session:
    """Listens to tasks and answers; keeps user errors, and values that tasks share."""

    on_task: Callable[[Task], None] = lambda task: None
    on_answer: Callable[[], None] = lambda: None
    errors: list[SafesightError] = field(default_factory=list)
    """Those that ended a task."""
    refused: list[SafesightError] = field(default_factory=list)
    """Those of a model that was asked; they end a task unless it was asked for a grade."""
    made: dict[str, Any] = field(default_factory=dict)


_session: ContextVar[Session | None] = ContextVar("safesight_session", default=None)


@contextmanager
def listening(session: Session) -> Iterator[Session]:
    """Inside, tasks report answers and errors to the session."""
    token = _session.set(session)
    try:
        yield session
    finally:
        _session.reset(token)


def planned(task: Task) -> Task:
    """A task was created. The listener may leave a part of its samples in it."""
    session = _session.get()
    if session is not None:
        session.on_task(task)
    return task


def answered() -> None:
    """One more answer was judged."""
    session = _session.get()
    if session is not None:
        session.on_answer()


def failed(error: SafesightError) -> None:
    """A user error is about to end a task."""
    session = _session.get()
    if session is not None:
        session.errors.append(error)


def refused(error: SafesightError) -> None:
    """A model that was asked raised a user error."""
    session = _session.get()
    if session is not None:
        session.refused.append(error)


def once(key: str, make: Callable[[], _Made]) -> _Made:
    """The result of `make`, which is called once per key in a run."""
    session = _session.get()
    if session is None:
        return make()
    if key not in session.made:
        session.made[key] = make()
    made: _Made = session.made[key]
    return made
