"""Crafted pictures on disk, so that a stopped search resumes and an evaluation can ask about them.

A folder belongs to one arm, budget and seed; their hash is in its name, so pictures that were
crafted against something else are never used. A picture is found by the request that it was made
for: all that the model reads, pixels included.

    pgd-8-<hash>/card.json       what it was crafted against, and with what
    pgd-8-<hash>/rows.json       by request: what was spent, the loss before every step and after
                                 the last, and that of a move in a random direction
    pgd-8-<hash>/<request>.png   the pictures
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safesight.adversary.budget import Budget
from safesight.adversary.crafting import ATTACK
from safesight.errors import InputError, SafesightError
from safesight.files import parsed, write_bytes, write_text
from safesight.models.pictures import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

    from safesight.adversary.crafting import Crafted
    from safesight.types import Sample

__all__ = ["CraftedFolder", "request_key"]

_ROWS, _CARD = "rows.json", "card.json"
_WAY = 2
"""Raised when the same search would give another picture, so that no folder mixes them."""


@dataclass(frozen=True)
class CraftedFolder:
    """The pictures that were crafted against one arm with one budget."""

    path: Path
    budget: Budget

    @classmethod
    def at(cls, parent: Path, about: Mapping[str, Any], budget: Budget) -> CraftedFolder:
        """The folder for an arm, which need not be there yet.

        Args:
            parent: Where such folders lie.
            about: What the pictures depend on beside the budget: arm, model, seed; JSON values.
            budget: Radius and steps.
        """
        card = json.dumps({**about, **asdict(budget), "way": _WAY}, sort_keys=True, indent=2)
        mark = hashlib.sha256(card.encode()).hexdigest()[:12]
        path = parent / f"{ATTACK}-{budget.epsilon:g}-{mark}"
        if not (path / _CARD).exists():
            write_text(path / _CARD, card)
        return cls(path, budget)

    def missing(self, samples: Sequence[Sample]) -> list[Sample]:
        """Those for which there is no picture yet, or none that opens; each request once."""
        rows = self._rows()
        by_key = {request_key(sample): sample for sample in samples}
        return [
            sample
            for key, sample in by_key.items()
            if key not in rows or not _opens(self.path / f"{key}.png")
        ]

    def add(self, found: Iterable[Crafted]) -> None:
        """Write pictures and what they cost, as they come."""
        rows = self._rows()
        for crafted in found:
            key = request_key(crafted.sample)
            content = io.BytesIO()
            crafted.picture.save(content, format="PNG")
            write_bytes(self.path / f"{key}.png", content.getvalue())
            rows[key] = {
                "id": crafted.sample.id,
                "seconds": round(crafted.seconds, 3),
                "losses": [round(loss, 4) for loss in crafted.losses],
                "random": None if crafted.random is None else round(crafted.random, 4),
            }
            write_text(self.path / _ROWS, json.dumps(rows))

    def attacked(self, sample: Sample, name: str = ATTACK) -> Sample:
        """The request with the picture that was crafted for it.

        Args:
            sample: The request as it is.
            name: What the attack is called in ids and scorecards.

        Raises:
            InputError: there is none.
        """
        key = request_key(sample)
        row = self._rows().get(key)
        if row is None:
            raise InputError(
                f"No picture was crafted for sample {sample.id!r} in {self.path}. Craft it with "
                "`safesight eval --adaptive`."
            )
        spent = {"queries": 1, "epsilon": self.budget.epsilon}
        if row["losses"]:  # noise is not searched for
            spent |= {"steps": self.budget.steps, "seconds": row["seconds"]}
        file = self.path / f"{key}.png"
        # The place, since pictures for other arms are described alike; a report opens it again.
        place = file.relative_to(self.path.parent.parent).as_posix()
        plain = sample.facts.get("plain", sample.id)  # before all attacks: words may stand below
        made = {"plain": plain, "budget": spent, "crafted": place}
        return replace(
            sample,
            id=f"{sample.id}+{name}",
            image=partial(_opened, file),
            attack=name,
            facts={**sample.facts, **made},
        )

    def _rows(self) -> dict[str, Any]:
        path = self.path / _ROWS
        if not path.exists():
            return {}
        try:
            rows = parsed(path.read_bytes())
            if fault := _fault(rows):
                raise ValueError(fault)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read ({error}). Delete the folder to craft its pictures again."
            ) from error
        return dict(rows)


def _fault(rows: Any) -> str | None:
    """What is amiss with the rows of a file that somebody may have edited."""
    if not isinstance(rows, dict):
        return "it is not an object"
    for key, row in rows.items():
        if not isinstance(row, dict) or not isinstance(row.get("losses"), list):
            return f"{key} has no losses"
        if not isinstance(row.get("seconds"), int | float):
            return f"{key} has no seconds"
    return None


def _opened(path: Path) -> Image:
    return open_picture(path)


def _opens(path: Path) -> bool:
    try:
        open_picture(path)
    except SafesightError:
        return False
    return True


def request_key(sample: Sample) -> str:
    """A hash of all that a model reads of a request with one picture, and of its id."""
    assert sample.image is not None
    picture = sample.image()
    found = hashlib.sha256(f"{sample.id}\n{sample.question}\n{picture.size}".encode())
    found.update(picture.convert("RGB").tobytes())
    if around := _around(sample):
        found.update(json.dumps(around, sort_keys=True, default=dict).encode())
    return found.hexdigest()[:20]


def _around(sample: Sample) -> dict[str, Any]:
    """What the model reads beside the question and the picture; empty for most requests."""
    parts = {"system": sample.system, "prefill": sample.prefill, "turns": sample.turns or None}
    return {name: part for name, part in parts.items() if part is not None}
