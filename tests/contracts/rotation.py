"""Which defense is tried on which architecture, property by property.

Every property on every pair would cost minutes and repeat itself: defenses of a kind act at the
same place, and an architecture is different in the same way for all of them. So each property
deals the architectures out. Under every property, each defense meets some architectures and each
kind of defense meets all of them; over the turns, each defense meets all of them too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from safesight import registry
from tests import tiny

TURNS = 4


def dealt(
    names: Sequence[str], turn: int, families: Sequence[str] = tiny.FAMILIES
) -> list[tuple[str, str]]:
    """Pairs of a defense and an architecture.

    Args:
        names: Defenses of the registry.
        turn: Of the property, from 0; another turn deals other pairs.
        families: The architectures to deal out.
    """
    turns = min(TURNS, len(families))
    width = len(families) // turns
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in names:
        # An input defense on every architecture must be a real one.
        kinds[name if name == "none" else registry.load("defense", name).kind].append(name)
    return [
        (members[seat % len(members)], families[(width * (seat + turn) + step) % len(families)])
        for members in kinds.values()
        for seat in range(max(len(members), turns))
        for step in range(width)
    ]
