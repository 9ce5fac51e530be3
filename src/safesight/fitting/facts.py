"""Samples chosen by their facts: what a fit leaves out, and what an evaluation asks for.

The same choice serves both, so that a fit that holds out `category=weapon` and an evaluation of
`category=weapon` share no such sample. A fact `category` is compared together with the fact
`categories`, a list of everything that a sample shows or names.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from safesight.errors import InputError
from safesight.types import Sample

__all__ = ["Facts", "covers", "matches", "parsed_facts", "select", "told", "without"]

_SHOWN = 24
"""Values that an error lists at most."""

Facts = Mapping[str, Sequence[str]]
"""Values of facts. A sample matches if one of its facts has one of the values listed for it."""


def parsed_facts(texts: Sequence[str], what: str) -> dict[str, list[str]]:
    """The facts of a repeatable option.

    Args:
        texts: Each `FACT=VALUE` or `FACT=VALUE,VALUE`; a value that has a comma itself is quoted.
        what: The name of the option, for errors.

    Raises:
        InputError: a text does not have that form.

    Example:
        >>> parsed_facts(["concept=bomb, knife", "category=drug"], "--hold-out")
        {'concept': ['bomb', 'knife'], 'category': ['drug']}
        >>> parsed_facts(['category="violence, aiding",drug'], "--only")
        {'category': ['violence, aiding', 'drug']}
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        fact, _, values = text.partition("=")
        names = [value.strip() for value in _split(values) if value.strip()]
        if not fact.strip() or not names:
            raise InputError(
                f"{what} {text!r} does not have the form FACT=VALUE, such as category=weapon or "
                "concept=bomb,knife."
            )
        known = found.setdefault(fact.strip(), [])
        known += [name for name in names if name not in known]
    return found


def matches(sample: Sample, facts: Facts) -> bool:
    """Whether one of the sample's facts has one of the values.

    Example:
        >>> pet = Sample("1", "what is this?", "benign", "cat", facts={"concepts": ["cat", "dog"]})
        >>> matches(pet, {"concept": ["dog"]}), matches(pet, {"category": ["dog"]})
        (True, False)
    """
    return any(not set(values).isdisjoint(_values(sample, fact)) for fact, values in facts.items())


def select(samples: Sequence[Sample], facts: Facts, what: str) -> list[Sample]:
    """The samples that match.

    Args:
        samples: Of one task, or of several.
        facts: Without any, all samples match.
        what: Where the samples are from, for the error.

    Raises:
        InputError: none matches.
    """
    found = [sample for sample in samples if matches(sample, facts)] if facts else [*samples]
    if samples and not found:
        raise InputError(f"No sample of {what} has {told(facts)}. {_known(samples, facts)}")
    return found


def without(samples: Sequence[Sample], facts: Facts) -> list[Sample]:
    """The samples that do not match."""
    return [sample for sample in samples if not matches(sample, facts)]


def covers(one: Facts, other: Facts) -> bool:
    """Whether every sample that matches `other` matches `one`, whatever the samples.

    Example:
        >>> covers({"category": ["weapon", "drug"]}, {"category": ["drug"]})
        True
        >>> covers({"category": ["weapon"]}, {"concept": ["bomb"]})
        False
    """
    return all(set(values) <= set(one.get(fact, ())) for fact, values in other.items())


def told(facts: Facts) -> str:
    """The facts as the options write them.

    Example:
        >>> told({"concept": ["bomb", "knife"], "category": ["drug"]})
        'concept=bomb,knife or category=drug'
    """
    return " or ".join(f"{fact}={_joined(values)}" for fact, values in facts.items())


def _split(values: str) -> list[str]:
    try:
        return next(csv.reader([values], skipinitialspace=True), [])
    except csv.Error:  # a line that ends in the middle
        return []


def _joined(values: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def _values(sample: Sample, fact: str) -> set[str]:
    plural = f"{fact[:-1]}ies" if fact.endswith("y") else f"{fact}s"
    listed = sample.facts.get(plural)
    more = listed if isinstance(listed, list | tuple) else ()
    return {str(value) for value in (sample.facts.get(fact), *more) if value is not None}


def _known(samples: Sequence[Sample], facts: Facts) -> str:
    """The values that there are, of the facts that were asked for."""
    sentences = []
    for fact in facts:
        values = sorted(set().union(*(_values(sample, fact) for sample in samples)))
        shown = ", ".join(_joined([value]) for value in values[:_SHOWN])
        shown += ", ..." if len(values) > _SHOWN else ""
        sentences.append(f"Values of {fact}: {shown}." if values else f"None has a {fact}.")
    return " ".join(sentences)
