"""What is noted of each answer: decisions in the log, counts in the metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safesight.hosting.decision_log import Decision, DecisionLog
from safesight.server.metrics import Metrics

if TYPE_CHECKING:
    from safesight.hosting.arms import Arm
    from safesight.hosting.requests import Generation
    from safesight.types import Message

__all__ = ["Note", "Record"]


class Record:
    """Where the answers of a server are noted.

    Args:
        model: The model's name.
        metrics: What is counted.
        log: What is written down, if anything is.
    """

    def __init__(self, model: str, metrics: Metrics, log: DecisionLog | None = None) -> None:
        self.model, self.metrics, self.log = model, metrics, log

    def of(self, request: str, arm: Arm, messages: Sequence[Message], begin: float) -> Note:
        """The note of one request.

        Args:
            request: Its id.
            arm: The defenses that answer it.
            messages: Its conversation.
            begin: When it came, by `time.monotonic`.
        """
        return Note(self, request, arm, messages, begin)


@dataclass(frozen=True)
class Note:
    """One request, and what becomes of it."""

    record: Record
    request: str
    arm: Arm
    messages: Sequence[Message]
    begin: float

    def began(self) -> None:
        """The first token, or a refusal, is there."""
        self.record.metrics.first_token_seconds.observe(time.monotonic() - self.begin)

    def decided(self, choice: int, answer: Generation) -> None:
        """A choice is there, and with it the decisions, though its client may have left."""
        metrics = self.record.metrics
        for name, decision in answer.decisions.items():
            if decision["refuse"]:
                metrics.refused(name)
            if "error" in decision:
                metrics.detector_failed(name)
        if self.record.log is not None:
            self.record.log.write(self._decisions(choice, answer))

    def answered(self, answers: Sequence[Generation]) -> None:
        """All answers are there."""
        metrics = self.record.metrics
        metrics.answer_seconds.observe(time.monotonic() - self.begin)
        metrics.used_tokens(answers[0].input_tokens, sum(each.output_tokens for each in answers))

    def _decisions(self, choice: int, answer: Generation) -> list[Decision]:
        artifacts = {each.name: found for each, found in self.arm.defenses}
        parts = [part for message in self.messages for part in message["content"]]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        found = []
        for name, decision in answer.decisions.items():
            artifact = artifacts.get(name)
            score = decision["score"]
            found.append(
                Decision(
                    request=self.request,
                    choice=choice,
                    model=self.record.model,
                    defense=self.arm.name,
                    detector=name,
                    score=score if math.isfinite(score) else None,
                    threshold=decision["threshold"],
                    refused=decision["refuse"],
                    error=decision.get("error"),
                    artifact=None if artifact is None else artifact.hash,
                    pictures=sum(part["type"] == "image" for part in parts),
                    prompt="\n".join(texts),
                )
            )
        return found
