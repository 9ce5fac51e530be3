"""Writes down what detectors decide: the decision log, counters for Prometheus, and warnings.

The counters are in the worker's process. vLLM's `/metrics` shows them if the variable
PROMETHEUS_MULTIPROC_DIR names a folder, as `safesight serve --engine vllm` sees to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safesight.hosting.decision_log import Decision as Line
from safesight.hosting.decision_log import DecisionLog
from safesight.vllm.outside import tell

if TYPE_CHECKING:
    from prometheus_client import Counter

    from safesight.generation.prefill import Decision
    from safesight.vllm.attached import Attached
    from safesight.vllm.requests import Rows
    from safesight.vllm.settings import Settings

__all__ = ["Record"]


class Record:
    """The log and counters of one worker; of several ranks only the first writes.

    Args:
        model: The model's name.
        defenses: The defenses.
        settings: Where the log is, if anywhere.

    Raises:
        StorageError: the log cannot be opened.
    """

    def __init__(self, model: str, defenses: Attached, settings: Settings) -> None:
        from vllm.distributed import get_tensor_model_parallel_rank

        self._model = model
        self._names = "+".join((*defenses.detectors, *defenses.edits))
        self._hashes = {name: each.hash for name, each in defenses.artifacts.items()}
        self._ranges = defenses.ranges()
        self._first = get_tensor_model_parallel_rank() == 0
        self._refusals, self._failures = _counters()
        self._log: DecisionLog | None = None
        if self._first and settings.decision_log is not None:
            self._log = DecisionLog(settings.decision_log)

    def write(self, prompts: Sequence[Rows], decisions: Sequence[tuple[str, Decision]]) -> None:
        """Note the decisions on the prompts of one step, but those that are judged again."""
        if not self._first:
            return
        for name, decision in decisions:
            if name in self._ranges:
                tell(name, self._ranges[name], decision, [each.request for each in prompts])
            lines = [
                self._line(name, decision, index, rows)
                for index, rows in enumerate(prompts)
                if not rows.request.judged
            ]
            self._refusals.labels(name).inc(sum(line.refused for line in lines))
            self._failures.labels(name).inc(sum(line.error is not None for line in lines))
            if self._log is not None:
                self._log.write(lines)

    def _line(self, name: str, decision: Decision, index: int, rows: Rows) -> Line:
        return Line(
            request=rows.request.id,
            choice=0,  # with n > 1, each is a request of its own
            model=self._model,
            defense=self._names,
            detector=name,
            score=float(decision.scores[index]),
            threshold=decision.threshold,
            refused=bool(decision.refuse[index]),
            error=decision.error_at(index),
            artifact=self._hashes.get(name),
            pictures=rows.request.pictures,
        )


def _counters() -> tuple[Counter, Counter]:
    """The process's counters; a second model in it shares them."""
    from prometheus_client import REGISTRY, Counter

    found = []
    for name, what in (
        ("safesight_refusals", "Requests a detector refused"),
        ("safesight_detector_failures", "Requests a detector could not judge"),
    ):
        known = REGISTRY._names_to_collectors.get(name)
        found.append(known if isinstance(known, Counter) else Counter(name, what, ["detector"]))
    return found[0], found[1]
