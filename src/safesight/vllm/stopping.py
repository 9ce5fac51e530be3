"""Ends vLLM at once when its server is stopped while it starts, and leaves no process behind.

By itself vLLM would go on. Its front end turns SIGTERM into a KeyboardInterrupt and then loses that
in the context of a socket; Ctrl-C only cancels a task that is looked at once the engine is up; the
engine's own process puts signals off for as long. A program that leaves at once, as ours does when
it is stopped, would leave that process behind. And as a terminal sends Ctrl-C to all of them, each
would print where it was.

So inside `interrupts_kept` that context loses none, and inside `stopped_at_once` Ctrl-C is blocked,
also in processes that are started there. A thread waits for it, and sends SIGTERM to this process
alone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children, resource_tracker
from typing import Any, NoReturn

__all__ = ["Stopped", "end_children", "interrupts_kept", "kill_all_of", "stopped_at_once"]


class _Kept(BaseException):
    """An interrupt, on its way past code that ends a KeyboardInterrupt."""


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
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if handlers[signal.SIGINT] != signal.SIG_IGN:  # as it is in the background of a script
        _watch_for_ctrl_c(pressed)
    try:
        yield
    except (KeyboardInterrupt, _Kept) as error:
        if pressed.is_set():
            raise Stopped(signal.SIGINT) from None
        if error.args:  # vLLM has put its handler of SIGTERM in the place of ours
            raise Stopped(signal.SIGTERM) from None
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # impatience must not end this
        end_children()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Inside, vLLM loses no interrupt while it waits for its engine; see `stopped_at_once`."""
    from vllm.v1.engine import utils

    plain = utils.zmq_socket_ctx

    @contextmanager
    def keeping(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with plain(*args, **kwargs) as socket:
            try:
                yield socket
            except KeyboardInterrupt as error:
                raise _Kept(*error.args) from None

    utils.zmq_socket_ctx = keeping
    try:
        yield
    finally:
        utils.zmq_socket_ctx = plain


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _watch_for_ctrl_c(pressed: threading.Event) -> None:
    # With Python's own handler, asyncio would put one in its place that only cancels a task.
    signal.signal(signal.SIGINT, _interrupt)
    resource_tracker.ensure_running()  # which unblocks Ctrl-C when it starts
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=_pass_on, args=(pressed,), daemon=True).start()


def _pass_on(pressed: threading.Event) -> None:
    main = threading.main_thread().ident
    assert main is not None
    while True:  # again while it serves: the second time ends what the first one waits for
        signal.sigwait({signal.SIGINT})
        pressed.set()
        # To the thread that has to wake up: the process might hear of it in this one.
        signal.pthread_kill(main, signal.SIGTERM)


def end_children() -> None:
    """Kill what was started here and what that has started."""
    for child in active_children():
        if child.pid is not None:
            kill_all_of(child.pid)
        child.join()


def kill_all_of(number: int) -> None:
    """Kill a process and what it has started, before they can say anything.

    Args:
        number: Of the process, which may be gone.
    """
    import psutil

    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(number)
        for process in [parent, *parent.children(recursive=True)]:
            # Python's tracker of shared memory frees what the others held, and ends.
            with suppress(psutil.NoSuchProcess):
                if "multiprocessing.resource_tracker" not in " ".join(process.cmdline()):
                    process.kill()
