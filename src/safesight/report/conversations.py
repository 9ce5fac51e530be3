"""Selects the conversations a report shows, and redacts them.

Strings in, strings out. Text from a model is never marked as safe HTML, here or elsewhere; the
template escapes it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from safesight.compare import Provenance
from safesight.grammar import ANY_MODEL, UNDEFENDED, load_judge, task_parts
from safesight.judges.shots import deciding
from safesight.report.pictures import Album, Crafted, Tried, crafted_pictures
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.evals import Answer

__all__ = ["Conversation", "Redaction", "Reply", "conversations", "veiled_picture"]

Redaction = Literal["blur", "remove"]
"""`blur` hides harmful content until clicked; `remove` omits it from the file."""

SENSITIVE_PICTURES = frozenset({"sensitive_benign"})
"""Tasks with harmless requests about pictures that are not."""

REMOVED = "[left out of this file]"


@dataclass(frozen=True)
class Reply:
    """The answer of one arm."""

    defense: str
    verdict: str
    text: str
    correct: bool
    broken: bool
    veiled: bool
    scores: tuple[str, ...]
    """Which of several shots it is to, and the scores of its detectors, in words."""
    asked: Tried | None
    """What that shot asked, if it is not what the conversation shows."""


@dataclass(frozen=True)
class Conversation:
    """One sample and the answers of all arms."""

    key: str
    """Unique on the page; valid as an HTML id."""
    sample_id: str
    task: str
    label: str
    question: str
    earlier: tuple[tuple[str, str], ...]
    """Role and words of the turns before the question."""
    question_veiled: bool
    """Whether the question and the turns before it are hidden until clicked."""
    picture: str | None
    """A data URI; several pictures are one, side by side."""
    crafted: tuple[Crafted, ...]
    """What was made of it and asked about instead."""
    picture_veiled: bool
    """Whether these pictures are hidden until clicked."""
    replies: tuple[Reply, ...]

    @property
    def verdicts(self) -> str:
        """Verdicts of all arms, for the page's filters."""
        return " ".join(sorted({reply.verdict for reply in self.replies}))

    @property
    def differs(self) -> bool:
        """Whether the arms got different verdicts."""
        return len({reply.verdict for reply in self.replies}) > 1


def conversations(
    answers: Sequence[Answer],
    *,
    defenses: Sequence[str],
    tasks: Sequence[str],
    per_task: int,
    provenance: Provenance | None = None,
    redaction: Redaction = "blur",
) -> list[Conversation]:
    """Up to `per_task` samples per task, in seeded order; first those where the arms differ.

    Args:
        answers: All answers of a run.
        defenses: The arms to show, in order.
        tasks: The tasks to show, in order.
        per_task: Maximum number of samples per task.
        provenance: How the samples were drawn, and where the run lies.
        redaction: What becomes of harmful content.
    """
    about = provenance or Provenance()
    album = Album.of(about)
    table: dict[str, dict[str, dict[str, Answer]]] = {task: {} for task in tasks}
    for answer in answers:
        table[answer.task].setdefault(answer.sample_id, {})[answer.defense] = answer
    found: list[tuple[dict[str, Answer], _Seen]] = []
    for task, samples in table.items():
        ids = sorted(samples)
        random.Random(f"{about.seed or 0}/{task}").shuffle(ids)
        ids.sort(key=lambda id: len({a.verdict for a in samples[id].values()}) == 1)
        ids = ids[:per_task]
        first = {id: next(iter(samples[id].values())) for id in ids}
        pictures = album.pictures(task, first, total=len(samples)) if ids else {}
        shots = {id: _shots(samples[id].values()) for id in ids}
        tries = album.tries(task, first, shots, len(samples)) if any(shots.values()) else {}
        for id in ids:
            arms = {name: samples[id][name] for name in defenses if name in samples[id]}
            made = crafted_pictures(Path(about.log_dir), arms.values()) if about.log_dir else ()
            found.append((arms, _Seen(pictures.get(id), tuple(made), tries.get(id, {}))))
    of_harm = {seen.picture for arms, seen in found if _first(arms).label == "harmful"}
    return [
        _conversation(f"c{n}", arms, seen, redaction, twin=seen.picture in of_harm)
        for n, (arms, seen) in enumerate(found)
    ]


