"""Rounds in which the arms of a comparison take turns, and what all rounds say.

Not a benchmark; `peers.py` and `gpu.py` are.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

__all__ = [
    "Arms",
    "Entry",
    "Pair",
    "Row",
    "Unavailable",
    "ask_rounds",
    "order",
    "significant",
    "summarized",
    "whole_rounds",
]

Entry = dict[str, Any]

Arms = Mapping[str, Callable[[], Entry]]
"""By arm, what measures it once and returns its `seconds`, and more if there is more to say."""


class Unavailable(Exception):
    """A row that cannot be measured here; the message says what is missing, in one sentence."""


@dataclass(frozen=True)
class Pair:
    """Two arms that are compared: the ratio is that of their seconds in the same round."""

    arm: str
    over: str
    most: float | None = None
    """The aim: the median ratio is at most this."""


@dataclass(frozen=True)
class Row:
    """A comparison: what is measured, how often, and which arms are set against each other."""

    name: str
    cases: Sequence[str]
    """Models, sizes or the like; each is measured with all arms."""
    start: Callable[[Any, str], AbstractContextManager[Arms]]
    """Takes the command's arguments and a case; gives the arms, ready to be measured.

    Raises `Unavailable` if they cannot be."""
    pairs: Callable[[str, Sequence[str]], Sequence[Pair]]
    """Takes a case and the arms that were measured."""
    rounds: int = 5
    facts: Mapping[str, Callable[[Any], Entry]] = field(default_factory=dict)
    """By name, what is counted once and has no rounds."""


def order(arms: Sequence[str], turn: int) -> list[str]:
    """The arms in the order of a round.

    They rotate, so that each comes first as often as the others, and every other round runs
    backward, so that none always follows the same one.

    Example:
        >>> order(["a", "b", "c"], 0), order(["a", "b", "c"], 1), order(["a", "b", "c"], 2)
        (['a', 'b', 'c'], ['b', 'a', 'c'], ['b', 'c', 'a'])
    """
    first = -turn % len(arms)
    turned = [*arms[first:], *arms[:first]]
    return turned[::-1] if turn % 2 else turned


def whole_rounds(entries: Sequence[Entry], row: str, case: str, arms: Sequence[str]) -> set[int]:
    """The rounds of a case in which every arm was measured.

    A round that was cut off is measured again: its arms would not be from the same minute.
    """
    done: dict[int, set[str]] = {}
    for entry in entries:
        if (entry["row"], entry["case"]) == (row, case):
            done.setdefault(entry["round"], set()).add(entry["arm"])
    return {turn for turn, found in done.items() if found >= set(arms)}


def ask_rounds(
    entries: list[Entry], row: Row, case: str, arms: Arms, rounds: int
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The name of each missing measurement, and what adds its entry; first a warm-up of all arms.

    What is left of rounds that were cut off is dropped.
    """
    names = list(arms)
    done = whole_rounds(entries, row.name, case, names)
    entries[:] = [
        entry
        for entry in entries
        if (entry["row"], entry["case"]) != (row.name, case) or entry["round"] in done
    ]
    missing = [turn for turn in range(rounds) if turn not in done]
    if missing:
        for measure in arms.values():
            measure()
    for turn in missing:
        for arm in order(names, turn):
            yield (
                f"{row.name}, {case}, round {turn + 1}: {arm}",
                partial(_add, entries, (row.name, case, turn), arm, arms),
            )


def _add(entries: list[Entry], key: tuple[str, str, int], arm: str, arms: Arms) -> None:
    found = arms[arm]()
    about = dict(zip(("row", "case", "round"), key, strict=True))
    load = round(os.getloadavg()[0], 1)
    entries.append({**about, "arm": arm, "arms": len(arms), **found, "load": load})


def summarized(entries: Sequence[Entry], rows: Sequence[Row]) -> list[Entry]:
    """One line per pair of arms: medians over rounds, with the smallest and the largest ratio.

    An arm without a partner in any pair has a line too, without a ratio. What has no seconds,
    because it was only counted, has none.
    """
    entries = [entry for entry in entries if "seconds" in entry]
    lines = []
    for row in rows:
        for case in dict.fromkeys(entry["case"] for entry in entries if entry["row"] == row.name):
            own = [e for e in entries if (e["row"], e["case"]) == (row.name, case)]
            arms = list(dict.fromkeys(entry["arm"] for entry in sorted(own, key=_round)))
            pairs = [pair for pair in row.pairs(case, arms) if {pair.arm, pair.over} <= set(arms)]
            compared = {pair.arm for pair in pairs}
            lines += [_line(own, arm) for arm in arms if arm not in compared]
            lines += [{**_line(own, pair.arm), **_ratio(own, pair)} for pair in pairs]
    return lines


def _round(entry: Entry) -> int:
    return int(entry["round"])


def _line(own: Sequence[Entry], arm: str) -> Entry:
    mine = [entry for entry in own if entry["arm"] == arm]
    seconds = [entry["seconds"] / entry.get("n", 1) for entry in mine]
    return {
        "row": mine[0]["row"],
        "case": mine[0]["case"],
        "arm": arm,
        "rounds": len(mine),
        "n": mine[0].get("n", 1),
        "ms": significant(1000 * statistics.median(seconds)),
        "ms_low": significant(1000 * min(seconds)),
        "ms_high": significant(1000 * max(seconds)),
    }


def _ratio(own: Sequence[Entry], pair: Pair) -> Entry:
    """The ratio of the seconds of one thing, since arms may do a different number of them."""
    seconds = {
        (entry["arm"], entry["round"]): entry["seconds"] / entry.get("n", 1) for entry in own
    }
    rounds = sorted({turn for arm, turn in seconds if (pair.over, turn) in seconds})
    ratios = [
        seconds[pair.arm, turn] / seconds[pair.over, turn]
        for turn in rounds
        if (pair.arm, turn) in seconds
    ]
    median = statistics.median(ratios)
    return {
        "over": pair.over,
        "ratio": round(median, 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
        **({} if pair.most is None else {"most": pair.most, "met": median <= pair.most}),
    }


def significant(value: float, digits: int = 4) -> float:
    """A number with so many significant digits.

    Example:
        >>> significant(1234.56), significant(0.0123456)
        (1235.0, 0.01235)
    """
    return float(f"{value:.{digits}g}")
