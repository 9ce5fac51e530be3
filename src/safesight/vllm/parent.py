"""Ends a server soon after the process that started it is gone.

An evaluation ends the servers that it has started. One that is killed cannot, and they would keep
their memory.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from safesight.vllm.stopping import end_children

__all__ = ["PARENT", "end_with_parent"]

PARENT = "SAFESIGHT_PARENT"
"""The variable with the number of the process that a server ends with."""
_PAUSE = 1.0
"""Seconds between two looks."""
_GRACE = 60.0
"""Seconds that the server has for its end."""


def end_with_parent() -> None:
    """From now on, end this process when the one that `PARENT` names is gone."""
    number = os.environ.get(PARENT, "")
    if number.isdecimal():
        threading.Thread(target=_watch, args=(int(number),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PAUSE)
    main = threading.main_thread().ident
    assert main is not None
    # To the thread that has to wake up: the process might hear of it in this one.
    signal.pthread_kill(main, signal.SIGTERM)
    time.sleep(_GRACE)
    end_children()
    os._exit(128 + signal.SIGTERM)
