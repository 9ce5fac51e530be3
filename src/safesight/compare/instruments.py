"""What logs tell about the judges: how often panels disagreed, and what could not be graded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from safesight.compare.records import Disagreement
from safesight.compare.things import things_of
from safesight.grammar import UNDEFENDED
from safesight.stats import mean_interval

if TYPE_CHECKING:
    from safesight.evals import Answer

__all__ = ["broken_remark", "disagreements", "judge_remarks"]


def disagreements(answers: Sequence[Answer], seed: int = 0) -> list[Disagreement]:
    """How often the judges of each panel disagreed, over what the answers are about.

    Args:
        answers: The answers of all arms. Those of two arms to one prompt belong together.
        seed: Seed of the bootstrap.
    """
    read: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        if _details(answer).get("members"):
            read[answer.judge].append(answer)
    found = []
    for judge, judged in read.items():
        differ = [len(set(_details(each)["members"].values())) > 1 for each in judged]
        share = mean_interval(np.array(differ, dtype=float), things_of(judged), seed=seed)
        found.append(
            Disagreement(
                judge=judge,
                disagreed=sum(differ),
                n=len(differ),
                value=share.value,
                low=share.low,
                high=share.high,
            )
        )
    return found


def judge_remarks(answers: Sequence[Answer], differing: Sequence[Disagreement]) -> Iterator[str]:
    """A sentence on each panel that disagreed, and on each judge that could not grade all."""
    for each in differing:
        yield (
            f"The judges of {each.judge} disagreed about {each.disagreed} of {each.n} answers "
            f"({100 * each.value:.1f}%, {100 * each.low:.1f} to {100 * each.high:.1f})."
        )
    failed: dict[str, Counter[str]] = defaultdict(Counter)
    for answer in answers:
        if failure := _details(answer).get("failure"):
            failed[answer.judge][str(failure)] += 1
    for judge, kinds in failed.items():
        total = sum(answer.judge == judge for answer in answers)
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        yield (
            f"The judge {judge} could not grade {kinds.total()} of {total} answers ({told}). They "
            "count as invalid."
        )


def broken_remark(answers: Sequence[Answer]) -> Iterator[str]:
    """A sentence if the undefended model writes mostly broken text, which no judge can read."""
    told = [a.broken for a in answers if a.defense == UNDEFENDED and a.broken is not None]
    if told and 2 * sum(told) > len(told):
        yield (
            f"Of the undefended model's answers {sum(told)} of {len(told)} are broken text, so "
            "rates of attacks and refusals say little: check how the model is loaded and prompted."
        )


def _details(answer: Answer) -> dict[str, dict[str, str]]:
    return dict(answer.metadata.get("details") or {})
