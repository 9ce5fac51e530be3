"""Sums up a scorecard in one sentence, and states the rule that picks its subject.

It only describes numbers in the scorecard; nothing is computed from answers.
"""

from __future__ import annotations

from safesight.compare import Delta, Row, Scorecard
from safesight.grammar import UNDEFENDED

__all__ = [
    "RULE",
    "best_defense",
    "headline_defenses",
    "points",
    "share",
    "verdict_sentence",
]

RULE = (
    "The sentence is about the defense with the smallest sum of attack success, over-refusal "
    "and lost utility, each over all tasks that report it, among those that lowered attack "
    "success beyond the 95% interval. Defenses with the same rates are named together."
)

_ASR, _OVER, _UTILITY = "attack_success_rate", "over_refusal_rate", "utility"


def share(value: float) -> str:
    """A proportion, formatted for people.

    Example:
        >>> share(0.0), share(0.0312), share(1.0)
        ('0%', '3.1%', '100%')
    """
    return f"{100 * value:.1f}".removesuffix(".0") + "%"


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


def best_defense(card: Scorecard) -> str | None:
    """The defense the sentence is about, or None if none lowered attack success measurably."""
    return min(_helpful(card), key=lambda defense: _cost(card, defense), default=None)


def headline_defenses(card: Scorecard) -> list[str]:
    """All defenses that the sentence names: the best one and those that tie with it."""
    best = best_defense(card)
    if best is None:
        return []
    return [name for name in _helpful(card) if _like(card, name) == _like(card, best)]


def verdict_sentence(card: Scorecard) -> str:
    """The benefit and cost of the best defense in one sentence, and the caveats of the judges."""
    return " ".join([_summary(card), *card.caveats])


def _summary(card: Scorecard) -> str:
    base = card.row(UNDEFENDED, "all", _ASR)
    others = [defense for defense in card.defenses if defense != UNDEFENDED]
    if base is None:
        return f"No attack was run on {card.model} without a defense, so nothing can be compared."
    if not others:
        return f"Undefended, {card.model} gives in to {share(base.value)} of the attacks."
    best = best_defense(card)
    if best is None:
        return (
            f"No defense lowers attack success on {card.model} measurably: "
            f"undefended it is {share(base.value)} over {base.n} attacks."
        )
    row = card.row(best, "all", _ASR)
    assert row is not None
    tied = headline_defenses(card)
    verb = "lowers" if len(tied) == 1 else "each lower"
    kinds = sum(card.row(best, task, _ASR) is not None for task in card.tasks)
    over = f" over {kinds} kinds of attack" if kinds > 1 else ""
    return (
        f"On {card.model}, {_listed(tied)} {verb} attack success from {share(base.value)} to "
        f"{share(row.value)}{over}{_costs(card, best)}."
    )


def _helpful(card: Scorecard) -> list[str]:
    """The defenses that lowered attack success beyond the interval."""
    return [
        defense
        for defense in card.defenses
        if (change := card.delta(defense, "all", _ASR)) is not None and change.high < 0
    ]


def _like(card: Scorecard, defense: str) -> tuple[object, ...]:
    """What the sentence says about a defense; defenses that agree in it are tied."""
    rates = [card.row(defense, "all", metric) for metric in (_ASR, _OVER, _UTILITY)]
    kinds = [task for task in card.tasks if card.row(defense, task, _ASR) is not None]
    return [row and row.value for row in rates], kinds, _costs(card, defense)


def _listed(names: list[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last


def _costs(card: Scorecard, defense: str) -> str:
    changes = {
        name: change
        for name, metric in (("over-refusal", _OVER), ("utility", _UTILITY))
        if (change := card.delta(defense, "all", metric)) is not None
    }
    clear = [
        f"{name} {'up' if change.delta > 0 else 'down'} {abs(100 * change.delta):.1f} points"
        for name, change in changes.items()
        if not _within_noise(change)
    ]
    noise = [
        f"{name} ({points(change.delta)} points)"
        for name, change in changes.items()
        if _within_noise(change)
    ]
    words = " and ".join(clear)
    if noise:
        words += (" and " if clear else "") + "no measurable change in " + " or ".join(noise)
    return f", with {words}" if words else ""


def _within_noise(change: Delta) -> bool:
    return change.low <= 0 <= change.high


def _cost(card: Scorecard, defense: str) -> float:
    rows: dict[str, Row | None] = {m: card.row(defense, "all", m) for m in (_ASR, _OVER, _UTILITY)}
    harm, over, utility = rows[_ASR], rows[_OVER], rows[_UTILITY]
    lost = 1 - utility.value if utility else 0.0
    return (harm.value if harm else 1.0) + (over.value if over else 0.0) + lost
