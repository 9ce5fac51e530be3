"""The table of `docs/results/matrix.json`: which defense works on which architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import ascii_lowercase

__all__ = ["render_matrix"]

_ANY = re.compile(r"'tiny-\w+'")


def render_matrix(architectures: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    """One row per architecture, one column per defense; a letter where it does not work.

    Architectures of which a cell is missing are left out.

    Example:
        >>> rows = [{"architecture": "llava", "defense": "sasa", "result": "works", "sentence": ""}]
        >>> print(render_matrix(["llava"], rows))
        | architecture | sasa |
        | --- | --- |
        | llava | ✓ |
    """
    found = {(row["architecture"], row["defense"]): row for row in rows}
    defenses = list(dict.fromkeys(row["defense"] for row in rows))
    notes: dict[str, str] = {}

    def mark(row: Mapping[str, str]) -> str:
        if row["result"] == "works":
            return "✓"
        said = _ANY.sub("this model", row["sentence"])
        note = notes.setdefault(f"{row['result'].capitalize()}: {said}", _letters(len(notes)))
        return f"({note})"

    lines = [_line(["architecture", *defenses]), _line(["---"] * (1 + len(defenses)))]
    for name in architectures:
        if all((name, defense) in found for defense in defenses):
            lines.append(_line([name, *(mark(found[name, defense]) for defense in defenses)]))
    lines += ["", *(f"- ({letter}) {note}" for note, letter in notes.items())] if notes else []
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _letters(number: int) -> str:
    """A to z, then aa, ab, ..."""
    first, second = divmod(number, len(ascii_lowercase))
    return (ascii_lowercase[first - 1] if first else "") + ascii_lowercase[second]
