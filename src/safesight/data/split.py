"""Divide samples into those to fit on, those to set a threshold on, and those to test on.

Samples of a group stay together: a probe that has seen one wording of a goal has seen the goal.
The order of the rows does not matter: the split follows from the names of the groups and the seed.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from safesight.errors import InputError
from safesight.types import Label, Sample

__all__ = ["SPLITS", "Split", "split_by_group"]

Split = Literal["fit", "calibration", "test"]

SPLITS: Mapping[Split, float] = {"fit": 0.5, "calibration": 0.2, "test": 0.3}
"""The share of the groups of each label in each split."""


@dataclass(frozen=True)
class _Group:
    name: str
    label: Label
    samples: list[Sample]


def split_by_group(
    samples: Sequence[Sample], *, seed: int = 0, source: str = "this set"
) -> dict[Split, list[Sample]]:
    """Divide samples by group, separately for groups with and without harmful samples.

    Args:
        samples: Labelled samples; one without `facts["group"]` is a group by itself.
        seed: Another seed makes another split.
        source: Where the samples come from, as an error says it.

    Raises:
        InputError: a split would be left without harmful or without benign samples.

    Example:
        >>> some = [Sample(str(i), "?", "harmful" if i % 2 else "benign", "") for i in range(20)]
        >>> {name: len(part) for name, part in split_by_group(some).items()}
        {'fit': 10, 'calibration': 4, 'test': 6}
    """
    found: dict[Split, list[Sample]] = {name: [] for name in SPLITS}
    counts = {}
    for label in get_args(Label):
        groups = [group for group in _groups(samples) if group.label == label]
        counts[label] = len(groups)
        for name, part in _divided(groups, seed).items():
            found[name] += [sample for group in part for sample in group.samples]
    for name, chosen in found.items():
        if missing := set(get_args(Label)) - {sample.label for sample in chosen}:
            raise InputError(
                f"The {name} split of {source} would have no {' and no '.join(sorted(missing))} "
                f"samples: it has {counts['harmful']} harmful and {counts['benign']} benign groups "
                f"of rows ({len(samples)} rows). Add rows, or make more groups."
            )
    order = {id(sample): index for index, sample in enumerate(samples)}
    return {name: sorted(part, key=lambda s: order[id(s)]) for name, part in found.items()}


def _groups(samples: Sequence[Sample]) -> list[_Group]:
    """A group with a harmful sample is harmful, whatever its benign twins."""
    together: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        together[str(sample.facts.get("group") or f"id {sample.id}")].append(sample)
    return [
        _Group(name, "harmful" if any(s.label == "harmful" for s in part) else "benign", part)
        for name, part in together.items()
    ]


def _divided(groups: Sequence[_Group], seed: int) -> dict[Split, list[_Group]]:
    """In the order of a hash, the first half for the fit and so on."""
    ordered = sorted(groups, key=lambda g: hashlib.sha256(f"{seed}/{g.name}".encode()).digest())
    parts: dict[Split, list[_Group]] = {}
    start, reached = 0, 0.0
    for name, share in SPLITS.items():
        reached += share
        end = round(reached * len(ordered))
        parts[name], start = ordered[start:end], end
    return parts
