"""Which judge reads the answers of a model, and what its verdicts do not show there."""

from __future__ import annotations

from safesight import registry
from safesight.errors import InputError

__all__ = ["BUNDLED", "judge_for"]

BUNDLED = "testbed"
"""The model whose world the exact judge knows."""


def judge_for(model: str, chosen: str | None) -> str:
    """The judge of a run: the chosen one, else `exact` for the bundled model.

    Args:
        model: The model under test, by name.
        chosen: A registered judge, or None if none was named.

    Raises:
        InputError: none was named and the model is not the bundled one.
        UnknownNameError: there is no such judge.

    Example:
        >>> judge_for("testbed", None), judge_for("org/model", "keywords")
        ('exact', 'keywords')
    """
    if chosen is not None:
        registry.check("judge", chosen)
        return chosen
    if model == BUNDLED:
        return "exact"
    others = ", ".join(name for name in registry.names("judge") if name != "exact")
    raise InputError(
        f"Name a judge for {model} with --judge ({others}). The default, exact, knows only the "
        "objects and refusals of the bundled model, so its numbers would mean nothing here."
    )
