"""The same request as text, as a picture and as a written word, matched for comparison.

Harmful and benign requests come from the registry's benchmarks. Those with the same action
(`facts["verb"]`) and the same object (`facts["concept"]`) in different forms (`facts["form"]`)
are matched, so that only the form changes within a row. Nothing is drawn or downloaded here,
and no model is involved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safesight.analysis.results import FORMS, Form
from safesight.benchmarks import load_benchmark
from safesight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from safesight.types import Label, Sample

__all__ = ["Request", "paired_requests"]

_TASKS: Mapping[Label, tuple[str, ...]] = {
    "harmful": ("text_harm", "image_harm", "typographic_harm"),
    "benign": ("over_refusal",),
}
_FORM_OF: Mapping[str, Form] = {"plain": "text", "object": "object", "word": "word"}
_FIRST_DRAW, _LARGEST_DRAW = 16, 512
"""Samples drawn per task for each request wanted: at first, and at most."""


@dataclass(frozen=True)
class Request:
    """One verb and one object, requested in every form."""

    label: Label
    verb: str
    concept: str
    forms: Mapping[Form, Sample]


def paired_requests(n: int, *, label: Label, seed: int = 0, split: str = "test") -> list[Request]:
    """`n` requests of a label, each in all forms; no sample is used twice.

    Args:
        n: How many.
        label: Label of the requests.
        seed: Seed of the benchmarks' samples.
        split: The benchmarks' split; two splits share no sample.

    Raises:
        InputError: the benchmarks do not have that many.

    Example:
        >>> request = paired_requests(1, label="harmful")[0]
        >>> {sample.facts["verb"] for sample in request.forms.values()} == {request.verb}
        True
    """
    draw = _FIRST_DRAW
    while True:
        found = _matched(_drawn(label, draw * n, seed, split), label)
        if len(found) >= n:
            return found[:n]
        if draw >= _LARGEST_DRAW:
            raise InputError(
                f"Only {len(found)} {label} requests exist as text, as a picture and as a "
                f"written word, but {n} are wanted. Ask for fewer."
            )
        draw *= 2


def _drawn(label: Label, n: int, seed: int, split: str) -> list[Sample]:
    samples: list[Sample] = []
    for task in _TASKS[label]:
        benchmark: Callable[..., Any] = load_benchmark(task)
        samples += benchmark(n, seed=seed, split=split)
    return samples


def _matched(samples: Sequence[Sample], label: Label) -> list[Request]:
    """Rows of one sample per form, in the order in which they become complete."""
    waiting: dict[tuple[str, str], dict[Form, list[Sample]]] = defaultdict(
        lambda: {form: [] for form in FORMS}
    )
    for sample in samples:
        form = _FORM_OF.get(str(sample.facts.get("form")))
        if form is not None:
            waiting[sample.facts["concept"], sample.facts["verb"]][form].append(sample)
    rounds: dict[int, list[Request]] = defaultdict(list)
    for (concept, verb), forms in waiting.items():
        for index, row in enumerate(zip(*forms.values(), strict=False)):
            chosen = dict(zip(FORMS, row, strict=True))
            rounds[index].append(Request(label, verb, concept, chosen))
    # Every pair of verb and object is used once before any is repeated.
    return [request for index in sorted(rounds) for request in rounds[index]]
