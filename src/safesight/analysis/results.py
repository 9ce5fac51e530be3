"""Results of the measurements inside a model: records that are stored as JSON.

Unless stated otherwise, every list has one entry per layer, block 0 first. The files that
compute the numbers document them; `report` displays them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from safesight.records import Record
from safesight.stats import Interval
from safesight.types import Label

__all__ = [
    "FORMS",
    "SPECIFIC",
    "Alignment",
    "Band",
    "Form",
    "HeadMap",
    "LayerReport",
    "Lens",
    "Projection",
    "Separability",
    "Shift",
]

Form = Literal["text", "object", "word"]
"""How a request carries its object: in words, drawn in the picture, written in the picture."""

SPECIFIC = 10
"""How many heads count as important. Source: secondary, a re-implementation of SASA."""

FORMS: tuple[Form, ...] = ("text", "object", "word")


class Band(Record):
    """A value with its 95% interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, found: Interval) -> Band:
        """An interval without its n, which is stored once for many bands."""
        return cls(value=found.value, low=found.low, high=found.high)


class Separability(Record):
    """How well a linear probe tells harmful from benign requests of one form."""

    form: Form
    areas: list[Band]
    """Cross-validated area under the ROC curve, bootstrap interval."""
    harmful: int
    benign: int
    folds: int
    grouped: bool
    """Whether objects in a test fold never occur in its training folds."""


class Projection(Record):
    """Where requests of one form lie along the text-derived unsafe direction."""

    form: Form
    label: Label
    defense: str
    """"none" for the model as it is."""
    means: list[Band]
    """0 is the mean benign and 1 the mean harmful text request that defined the direction."""
    n: int


class Lens(Record):
    """What the language head would say at every layer."""

    form: Form
    readable: list[Band]
    """Share of the five most likely tokens that are readable, with a bootstrap interval."""
    words: list[list[str]]
    """The most common among all samples' five most likely tokens as text, in descending order."""
    rank: list[float]
    """Median rank of the correct object's word among all tokens; 1 is the most likely."""
    rank_low: list[float]
    """Lower quartile of that rank."""
    rank_high: list[float]
    """Upper quartile."""
    n: int


class Alignment(Record):
    """How similar the states of a request with its picture are to those of another prompt."""

    against: Literal["describe", "text"]
    """The same picture with a neutral instruction, or the same text without the picture."""
    mean: list[float]
    """Cosine, averaged over samples."""
    sd: list[float]
    n: int


class HeadMap(Record):
    """How far the states rotate when one head is silenced, by layer and head.

    Angles are in radians, from 0 to pi/2. A block without attention has an empty row; NaN is
    never stored.
    """

    safety: list[list[float]]
    """For harmful requests."""
    utility: list[list[float]]
    """For picture questions."""
    safety_centred: list[list[float]]
    """The same after subtracting the mean state."""
    utility_centred: list[list[float]]
    n: int
    """Prompts in each set."""

    def maps(self) -> tuple[list[list[float]], ...]:
        """All four."""
        return self.safety, self.utility, self.safety_centred, self.utility_centred

    def even(self) -> bool:
        """Whether all maps have the same heads in the same layers."""
        return len({tuple(len(row) for row in rows) for rows in self.maps()}) == 1

    def difference(self, *, centred: bool = False) -> list[list[float]]:
        """Safety minus utility: how much more a head matters for refusing than for seeing.

        Example:
            >>> zeros = [[0.0, 0.0]]
            >>> HeadMap(safety=[[0.3, 0.1]], utility=[[0.1, 0.1]], safety_centred=zeros,
            ...         utility_centred=zeros, n=2).difference()[0][1]
            0.0
        """
        pair = (
            (self.safety_centred, self.utility_centred) if centred else (self.safety, self.utility)
        )
        return [[s - u for s, u in zip(*rows, strict=True)] for rows in zip(*pair, strict=True)]

    def specific(self, k: int = SPECIFIC) -> list[tuple[int, int]]:
        """The k heads with the largest angles for safety that are not among those for utility.

        Largest first, as (layer, head).
        """
        safety, utility = _largest(self.safety, k), _largest(self.utility, k)
        return [place for place in safety if place not in utility]


def _largest(rows: list[list[float]], k: int) -> list[tuple[int, int]]:
    places = [(layer, head) for layer, row in enumerate(rows) for head in range(len(row))]
    return sorted(places, key=lambda place: -rows[place[0]][place[1]])[:k]


class Shift(Record):
    """Whether a given vector points in the direction of refusal."""

    source: str
    """Where the vector comes from."""
    cosines: list[float]
    """Cosines with the text-derived unsafe direction."""


class LayerReport(Record):
    """Everything `safesight layers` measured on one model."""

    model: str
    family: str
    identity: str
    """Hash of config, weights and dtype."""
    layers: int
    seed: int
    n: int
    """Requests per label, each in every form."""
    created: str
    versions: dict[str, str]
    seconds: float
    gap: list[float]
    """Norm of the unsafe direction before scaling, divided by the mean norm of the states. Where
    it is small, projections in units of it are unstable."""
    separability: list[Separability]
    projections: list[Projection]
    lens: list[Lens]
    alignment: list[Alignment]
    instruction: str
    """The neutral instruction of `alignment`."""
    heads: HeadMap | None = None
    shift: Shift | None = None
    notes: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _whole(self) -> LayerReport:
        """A report reads every layer in every form, and a file may lack some."""
        if self.layers < 1 or any(len(each) != self.layers for each in self._by_layer()):
            raise ValueError(f"not every list has {self.layers} entries, one per layer")
        if self.heads is not None and not self.heads.even():
            raise ValueError("the maps of heads differ in shape")
        sides = [
            {(item.form, item.defense) for item in self.projections if item.label == label}
            for label in ("harmful", "benign")
        ]
        forms = [{item.form for item in each} for each in (self.separability, self.lens)]
        forms.append({form for form, defense in sides[0] if defense == "none"})
        if any(each != set(FORMS) for each in forms) or sides[0] != sides[1] or not self.alignment:
            raise ValueError("a measure, a form or a label is missing")
        return self

    def _by_layer(self) -> Iterator[list[Any]]:
        """Every list that has one entry per layer."""
        yield self.gap
        yield from (item.areas for item in self.separability)
        yield from (item.means for item in self.projections)
        for lens in self.lens:
            yield from (lens.readable, lens.words, lens.rank, lens.rank_low, lens.rank_high)
        for one in self.alignment:
            yield from (one.mean, one.sd)
        if self.heads is not None:
            yield from self.heads.maps()
        if self.shift is not None:
            yield self.shift.cosines
