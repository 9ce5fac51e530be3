"""Numbers in words: shares, changes, and what a 0% or a corrected p-value stands for.

An exact 0% or 100% is never the whole truth, so a sentence that names one also names its bound.
The bound is that of the interval in the table: Wilson's on the number of answers or, where several
are about one thing, on the number of things.
"""

from __future__ import annotations

from collections.abc import Iterable

from safesight.compare import Row, Scorecard, by_family
from safesight.console import numbered
from safesight.stats import ALPHA

__all__ = ["extreme", "extremes_note", "holm_note", "listed", "points", "share", "share_told"]

_FEW = 400
"""Below this number of answers, the interval of a rate near a half is wider than ten points."""

_NAMED = 3
"""Bounds that a note names one by one; of more, only the widest and the narrowest."""


def share(value: float) -> str:
    """A proportion, formatted for people; only an exact one is called 0% or 100%.

    Example:
        >>> share(0.0), share(0.0312), share(1.0), share(0.0001)
        ('0%', '3.1%', '100%', '<0.1%')
    """
    text = f"{100 * value:.1f}"
    if text == "0.0" and value > 0:
        return "<0.1%"
    if text == "100.0" and value < 1:
        return ">99.9%"
    return text.removesuffix(".0") + "%"


def share_told(row: Row) -> str:
    """A rate in a sentence, with what makes it uncertain.

    Example:
        >>> share_told(Row(defense="sasa", task="vqa", metric="refusal_rate", value=0.25,
        ...                low=0.142, high=0.402, n=40, invalid=0, judge="exact"))
        '25% (14.2–40.2)'
    """
    if row.value is None:
        return "a rate that could not be judged"
    if bound := extreme(row):
        return f"{share(row.value)} ({bound})"
    if row.n >= _FEW:
        return share(row.value)
    return f"{share(row.value)} ({100 * row.low:.1f}–{100 * row.high:.1f})"


def listed(names: list[str]) -> str:
    """Names in a sentence.

    Example:
        >>> listed(["sasa", "rai", "npo"])
        'sasa, rai and npo'
    """
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last


def points(value: float) -> str:
    """A change of a proportion, with its sign.

    Example:
        >>> points(-0.625), points(0.001), points(0.0)
        ('−62.5', '+0.1', '0.0')
    """
    text = f"{abs(100 * value):.1f}"
    if text == "0.0":
        return text
    return ("−" if value < 0 else "+") + text


def extreme(row: Row) -> str | None:
    """What a rate of exactly 0% or 100% leaves possible; None for any other rate.

    Example:
        >>> row = Row(defense="sasa", task="vqa", metric="refusal_rate", value=0.0, low=0.0,
        ...           high=0.0876, n=40, invalid=0, judge="exact")
        >>> extreme(row), extreme(row.model_copy(update={"groups": 12}))
        ('0 of 40: at most 8.8%', '0 of 40 about 12 things: at most 8.8%')
    """
    if row.value not in (0.0, 1.0):
        return None
    count = f"{round(row.value * row.n)} of {row.n}"
    about = "" if row.groups is None else f" about {numbered(row.groups, 'thing')}"
    bound = f"at least {share(row.low)}" if row.value else f"at most {share(row.high)}"
    return f"{count}{about}: {bound}"


def extremes_note(rows: Iterable[Row]) -> str | None:
    """A sentence on the rates of exactly 0% among those shown; None if there are none.

    Example:
        >>> row = Row(defense="sasa", task="vqa", metric="refusal_rate", value=0.0, low=0.0,
        ...           high=0.0876, n=40, invalid=0, judge="exact")
        >>> extremes_note([row])
        'A rate of 0% is known up to its bound: 0 of 40: at most 8.8%.'
    """
    none = sorted((row for row in rows if row.value == 0), key=lambda row: row.high)
    found = list(dict.fromkeys(text for row in none if (text := extreme(row)) is not None))
    if not found:
        return None
    named = "; ".join(found) if len(found) <= _NAMED else f"from {found[0]}, to {found[-1]}"
    return f"A rate of 0% is known up to its bound: {named}."


def holm_note(card: Scorecard, mark: str = "*") -> str | None:
    """A sentence on the marked changes; None if nothing was corrected, as in older files."""
    if not any(delta.p_holm is not None for delta in card.deltas):
        return None
    tests = by_family(card.deltas)
    gains = len(tests[False])
    return (
        f"{mark} p < {ALPHA:g} in an exact paired test, after Holm's correction for "
        f"{_all(len(tests[True]), 'change')} from undefended"
        + (f", or for {_all(gains, 'gain')} over a control." if gains else ".")
    )


def _all(count: int, noun: str) -> str:
    return f"{'all ' if count > 1 else ''}{numbered(count, noun)}"
