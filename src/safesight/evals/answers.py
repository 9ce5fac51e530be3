"""One judged answer of an evaluation, read from a sample of an Inspect log.

A log is a file that anyone can change, so everything that counts is checked: an answer without a
verdict, a label or a judge is an error that names the log, never a default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args
from urllib.parse import unquote, urlparse

from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.scorer import Score

from safesight.errors import StorageError
from safesight.evals.asking import decisions_on
from safesight.evals.house_rules import is_ruled
from safesight.grammar import UNDEFENDED, task_parts
from safesight.judges.shots import deciding
from safesight.types import VERDICTS, Label, Verdict

__all__ = ["Answer", "answer_of", "defense_of", "judged_by", "local_path", "model_of", "score_of"]

_SCORES = re.compile(r"verdict-?\d*")
"""Names of the scores by `safesight/verdict`: those added later have a number."""

_Word = TypeVar("_Word", bound=str)
_LABELS: tuple[Label, ...] = get_args(Label)


@dataclass(frozen=True)
class Answer:
    """One judged answer of one arm to one sample."""

    defense: str
    task: str
    sample_id: str
    verdict: Verdict
    correct: bool | None
    """Whether the judge counts it as a right answer; None if no right answer is known."""
    label: Label
    """The label of the request."""
    answer: str
    """With several shots, the answer to the deciding one."""
    question: str
    """With several shots, the first."""
    target: str
    judge: str
    """Name and version."""
    model: str
    broken: bool | None = None
    """Whether the answer is broken text; None if the judge could not tell, or the log is of a
    version that did not ask."""
    tries: tuple[Verdict, ...] = ()
    """The verdict on the answer to each shot, in order; empty for a request that has none."""
    attack: str | None = None
    """The attack that made the request, or the attacks in the task's name; None for a plain one."""
    ruled: bool = False
    """Whether the request is benign and the arm's method was told to forbid it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The sample's facts."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Identity, decisions of the detectors, tokens, seconds, the path of the log, and in `turns`
    the role and the words of each turn before the question."""

    @property
    def request(self) -> str | None:
        """The kind of the request, such as "how_to"; None if it is not known."""
        kind = self.facts.get("request")
        return kind if isinstance(kind, str) else None


def local_path(location: str) -> Path:
    """The path of a log, which Inspect gives as a path or a file:// URL."""
    return Path(unquote(urlparse(location).path) if location.startswith("file:") else location)


def model_of(log: EvalLog) -> str:
    """The model that a log is about."""
    return str((log.eval.metadata or {}).get("model") or log.eval.model)


def defense_of(log: EvalLog) -> str:
    """The arm that a log is about."""
    return str((log.eval.metadata or {}).get("defense") or UNDEFENDED)


def judged_by(log: EvalLog) -> dict[str, str]:
    """The judges of a run, the first one first, and the name of the newest score of each.

    `safesight judge` adds one after the others, and so does `inspect score --action append`.
    """
    found: dict[str, str] = {}
    for score in log.results.scores if log.results else ():
        if _SCORES.fullmatch(score.name):
            found[str(score.params.get("judge", "exact"))] = score.name
    return found


def score_of(log: EvalLog, judge: str | None = None) -> str | None:
    """The name of a judge's score, by default the first judge's; None if there is none."""
    found = judged_by(log)
    return next(iter(found.values()), None) if judge is None else found.get(judge)


def answer_of(log: EvalLog, sample: EvalSample, judge: str | None = None) -> Answer:
    """The answer to a sample, as a judge read it, by default the first.

    Raises:
        StorageError: the sample lacks something that counts, or has it in an impossible form.
    """
    score = (sample.scores or {}).get(str(score_of(log, judge)))
    if score is None:
        raise _changed(log, sample, "has no verdict")
    judged = score.metadata or {}
    target = sample.target if isinstance(sample.target, str) else ", ".join(sample.target)
    label = _one_of(_LABELS, sample.metadata.get("label"), log, sample, "label")
    facts = _mapping(sample.metadata.get("facts"), log, sample, "facts")
    verdict = _one_of(VERDICTS, score.value, log, sample, "verdict")
    tries = _tries(judged, (verdict, label), log, sample)
    usage = sample.output.usage
    about = log.eval.metadata or {}
    return Answer(
        defense=defense_of(log),
        task=log.eval.task,
        sample_id=str(sample.id),
        verdict=verdict,
        correct=_correct(score, target, log, sample),
        label=label,
        answer=score.answer or sample.output.completion,
        question=str(sample.metadata.get("question", "")),
        target=target,
        judge=_judge(score, log, sample),
        model=model_of(log),
        broken=_broken(score, log, sample),
        tries=tries,
        attack=_attack(log, sample),
        ruled=label == "benign" and is_ruled(facts, about.get("forbidden")),
        facts=facts,
        metadata={
            **_mapping(sample.output.metadata, log, sample, "metadata"),
            "decisions": _decisions(log, sample, _deciding(tries, label)),
            "input_tokens": usage.input_tokens if usage else None,
            "output_tokens": usage.output_tokens if usage else None,
            "model_identity": about.get("model_identity"),
            "log": str(local_path(log.location)),
            **_caveats(judged, about, log, sample),
            **_decoding(log),
            **({"cut": True} if sample.output.stop_reason == "max_tokens" else {}),
            **({"turns": turns} if (turns := _earlier(log, sample)) else {}),
            **({"details": found} if (found := _details(judged, log, sample)) else {}),
        },
    )