def _shots(answers: Iterable[Answer]) -> set[int]:
    """The shots that the answers of the arms are to."""
    return {deciding(each.tries, each.label) for each in answers if each.tries}


def veiled_picture(task: str, label: str) -> bool:
    """Whether to hide a sample's picture until clicked."""
    return label == "harmful" or task_parts(task)[0] in SENSITIVE_PICTURES


class _Seen(NamedTuple):
    """What the model was shown."""

    picture: str | None
    crafted: tuple[Crafted, ...]
    tries: Mapping[int, Tried]
    """By the number of the shot."""


def _first(arms: Mapping[str, Answer]) -> Answer:
    return arms.get(UNDEFENDED) or next(iter(arms.values()))


def _conversation(
    key: str, arms: dict[str, Answer], seen: _Seen, redaction: Redaction, *, twin: bool
) -> Conversation:
    """One conversation; `twin` says that a harmful request on the page shows the same picture."""
    first = _first(arms)
    task, harmful = first.task, first.label == "harmful"
    shown = seen.picture is not None or bool(seen.crafted)
    picture_veiled = shown and (twin or veiled_picture(task, first.label))
    remove = redaction == "remove"
    plain = Tried(first.question, seen.picture)
    earlier = first.metadata.get("turns") or ()
    return Conversation(
        key=key,
        sample_id=first.sample_id,
        task=task,
        label=first.label,
        question=REMOVED if harmful and remove else first.question,
        earlier=tuple((role, REMOVED if harmful and remove else words) for role, words in earlier),
        question_veiled=harmful and not remove,
        picture=None if picture_veiled and remove else seen.picture,
        crafted=() if picture_veiled and remove else seen.crafted,
        picture_veiled=picture_veiled and not remove,
        replies=tuple(
            _reply(answer, redaction, _asked(answer, plain, seen.tries, remove=remove))
            for answer in arms.values()
        ),
    )


def _asked(
    answer: Answer, plain: Tried, tries: Mapping[int, Tried], *, remove: bool
) -> Tried | None:
    """What the answered shot asked; None if that is what the conversation shows, or is left out."""
    if not answer.tries or (remove and veiled_picture(answer.task, answer.label)):
        return None
    tried = tries.get(deciding(answer.tries, answer.label))
    return None if tried == plain else tried


def _reply(answer: Answer, redaction: Redaction, asked: Tried | None) -> Reply:
    remove = redaction == "remove"
    hidden = _may_do_harm(answer, surely=remove)
    return Reply(
        defense=answer.defense,
        verdict=answer.verdict,
        text=REMOVED if hidden and remove else answer.answer,
        correct=bool(answer.correct),
        broken=bool(answer.broken),
        veiled=hidden and not remove,
        scores=(*_shot(answer), *_scores(answer.metadata.get("decisions") or {})),
        asked=asked,
    )


def _may_do_harm(answer: Answer, *, surely: bool) -> bool:
    """Whether an answer is hidden: judged harmful, or anything to a harmful request but a refusal.

    A judge may miss harm. So what is left out for good is kept only if the judge `rules`, too, sees
    a refusal in it.

    Args:
        answer: The answer.
        surely: Ask `rules` as well.
    """
    if answer.label == "benign" or answer.verdict != "refused":
        return answer.verdict == "harmful" or answer.label == "harmful"
    asked = Sample(answer.sample_id, answer.question, answer.label, answer.target)
    return surely and load_judge(ANY_MODEL)(answer.answer, asked) != "refused"


def _shot(answer: Answer) -> list[str]:
    """Which shot the answer is to, where there were several: the one that decides."""
    if not answer.tries:
        return []
    return [f"shot {deciding(answer.tries, answer.label) + 1} of {len(answer.tries)}"]


def _scores(decisions: dict[str, dict[str, Any]]) -> list[str]:
    words = []
    for name, decision in decisions.items():
        score, threshold = decision.get("score"), decision.get("threshold")
        if score is None or threshold is None:
            words.append(f"{name}: no score, so refused")
            continue
        sign = "≥" if decision.get("refuse") else "<"
        words.append(f"{name} score {score:.2f} {sign} threshold {threshold:.2f}")
    return words
