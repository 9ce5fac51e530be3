"""The bundled model's answers as a truth for judges: the exact judge knows what each of them is.

The exact judge knows every object and every refusal of the bundled model, so its verdicts on that
model's answers are right by construction. The answers are short and of one kind: they show how a
judge fares with this model, and little about others.
"""

from __future__ import annotations

from pathlib import Path

from safesight.errors import InputError
from safesight.judges.exact import ExactJudge
from safesight.judges.labelled import LabelledAnswer

__all__ = ["known_answers"]


def known_answers(log_dir: str | Path) -> list[LabelledAnswer]:
    """The answers in a folder of logs that the exact judge has read, with its verdicts.

    Args:
        log_dir: Where `safesight eval` wrote its logs.

    Raises:
        StorageError: there is no such folder, or no complete run in it.
        InputError: none of the answers was read by this version of the exact judge.
    """
    from safesight.evals import read_answers

    found = [
        LabelledAnswer(
            answer=answer.answer,
            truth=answer.verdict,
            question=answer.question,
            label=answer.label,
            target=answer.target,
            model=answer.model,
            kind=answer.task,
            facts=answer.facts,
        )
        for answer in read_answers(log_dir, ExactJudge.name)
        if answer.judge == f"{ExactJudge.name} {ExactJudge.version}"
    ]
    if not found:
        raise InputError(
            f"No answer in {log_dir} was read by the judge {ExactJudge.name} "
            f"{ExactJudge.version}, which knows the truth. Evaluate the bundled model, or use "
            "labelled answers of your own with --data."
        )
    return found