def _earlier(log: EvalLog, sample: EvalSample) -> list[tuple[str, str]]:
    """The turns before the question; a picture is a word in brackets."""
    turns = sample.metadata.get("turns") or []
    if not isinstance(turns, Sequence) or not all(map(_is_turn, turns)):
        raise _changed(log, sample, "has turns that are no messages")
    return [
        (turn["role"], " ".join(part.get("text", "[picture]") for part in turn["content"]))
        for turn in turns[:-1]
    ]


def _is_turn(found: object) -> bool:
    if not isinstance(found, Mapping) or not isinstance(found.get("role"), str):
        return False
    parts = found.get("content")
    return isinstance(parts, list) and all(
        isinstance(part, Mapping) and isinstance(part.get("text", ""), str) for part in parts
    )


def _attack(log: EvalLog, sample: EvalSample) -> str | None:
    """The sample's own note, since a task may mix attacks and plain requests."""
    noted = sample.metadata.get("attack") or "+".join(task_parts(log.eval.task)[1])
    return str(noted) if noted else None


def _judge(score: Score, log: EvalLog, sample: EvalSample) -> str:
    judge = (score.metadata or {}).get("judge")
    if not isinstance(judge, str) or not judge.isprintable() or not judge:
        raise _changed(log, sample, "does not say which judge read it")
    return judge


def _correct(score: Score, target: str, log: EvalLog, sample: EvalSample) -> bool | None:
    correct = (score.metadata or {}).get("correct")
    if correct is None or not target.strip():
        return None
    if not isinstance(correct, bool):
        raise _changed(log, sample, f"is neither right nor wrong, but {correct!r}")
    return correct


def _broken(score: Score, log: EvalLog, sample: EvalSample) -> bool | None:
    broken = (score.metadata or {}).get("broken")
    if broken is not None and not isinstance(broken, bool):
        raise _changed(log, sample, f"is neither broken nor whole, but {broken!r}")
    return broken


def _caveats(
    judged: Mapping[str, Any], about: Mapping[str, Any], log: EvalLog, sample: EvalSample
) -> dict[str, str]:
    """What the judge says of its verdict, and what the arm's fits were not made for."""
    found = {"caveat": judged.get("caveat"), "fit_caveat": about.get("caveat")}
    for caveat in found.values():
        if not isinstance(caveat, str | None):
            raise _changed(log, sample, f"has the caveat {caveat!r}, which is no sentence")
    return {name: caveat for name, caveat in found.items() if caveat}


def _details(judged: Mapping[str, Any], log: EvalLog, sample: EvalSample) -> Mapping[str, Any]:
    """What led to the verdict; see `safesight.types.Reading`."""
    details = _mapping(judged.get("details"), log, sample, "details")
    for verdict in _mapping(details.get("members"), log, sample, "members").values():
        _one_of(VERDICTS, verdict, log, sample, "verdict")
    if not isinstance(details.get("failure"), str | None):
        raise _changed(log, sample, f"has the failure {details['failure']!r}")
    return details


def _tries(
    judged: Mapping[str, Any], whole: tuple[Verdict, Label], log: EvalLog, sample: EvalSample
) -> tuple[Verdict, ...]:
    """The verdicts on all shots, which have to give the one on the sample."""
    found = judged.get("shots") or ()
    if not isinstance(found, list | tuple):
        raise _changed(log, sample, f"has the shots {found!r}, which are no verdicts")
    tries = tuple(_one_of(VERDICTS, each, log, sample, "verdict") for each in found)
    verdict, label = whole
    if tries and tries[deciding(tries, label)] != verdict:
        raise _changed(log, sample, f"has the verdict {verdict!r}, which its shots do not give")
    return tries


def _deciding(tries: Sequence[Verdict], label: Label) -> tuple[int, int]:
    """Which shot decides a sample, and how many there are."""
    return (deciding(tries, label), len(tries)) if tries else (0, 1)


def _decoding(log: EvalLog) -> dict[str, float]:
    """How answers were drawn and where they end, where the run said so.

    By itself our provider answers greedily, up to a length of the benchmark or the checkpoint.
    """
    config = log.eval.model_generate_config
    said = {"temperature": config.temperature, "max_tokens": config.max_tokens}
    return {name: value for name, value in said.items() if value}


def _decisions(
    log: EvalLog, sample: EvalSample, which: tuple[int, int]
) -> Mapping[str, Mapping[str, Any]]:
    """What each detector decided: numbers, or None from one that could not decide."""
    found = decisions_on(sample.output.metadata, *which)
    decisions = _mapping(found, log, sample, "decisions")
    for decision in decisions.values():
        found = _mapping(decision, log, sample, "decisions")
        for name in ("score", "threshold"):
            if not isinstance(found.get(name), int | float | None):
                raise _changed(log, sample, f"has the {name} {found[name]!r}")
    return decisions


def _one_of(
    words: Sequence[_Word], found: object, log: EvalLog, sample: EvalSample, what: str
) -> _Word:
    for word in words:
        if word == found:
            return word
    raise _changed(log, sample, f"has the {what} {found!r}, not one of {', '.join(words)}")


def _mapping(found: object, log: EvalLog, sample: EvalSample, what: str) -> Mapping[str, Any]:
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise _changed(log, sample, f"has {what} that are not a mapping")
    return found


def _changed(log: EvalLog, sample: EvalSample, what: str) -> StorageError:
    return StorageError(
        f"The answer to {sample.id!r} in {local_path(log.location)} {what}. The log was changed, "
        "or is of another tool. Move it away, and run the evaluation again."
    )
