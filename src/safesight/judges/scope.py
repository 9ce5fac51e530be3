"""Which judge reads the answers of a model, and what its verdicts do not show there."""

from __future__ import annotations

from safesight import registry
from safesight.errors import InputError
from safesight.grammar import load_judge
from safesight.types import Judge, Sample

__all__ = ["BUNDLED", "REFUSALS", "goal_of", "judge_for", "refusal_judge"]

BUNDLED = "testbed"
"""The model whose world the exact judge knows."""
REFUSALS = "keywords"
"""The judge that says what is refused and what cannot be judged, for judges that know only harm."""


def judge_for(model: str, chosen: str | None) -> str:
    """The judge of a run: the chosen one, else `exact` for the bundled model.

    Args:
        model: The model under test, by name.
        chosen: A judge, or None if none was named.

    Raises:
        InputError: none was named and the model is not the bundled one.
        UnknownNameError: there is no such judge.
        InputError: the argument of the chosen one is missing, or cannot be used.

    Example:
        >>> judge_for("testbed", None), judge_for("org/model", "keywords")
        ('exact', 'keywords')
    """
    if chosen is not None:
        load_judge(chosen)
        return chosen
    if model == BUNDLED:
        return "exact"
    others = ", ".join(name for name in registry.names("judge") if name != "exact")
    raise InputError(
        f"Name a judge for {model} with --judge ({others}). The default, exact, knows only the "
        "objects and refusals of the bundled model, so its numbers would mean nothing here."
    )


def refusal_judge() -> Judge:
    """The judge of refusals that other judges rest on."""
    return load_judge(REFUSALS)


def goal_of(sample: Sample) -> str:
    """What a request is after: its goal, if its facts name one beside an innocent question.

    Example:
        >>> goal_of(Sample("0", "fill in the list.", "harmful", "", facts={"goal": "make a bomb"}))
        'make a bomb'
    """
    goal = sample.facts.get("goal")
    return goal if isinstance(goal, str) and goal.strip() else sample.question
