"""Selects the arms of a benchmark by name, from its command line.

Not a benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["chosen"]


def chosen(begins: str, names: Iterable[str], separator: str = ",") -> set[str]:
    """The names that begin with one of the given prefixes; all names if none is given.

    Raises:
        SystemExit: a prefix matches no name; a benchmark that runs nothing would look finished.

    Example:
        >>> sorted(chosen("sft;none", ["none", "npo", "sft, rho 1"], separator=";"))
        ['none', 'sft, rho 1']
    """
    every = list(dict.fromkeys(names))
    wanted = [part.strip() for part in begins.split(separator) if part.strip()]
    for part in wanted:
        if not any(name.startswith(part) for name in every):
            raise SystemExit(f"No arm is named {part!r}. Choose from: {'; '.join(every)}.")
    return {name for name in every if not wanted or name.startswith(tuple(wanted))}
