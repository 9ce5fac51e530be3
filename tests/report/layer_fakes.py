"""A look inside made by hand: two layers, every measure, words that try to be markup."""

from __future__ import annotations

from safesight.analysis import LayerReport
from safesight.analysis.results import (
    FORMS,
    Alignment,
    Band,
    HeadMap,
    Lens,
    Projection,
    Separability,
    Shift,
)

MARKUP = "<img/src=x>"


def band(value: float) -> Band:
    return Band(value=value, low=value - 0.05, high=value + 0.05)


def report(*, whole: bool = True) -> LayerReport:
    """With heads and a vector, or without."""
    angles = [[0.2, 0.1], []]
    heads = HeadMap(
        safety=angles,
        utility=[[0.1, 0.1], []],
        safety_centred=angles,
        utility_centred=angles,
        n=6,
    )
    values = {"harmful": {"text": 1.0, "object": 0.25, "word": 0.125}, "benign": {}}
    arms = [("none", form) for form in FORMS] + [("safety_prompt", "object")]
    return LayerReport(
        model="toy",
        family="llava",
        identity="0123456789abcdef" * 4,
        layers=2,
        seed=11,
        n=7,
        created="2026-01-02T03:04:05+00:00",
        versions={"torch": "2"},
        seconds=5,
        gap=[0.5, 0.75],
        separability=[
            Separability(
                form=form,
                areas=[band(0.5), band(0.9)],
                harmful=7,
                benign=7,
                folds=5,
                grouped=True,
            )
            for form in FORMS
        ],
        projections=[
            Projection(
                form=form,  # type: ignore[arg-type]
                label=label,  # type: ignore[arg-type]
                defense=defense,
                means=[band(values[label].get(form, 0.0))] * 2,
                n=7,
            )
            for defense, form in arms
            for label in ("harmful", "benign")
        ],
        lens=[
            Lens(
                form=form,
                readable=[band(0.2), band(0.8)],
                words=[["a", MARKUP], ["to"]],
                rank=[40.0, 3.0],
                rank_low=[20.0, 1.0],
                rank_high=[60.0, 9.0],
                n=14,
            )
            for form in FORMS
        ],
        alignment=[
            Alignment(against="describe", mean=[0.9, 0.5], sd=[0.1, 0.1], n=14),
            Alignment(against="text", mean=[0.3, 0.7], sd=[0.1, 0.1], n=14),
        ],
        instruction="Describe the image.",
        heads=heads if whole else None,
        shift=Shift(source="tool", cosines=[-0.5, 0.25]) if whole else None,
    )
