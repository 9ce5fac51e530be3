"""Why an engine ended, for the last line of what a server prints.

An engine runs in processes of its own, which log their errors between tracebacks; the server itself
only hears that one of them has ended. So each of them also writes its error to a file.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from safesight.errors import SafesightError, reason_of

__all__ = ["CAUSE", "cause_in", "keep_causes"]

CAUSE = "SAFESIGHT_CAUSE"
"""The variable with the file."""
_ROOM = 400
"""Characters that are kept of an error."""
_CAUSE = re.compile(r"(?<=^safesight: ).+|\b\w*(?:Error|Exception): .+")
_ENDED = "vLLM has ended: "
_ELSEWHERE = "root cause"
"""Said by vLLM where an error only points to an earlier one."""


def keep_causes() -> None:
    """Write the errors that vLLM logs in this process to the file, if `CAUSE` names one."""
    place = os.environ.get(CAUSE)
    log = logging.getLogger("vllm")
    if place and not any(isinstance(each, _Keeper) for each in log.handlers):
        log.addHandler(_Keeper(Path(place)))


def cause_in(said: str) -> str:
    """The last line that states a cause in what a server printed, or else the last one.

    Example:
        >>> cause_in("ERROR [core.py:7] ValueError: no room")
        'ValueError: no room'
    """
    lines = said.strip().splitlines()
    for line in reversed(lines):
        found = _CAUSE.search(line)
        if found is not None and _ELSEWHERE not in line:
            return found[0].removeprefix(_ENDED)
    return lines[-1] if lines else "it said nothing"


class _Keeper(logging.Handler):
    """Appends the exception of each record, as one line."""

    def __init__(self, place: Path) -> None:
        super().__init__(logging.ERROR)
        self._place = place

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or _ELSEWHERE in str(error):
            return
        told = reason_of(error)[:_ROOM]
        line = told if isinstance(error, SafesightError) else f"{type(error).__name__}: {told}"
        line += "" if line.endswith("?") else "."
        try:
            with self._place.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError:  # the server has gone before its engine
            self.handleError(record)
