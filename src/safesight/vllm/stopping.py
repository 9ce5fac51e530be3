"""Ends vLLM at once when its server is stopped while it starts, and leaves no process behind.

By itself vLLM would go on: Ctrl-C only cancels a task that is looked at once the engine is up, the
engine's own process puts signals off for as long, and a program that leaves at once, as ours does
when it is stopped, would leave it behind. And as a terminal sends Ctrl-C to all of them, each would
print where it was.

So inside `stopped_at_once` Ctrl-C is blocked, also in processes that are started there, and a
thread that waits for it sends SIGTERM to this process alone, which vLLM's front end obeys.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from typing import Any, NoReturn

__all__ = ["Stopped", "stopped_at_once"]


class Stopped(KeyboardInterrupt):
    """A signal ended the server before it served.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """Inside, a signal ends what is started; afterwards none of it is left.

    Raises:
        Stopped: a signal came.
    """
    pressed = threading.Event()
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    # With Python's own handler, asyncio would put one in its place that only cancels a task.
    signal.signal(signal.SIGINT, _interrupt)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_pass_on, args=(pressed,), daemon=True).start()
    try:
        yield
    except KeyboardInterrupt as error:
        if pressed.is_set():
            raise Stopped(signal.SIGINT) from None
        if error.args:  # vLLM has put its handler of SIGTERM in the place of ours
            raise Stopped(signal.SIGTERM) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # impatience must not end this
        _end_children()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _pass_on(pressed: threading.Event) -> None:
    while True:  # again while it serves: the second time ends what the first one waits for
        signal.sigwait({signal.SIGINT})
        pressed.set()
        os.kill(os.getpid(), signal.SIGTERM)


def _end_children() -> None:
    """Kill what was started here and what that has started, before it can say anything."""
    import psutil

    for child in active_children():
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(child.pid)
            for process in [parent, *parent.children(recursive=True)]:
                # Python's tracker of shared memory frees what the others held, and ends.
                with suppress(psutil.NoSuchProcess):
                    if "multiprocessing.resource_tracker" not in " ".join(process.cmdline()):
                        process.kill()
        child.join()
