"""What happens to a visitor's question: every chosen arm answers it, then the model is looked into.

`Asker.answers` asks the arms through their host, in batches with other visitors. `Asker.look`
measures what explains the answers: where RAI sees risk, how harmful each layer finds the question,
and what detectors make of requests whose label is known. It holds the host's lock, under which no
defense is attached but its own. Returns plain values; knows nothing of pages.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from safesight.analysis.risk_map import RiskMap, risk_maps
from safesight.app.references import Cloud, Levels, References
from safesight.errors import InputError, SafesightError, UnknownNameError
from safesight.grammar import UNDEFENDED
from safesight.hosting.hosts import Host
from safesight.hosting.requests import Generation
from safesight.hosting.served import Served
from safesight.hosting.settings import Settings
from safesight.models import open_picture
from safesight.types import Sample

if TYPE_CHECKING:
    from safesight.defenses import Artifact
    from safesight.hosting.arms import Arm

__all__ = [
    "MAX_DEFENSES",
    "MAX_PICTURES",
    "MAX_QUESTION",
    "Asker",
    "Curve",
    "Look",
    "Question",
    "Reply",
    "Score",
]

MAX_PICTURES = 8
MAX_DEFENSES = 4
MAX_QUESTION = 4000
"""Characters of a question."""

_IN_PREFILL = frozenset({"input", "activation", "weights"})
"""Kinds of defenses that act in one prefill, and change what the layers make of a question."""
_FAULT = "This could not be answered because of an error; the log of the server has it."
_UNMEASURED = "This could not be measured because of an error; the log of the server has it."
_log = logging.getLogger("safesight")


@dataclass(frozen=True)
class Question:
    """A question that was checked, and the arms that answer it, the undefended one first."""

    sample: Sample
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Score:
    """What a detector found."""

    detector: str
    score: float | None
    """None if it could not judge, and therefore refused."""
    threshold: float
    refused: bool


@dataclass(frozen=True)
class Reply:
    """What one arm said."""

    arm: str
    answer: str
    refused: bool | None = None
    """Whether a detector refused; None without a detector."""
    scores: tuple[Score, ...] = ()
    fault: str | None = None
    """Why there is no answer, in a sentence."""


@dataclass(frozen=True)
class Curve:
    """How harmful a question looks to the layers, beside requests whose label is known."""

    levels: Levels
    lines: Mapping[str, tuple[float, ...]]
    """By arm, undefended first; one value for each layer of `levels`."""
    n: int
    """Known requests per label."""


@dataclass(frozen=True)
class Look:
    """What explains the answers."""

    clouds: Mapping[tuple[str, str], Cloud]
    """By arm and detector."""
    maps: tuple[RiskMap, ...] = ()
    """One for each picture, if RAI is among the defenses."""
    curve: Curve | None = None
    remarks: tuple[str, ...] = ()
    """What else could not be measured, in sentences."""
    no_map: str | None = None
    """Why there is no map, though RAI is among the defenses, in a sentence."""


class Asker:
    """Answers questions with one model, any number of visitors at once.

    Args:
        host: The model.
        arms: What can be chosen, by name; "none" is among them.
        max_new_tokens: Maximum length of an answer.
        references: Number of known requests per label to compare with; 0 for none, without which
            there is no curve.
    """

    def __init__(
        self,
        host: Host,
        arms: Mapping[str, Arm],
        *,
        max_new_tokens: int = 128,
        references: int = 24,
    ) -> None:
        self.host, self.arms = host, dict(arms)
        self._settings = Settings(max_new_tokens=max_new_tokens, shortened=True)
        self._references = References(host, references) if references else None

    def question(self, pictures: Sequence[Any], text: str, names: Sequence[str]) -> Question:
        """Check what a visitor sent.

        Args:
            pictures: Anything that `open_picture` takes, in order.
            text: The question. Control tokens in it are taken apart, so that they are text.
            names: The defenses to try.

        Raises:
            InputError: there is no question, or something is too long, too many or unreadable.
            UnknownNameError: such a defense is not offered.
        """
        text = (text or "").strip()
        if not text:
            raise InputError("There is no question yet. Write one and ask again.")
        if len(text) > MAX_QUESTION:
            raise InputError(
                f"The question has {len(text)} characters. Shorten it to {MAX_QUESTION}."
            )
        if len(pictures) > MAX_PICTURES:
            raise InputError(f"There are {len(pictures)} pictures. Use at most {MAX_PICTURES}.")
        names = [name for name in dict.fromkeys(names or ()) if name != UNDEFENDED]
        if len(names) > MAX_DEFENSES:
            raise InputError(f"There are {len(names)} defenses. Choose at most {MAX_DEFENSES}.")
        for name in names:
            if name not in self.arms:
                raise UnknownNameError("defense", name, self.arms)
        opened = [open_picture(each, number) for number, each in enumerate(pictures, 1)]
        first, *more = [picture.copy for picture in opened] or [None]
        plain = self.host.vlm.control_tokens.plain(text)
        sample = Sample(
            "", plain, "benign", "", first, further_images=tuple(each for each in more if each)
        )
        return Question(sample, tuple(self.arms[name] for name in (UNDEFENDED, *names)))

    def answers(self, question: Question) -> list[Reply]:
        """What every arm says. An arm that fails has a fault instead of an answer."""
        messages = question.sample.messages()
        asked = [Served(self.host, arm).ask(messages, self._settings) for arm in question.arms]
        return [_reply(arm, each) for arm, each in zip(question.arms, asked, strict=True)]

    def look(self, question: Question) -> Look:
        """What explains the answers; what cannot be measured is remarked."""
        remarks: list[str] = []
        no_map: list[str] = []
        look = Look({})
        with _tried(remarks):
            look = replace(look, clouds=self._clouds(question))
        with self.host.lock:
            with _tried(no_map):
                look = replace(look, maps=self._maps(question))
            with _tried(remarks):
                look = replace(look, curve=self._curve(question, remarks))
        return replace(look, no_map=next(iter(no_map), None), remarks=tuple(remarks))

    def _clouds(self, question: Question) -> dict[tuple[str, str], Cloud]:
        if self._references is None:
            return {}
        form = self._references.form_of(question.sample)
        return {
            (arm.name, detector): cloud
            for arm in question.arms
            if any(defense.kind == "detector" for defense, _ in arm.defenses)
            for detector, cloud in self._references.clouds(arm, form).items()
        }

    def _maps(self, question: Question) -> tuple[RiskMap, ...]:
        artifact = _rai(question.arms)
        if artifact is None or not question.sample.pictures:
            return ()
        return tuple(risk_maps(self.host.vlm, question.sample, artifact))

    def _curve(self, question: Question, remarks: list[str]) -> Curve | None:
        references = self._references
        if references is None:
            return None
        levels = references.levels(references.form_of(question.sample))
        if not levels.layers:
            remarks.append(
                "There is no curve: no layer of this model tells harmful text from harmless."
            )
            return None
        lines = {UNDEFENDED: references.level(question.sample)}
        for arm in question.arms:
            changed = _in_prefill(arm)
            if changed is None:
                continue
            with _tried(remarks, f"{arm.name} has no curve. "):
                lines[arm.name] = references.level(question.sample, changed.attached(self.host.vlm))
        return Curve(levels, lines, references.n)


@contextmanager
def _tried(remarks: list[str], what: str = "") -> Iterator[None]:
    """Inside, an error becomes a remark that begins with `what`."""
    try:
        yield
    except SafesightError as error:
        remarks.append(f"{what}{error}")
    # What explains an answer may fail in any way, of memory for one; the answer stays.
    except Exception as error:
        _log.error("What explains an answer could not be measured", exc_info=error)
        remarks.append(f"{what}{_UNMEASURED}")


def _in_prefill(arm: Arm) -> Arm | None:
    """The arm without its detectors, which change no state; None if nothing else is in a prefill.

    A refusal would hide the states from which the answer would have started.
    """
    acting = tuple(pair for pair in arm.defenses if pair[0].kind != "detector")
    if not acting or any(defense.kind not in _IN_PREFILL for defense, _ in acting):
        return None
    return replace(arm, defenses=acting)


def _rai(arms: Sequence[Arm]) -> Artifact | None:
    """The artifact of RAI, if it takes part."""
    return next((found for arm in arms for each, found in arm.defenses if each.name == "rai"), None)


def _reply(arm: Arm, asked: Future[Generation]) -> Reply:
    error = asked.exception()
    if error is not None:
        if not isinstance(error, SafesightError):
            _log.error("The arm %r could not answer", arm.name, exc_info=error)
        return Reply(
            arm.name, "", fault=str(error) if isinstance(error, SafesightError) else _FAULT
        )
    said = asked.result()
    scores = tuple(
        Score(
            detector=name,
            score=found["score"] if math.isfinite(found["score"]) else None,
            threshold=found["threshold"],
            refused=found["refuse"],
        )
        for name, found in said.decisions.items()
    )
    return Reply(arm.name, said.text, said.refused, scores)
