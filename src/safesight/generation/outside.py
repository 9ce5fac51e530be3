"""Says once if a detector is asked about prompts unlike those that set its threshold.

Each kind of difference is logged once per process and detector, whatever the number of requests. An
evaluation collects the same sentences for its scorecard with `noted`. No verdict changes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from safesight.fitting.ranges import CalibrationRange, Spread

if TYPE_CHECKING:
    from safesight.generation.prefill import Decision
    from safesight.generation.prompt_sizes import PromptSizes

__all__ = ["noted", "tell_outside"]

_log = logging.getLogger("safesight")

_Key = tuple[str, str, Spread]
"""The detector, the kind of difference, and the range: another artifact has another one."""


class _Listener:
    """What has been said to one reader: the log, or the notes of an evaluation."""

    def __init__(self) -> None:
        self.known: set[_Key] = set()
        self.sentences: dict[str, list[str]] = {}


_logged = _Listener()
_listeners = [_logged]
_lock = threading.Lock()


@contextmanager
def noted() -> Iterator[Mapping[str, Sequence[str]]]:
    """Collect the sentences of everything that is generated inside, by detector.

    Each is collected once, even if it was logged before.
    """
    listener = _Listener()
    with _lock:
        _listeners.append(listener)
    try:
        yield listener.sentences
    finally:
        with _lock:
            _listeners.remove(listener)


def tell_outside(
    ranges: Mapping[str, CalibrationRange],
    decisions: Mapping[str, Decision],
    measure: Callable[[], PromptSizes | None],
) -> None:
    """Compare a batch that was judged with the ranges of its detectors.

    Args:
        ranges: By detector; one that has no range is left out.
        decisions: By detector.
        measure: Gives the sizes of what was judged; asked only if there is still something to say.
    """
    open_ = {name: kinds for name, each in ranges.items() if (kinds := _open(name, each))}
    if not open_:
        return
    sizes = measure()
    for name, kinds in open_.items():
        scores = decisions[name].scores
        values: dict[str, Sequence[float]] = {"scores": scores[scores.isfinite()].tolist()}
        if sizes is not None:
            values |= {"tokens": sizes.tokens, "pictures": sizes.pictures, "pixels": sizes.pixels}
        for kind, spread in kinds.items():
            far = spread.outside(values.get(kind, ()), below_only=kind == "scores")
            if far is not None:
                _tell((name, kind, spread), _sentence(name, kind, spread, far))


def _open(name: str, calibrated: CalibrationRange) -> dict[str, Spread]:
    """The kinds of difference that somebody has not heard of yet."""
    kinds = {
        "tokens": calibrated.tokens,
        "pictures": calibrated.pictures,
        "pixels": calibrated.pixels,
        "scores": calibrated.scores,
    }
    return {
        kind: spread
        for kind, spread in kinds.items()
        if spread is not None
        and any((name, kind, spread) not in each.known for each in tuple(_listeners))
    }


def _tell(key: _Key, sentence: str) -> None:
    with _lock:
        new = [each for each in _listeners if key not in each.known]
        for each in new:
            each.known.add(key)
            if each is not _logged:
                each.sentences.setdefault(key[0], []).append(sentence)
    if _logged in new:
        _log.warning("%s", sentence)


def _sentence(name: str, kind: str, spread: Spread, far: float) -> str:
    if kind == "scores":
        return (
            f"{name} scored its calibration prompts {spread.low:.3g} or more, but one here "
            f"{far:.3g}. Such prompts are of another kind, or were made to score low."
        )
    between = _between(spread)
    if kind == "tokens":
        what = f"prompts of {between} tokens, but one here has {far:,.0f}"
    elif kind == "pixels":
        what = f"pictures of {between} pixels, but one here has {far:,.0f}"
    elif spread.high == 0:
        what = f"prompts without pictures, but one here has {far:,.0f}"
    else:
        noun = "picture" if spread.low == spread.high == 1 else "pictures"
        what = f"prompts with {between} {noun}, but one here has {far:,.0f}"
    return (
        f"{name} was calibrated on {what}. Its threshold may not hold for such prompts: set it on "
        "yours with safesight calibrate."
    )


def _between(spread: Spread) -> str:
    low, high = f"{spread.low:,.0f}", f"{spread.high:,.0f}"
    return low if low == high else f"{low} to {high}"
