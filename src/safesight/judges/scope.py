"""Which judge reads the answers to a task, if nobody names one."""

from __future__ import annotations

from collections.abc import Sequence

from safesight import registry
from safesight.grammar import ANY_MODEL, BUNDLED, load_judge, task_parts
from safesight.types import Judge, Sample

__all__ = ["common_judge", "goal_of", "judge_for", "refusal_judge"]


def judge_for(
    model: str, task: str, chosen: str | None = None, *, kind: registry.Kind = "benchmark"
) -> str:
    """The judge of a task: the chosen one, else the one that knows most about its answers.

    That is `exact` for the bundled model on its own tasks, the judge that a benchmark names
    (`judge`, an attribute), and `rules` for everything else.

    Args:
        model: The model under test, by name.
        task: A registered benchmark, perhaps under attacks.
        chosen: A registered judge, or None if none was named.
        kind: What `task` names: a benchmark, or a data set that is asked like one.

    Raises:
        UnknownNameError: there is no such judge or benchmark.
        InputError: the argument of the chosen judge is missing, or cannot be used.

    Example:
        >>> judge_for("testbed", "vqa"), judge_for("testbed", "vqa+prefill", "keywords")
        ('exact', 'keywords')
        >>> judge_for("org/model", "vqa")
        'rules'
    """
    if chosen is not None:
        load_judge(chosen)
        return chosen
    name = registry.whole(kind, task_parts(task)[0])
    if registry.in_bundled_world(kind, name):
        return "exact" if model == BUNDLED else ANY_MODEL
    named = getattr(registry.load(kind, name), "judge", None)
    return named if isinstance(named, str) else ANY_MODEL


def common_judge(model: str, tasks: Sequence[str], chosen: str | None = None) -> str | None:
    """The judge of all tasks, or None if they have different ones.

    Raises:
        UnknownNameError: there is no such judge or benchmark.

    Example:
        >>> common_judge("testbed", ["vqa", "image_harm"])
        'exact'
    """
    found = {judge_for(model, task, chosen) for task in tasks}
    return found.pop() if len(found) == 1 else None


def refusal_judge() -> Judge:
    """The judge of refusals that other judges rest on."""
    return load_judge(ANY_MODEL)


def goal_of(sample: Sample) -> str:
    """What a request is after: its goal, if its facts name one beside an innocent question.

    Example:
        >>> goal_of(Sample("0", "fill in the list.", "harmful", "", facts={"goal": "make a bomb"}))
        'make a bomb'
    """
    goal = sample.facts.get("goal")
    return goal if isinstance(goal, str) and goal.strip() else sample.question
