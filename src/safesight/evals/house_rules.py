"""Benign requests that a method was told to forbid, known from the data of its fit.

A house rule forbids what the benchmarks call benign. A method that is fitted on it should refuse
or forget such requests, so right answers to them are counted apart from all others.

A data set whose rows follow a house rule says so with a function attribute `forbidden`: given the
options of the data set, it returns patterns, each a mapping from facts of a sample to the values
that match. The patterns stand in the header of an arm's logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from safesight import registry
from safesight.errors import PluginError
from safesight.guests import patterns_fault

if TYPE_CHECKING:
    from safesight.fitting.artifact import Artifact

__all__ = ["Pattern", "forbidden_by", "is_ruled"]

Pattern = Mapping[str, list[str]]
"""Facts of a sample and the values that match; all facts must match."""


def forbidden_by(artifacts: Iterable[Artifact | None]) -> list[Pattern]:
    """The requests that the data of these fits forbids; empty without a house rule.

    Raises:
        PluginError: a data set of another package gives something else.
    """
    return [
        pattern for artifact in artifacts if artifact is not None for pattern in _patterns(artifact)
    ]


def _patterns(artifact: Artifact) -> list[Pattern]:
    data = artifact.card.get("data")
    source = data.get("tuning_source") if isinstance(data, Mapping) else None
    options: dict[str, Any] = dict(source) if isinstance(source, Mapping) else {}
    name = options.pop("dataset", None)
    if name not in registry.names("dataset"):
        return []
    forbidden = getattr(registry.load("dataset", name), "forbidden", None)
    if forbidden is None:
        return []
    found = forbidden(**options)
    if fault := patterns_fault(found):
        raise PluginError(f"The data set {name!r} {fault}. Repair the package that it comes with.")
    return list(found)


def is_ruled(facts: Mapping[str, Any], patterns: object) -> bool:
    """Whether a request with these facts matches one of the patterns of a log.

    Example:
        >>> rule = [{"request": ["how_to"], "concept": ["tree", "bus"]}]
        >>> is_ruled({"request": "how_to", "concept": "bus"}, rule)
        True
        >>> is_ruled({"request": "vqa", "concept": "bus"}, rule), is_ruled({}, None)
        (False, False)
    """
    return isinstance(patterns, list) and any(
        isinstance(pattern, Mapping)
        and pattern
        and all(isinstance(v, list) and facts.get(key) in v for key, v in pattern.items())
        for pattern in patterns
    )
