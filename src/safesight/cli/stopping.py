"""How the program ends when it is stopped.

SIGTERM (a supervisor, `timeout`) and SIGHUP (a closed terminal) stop it as Ctrl-C does: blocks are
left, what is half done is thrown away, and the exit code is 128 and the number of the signal.

Ctrl-C is often pressed again and again. Once the program says that it has stopped, it is ignored:
the way out is short, and raised there it would take message and code away.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["exit_code", "leave", "no_more", "stop_like_ctrl_c", "stopped_by"]

_LIKE_CTRL_C = ("SIGTERM", "SIGHUP")  # by name: not every system has both
_MOMENT = 0.02
"""Seconds after which a lost KeyboardInterrupt is raised again."""
_received: list[int] = []


def stop_like_ctrl_c() -> None:
    """Let the other signals that end a program raise KeyboardInterrupt too, and let none be lost.

    A signal that is ignored stays ignored, as SIGHUP is under `nohup`.
    """
    for name in _LIKE_CTRL_C:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)
    sys.unraisablehook = _raise_again
    sys.excepthook = _last


def _stop(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    # The handler of this moment: an event loop has one that lets tasks write their logs first.
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # Ctrl-C is ignored, as in the background of a script
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)


def _raise_again(lost: UnraisableHookArgs) -> None:
    """Python drops what is raised while an object is cleared away, and the program goes on."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    number = _received[0] if _received else signal.SIGINT
    again = threading.Timer(_MOMENT, _thread.interrupt_main, [number])
    again.daemon = True
    again.start()


def _last(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python would end by the signal itself, after a traceback, where Ctrl-C was caught by nobody.

    It may come between any two steps, so also after the last place that catches it.
    """
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("safesight: Stopped.\n")
        leave(exit_code())
    sys.__excepthook__(kind, error, trace)


def no_more() -> None:
    """Ignore Ctrl-C from here on, if the process is this program's alone."""
    if sys.excepthook is _last:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def stopped_by(number: int) -> None:
    """Say which signal ended the program, where another handler than ours received it."""
    _received[:] = [number]


def exit_code() -> int:
    """The code by which a shell tells which signal ended a program: 130 for Ctrl-C."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def leave(code: int) -> NoReturn:
    """End the process at once.

    Threads may still compute. The interpreter's own way out waits for them, or aborts.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # its reader is gone, too
            continue
    os._exit(code)
